"""How the laboratory's commands end with an error: as the clinic's do, and also where a file cannot be read or written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lsemvae.terminal.console import reports_errors

P = ParamSpec("P")
R = TypeVar("R")


def ends_well(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command so that neither an `EcgError` nor a refusal of the file system ends it with a traceback."""

    @reports_errors
    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # whoever reads has seen enough
            raise
        except OSError as error:
            from lsemvae.ecg.errors import StoreError

            where = error.filename if error.filename is not None else "a file"
            raise StoreError(
                f"{where}: {error.strerror or type(error).__name__}, expected a path that can be read and written",
                advice="Check the path, its permissions and the free space, then give the command again.",
            ) from error

    return guarded
