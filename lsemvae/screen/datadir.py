"""The one folder that the app writes to, and how a small file is replaced in it without ever being half written."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from lsemvae.ecg.errors import StoreError
from lsemvae.formats.whole import write_whole

# Environment variable that names the data folder when the command line does not.
HOME_VARIABLE: Final = "LSEMVAE_HOME"
# Recordings are health data: nobody but the account that runs the app may look into the folder or a file in it.
DIR_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def data_dir(chosen: Path | None = None) -> Path:
    """Return the data folder: the argument, else ``$LSEMVAE_HOME``, else ``~/.local/share/lsemvae``; creates none."""
    if chosen is not None:
        return chosen.expanduser()
    from_environment = os.environ.get(HOME_VARIABLE, "")
    if from_environment:
        return Path(from_environment).expanduser()
    return Path.home() / ".local" / "share" / "lsemvae"


def ensure_dir(path: Path) -> Path:
    """Create `path` (mode 0700) where it is missing, and make a folder of our own private again.

    Raises
    ------
    StoreError
        The folder cannot be created, or `path` is not a folder.
    """
    try:
        path.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
        info = path.stat()
        if info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) != DIR_MODE:
            path.chmod(DIR_MODE)
    except OSError as error:
        raise store_error("create the data folder", path, error) from error
    return path


def store_error(action: str, path: Path, error: OSError) -> StoreError:
    """Say what could not be done to the data folder, with what the system answered."""
    reason = error.strerror or type(error).__name__
    return StoreError(
        f"Cannot {action} {path}: {reason}.",
        advice="Check that the disk is mounted, writable and not full, or choose another place with --data-dir.",
    )


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, readable by this account alone; after a power cut the old or the new file is there, whole.

    Raises
    ------
    StoreError
        The file cannot be written; the old one is untouched.
    """
    try:
        write_whole(path, content, mode=FILE_MODE)
    except OSError as error:
        raise store_error("write", path, error) from error
