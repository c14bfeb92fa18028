"""What the test radio carries, from the device's frames to the record: real bleak, D-Bus, our own org.bluez, Bumble.

    OMP_NUM_THREADS=1 python -m tests.evidence.radio_throughput [--seconds 30] [--speed 10] [--out FILE]

Two sessions of 500 Hz x 2 channels x 24 bit, which are 20 packets a second of signal, played at `--speed` times real time:
one over a clean radio, one that drops 5 %, damages 3 %, swaps 3 % and doubles 2 % of all frames. Written as JSON: packets a
second as they arrived at the application, samples lost before and after retransmission, damaged frames injected and
refused, the largest difference to the source, and the longest time that the application's event loop was kept from its
work. The link is simulated: no figure says anything about a real radio's range or rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_app.link.ble.transport import BleTransport
from edge_app.session import SessionResult, record_session
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.sim.air.bus import BUS_VARIABLE
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.formats.npz import write_npz
from tests.radio.air import FS_HZ, Radio, heartbeat_uv, worst_difference_uv
from tests.radio.stall import StallDetector

PACKETS_PER_S = 20.0
BAD_RADIO = {"drop": 0.05, "corrupt": 0.03, "swap": 0.03, "duplicate": 0.02}
KEY = DeviceKey(name="E6L-0001", secret=bytes(range(32)))
_SCAN_S = 10.0
_PACKAGES = ("bleak", "bleak-retry-connector", "dbus-fast", "bumble")


@dataclass
class Arrivals:
    """When frames of the running stream came."""

    times_s: list[float] = field(default_factory=list)

    def note(self, _frame: LiveFrame, _descriptor: DeviceDescriptor) -> None:
        self.times_s.append(time.monotonic())

    def per_s(self) -> float:
        """Packets a second between the first and the last."""
        return (len(self.times_s) - 1) / (self.times_s[-1] - self.times_s[0])


def measure(*, seconds: float, speed: float, faults: dict[str, float]) -> dict[str, Any]:
    """One session over a radio with these faults, in figures."""
    source = record_from_physical(heartbeat_uv(round(14 * FS_HZ)), unit="uV", fs_hz=FS_HZ, leads=("I", "II"))
    options = [word for name, value in faults.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.ecg.npz"
        write_npz(path, source)
        running = Radio("--speed", f"{speed:g}", "--key", KEY.to_text(), *options, record=path)
        before = os.environ.get(BUS_VARIABLE)
        os.environ[BUS_VARIABLE] = running.bus
        try:
            arrivals, stalls = Arrivals(), StallDetector()
            result = asyncio.run(_session(arrivals, stalls, seconds=seconds))
            report = running.report()
        finally:
            os.environ.pop(BUS_VARIABLE)
            if before is not None:
                os.environ[BUS_VARIABLE] = before
            running.close()
    return {
        "faults": faults,
        "packets_per_s": round(arrivals.per_s(), 1),
        "packets_per_s_sent": PACKETS_PER_S * speed,
        **_figures(result, source, report["faults"]),
        "longest_stall_ms": round(1000 * stalls.worst_s, 1),
    }


async def _session(arrivals: Arrivals, stalls: StallDetector, *, seconds: float) -> SessionResult:
    async with stalls:
        return await record_session(BleTransport(scan_s=_SCAN_S), seconds=seconds, keys=(KEY,), on_frame=arrivals.note)


def _figures(result: SessionResult, source: EcgRecord, injected: dict[str, int]) -> dict[str, Any]:
    found = result.statistics
    return {
        "samples": found.elapsed_samples,
        "lost_before_retransmission": found.missing_before_repair,
        "lost": found.missing_samples,
        "contiguous": result.complete,
        "injected": injected,
        "corrupt_injected": injected.get("corrupt", 0),
        "corrupt_refused": found.assembly.corrupt + found.assembly.malformed,
        "reconnections": found.reconnects,
        "worst_difference_lsb": round(worst_difference_uv(result.record, source) / result.record.lsb_uv, 3),
        "record_lsb_uv": result.record.lsb_uv,
    }


def measure_all(*, seconds: float, speed: float) -> dict[str, Any]:
    """Both sessions, and on what they ran."""
    return {
        "note": "Simulated link; nothing here was sent over the air. Written by tests/evidence/radio_throughput.py.",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in _PACKAGES},
        "signal_s": seconds,
        "speed": speed,
        "clean": measure(seconds=seconds, speed=speed, faults={}),
        "bad_radio": measure(seconds=seconds, speed=speed, faults=BAD_RADIO),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of signal")
    parser.add_argument("--speed", type=float, default=10.0, help="times real time")
    parser.add_argument("--out", type=Path, help="file to write; else standard output")
    options = parser.parse_args()
    text = json.dumps(measure_all(seconds=options.seconds, speed=options.speed), indent=1) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
