"""Convert a folder of recordings to a record store, through the one front-end."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.cells import number, whole
from lsemvae.data.folder import EcgFolder, by_shard, lead_order
from lsemvae.data.splits import patient_fold
from lsemvae.data.store import ROW_ARRAYS, SCHEMA, STORE_LSB_UV, RecordStore, open_store
from lsemvae.data.tasks import BUILT_IN, TaskSet
from lsemvae.ecg.errors import EcgError, FormatError
from lsemvae.ecg.frontend import BASE, FrontendSpec, apply_array
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, select_leads
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.wfdb import find_wfdb, read_wfdb

_LOGGER: Final = logging.getLogger(__name__)
N_FOLDS_WITHOUT_OWN: Final = 10
Progress = Callable[[int, int], None]
Item = tuple[str, Callable[[], "tuple[RowValues, EcgRecord]"]]


def twelve_leads_mv(record: EcgRecord, spec: FrontendSpec = BASE) -> tuple[np.ndarray, np.ndarray]:
    """Return front-end output float32 `[12, time]` in mV and presence `[12]`; leads that were not recorded are zero."""
    available = set(record.leads)
    if {"I", "II"} <= available:
        available |= set(LIMB_LEADS)
    wanted = tuple(lead for lead in LEADS if lead in available)
    x = apply_array(select_leads(record.to_mv(), leads=record.leads, wanted=wanted), fs_hz=record.fs_hz, spec=spec)
    full, present = np.zeros((len(LEADS), spec.n_samples), np.float32), np.zeros(len(LEADS), bool)
    full[lead_order(wanted)] = x
    present[lead_order(wanted)] = True
    return full, present


@dataclass(frozen=True, slots=True, kw_only=True)
class RowValues:
    """What a store keeps of a recording besides its samples; `labels` `[label]` and `measures` `[measure]` with NaN."""

    uid: str
    patient: str
    fold: int
    labels: np.ndarray
    measures: np.ndarray
    split: str = ""
    source: str = ""
    age: float = math.nan
    sex_male: float = math.nan


def row_values(row: Mapping[str, str], tasks: TaskSet, *, gain_known: bool) -> RowValues:
    """Return the values of a row in the columns of `metadata.csv`."""
    return RowValues(
        uid=row["uid"],
        patient=row.get("patient") or row["uid"],
        split=row.get("split", ""),
        source=row.get("source", ""),
        fold=whole(row, "strat_fold", missing=0),
        labels=tasks.label_values(row),
        measures=tasks.measure_values(row, gain_known=gain_known),
        age=number(row, "age"),
        sex_male={"M": 1.0, "F": 0.0}.get(row.get("sex", ""), math.nan),
    )


def write_store(
    items: Iterable[Item],
    out: Path,
    *,
    tasks: TaskSet = BUILT_IN,
    notes: Sequence[str] = (),
    n_total: int,
    progress: Progress | None = None,
) -> RecordStore:
    """Write a record store: each item is a uid and a function that gives its values and its recording.

    A recording that cannot be read is noted in the index as refused, the others are kept. `out` appears when all is done.
    """
    out = Path(out)
    if out.exists():
        raise FormatError(f"{out}: exists already", advice="Choose another --out, or remove the old store.")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows: dict[str, list[object]] = {name: [] for name in ROW_ARRAYS}
    refused: list[dict[str, str]] = []
    digest = hashlib.sha256()
    try:
        with (part / "samples.i16").open("wb") as handle:
            for done, (uid, load) in enumerate(items, 1):
                try:
                    values, record = load()
                    x, present = twelve_leads_mv(record)
                except EcgError as error:
                    refused.append({"uid": uid, "code": error.code, "message": str(error)})
                    _LOGGER.debug("refused %s: %s", uid, error)
                else:
                    # Only a row that is whole may leave samples: from here on nothing is refused.
                    units = np.round(x * (1e3 / STORE_LSB_UV)).astype("<i2").tobytes()
                    handle.write(units)
                    digest.update(values.uid.encode() + units)
                    kept = {"gain_known": record.gain_known, "present": present}
                    for name, column in rows.items():
                        column.append(kept[name] if name in kept else getattr(values, name))
                if progress:
                    progress(done, n_total)
        if not rows["uid"]:
            first = f"; the first: {refused[0]['uid']}: {refused[0]['message']}" if refused else ""
            raise FormatError(
                f"found 0 usable recordings ({len(refused)} refused{first}), expected at least 1",
                advice="Look at the reason of the first one; every recording was refused.",
            )
        np.savez(part / "rows.npz", **{name: np.asarray(column) for name, column in rows.items()})  # type: ignore[arg-type]
        index = {
            "schema": SCHEMA,
            "n_records": len(rows["uid"]),
            "leads": list(LEADS),
            "fs_hz": BASE.fs_hz,
            "n_samples": BASE.n_samples,
            "lsb_uv": STORE_LSB_UV,
            "frontend_sha256": BASE.sha256(),
            "labels": list(tasks.label_names),
            "measures": list(tasks.measure_names),
            "tasks": tasks.to_json(),
            "notes": list(notes),
            "source_sha256": digest.hexdigest(),
            "refused": refused,
        }
        (part / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        part.replace(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return open_store(out)


def _with_values(row: Mapping[str, str], read: Callable[[], EcgRecord]) -> tuple[RowValues, EcgRecord]:
    record = read()
    return row_values(row, BUILT_IN, gain_known=record.gain_known), record


def convert_folder(data: Path, out: Path, *, source: str = "", progress: Progress | None = None) -> RecordStore:
    """Convert a folder in the `metadata.csv` format; `source` keeps only rows whose source starts with it."""
    folder = EcgFolder(data)
    rows = by_shard(row for row in folder.rows if row.get("source", "").startswith(source))
    items = ((row["uid"], partial(_with_values, row, partial(folder.record, row))) for row in rows)
    return write_store(items, out, n_total=len(rows), progress=progress)


def read_patients(path: Path) -> dict[str, str]:
    """Read a CSV with the columns `record` (file stem) and `patient` as a mapping."""
    advice = "Give a CSV in UTF-8 with the columns record,patient: splits must never cut a patient."
    patients: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if not {"record", "patient"} <= set(reader.fieldnames or ()):
                raise FormatError(
                    f"{path}: found columns {reader.fieldnames}, expected record and patient", advice=advice
                )
            for row in reader:
                if patients.setdefault(row["record"], row["patient"]) != row["patient"]:
                    found = sorted({patients[row["record"]], row["patient"]})
                    raise FormatError(
                        f"{path}: found record {row['record']!r} of patients {found}, expected one", advice=advice
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(
            f"{path}: cannot be read ({error}), expected a CSV with record,patient", advice=advice
        ) from error
    return patients


def convert_wfdb(
    data: Path, out: Path, *, patients: Mapping[str, str] | None = None, progress: Progress | None = None
) -> RecordStore:
    """Convert every WFDB record below `data`; the fold of a record follows from the hash of its patient.

    `patients` tells by file stem whose a record is; MIMIC-IV-ECG keeps a patient's studies below a folder `p` + eight
    digits (the subject id).
    """
    headers = list(find_wfdb(data))
    if not headers:
        raise FormatError(
            f"{data}: found neither metadata.csv nor a .hea file, expected a data folder or WFDB records",
            advice="Point --data to the folder that holds metadata.csv and signals/, or to a tree of WFDB records.",
        )
    seen: dict[str, Path] = {}
    for path in headers:  # the name is the uid, and the key by which --patients tells whose the record is
        if path.stem in seen:
            raise FormatError(
                f"found record {path.stem!r} twice ({seen[path.stem]} and {path}), expected each name once",
                advice="Rename the records so that each name is its own, or convert the folders one by one.",
            )
        seen[path.stem] = path

    def row(path: Path) -> dict[str, str]:
        of_mimic = next((part for part in reversed(path.parts) if re.fullmatch(r"p\d{8}", part)), None)
        patient = (patients or {}).get(path.stem) or of_mimic
        if patient is None:
            raise FormatError(
                f"{path}: found no patient for this record, expected one in --patients or a MIMIC-IV-ECG folder p########",
                advice="Give a CSV with the columns record,patient: splits must never cut a patient.",
            )
        fold = patient_fold(patient, n_folds=N_FOLDS_WITHOUT_OWN)
        return {"uid": path.stem, "patient": patient, "strat_fold": str(fold), "source": "wfdb", "split": "all"}

    items = ((path.stem, partial(_with_values, row(path), partial(read_wfdb, path))) for path in headers)
    return write_store(items, out, n_total=len(headers), progress=progress)
