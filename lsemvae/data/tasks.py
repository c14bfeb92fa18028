"""A task set: the labels and measures of a cohort, which label is primary, and what each means. Stored with the records.

The built-in one is the reader statements of the development folder. A cohort file brings another
(`lsemvae.data.task_toml`); training needs no code for it, because it reads names and columns from the store.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lsemvae.data.labels import LABELS, PRIMARY_LABEL, Label, statement
from lsemvae.data.measures import MEASURES, Measure
from lsemvae.data.rules import Row
from lsemvae.ecg.errors import FormatError

READER_STATEMENT: Final = (
    "Every label is a statement that ECG readers made from the same ECG (PTB-XL). None is pulmonary hypertension, "
    "an echocardiogram finding or a catheter finding."
)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BROKEN_ADVICE: Final = "Convert the recordings again: lsemvae convert."


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """Labels and measures of one cohort; the primary label stands first.

    Attributes
    ----------
    name, statement, licence
        Which cohort, what its labels are (a sentence for every card and screen), and the licence of the data.
    labels, measures
        The tasks, in the order of the columns of a record store.
    """

    name: str
    statement: str
    labels: tuple[Label, ...]
    measures: tuple[Measure, ...] = ()
    licence: str = ""
    _place: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_names([*self.label_names, *self.measure_names])
        if not self.statement.strip():
            raise FormatError(
                f"task set {self.name!r}: found no statement, expected a sentence that says what its labels are"
            )
        if not self.labels:
            raise FormatError(
                f"task set {self.name!r}: found {len(self.measures)} regressions and no binary task, expected at least one",
                advice="Derive one from a regression: threshold_of = its name, positive = a comparison.",
            )
        object.__setattr__(self, "_place", {name: k for k, name in enumerate(self.label_names)})
        for label in self.labels:
            self.ancestors(label.name)

    @property
    def primary(self) -> str:
        """Name of the label that decides the outcome."""
        return self.labels[0].name

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def measure_names(self) -> tuple[str, ...]:
        """Names of the measures, in order."""
        return tuple(measure.name for measure in self.measures)

    @property
    def descriptions(self) -> dict[str, str]:
        """What a 1 of each label means, and what each measure is."""
        labels = {label.name: label.description for label in self.labels}
        return labels | {measure.name: measure.description for measure in self.measures}

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a task reads, each once."""
        read = [label.columns for label in self.labels] + [measure.columns for measure in self.measures]
        return tuple(dict.fromkeys(column for columns in read for column in columns))

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return the labels among whose positives this one is defined, nearest first; a cycle or unknown name is refused."""
        found: list[str] = []
        label = self.labels[self._place[name]]
        while label.among:
            if label.among not in self._place:
                raise FormatError(
                    f"task {label.name}: found among = {label.among!r}, expected one of the binary tasks "
                    f"{', '.join(self.label_names)}"
                )
            if label.among in (name, *found):
                chain = " -> ".join([name, *found, label.among])
                raise FormatError(
                    f"task {name}: found a circle of among ({chain}), expected it to end at a task without among"
                )
            found.append(label.among)
            label = self.labels[self._place[label.among]]
        return tuple(found)

    def label_values(self, row: Row) -> np.ndarray:
        """Return one row as float32 `[label]`: 1, 0, or NaN where unknown or where a label of `among` is not 1."""
        own = [label.own_value(row) for label in self.labels]
        values = [
            y if all(own[self._place[name]] == 1.0 for name in self.ancestors(label.name)) else math.nan
            for label, y in zip(self.labels, own, strict=True)
        ]
        return np.array(values, np.float32)

    def measure_values(self, row: Row, *, gain_known: bool) -> np.ndarray:
        """Return one row as float32 `[measure]`, NaN where not measured."""
        return np.array([m.value(row, gain_known=gain_known) for m in self.measures], np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the task set as JSON-able data, for the index of a record store."""
        return {
            "name": self.name,
            "statement": self.statement,
            "licence": self.licence,
            "primary": self.primary,
            "labels": [label.to_json() for label in self.labels],
            "measures": [measure.to_json() for measure in self.measures],
        }


def task_set_from_json(data: Mapping[str, Any], *, of: str) -> TaskSet:
    """Return the task set that `TaskSet.to_json` wrote; `of` names the file for errors."""
    try:
        tasks = TaskSet(
            name=str(data["name"]),
            statement=str(data["statement"]),
            licence=str(data["licence"]),
            labels=tuple(Label.from_json(label) for label in data["labels"]),
            measures=tuple(Measure.from_json(measure) for measure in data["measures"]),
        )
        primary = data["primary"]
    except FormatError as error:
        raise FormatError(f"{of}: {error.message}", advice=_BROKEN_ADVICE) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(
            f"{of}: found a task set that cannot be read ({error!r}), expected one as `lsemvae convert` writes it",
            advice=_BROKEN_ADVICE,
        ) from error
    if primary != tasks.primary:
        raise FormatError(
            f"{of}: found the primary label {primary!r}, expected {tasks.primary!r}, which stands first",
            advice=_BROKEN_ADVICE,
        )
    return tasks


def check_names(names: Sequence[str]) -> None:
    """Refuse names that are given twice or are no identifiers: columns of tables and outputs of models carry them."""
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise FormatError(f"found the task name {repeated[0]!r} more than once, expected each name once")
    for name in names:
        if not _NAME.fullmatch(name):
            raise FormatError(
                f"found the task name {name!r}, expected letters, digits and underscores, a letter first",
                advice="Choose a name such as ph_mpap_gt_20: it becomes a column of tables and an output of the model.",
            )


def check_columns(tasks: TaskSet, labels: Sequence[str], measures: Sequence[str], *, of: str) -> TaskSet:
    """Return the task set itself, where it names exactly these columns in this order; else FormatError."""
    for kind, found, expected in (("labels", labels, tasks.label_names), ("measures", measures, tasks.measure_names)):
        if tuple(found) != expected:
            raise FormatError(
                f"{of}: found the {kind} {', '.join(found)}, expected {', '.join(expected)} as in the task set {tasks.name!r}",
                advice=_BROKEN_ADVICE,
            )
    return tasks


def ordered(labels: Sequence[Label], primary: str) -> tuple[Label, ...]:
    """Return the labels with the primary one first, the others in their order."""
    return tuple(sorted(labels, key=lambda label: label.name != primary))


# What a folder or WFDB tree without a cohort file is converted with: `LABELS` and `MEASURES`.
BUILT_IN: Final = TaskSet(
    name="reader statements of the development folder",
    statement=READER_STATEMENT,
    labels=ordered([statement(name) for name in LABELS], PRIMARY_LABEL),
    measures=tuple(MEASURES.values()),
    licence="PTB-XL 1.0.3 and other PhysioNet sources: see the README beside the data",
)
