"""The event loop of a command: what a library's background work lets out goes to the log, not to the operator's screen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, as `asyncio.run` does.

    A bus that dies under a radio library leaves futures whose failure nobody asks for; asyncio prints each with a
    traceback, long after the session has dealt with the loss.
    """

    async def main() -> _T:
        asyncio.get_running_loop().set_exception_handler(_noted)
        return await work

    return asyncio.run(main())


def _noted(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _LOGGER.info("background work: %s", context.get("message"), exc_info=context.get("exception"))
