"""Reader for the folder format of the development recordings: `metadata.csv` plus `signals/*.npz` shards.

A shard holds `lo` and `hi` (uint8 `[record, lead, time]`): the byte planes of zig-zag coded first differences,
all modulo 2**16. Source of the format: the README that lies beside the data.
"""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.cells import gain_is_known, whole
from lsemvae.ecg.errors import FormatError, LeadError, UnitError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, MEASURED_LEADS, canonical_leads, derive_limb_leads
from lsemvae.ecg.record import EcgRecord, record_from_physical

# In the development folder these shards hold aVL under the name aVF and the reverse: Goldberger's relations are broken
# by 150 uV rms as named and by 1.5 uV (rounding) when exchanged, on each of 60 recordings looked at.
CROSSED_SOURCE: Final = "PhysioNet/CinC Challenge 2011"
_CROSSED_UV: Final = 20.0

_TO_UV: Final = {"uV": 1.0, "mV": 1000.0}
SHARD_KEYS: Final = ("lo", "hi", "fs", "scale", "unit", "leads")


def decode_planes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Undo byte planes, zig-zag and first differences: uint8 pairs `[..., time]` -> int16 `[..., time]`."""
    zigzag = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    sign = (0 - (zigzag & 1)).astype(np.uint16)
    differences = ((zigzag >> 1) ^ sign).astype(np.uint16).view(np.int16)
    return np.cumsum(differences, axis=-1, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class Shard:
    """One decoded shard: `samples` int16 `[record, lead, time]`, `lsb_uv` microvolts per unit, canonical lead names."""

    samples: np.ndarray
    lsb_uv: float
    fs_hz: float
    leads: tuple[str, ...]

    def microvolts(self, row: int) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return recording `row` as float64 `[lead, time]` in uV, limb leads derived where I and II are stored but not all six.

        A shard without I or II gives the leads it has. FormatError if the shard has no such recording.
        """
        if not 0 <= row < len(self.samples):
            raise FormatError(
                f"found row {row}, expected 0 to {len(self.samples) - 1}, which this shard holds",
                advice="The columns file and row of metadata.csv do not belong to this shard: copy both again.",
            )
        stored = self.samples[row].astype(np.float64) * self.lsb_uv
        if set(LIMB_LEADS) <= set(self.leads) or not set(MEASURED_LEADS) <= set(self.leads):
            return stored, self.leads
        limb = derive_limb_leads(stored[self.leads.index("I")], stored[self.leads.index("II")])
        chest = [k for k, lead in enumerate(self.leads) if lead not in LIMB_LEADS]
        leads = LIMB_LEADS + tuple(self.leads[k] for k in chest)
        return np.concatenate([limb, stored[chest]]), leads


