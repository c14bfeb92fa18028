"""A wait that ends, whatever a library does with being cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

# A cancelled step of bleak tells bluetoothd so and waits for its answer without end; the next cancellation ends that.
_CANCELLATIONS: Final = 3
_GRACE_S: Final = 2.0


async def within(seconds: float, work: Coroutine[Any, Any, _T], *, grace_s: float | None = None) -> _T:
    """Return what `work` returns, or raise `TimeoutError` after `seconds`.

    To end the work may take at most three times `grace_s` (2 s) more: a library puts things away first.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        in_time = task.done()
        if not in_time:
            await _end(task, grace_s=_GRACE_S if grace_s is None else grace_s)
    if not in_time:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return task.result()


async def unless_stopped(
    work: Coroutine[Any, Any, _T], stop: asyncio.Event | None, *,
    tick_s: float | None = None, on_tick: Callable[[], None] | None = None,
) -> asyncio.Task[_T]:  # fmt: skip
    """Do `work`, but leave it as soon as `stop` is set; return its ended task, which is `cancelled()` where it was left.

    `on_tick` is called every `tick_s` seconds meanwhile.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    asked = loop.create_task((stop or asyncio.Event()).wait())
    try:
        while not (task.done() or asked.done()):
            await asyncio.wait((task, asked), timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
            if on_tick is not None:
                on_tick()
    finally:
        task.cancel()
        asked.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)
    return task


async def _end(task: asyncio.Task[Any], *, grace_s: float) -> None:
    for _ in range(_CANCELLATIONS):
        task.cancel()
        await asyncio.wait({task}, timeout=grace_s)
        if task.done():
            break
    if not task.done():
        _LOGGER.error("a step could not be ended: %r", task)
        task.add_done_callback(_consume)
    else:
        _consume(task)


def _consume(task: asyncio.Task[Any]) -> None:
    """Take the exception of an ended step, so that asyncio does not report it later."""
    if not task.cancelled() and task.exception() is not None:
        _LOGGER.debug("an ended step raised %r", task.exception())
