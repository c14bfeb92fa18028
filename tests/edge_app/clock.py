"""An event loop whose clock stands still while something is to be done, and jumps to the next timer when nothing is.

A session of thirty seconds takes milliseconds, and no test depends on how busy the machine is. Where a thread works for
the loop (a disk that is synced), the clock waits for it as a real one would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest


class JumpingLoop(asyncio.SelectorEventLoop):
    """Event loop with a clock of its own; begins at 1000 s, like a machine that has been on for a while."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._threads = 0
        super().__init__()

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        def ended(_future: Any) -> None:
            self._threads -= 1

        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(ended)
        return future

    def _run_once(self) -> None:
        if not self._ready and self._scheduled and not self._threads:
            self._now_s = max(self._now_s, self._scheduled[0]._when)
        super()._run_once()


class JumpingPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops, for `asyncio.run` as well."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return JumpingLoop()


@pytest.fixture
def jumping_clock() -> Iterator[None]:
    """Let event loops of this test jump to their next timer."""
    asyncio.set_event_loop_policy(JumpingPolicy())
    yield
    asyncio.set_event_loop_policy(None)