def read_shard(path: Path) -> Shard:
    """Read and decode one shard file; FormatError names what is missing."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            missing = [key for key in SHARD_KEYS if key not in archive]
            if missing:
                raise FormatError(
                    f"{path.name}: found arrays {sorted(archive.files)}, expected also {missing}",
                    advice="Use a shard in the format of the data folder's README.",
                )
            arrays = {key: archive[key] for key in SHARD_KEYS}
        low, high, leads = arrays["lo"], arrays["hi"], canonical_leads([str(x) for x in arrays["leads"]])
        if low.shape != high.shape or low.ndim != 3 or {low.dtype, high.dtype} != {np.dtype(np.uint8)}:
            raise FormatError(
                f"{path.name}: found planes {low.dtype} {low.shape} and {high.dtype} {high.shape}, "
                "expected two of uint8 [record, lead, time] of one shape"
            )
        if low.shape[1] != len(leads):
            raise LeadError(
                f"{path.name}: found {low.shape[1]} leads of samples and {len(leads)} names, expected equally many"
            )
        unit, scale = str(arrays["unit"]), float(arrays["scale"])
        if unit not in _TO_UV:
            raise UnitError(f"{path.name}: found unit {unit!r}, expected one of {sorted(_TO_UV)}")
        if not (math.isfinite(scale) and scale > 0):
            raise UnitError(f"{path.name}: found scale {scale}, expected {unit} per count, a number above 0")
        return Shard(decode_planes(low, high), scale * _TO_UV[unit], float(arrays["fs"]), leads)
    except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(
            f"{path}: cannot be read as a shard ({error})", advice="Check the file against SHA256SUMS."
        ) from error


@dataclass
class EcgFolder:
    """The folder format: `rows` (one dict per recording, as in metadata.csv) and their signals."""

    root: Path
    rows: list[dict[str, str]] = field(default_factory=list)
    _shard_name: str = ""
    _shard: Shard | None = None

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        path = self.root / "metadata.csv"
        if not path.is_file():
            raise FormatError(
                f"{self.root}: found no metadata.csv, expected a folder in the format of the data's README",
                advice="Point --data (or LSEMVAE_DATA) to the folder that holds metadata.csv and signals/.",
            )
        try:
            with path.open(newline="", encoding="utf-8-sig") as handle:
                reader = csv.DictReader(handle, strict=True)
                found, rows = list(reader.fieldnames or ()), list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise FormatError(
                f"{path}: cannot be read as CSV in UTF-8 ({error}), expected a table with one row per recording",
                advice="Save the table as CSV with UTF-8 encoding, or copy it again.",
            ) from error
        advice = "Each row names a recording (uid) and where its signal lies (file, row)."
        if missing := [name for name in ("uid", "file", "row") if name not in found]:
            raise FormatError(f"{path}: found columns {found[:8]}..., expected also {missing}", advice=advice)
        if not rows:
            raise FormatError(f"{path}: found a header and 0 recordings, expected at least 1", advice=advice)
        for line, row in enumerate(rows, 1):
            if None in row or None in row.values() or not row["uid"]:
                raise FormatError(
                    f"{path}: found recording {line} (uid {row['uid']!r}) with another number of cells, or without uid, "
                    f"expected {len(found)} cells",
                    advice="The table may be cut off or wrongly quoted: copy it again.",
                )
        repeated = [uid for uid, count in Counter(row["uid"] for row in rows).items() if count > 1]
        if repeated:
            raise FormatError(
                f"{path}: found uid {repeated[0]!r} more than once ({len(repeated)} such), expected each uid once",
                advice="Give each recording a uid of its own: predictions are told apart by it.",
            )
        self.rows = rows

    def shard(self, name: str) -> Shard:
        """Return the shard of that name; the last one stays in memory."""
        if self._shard is None or name != self._shard_name:
            self._shard = read_shard(self.root / name)
            self._shard_name = name
        return self._shard

    def select(self, split: str = "all") -> list[dict[str, str]]:
        """Return the rows whose `split` column equals `split`, or all of them."""
        if split == "all":
            return self.rows
        chosen = [row for row in self.rows if row.get("split") == split]
        if not chosen:
            splits = sorted({row["split"] for row in self.rows if row.get("split")})
            raise FormatError(
                f"found no recording with split {split!r}, expected "
                + (f"one of {splits}" if splits else "all: the column split is empty or missing"),
                advice="Choose --split, or all.",
            )
        return chosen

    def record(self, row: Mapping[str, str]) -> EcgRecord:
        """Return one recording as an EcgRecord."""
        shard = self.shard(row["file"])
        microvolts, leads = shard.microvolts(whole(row, "row"))
        if row.get("source", "").startswith(CROSSED_SOURCE):
            leads = uncross(microvolts, leads)
        return record_from_physical(
            microvolts,
            unit="uV",
            fs_hz=shard.fs_hz,
            leads=leads,
            lsb_uv=None,
            start=None,
            device=row.get("device", ""),
            record_id=row["uid"],
            gain_known=gain_is_known(row),
        )


def by_shard(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows in the order of their shards, so that each shard is decoded once."""
    return sorted(rows, key=lambda row: (row["file"], whole(row, "row")))


def uncross(microvolts: np.ndarray, leads: tuple[str, ...]) -> tuple[str, ...]:
    """Return lead names with aVL and aVF exchanged where `[lead, time]` in uV obeys Goldberger's relations only that way."""
    if not set(LIMB_LEADS) <= set(leads):
        return leads
    exchange = {"aVL": "aVF", "aVF": "aVL"}
    other = tuple(exchange.get(lead, lead) for lead in leads)
    broken_by_uv = []  # aVF is II - I / 2; the median stands above open electrodes and clipping
    for names in (leads, other):
        by_name = dict(zip(names, microvolts, strict=True))
        broken_by_uv.append(float(np.median(np.abs(by_name["aVF"] - (by_name["II"] - by_name["I"] / 2)))))
    as_named, exchanged = broken_by_uv
    return other if exchanged < _CROSSED_UV < as_named else leads


def lead_order(leads: tuple[str, ...]) -> list[int]:
    """Return the position of each lead in the canonical order of twelve."""
    return [LEADS.index(lead) for lead in leads]
