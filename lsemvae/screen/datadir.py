"""The one folder that the app writes to, and how a small file is replaced in it without ever being half written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lsemvae.ecg.errors import StoreError

#: Environment variable that names the data folder when the command line does not.
HOME_VARIABLE = "LSEMVAE_HOME"

#: Recordings are health data: nobody but the account that runs the app may look into the folder or a file in it.
DIR_MODE = 0o700
FILE_MODE = 0o600


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


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that after a power cut either the old or the new file is there, whole.

    Raises
    ------
    StoreError
        The file cannot be written; the old one is untouched.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        _write_synced(temporary, content)
        temporary.replace(path)
        _sync_dir(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise store_error("write", path, error) from error


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_dir(path: Path) -> None:
    """Make the rename itself durable: the directory entry is data of the directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
