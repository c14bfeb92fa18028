"""Keeping the converters' chatter out of the user's terminal and in the log, C++ lines included."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_STANDARD_FDS: Final = (1, 2)


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[None]:
    """Append to `log` whatever the code inside prints, warns or logs at the root.

    Works on file descriptors as well as on `sys.stderr`, because half of the noise is written by C++ code.
    """
    root = logging.getLogger()
    with log.open("a", encoding="utf-8", buffering=1) as handle:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = {fd: os.dup(fd) for fd in _STANDARD_FDS}
        before = root.handlers[:]
        try:
            for fd in saved:
                os.dup2(handle.fileno(), fd)
            # A root logger without handlers would be given one for good by a library's first logging.warning().
            root.handlers[:] = [logging.StreamHandler(handle)]
            with contextlib.redirect_stdout(handle), contextlib.redirect_stderr(handle):
                yield
        finally:
            root.handlers[:] = before
            for fd, original in saved.items():
                os.dup2(original, fd)
                os.close(original)
