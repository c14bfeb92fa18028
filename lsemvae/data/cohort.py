"""Convert a cohort file (TOML) and its table (CSV) to a record store: a new cohort, threshold or mask needs no code.

Everything that the table can get wrong is found before the first recording is read. docs/how-to/cohorts.md describes the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.cells import is_missing, number, whole
from lsemvae.data.convert import N_FOLDS_WITHOUT_OWN, Progress, RowValues, write_store
from lsemvae.data.mask_check import check_masks, mask_notes
from lsemvae.data.signals import Signals, parse_signals
from lsemvae.data.splits import patient_fold
from lsemvae.data.store import RecordStore
from lsemvae.data.table import CsvTable, read_table
from lsemvae.data.task_toml import ParsedTasks, parse_tasks
from lsemvae.data.tasks import BUILT_IN, TaskSet
from lsemvae.data.tomlfile import TomlTable, read_toml
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.record import EcgRecord

_KEYS: Final = (
    "name", "licence", "statement", "csv", "signals", "tasks", "uid", "patient", "fold", "folds", "split", "age", "sex",
    "sex_male", "sex_female", "gain_known", "missing",
)  # fmt: skip
_MALE: Final = ("m", "male")
_FEMALE: Final = ("f", "female")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """What a cohort file says.

    Attributes
    ----------
    path, csv
        The file and its table.
    parsed
        Tasks, and which columns of 0 are taken at their word.
    uid, patient, fold, split, age, sex
        Names of columns; empty where there is none. uid and patient are always there.
    folds
        What a text of the fold column means; fold 0 is never trained on. Empty: the column holds whole numbers.
    sex_male, sex_female
        Texts of the sex column, compared without case.
    gain_known
        True, False, the name of a column, or None: as the recording itself says.
    missing
        Texts that mean an empty cell.
    """

    path: Path
    csv: Path
    parsed: ParsedTasks
    signals: Signals
    uid: str
    patient: str
    fold: str = ""
    split: str = ""
    age: str = ""
    sex: str = ""
    folds: Mapping[str, int] = field(default_factory=dict)
    sex_male: tuple[str, ...] = _MALE
    sex_female: tuple[str, ...] = _FEMALE
    gain_known: bool | str | None = None
    missing: tuple[str, ...] = ()

    @property
    def tasks(self) -> TaskSet:
        """What is learned."""
        return self.parsed.tasks

    @property
    def row_columns(self) -> tuple[str, ...]:
        """Columns that say whose recording it is and where, not what it shows."""
        own = (self.uid, self.patient, self.fold, self.split, self.age, self.sex, *self.signals.columns)
        gain = (self.gain_known,) if isinstance(self.gain_known, str) else ()
        return tuple(dict.fromkeys(filter(None, (*own, *gain))))


@dataclass(frozen=True, slots=True)
class CheckedCohort:
    """A cohort whose table was read and found good: the values of each row, and notes on what its masks take out."""

    cohort: Cohort
    table: CsvTable
    values: list[RowValues]
    notes: tuple[str, ...]


def read_cohort(path: Path, *, data: Path | None = None) -> Cohort:
    """Read a cohort file; its paths are relative to `data`, or to the folder of the file itself."""
    document = read_toml(path)
    document.check_keys(("cohort", "task"))
    table = document.table("cohort")
    table.check_keys(_KEYS)
    base = Path(path).parent if data is None else Path(data)
    texts = {key: table.text_of(key, "") for key in ("fold", "split", "age", "sex")}
    csv = base / table.text_of("csv")

    # The `[[task]]` tables, or the built-in reader statements.
    name, statement, licence = (table.text_of(key) for key in ("name", "statement", "licence"))
    tables = document.tables("task")
    if "tasks" in table.values:
        if table.text_of("tasks") != "built-in" or tables:
            found = f"tasks = {table.values['tasks']!r}" + (f" beside {len(tables)} [[task]]" if tables else "")
            raise table.error("tasks", found, '"built-in" and no [[task]], or [[task]] alone')
        parsed = ParsedTasks(replace(BUILT_IN, name=name, statement=statement, licence=licence))
    elif not tables:
        raise table.error("", "no [[task]]", 'at least one, or tasks = "built-in" for columns y_RHS, y_RVH ...')
    else:
        parsed = parse_tasks(tables, name=name, statement=statement, licence=licence)

    signals = parse_signals(table.table("signals"), base)
    uid, patient = table.text_of("uid"), table.text_of("patient")
    folds: dict[str, int] = {}
    if "folds" in table.values:
        if "fold" not in table.values:
            raise table.error("folds", "folds without fold", "fold, the name of the column that holds these texts")
        numbers = table.factors("folds")
        if wrong := {text: n for text, n in numbers.items() if n < 0 or n != int(n)}:
            raise table.error("folds", repr(wrong), "whole numbers from 0; fold 0 is never trained on")
        folds = {text: int(n) for text, n in numbers.items()}
    gain_known = table.values.get("gain_known")
    if gain_known is not None and not isinstance(gain_known, bool | str):
        raise table.error("gain_known", repr(gain_known), "true, false or the name of a column")
    return Cohort(
        path=Path(path),
        csv=csv,
        parsed=parsed,
        signals=signals,
        uid=uid,
        patient=patient,
        folds=folds,
        sex_male=_folded(table, "sex_male") or _MALE,
        sex_female=_folded(table, "sex_female") or _FEMALE,
        gain_known=gain_known,
        missing=table.texts("missing"),
        **texts,
    )


def _folded(table: TomlTable, key: str) -> tuple[str, ...]:
    return tuple(text.casefold() for text in table.texts(key))


def check_cohort(cohort: Cohort) -> CheckedCohort:
    """Read the table and refuse what would make a wrong store: cells, patients, folds, masks, tasks without a class."""
    table = read_table(cohort.csv, (*cohort.row_columns, *cohort.tasks.columns), missing=cohort.missing)
    values = table.each(partial(_row_values, cohort))
    first: dict[str, int] = {}
    for k, row in enumerate(values):
        if row.uid in first:
            raise table.error(
                k,
                f"{cohort.uid} {row.uid!r} a second time (first in line {table.lines[first[row.uid]]})",
                "each recording once",
                "Give each recording a name of its own: predictions are told apart by it.",
            )
        first[row.uid] = k

    # A patient may stand in fold 0, which nothing is trained or tested on, and in one more.
    first = {}
    for k, row in enumerate(values):
        before = first.setdefault(row.patient, k) if row.fold else k
        if values[before].fold != row.fold:
            raise table.error(
                k,
                f"patient {row.patient!r} in fold {row.fold}",
                f"fold {values[before].fold} as in line {table.lines[before]}",
                "Split by patient, not by recording; or leave `fold` out: the fold then follows from the patient.",
            )
    check_masks(cohort.parsed, table, rows_only=cohort.row_columns)

    # A task of the file without a positive or a negative cannot be learned, and its rule may be wrong.
    labels = np.stack([row.labels for row in values])
    for k, name in enumerate(cohort.tasks.label_names):
        place = cohort.parsed.places.get(name)
        n_pos, n_neg = int((labels[:, k] == 1).sum()), int((labels[:, k] == 0).sum())
        if place is not None and not (n_pos and n_neg):
            unknown = len(labels) - n_pos - n_neg
            raise place.error(
                "positive",
                f"{n_pos} positive, {n_neg} negative and {unknown} unknown recordings for {name}",
                "both positives and negatives",
                "Look at the rule, at `measured` and at `among`; take the task out where the table does not have it.",
            )
    return CheckedCohort(cohort, table, values, mask_notes(cohort.tasks, table))


def _row_values(cohort: Cohort, row: dict[str, str]) -> RowValues:
    for key in ("uid", "patient"):
        column = getattr(cohort, key)
        if is_missing(row, column):
            raise FormatError(f"found {column} {row[column]!r}, expected a {key}: splits never cut a patient")
    _known_gain(cohort, row)
    if not cohort.fold:
        fold = patient_fold(row[cohort.patient], n_folds=N_FOLDS_WITHOUT_OWN)
    elif not cohort.folds:
        fold = whole(row, cohort.fold)
    elif row[cohort.fold] in cohort.folds:
        fold = cohort.folds[row[cohort.fold]]
    else:
        expected = f"one of {', '.join(cohort.folds)} as in `folds`"
        raise FormatError(f"found {cohort.fold} {row[cohort.fold]!r}, expected {expected}")
    labels, measures = cohort.tasks.label_values(row), cohort.tasks.measure_values(row, gain_known=True)
    age = number(row, cohort.age) if cohort.age else math.nan
    sex_male, sexes = math.nan, (*cohort.sex_male, *cohort.sex_female)
    if cohort.sex and not is_missing(row, cohort.sex):
        if row[cohort.sex].casefold() not in sexes:
            expected = f"one of {', '.join(sexes)} or nothing"
            raise FormatError(f"found {cohort.sex} {row[cohort.sex]!r}, expected {expected} (sex_male, sex_female)")
        sex_male = float(row[cohort.sex].casefold() in cohort.sex_male)
    return RowValues(
        uid=row[cohort.uid],
        patient=row[cohort.patient],
        split=row[cohort.split] if cohort.split else "",
        source=cohort.tasks.name,
        fold=fold,
        labels=labels,
        measures=measures,
        age=age,
        sex_male=sex_male,
    )


def _known_gain(cohort: Cohort, row: Mapping[str, str]) -> bool | None:
    """Return whether the gain of a recording is known, or None where the recording itself says so."""
    if not isinstance(cohort.gain_known, str):
        return cohort.gain_known
    truth = {"1": True, "true": True, "0": False, "false": False}.get(row[cohort.gain_known].lower())
    if truth is None:
        raise FormatError(f"found {cohort.gain_known} {row[cohort.gain_known]!r}, expected 1 or 0 (gain_known)")
    return truth


def convert_cohort(path: Path, out: Path, *, data: Path | None = None, progress: Progress | None = None) -> RecordStore:
    """Convert the recordings of a cohort file into a record store that training reads."""
    checked = check_cohort(read_cohort(path, data=data))
    cohort, values = checked.cohort, checked.values
    signals = cohort.signals.open(checked.table, [row.uid for row in values])
    amplitudes = [measure.amplitude for measure in cohort.tasks.measures]

    def load(k: int) -> tuple[RowValues, EcgRecord]:
        known, record = _known_gain(cohort, checked.table.rows[k]), signals.read(k)
        record = record if known is None else record.with_(gain_known=known)
        if record.gain_known:
            return values[k], record
        measures = np.where(amplitudes, np.nan, values[k].measures).astype(np.float32)  # no gain, no amplitude
        return replace(values[k], measures=measures), record

    items = ((values[k].uid, partial(load, k)) for k in signals.order)
    return write_store(items, out, tasks=cohort.tasks, notes=checked.notes, n_total=len(values), progress=progress)
