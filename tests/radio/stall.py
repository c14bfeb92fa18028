"""How long an event loop was kept from its work."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Self

LIMIT_S = 0.1
_TICK_S = 0.005
# Seconds on the processor, seconds of waiting for one, time slices: of this thread, in nanoseconds.
_SCHEDULER = Path("/proc/thread-self/schedstat")


class StallDetector:
    """A task that wants to run every 5 ms and notes by how much it came too late.

    A loop that cannot run because other programs hold the processors is not blocked by its own code: the time that the
    kernel says the thread waited for a processor is taken off. Where the kernel does not say, nothing is.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.ticks = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._measure(), name="stall-detector")
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await asyncio.sleep(2 * _TICK_S)  # what blocked last is seen by the next tick
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _measure(self) -> None:
        while True:
            began_s, waited_s = time.monotonic(), _waited_s()
            await asyncio.sleep(_TICK_S)
            late_s = time.monotonic() - began_s - _TICK_S
            self.worst_s = max(self.worst_s, late_s - (_waited_s() - waited_s))
            self.ticks += 1


def _waited_s() -> float:
    try:
        return int(_SCHEDULER.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
