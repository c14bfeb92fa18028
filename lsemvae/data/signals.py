"""Where the recordings of a cohort lie: WFDB files, the folder format, or arrays of z-scored leads (EchoNext).

Each kind is a frozen description (read from `signals = { kind = ... }`), opened with the rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.folder import EcgFolder, by_shard
from lsemvae.data.table import CsvTable
from lsemvae.data.tomlfile import TomlTable
from lsemvae.ecg.errors import EcgError, FormatError, TruncatedError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, canonical_leads, derive_limb_leads
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.formats.wfdb import read_wfdb

# Recordings over which the constants of an array are checked: the relation of the limb leads is a property of all of
# them.
_CHECKED_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class OpenSignals:
    """Recordings by row of the table: `read(row)`, and the order in which reading is cheap."""

    read: Callable[[int], EcgRecord]
    order: Sequence[int]


@dataclass(frozen=True, slots=True)
class WfdbSignals:
    """WFDB records: `column` holds the path below `root`, with or without .hea."""

    root: Path
    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that it reads."""
        return (self.column,)

    def open(self, table: CsvTable, uids: Sequence[str]) -> OpenSignals:
        """Return readers of the records; a row without a path is refused."""
        for k, row in enumerate(table.rows):
            if not row[self.column]:
                raise table.error(k, f"no path in {self.column}", "the path of a WFDB record", "Fill the cell.")

        def read(k: int) -> EcgRecord:
            return read_wfdb(self.root / table.rows[k][self.column]).with_(record_id=uids[k])

        return OpenSignals(read, range(len(table.rows)))


@dataclass(frozen=True, slots=True)
class FolderSignals:
    """The folder format of the development recordings; rows are found by their uid."""

    root: Path
    columns: tuple[str, ...] = ()

    def open(self, table: CsvTable, uids: Sequence[str]) -> OpenSignals:
        """Return readers in the order of the shards; a uid that metadata.csv does not have is refused."""
        folder = EcgFolder(self.root)
        known = {row["uid"]: row for row in folder.rows}
        for k, uid in enumerate(uids):
            if uid not in known:
                raise table.error(
                    k,
                    f"the recording {uid!r}",
                    f"a uid of {self.root / 'metadata.csv'}",
                    "Use the uids of that file in the column that `uid` names.",
                )
        place = {uid: k for k, uid in enumerate(uids)}
        order = [place[row["uid"]] for row in by_shard(known[uid] for uid in uids)]
        return OpenSignals(lambda k: folder.record(known[uids[k]]), order)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySignals:
    """Arrays `[record, 1, time, lead]` or `[record, time, lead]` of z-scored leads, one .npy file for each part.

    Row i of a part's array is the i-th row of that part in the table, in file order (EchoNext's rule). Microvolts are
    `(z * std + mean) * lsb_uv`.

    Attributes
    ----------
    files
        Part -> file.
    part
        Column of the table that names the part; empty where there is one file.
    mean, std
        Of the lead's z-score, in counts `[lead]`.
    lsb_uv
        Microvolts per count.
    derive_limb
        Whether III, aVR, aVL and aVF are computed from I and II: in EchoNext they were filtered and clipped one by one,
        and obey the relations of the limb leads only roughly.
    check
        Whether the constants are tried on III = II - I before anything is read.
    """

    files: Mapping[str, Path]
    part: str
    fs_hz: float
    leads: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lsb_uv: float
    derive_limb: bool = True
    check: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that it reads."""
        return (self.part,) if self.part else ()

    def open(self, table: CsvTable, uids: Sequence[str]) -> OpenSignals:
        """Open the arrays as memory maps; one whose length is not that of its part of the table is refused."""
        seen = dict.fromkeys(self.files, 0)
        places: list[tuple[str, int]] = []  # for each row of the table its part, and its row in that part's array
        for k, row in enumerate(table.rows):
            part = row[self.part] if self.part else next(iter(self.files))
            if part not in seen:
                raise table.error(
                    k, f"{self.part} {part!r}", f"one of {', '.join(seen)}", "Name a file for each part in `files`."
                )
            places.append((part, seen[part]))
            seen[part] += 1
        arrays = {part: _memory_map(path, len(self.leads)) for part, path in self.files.items()}
        for part, array in arrays.items():
            found, expected = len(array), seen[part]
            if found != expected:
                raise FormatError(
                    f"{self.files[part]}: found {found} recordings, expected {expected}, the rows of {table.path}"
                    + (f" with {self.part} = {part}" if self.part else ""),
                    advice="Row i of an array is the i-th row of its part in the table: use the table of the same release, whole.",
                )
            if self.check:
                self.check_constants(array, of=str(self.files[part]))

        def read(k: int) -> EcgRecord:
            part, row = places[k]
            return self.record(arrays[part][row], uid=uids[k])

        return OpenSignals(read, range(len(table.rows)))

    def microvolts(self, z: np.ndarray) -> np.ndarray:
        """Return z-scores `[..., time, lead]` as float64 `[..., lead, time]` in uV."""
        counts = np.asarray(z, np.float64) * np.array(self.std) + np.array(self.mean)
        return np.moveaxis(counts * self.lsb_uv, -1, -2)

    def record(self, z: np.ndarray, *, uid: str) -> EcgRecord:
        """Return one recording of z-scores `[time, lead]`."""
        x, leads = self.microvolts(z), self.leads
        if self.derive_limb:
            limb = derive_limb_leads(x[leads.index("I")], x[leads.index("II")])
            chest = [k for k, lead in enumerate(leads) if lead not in LIMB_LEADS]
            x, leads = np.concatenate([limb, x[chest]]), LIMB_LEADS + tuple(leads[k] for k in chest)
        return record_from_physical(x, unit="uV", fs_hz=self.fs_hz, leads=leads, record_id=uid)

    def check_constants(self, array: np.ndarray, *, of: str) -> None:
        """Refuse constants that do not bring III closer to II - I than the z-scores are: they belong to other data."""
        if not {"I", "II", "III"} <= set(self.leads) or len({*self.std}) == 1:
            return

        def residual(x: np.ndarray) -> float:
            """Return the sd of III - (II - I) as a share of III's, for `[record, lead, time]`."""
            i, ii, iii = (x[:, self.leads.index(lead)] for lead in ("I", "II", "III"))
            return float(np.std(iii - (ii - i), axis=-1).mean() / max(float(np.std(iii, axis=-1).mean()), 1e-12))

        z = np.nan_to_num(np.asarray(array[:_CHECKED_ROWS], np.float64))
        before, after = residual(np.moveaxis(z, -1, -2)), residual(self.microvolts(z))
        if not after < before:
            raise FormatError(
                f"{of}: found III further from II - I with the constants mean and std ({after:.3f} of its sd) than without "
                f"({before:.3f}), expected it closer",
                advice="These constants belong to another release or another lead order. Correct them, or, where you know "
                "them to be right, write check = false in `signals`.",
            )


