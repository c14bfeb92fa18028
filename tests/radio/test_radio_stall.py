"""The detector that the streaming tests rely on: it sees what blocks a loop, and only that."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.radio.stall import LIMIT_S, StallDetector


def stalled(work) -> float:
    async def run() -> float:
        async with StallDetector() as detector:
            await work()
        return detector.worst_s

    return asyncio.run(run())


async def sleeps_in_the_loop():
    await asyncio.sleep(0.02)
    time.sleep(0.15)


async def computes_in_the_loop():
    until_s = time.thread_time() + 0.15
    while time.thread_time() < until_s:
        pass


async def sleeps_in_a_thread():
    await asyncio.to_thread(time.sleep, 0.15)


@pytest.mark.promise(139)
@pytest.mark.parametrize("work", [sleeps_in_the_loop, computes_in_the_loop])
def test_a_blocked_loop_is_seen(work):
    assert stalled(work) > LIMIT_S


def test_work_beside_the_loop_is_no_stall():
    assert stalled(sleeps_in_a_thread) <= LIMIT_S
