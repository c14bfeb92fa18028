"""The test radio: real bleak -> a private dbus-daemon -> our own org.bluez -> Bumble -> a virtual device.

The radio is a process of its own; the application under test is this process. It finds the bus by the variable that
every D-Bus library reads, so nothing of the machine's own Bluetooth is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.air.bus import BUS_VARIABLE
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.formats.npz import write_npz
from tests.radio.air import FS_HZ, Radio, heartbeat_uv, worst_difference_uv
from tests.radio.stall import LIMIT_S, StallDetector

_T = TypeVar("_T")


@pytest.fixture(scope="session")
def source_record(tmp_path_factory) -> tuple[EcgRecord, Path]:
    path = tmp_path_factory.mktemp("radio") / "source.ecg.npz"
    record = record_from_physical(heartbeat_uv(7000), unit="uV", fs_hz=FS_HZ, leads=("I", "II"))
    write_npz(path, record)
    return record, path


@pytest.fixture
def radio(needs_dbus, source_record, monkeypatch) -> Iterator[Callable[..., Radio]]:
    """Start a radio with options; the application's D-Bus is its bus from then on."""
    started: list[Radio] = []

    def start(*options: str) -> Radio:
        running = Radio(*options, record=source_record[1])
        started.append(running)
        monkeypatch.setenv(BUS_VARIABLE, running.bus)
        return running

    yield start
    for running in started:
        running.close()


@pytest.fixture
def device_key() -> DeviceKey:
    """What the code on the case of the device says."""
    return DeviceKey(name="E6L-0001", secret=bytes(range(32)))


@pytest.fixture
def equals_source(source_record) -> Callable[..., None]:
    """Check that every claimed sample is the source's, within one step of the record."""

    def check(record: EcgRecord, *, starts: Sequence[tuple[int, int]] = ((0, 0),)) -> None:
        assert worst_difference_uv(record, source_record[0], starts=starts) <= record.lsb_uv

    return check


@pytest.fixture
def run_unstalled() -> Callable[[Coroutine[Any, Any, _T]], _T]:
    """Run to the end in a loop that must never be kept from its work for more than 100 ms."""

    def run(work: Coroutine[Any, Any, _T]) -> _T:
        detector = StallDetector()

        async def watched() -> _T:
            async with detector:
                return await work

        result = asyncio.run(watched())
        assert detector.ticks > 10
        assert detector.worst_s <= LIMIT_S
        return result

    return run