Signals = WfdbSignals | FolderSignals | ArraySignals


def _memory_map(path: Path, n_leads: int) -> np.ndarray:
    """Open a .npy file as a memory map `[record, time, lead]`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FormatError(
            f"{path}: found no such file, expected an array of recordings",
            advice="Correct `files` in the cohort file, or name the folder of the data with --data.",
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise TruncatedError(
            f"{path}: cannot be read as .npy ({error}), expected a whole array of numbers",
            advice="Copy the file again and compare its SHA-256.",
        ) from error
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.shape[-1] != n_leads or array.dtype.kind != "f":
        raise FormatError(
            f"{path}: found {array.dtype} {array.shape}, expected floating-point [record, 1, time, lead] or "
            f"[record, time, lead] with {n_leads} leads",
            advice="Correct `leads` in the cohort file, or give the waveform array.",
        )
    return array


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "wfdb": ("kind", "root", "column"),
    "folder": ("kind", "root"),
    "npy": ("kind", "root", "files", "part", "fs_hz", "leads", "mean", "std", "lsb_uv", "derive_limb", "check"),
}


def parse_signals(table: TomlTable, base: Path) -> Signals:
    """Read `signals = { kind = "wfdb" | "folder" | "npy", ... }`; paths are relative to `base`."""
    kind = table.text_of("kind")
    if kind not in _KEYS:
        raise table.error("kind", repr(kind), f"one of {', '.join(_KEYS)}")
    table.check_keys(_KEYS[kind])
    root = base / table.text_of("root", ".")
    if kind == "wfdb":
        return WfdbSignals(root, table.text_of("column", "path"))
    if kind == "folder":
        return FolderSignals(root)
    files = table.values.get("files")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise table.error("files", repr(files), '{ part = "file.npy" } for each part of the table')
    part = table.text_of("part", "")
    if not part and len(files) != 1:
        raise table.error("part", f"nothing beside {len(files)} files", "the column that names the part of a row")
    names = table.texts("leads")
    try:
        leads = canonical_leads(names) if names else LEADS
    except EcgError as error:
        raise table.error("leads", ", ".join(names), "known lead names, each once", error.advice) from error
    std, lsb_uv, fs_hz = table.numbers("std", count=len(leads)), table.number("lsb_uv"), table.number("fs_hz")
    for key, values in (("std", std), ("lsb_uv", (lsb_uv,)), ("fs_hz", (fs_hz,))):
        if min(values) <= 0:
            raise table.error(key, f"{min(values):g}", "numbers above 0")
    derive_limb = table.truth("derive_limb", default=True)
    if derive_limb and not {"I", "II"} <= set(leads):
        raise table.error("derive_limb", f"leads {', '.join(leads)}", "I and II among them, or derive_limb = false")
    return ArraySignals(
        files={name: root / file for name, file in files.items()},
        part=part,
        fs_hz=fs_hz,
        leads=leads,
        mean=table.numbers("mean", count=len(leads)),
        std=std,
        lsb_uv=lsb_uv,
        derive_limb=derive_limb,
        check=table.truth("check", default=True),
    )
