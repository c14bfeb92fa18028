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
from export.student_run.recordings import packaged_recordings
from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore, open_store
from lsemvae.ecg.frontend import BASE
from lsemvae.train.run import store_of

DATA_VARIABLE: Final = "LSEMVAE_DATA"
_STORE_INDEX: Final = "index.json"
_FOLDER_TABLE: Final = "metadata.csv"


def find_store(named: Path | None, run_dir: Path, *, progress: Progress) -> RecordStore:
    """Return the record store of an export.

    `named` is a store or a folder of recordings (`metadata.csv`, `signals/`). Where it is None: for a run, the store that it was
    trained on; for the packaged student, which notes none, what `LSEMVAE_DATA` names, else the recordings that ship with it. A
    folder of recordings is converted once and kept in the cache.

    Raises
    ------
    ExportCalibrationError
        `LSEMVAE_DATA` names a place without recordings, or the packaged ones are damaged.
    """
    if named is not None:
        return _opened(named, progress)
    if not is_packaged(run_dir):  # other recordings than its own would calibrate another model under its name
        return open_store(store_of(run_dir))
    place = os.environ.get(DATA_VARIABLE)
    if not place:
        progress(
            "calibrating and judging on the recordings that ship with the student; "
            f"--data or {DATA_VARIABLE} names more of them"
        )
        return packaged_recordings()
    if not any((Path(place) / name).is_file() for name in (_FOLDER_TABLE, _STORE_INDEX)):
        raise ExportCalibrationError(
            f"found no recordings in {place}, which {DATA_VARIABLE} names; expected a record store or a folder of recordings",
            advice=f"Name one with --data, set {DATA_VARIABLE} to one, or unset it: then the packaged recordings are taken.",
        )
    return _opened(Path(place), progress)


def _opened(place: Path, progress: Progress) -> RecordStore:
    """Return the store in a folder; recordings in a folder without one are converted into the cache first."""
    if not (place / _FOLDER_TABLE).is_file() or (place / _STORE_INDEX).is_file():
        return open_store(place)
    # Its name: the table, the sizes and times of the files, and the front-end.
    said = hashlib.sha256(BASE.sha256().encode() + (place / _FOLDER_TABLE).read_bytes())
    for path in sorted(place.rglob("*")):
        if path.is_file():
            stat = path.stat()
            said.update(f"{path.relative_to(place)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    out = cache_folder("stores") / said.hexdigest()[:24]
    if not (out / _STORE_INDEX).is_file():
        progress(f"converting the recordings of {place} (once; kept in {out})")
        convert_folder(place, out)
    return open_store(out)
