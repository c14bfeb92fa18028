"""Where the recordings of an export lie when nobody names them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from export.cache import cache_folder
from export.errors import ExportCalibrationError
from export.job import Progress
from export.student_run.packaged import is_packaged
from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore, open_store
from lsemvae.ecg.frontend import BASE
from lsemvae.train.run import store_of

DATA_VARIABLE: Final = "LSEMVAE_DATA"
_BESIDE: Final = Path("shared") / "data" / "ecg"
_STORE_INDEX: Final = "index.json"
_FOLDER_TABLE: Final = "metadata.csv"


def find_store(named: Path | None, run_dir: Path, *, progress: Progress) -> RecordStore:
    """Return the record store of an export.

    `named` is a store or a folder of recordings (`metadata.csv`, `signals/`). Where it is None: for a run, the store that it was
    trained on; for the packaged student, which notes none, the folder in `LSEMVAE_DATA`, then `shared/data/ecg` beside the
    checkout. A folder of recordings is converted once and kept in the cache.

    Raises
    ------
    ExportCalibrationError
        If nothing is found: an INT8 export without recordings would be a guess.
    """
    if named is not None:
        return _opened(named, progress)
    if not is_packaged(run_dir):  # other recordings than its own would calibrate another model under its name
        return open_store(store_of(run_dir))
    looked = _usual_places()
    for place in looked:
        if (place / _FOLDER_TABLE).is_file():
            return _opened(place, progress)
    raise ExportCalibrationError(
        f"found no recordings (looked at {', '.join(map(str, looked))}); expected some to calibrate INT8 and to compare with",
        advice=f"Name a record store or a folder of recordings with --data, or set {DATA_VARIABLE}.",
    )


def _usual_places() -> list[Path]:
    named = os.environ.get(DATA_VARIABLE)
    beside = Path(__file__).resolve().parents[2] / _BESIDE
    return [Path(named), beside] if named else [beside]


def _opened(place: Path, progress: Progress) -> RecordStore:
    if (place / _FOLDER_TABLE).is_file() and not (place / _STORE_INDEX).is_file():
        return _converted(place, progress)
    return open_store(place)


def _converted(recordings: Path, progress: Progress) -> RecordStore:
    out = cache_folder("stores") / _key(recordings)
    if not (out / _STORE_INDEX).is_file():
        progress(f"converting the recordings of {recordings} (once; kept in {out})")
        convert_folder(recordings, out)
    return open_store(out)


def _key(recordings: Path) -> str:
    """Return a name for the store of a folder: its table, the sizes and times of its files, and the front-end."""
    said = hashlib.sha256(BASE.sha256().encode())
    said.update((recordings / _FOLDER_TABLE).read_bytes())
    for path in sorted(recordings.rglob("*")):
        if path.is_file():
            stat = path.stat()
            said.update(f"{path.relative_to(recordings)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return said.hexdigest()[:24]
