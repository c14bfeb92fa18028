"""Files that are there whole or not at all: written beside the target, flushed to the disk, then renamed over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# What a new file may be read by where the caller names no mode; the process's own mask takes its part away.
_USUAL_MODE: Final = 0o666


@contextmanager
def whole_file(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; at the end it becomes `path`, after an error it is gone.

    After a crash or a power cut either the old or the new file is there, whole.

    Parameters
    ----------
    path
        Where the content shall stand. Where it is a symbolic link, the link is replaced, not what it points to.
    mode
        Permissions of the file, from its first byte on; None: as the process makes files.

    Raises
    ------
    OSError
        The file cannot be written; what stood there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(temporary, flags, _USUAL_MODE if mode is None else mode))
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)  # the name is data of the folder
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Replace `path` by `content` (text as UTF-8); as `whole_file`, with its errors."""
    with whole_file(path, mode=mode) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # there a folder cannot be opened as a file
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
