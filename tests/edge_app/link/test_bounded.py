"""Every wait for the radio ends, whatever a library does with being cancelled."""

from __future__ import annotations

import asyncio
import time

import pytest

from edge_app.link.bounded import within


def test_what_ends_in_time_is_returned():
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 3

    assert asyncio.run(within(5, work())) == 3


def test_what_fails_in_time_is_raised():
    async def work() -> None:
        raise KeyError("org.bluez.GattService1")

    with pytest.raises(KeyError, match="GattService1"):
        asyncio.run(within(5, work()))


def test_what_does_not_end_is_a_timeout():
    with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
        asyncio.run(within(0.05, asyncio.sleep(3600)))


def test_a_clean_up_that_waits_without_end_is_cancelled_too():
    """As bleak's: a cancelled connect tells the service and waits for its answer."""
    steps = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            steps.append("cleaning up")
            await asyncio.sleep(3600)

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await within(0.05, work(), grace_s=0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = time.monotonic()
    asyncio.run(scenario())
    assert steps == ["cleaning up"]
    assert time.monotonic() - before < 2


def test_being_cancelled_ends_the_work_and_stays_a_cancellation():
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def scenario() -> None:
        task = asyncio.get_running_loop().create_task(within(3600, work()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert ended == [True]


def test_what_an_ended_step_raises_is_not_told_later(caplog):
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise OSError("broken pipe")

    with pytest.raises(TimeoutError):
        asyncio.run(within(0.05, work()))
    assert not [record for record in caplog.records if record.name == "asyncio"]
