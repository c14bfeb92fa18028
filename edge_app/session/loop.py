"""The event loop of a command: background failures go to the log, and a request to end is obeyed in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

# Ctrl-C, a service that is stopped (or a machine that shuts down), a terminal window that is closed.
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, as `asyncio.run` does.

    A bus that dies under a radio library leaves futures whose failure nobody asks for; asyncio prints each with a
    traceback, long after the recording has dealt with the loss. Here they go to the log.
    """

    def noted(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _LOGGER.info("background work: %s", context.get("message"), exc_info=context.get("exception"))

    async def main() -> _T:
        asyncio.get_running_loop().set_exception_handler(noted)
        return await work

    return asyncio.run(main())


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C or request to end finish the recording in order; a second one interrupts the program."""
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def release() -> None:
        while caught:
            loop.remove_signal_handler(caught.pop())

    def interrupted() -> None:
        release()
        stop.set()

    try:
        for number in _ENDING_SIGNALS:
            loop.add_signal_handler(number, interrupted)
            caught.append(number)
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: whoever owns it handles signals
        _LOGGER.debug("signals are left to the main thread")
    try:
        yield
    finally:
        release()
