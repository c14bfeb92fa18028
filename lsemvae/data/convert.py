"""From a folder of recordings to a record store, through the one front-end."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from lsemvae.data.folder import EcgFolder, lead_order
from lsemvae.data.labels import LABELS, label_values
from lsemvae.data.splits import patient_fold
from lsemvae.data.store import ROW_ARRAYS, SCHEMA, STORE_LSB_UV, RecordStore, open_store
from lsemvae.data.wfdb_reader import find_wfdb, read_wfdb
from lsemvae.ecg.errors import EcgError, FormatError
from lsemvae.ecg.frontend import BASE, FrontendSpec, apply_array
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, select_leads
from lsemvae.ecg.record import EcgRecord

_LOGGER = logging.getLogger(__name__)
N_FOLDS_WITHOUT_OWN = 10
Progress = Callable[[int, int], None]


def twelve_leads_mv(record: EcgRecord, spec: FrontendSpec = BASE) -> tuple[np.ndarray, np.ndarray]:
    """Front-end output float32 `[12, time]` in mV and presence `[12]`; leads that were not recorded are zero."""
    available = set(record.leads)
    if {"I", "II"} <= available:
        available |= set(LIMB_LEADS)
    wanted = tuple(lead for lead in LEADS if lead in available)
    x = apply_array(select_leads(record.to_mv(), leads=record.leads, wanted=wanted), fs_hz=record.fs_hz, spec=spec)
    full, present = np.zeros((len(LEADS), spec.n_samples), np.float32), np.zeros(len(LEADS), bool)
    full[lead_order(wanted)] = x
    present[lead_order(wanted)] = True
    return full, present


@dataclass
class _Writer:
    """Collects rows while samples go to disk."""

    root: Path
    lists: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in ROW_ARRAYS})
    refused: list[dict[str, str]] = field(default_factory=list)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, handle: object, row: dict[str, str], record: EcgRecord) -> None:
        x, present = twelve_leads_mv(record)
        units = np.round(x * (1e3 / STORE_LSB_UV)).astype("<i2")
        handle.write(units.tobytes())  # type: ignore[attr-defined]
        self.digest.update(row["uid"].encode() + units.tobytes())
        patient = row.get("patient") or row["uid"]
        fold = row.get("strat_fold", "")
        values = (
            row["uid"], patient, row.get("split", ""), row.get("source", ""), int(float(fold)) if fold else 0,
            label_values(row), float(row["age"]) if row.get("age") else np.nan,
            {"M": 1.0, "F": 0.0}.get(row.get("sex", ""), np.nan), record.gain_known, present,
        )  # fmt: skip
        for name, value in zip(ROW_ARRAYS, values, strict=True):
            self.lists[name].append(value)

    def finish(self, spec: FrontendSpec) -> None:
        if not self.lists["uid"]:
            raise FormatError(f"found 0 usable recordings ({len(self.refused)} refused), expected at least 1")
        np.savez(self.root / "rows.npz", **{k: np.asarray(v) for k, v in self.lists.items()})  # type: ignore[arg-type]
        index = {
            "schema": SCHEMA,
            "n_records": len(self.lists["uid"]),
            "leads": list(LEADS),
            "fs_hz": spec.fs_hz,
            "n_samples": spec.n_samples,
            "lsb_uv": STORE_LSB_UV,
            "frontend_sha256": spec.sha256(),
            "labels": list(LABELS),
            "source_sha256": self.digest.hexdigest(),
            "refused": self.refused,
        }
        (self.root / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _convert(
    pairs: Iterable[tuple[dict[str, str], Callable[[], EcgRecord]]], out: Path, n_total: int, progress: Progress | None
) -> RecordStore:
    out = Path(out)
    if out.exists():
        raise FormatError(f"{out}: exists already", advice="Choose another --out, or remove the old store.")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writer = _Writer(part)
    with (part / "samples.i16").open("wb") as handle:
        for done, (row, load) in enumerate(pairs, 1):
            try:
                writer.add(handle, row, load())
            except EcgError as error:
                writer.refused.append({"uid": row["uid"], "code": error.code, "message": str(error)})
                _LOGGER.debug("refused %s: %s", row["uid"], error)
            if progress:
                progress(done, n_total)
    writer.finish(BASE)
    part.replace(out)
    return open_store(out)


def convert_folder(data: Path, out: Path, *, source: str = "", progress: Progress | None = None) -> RecordStore:
    """Convert a folder in the `metadata.csv` format; `source` keeps only rows whose source starts with it."""
    folder = EcgFolder(data)
    rows = [row for row in folder.rows if row.get("source", "").startswith(source)]
    rows.sort(key=lambda r: (r["file"], int(r["row"])))
    pairs = ((row, partial(folder.record, row)) for row in rows)
    return _convert(pairs, out, len(rows), progress)


def _mimic_patient(path: Path) -> str | None:
    """MIMIC-IV-ECG keeps a patient's studies below a folder `p` + eight digits (the subject id)."""
    return next((part for part in reversed(path.parts) if re.fullmatch(r"p\d{8}", part)), None)


def _patient_of(path: Path, patients: Mapping[str, str]) -> str:
    patient = patients.get(path.stem) or _mimic_patient(path)
    if patient is None:
        raise FormatError(
            f"{path}: found no patient for this record, expected one in --patients or a MIMIC-IV-ECG folder p########",
            advice="Give a CSV with the columns record,patient: splits must never cut a patient.",
        )
    return patient


def read_patients(path: Path) -> dict[str, str]:
    """A CSV with the columns `record` (file stem) and `patient` as a mapping."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if not {"record", "patient"} <= set(reader.fieldnames or ()):
            raise FormatError(f"{path}: found columns {reader.fieldnames}, expected record and patient")
        return {row["record"]: row["patient"] for row in reader}


def convert_wfdb(
    data: Path, out: Path, *, patients: Mapping[str, str] | None = None, progress: Progress | None = None
) -> RecordStore:
    """Convert every WFDB record below `data`; the fold of a record follows from the hash of its patient."""
    headers = list(find_wfdb(data))
    if not headers:
        raise FormatError(f"{data}: found no .hea file, expected WFDB records")

    def row(path: Path) -> dict[str, str]:
        patient = _patient_of(path, patients or {})
        fold = patient_fold(patient, n_folds=N_FOLDS_WITHOUT_OWN)
        return {"uid": path.stem, "patient": patient, "strat_fold": str(fold), "source": "wfdb", "split": "all"}

    return _convert(((row(path), partial(read_wfdb, path)) for path in headers), out, len(headers), progress)
