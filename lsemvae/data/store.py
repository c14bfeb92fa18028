"""The record store: an int16 memory map of front-end output and an index. What training reads.

Layout of a store directory::

    index.json     schema, leads, fs_hz, n_samples, lsb_uv, front-end hash, label and measure names, source hash; tasks: what
                   the labels are and how they were made (`lsemvae.data.tasks`); notes: what conversion had to say of them
    samples.i16    little-endian int16 [record, lead, time], lsb_uv microvolts per unit, canonical lead order
    rows.npz       uid, patient, split, source (unicode), fold, labels [record, label], measures [record, measure], age, sex_male,
                   gain_known, present [record, lead]; NaN where a label or a measure is not known
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from lsemvae.data.tasks import BUILT_IN, TaskSet, check_columns, task_set_from_json
from lsemvae.ecg.errors import FormatError, LeadError, TruncatedError
from lsemvae.ecg.frontend import BASE, FrontendSpec
from lsemvae.ecg.leads import LEADS

SCHEMA: Final = "lsemvae-store/2"
# The front-end clips at 5 mV: 0.25 uV spans 8.19 mV in int16 and adds 0.07 uV rms of rounding.
STORE_LSB_UV: Final = 0.25

ROW_ARRAYS: Final = (
    "uid",
    "patient",
    "split",
    "source",
    "fold",
    "labels",
    "measures",
    "age",
    "sex_male",
    "gain_known",
    "present",
)

INDEX_KEYS: Final = (
    "n_records",
    "leads",
    "fs_hz",
    "n_samples",
    "lsb_uv",
    "frontend_sha256",
    "labels",
    "measures",
    "source_sha256",
)


@dataclass(frozen=True)
class RecordStore:
    """An open store. `samples` int16 `[record, lead, time]` (memory map); per-record arrays share the first axis."""

    root: Path
    index: dict[str, Any]
    samples: np.ndarray
    uid: np.ndarray
    patient: np.ndarray
    split: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    labels: np.ndarray
    measures: np.ndarray
    age: np.ndarray
    sex_male: np.ndarray
    gain_known: np.ndarray
    present: np.ndarray

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the columns of `labels`."""
        return tuple(self.index["labels"])

    @property
    def measure_names(self) -> tuple[str, ...]:
        """Names of the columns of `measures`."""
        return tuple(self.index["measures"])

    def label_counts(self) -> dict[str, dict[str, int]]:
        """Return for each label how many recordings are positive, negative and unknown."""
        kinds = {"positive": self.labels == 1, "negative": self.labels == 0, "unknown": np.isnan(self.labels)}
        return {
            name: {kind: int(mask[:, k].sum()) for kind, mask in kinds.items()}
            for k, name in enumerate(self.label_names)
        }

    def measure_counts(self) -> dict[str, int]:
        """Return for each measure in how many recordings it is known."""
        known = (~np.isnan(self.measures)).sum(0)
        return {name: int(n) for name, n in zip(self.measure_names, known, strict=True)}

    @property
    def tasks(self) -> TaskSet:
        """What labels and measures are: their statement, rules and descriptions, the primary label first.

        A store that keeps no task set has the built-in one, or none that anybody knows: then FormatError.
        """
        of, found = str(self.root / "index.json"), self.index.get("tasks")
        if found is not None:
            return check_columns(task_set_from_json(found, of=of), self.label_names, self.measure_names, of=of)
        return check_columns(BUILT_IN, self.label_names, self.measure_names, of=of)

    @property
    def data_hash(self) -> str:
        """SHA-256 over uid and stored samples of each recording, in order; labels and folds are in `rows_hash`."""
        return str(self.index["source_sha256"])

    @property
    def rows_hash(self) -> str:
        """SHA-256 over everything that is known of the recordings besides their samples: labels, folds, patients, gains."""
        return self._hash_of(ROW_ARRAYS)

    @property
    def folds_hash(self) -> str:
        """SHA-256 over who is in which fold: where it differs, a fold of the same number holds other patients."""
        return self._hash_of(("uid", "patient", "fold"))

    def _hash_of(self, names: Sequence[str]) -> str:
        digest = hashlib.sha256()
        for name in names:
            values = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode() + values.tobytes())
        return digest.hexdigest()

    def check_frontend(self, spec: FrontendSpec = BASE) -> None:
        """Refuse a store of another front-end: a model trained on it would meet other inputs in use."""
        found, expected = self.index["frontend_sha256"], spec.sha256()
        if found != expected:
            raise FormatError(
                f"{self.root}: found a store of front-end {found[:16]}, expected {expected[:16]}",
                advice="Convert the recordings again with this version: lsemvae convert --data DIR --out STORE.",
            )

    def millivolts(self, rows: Sequence[int] | np.ndarray, *, leads: Sequence[str] = LEADS) -> np.ndarray:
        """Return front-end output of `rows` as float32 `[record, lead, time]` in mV, leads by name; absent leads are zero."""
        for lead in leads:
            if lead not in self.index["leads"]:
                raise LeadError(f"found leads {self.index['leads']}, expected {lead}")
        columns = [self.index["leads"].index(lead) for lead in leads]
        picked = self.samples[np.asarray(rows)][:, columns]
        return picked.astype(np.float32) * np.float32(self.index["lsb_uv"] * 1e-3)


