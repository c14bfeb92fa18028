"""The record store: an int16 memory map of front-end output and an index. What training reads.

Layout of a store directory::

    index.json     schema, leads, fs_hz, n_samples, lsb_uv, front-end hash, label names, source hash
    samples.i16    little-endian int16 [record, lead, time], lsb_uv microvolts per unit, canonical lead order
    rows.npz       uid, patient, split, source (unicode), fold, labels, age, sex_male, gain_known, present [record, lead]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsemvae.ecg.errors import FormatError, LeadError, TruncatedError
from lsemvae.ecg.leads import LEADS

SCHEMA = "lsemvae-store/1"
STORE_LSB_UV = 0.25
"""The front-end clips at 5 mV: 0.25 uV spans 8.19 mV in int16 and adds 0.07 uV rms of rounding."""

ROW_ARRAYS = ("uid", "patient", "split", "source", "fold", "labels", "age", "sex_male", "gain_known", "present")


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
    def data_hash(self) -> str:
        """SHA-256 over the index of what the store was made from."""
        return str(self.index["source_sha256"])

    def millivolts(self, rows: Sequence[int] | np.ndarray, *, leads: Sequence[str] = LEADS) -> np.ndarray:
        """Front-end output of `rows` as float32 `[record, lead, time]` in mV, leads by name; absent leads are zero."""
        columns = [self._column(lead) for lead in leads]
        picked = self.samples[np.asarray(rows)][:, columns]
        return picked.astype(np.float32) * np.float32(self.index["lsb_uv"] * 1e-3)

    def _column(self, lead: str) -> int:
        if lead not in self.index["leads"]:
            raise LeadError(f"found leads {self.index['leads']}, expected {lead}")
        return int(self.index["leads"].index(lead))


def open_store(root: Path) -> RecordStore:
    """Open a store directory; a wrong schema or a truncated sample file is refused with both sizes."""
    root = Path(root)
    index_path = root / "index.json"
    if not index_path.is_file():
        raise FormatError(
            f"{root}: found no index.json, expected a record store",
            advice="Make one with `lsemvae convert --data DIR --out STORE`.",
        )
    index = json.loads(index_path.read_text(encoding="utf-8"))
    if index.get("schema") != SCHEMA:
        raise FormatError(f"{root}: found schema {index.get('schema')!r}, expected {SCHEMA!r}", advice="Convert again.")
    shape = (int(index["n_records"]), len(index["leads"]), int(index["n_samples"]))
    expected, found = 2 * int(np.prod(shape)), (root / "samples.i16").stat().st_size
    if found != expected:
        raise TruncatedError(f"{root}/samples.i16: found {found} bytes, expected {expected}", advice="Convert again.")
    samples = np.memmap(root / "samples.i16", dtype="<i2", mode="r", shape=shape)
    with np.load(root / "rows.npz", allow_pickle=False) as rows:
        arrays = {name: rows[name] for name in ROW_ARRAYS}
    return RecordStore(root=root, index=index, samples=samples, **arrays)
