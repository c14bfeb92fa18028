"""The test radio: real bleak -> a private dbus-daemon -> our own org.bluez -> Bumble -> a virtual device.

The radio is a process of its own; the application under test is this process. It finds the bus by the variable that
every D-Bus library reads, so nothing of the machine's own Bluetooth is touched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.sim.bus import BUS_VARIABLE
from firmware_bridge.sim.source import ELECTRODE_OFFSET_UV
from lsemvae.ecg.formats import write_npz
from lsemvae.ecg.record import EcgRecord, record_from_physical

FS_HZ = 500.0


def heartbeat_uv(n: int) -> np.ndarray:
    phase = (np.arange(n) / FS_HZ) % 0.8 - 0.3

    def wave(height: float, centre: float, width: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((phase - centre) / width) ** 2)

    beat = wave(0.12, -0.16, 0.022) + wave(-0.1, -0.025, 0.009) + wave(1, 0, 0.01) + wave(0.3, 0.24, 0.045)
    return np.stack([700 * beat, 1100 * beat]) + np.random.default_rng(0).normal(0, 3, (2, n))


class Radio:
    """The radio process: commands in, events out."""

    def __init__(self, *options: str, record: Path) -> None:
        command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(record), *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bus = self._event("ready")["bus"]

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """Counters: "daemon" (calls, notifications) and "faults"."""
        self.tell("report")
        return self._event("report")

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(timeout=20)

    def _event(self, name: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
            assert event["event"] != "error", event
        raise AssertionError(f"the radio ended before {name!r}")


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
def equals_source(source_record) -> Callable[[EcgRecord], None]:
    """Check that every received sample is the source's, within one step of the record."""
    source = source_record[0]

    def check(record: EcgRecord) -> None:
        index = np.arange(record.n_samples) % source.n_samples
        expected = source.samples[:, index] * source.lsb_uv
        offset_uv = np.array(record.offset_uv) - np.array(ELECTRODE_OFFSET_UV)
        found = record.samples * record.lsb_uv + offset_uv[:, None]
        received = np.ones(record.n_samples, dtype=bool)
        for gap in record.gaps:
            received[gap.start : gap.stop] = False
        assert received.any()
        assert np.abs(found - expected)[:, received].max() <= record.lsb_uv

    return check