def open_store(root: Path) -> RecordStore:
    """Open a store directory; a wrong schema, a truncated file or parts that do not fit together are refused."""
    root = Path(root)
    index_path = root / "index.json"
    if not index_path.is_file():
        raise FormatError(
            f"{root}: found no index.json, expected a record store",
            advice="Make one with `lsemvae convert --data DIR --out STORE`.",
        )
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or no JSON
        raise FormatError(f"{index_path}: cannot be read as JSON ({error})", advice="Convert again.") from error
    schema = index.get("schema") if isinstance(index, dict) else None
    if schema != SCHEMA:
        raise FormatError(f"{root}: found schema {schema!r}, expected {SCHEMA!r}", advice="Convert again.")
    if missing := [key for key in INDEX_KEYS if key not in index]:
        raise FormatError(
            f"{index_path}: found an index without {missing}, expected {INDEX_KEYS}", advice="Convert again."
        )

    n, n_leads = int(index["n_records"]), len(index["leads"])
    shape = (n, n_leads, int(index["n_samples"]))
    path = root / "samples.i16"
    expected, found = 2 * int(np.prod(shape)), path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise TruncatedError(f"{path}: found {found} bytes, expected {expected}", advice="Convert again.")
    samples = np.memmap(path, dtype="<i2", mode="r", shape=shape)

    path = root / "rows.npz"
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as rows:
            arrays = {name: rows[name] for name in ROW_ARRAYS}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(
            f"{path}: cannot be read ({error}), expected the arrays {', '.join(ROW_ARRAYS)}", advice="Convert again."
        ) from error
    shapes = dict.fromkeys(ROW_ARRAYS, (n,)) | {
        "labels": (n, len(index["labels"])),
        "measures": (n, len(index["measures"])),
        "present": (n, n_leads),
    }
    for name, values in arrays.items():
        if values.shape != shapes[name]:
            raise FormatError(
                f"{path}: found {name} {values.shape}, expected {shapes[name]} as in index.json",
                advice="Convert again.",
            )
    return RecordStore(root=root, index=dict(index), samples=samples, **arrays)


def thinned(store: RecordStore, *, per_fold: int) -> RecordStore:
    """Return a store for smoke tests: of each fold, and of rows without one, the first `per_fold` recordings with all leads.

    Beside them, of each label, the first positive recording of the fold: every label then has both answers somewhere.
    """
    whole, keep = store.present.all(1), []
    for fold in np.unique(store.fold):
        here = (store.fold == fold) & whole
        keep.append(np.flatnonzero(here)[:per_fold])
        keep += [np.flatnonzero(here & (store.labels[:, k] == 1))[:1] for k in range(store.labels.shape[1])]
    rows = np.unique(np.concatenate(keep))
    arrays = {name: getattr(store, name)[rows] for name in (*ROW_ARRAYS, "samples")}
    return replace(store, index={**store.index, "n_records": len(rows)}, **arrays)
