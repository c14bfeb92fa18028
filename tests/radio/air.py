"""The radio process, and what a recording over it must equal: shared by the tests and the evidence command."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV
from lsemvae.ecg.record import EcgRecord

FS_HZ = 500.0
_PATIENCE_S = 20.0


def heartbeat_uv(n: int) -> np.ndarray:
    phase = (np.arange(n) / FS_HZ) % 0.8 - 0.3

    def wave(height: float, centre: float, width: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((phase - centre) / width) ** 2)

    beat = wave(0.12, -0.16, 0.022) + wave(-0.1, -0.025, 0.009) + wave(1, 0, 0.01) + wave(0.3, 0.24, 0.045)
    return np.stack([700 * beat, 1100 * beat]) + np.random.default_rng(0).normal(0, 3, (2, n))


class Radio:
    """The radio process: commands in, events out.

    Attributes
    ----------
    events
        All that it said so far.
    """

    def __init__(self, *options: str, record: Path) -> None:
        command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(record), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self._unread: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.bus: str = self.wait_for("ready")["bus"]

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """Counters: "daemon" (calls, notifications) and "faults"; all earlier events are in `events` then."""
        self.tell("report")
        return self.wait_for("report")

    def streams(self) -> list[dict[str, Any]]:
        """Where streams began: at which sample of the source."""
        self.report()
        return [event for event in self.events if event["event"] == "stream" and not event["resumed"]]

    def wait_for(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        while (event := self._unread.get(timeout=_PATIENCE_S)) is not None:
            if event["event"] == name:
                return event
            assert event["event"] not in ("error", "unknown_command"), event
        raise AssertionError(f"the radio ended before {name!r}")

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """End it; whatever state it is in."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(timeout=_PATIENCE_S)
        self._reader.join(timeout=_PATIENCE_S)
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._unread.put(event)
        self._unread.put(None)


def worst_difference_uv(
    record: EcgRecord, source: EcgRecord, *, starts: Sequence[tuple[int, int]] = ((0, 0),)
) -> float:
    """Largest difference to the source over every sample that the record claims to have.

    Parameters
    ----------
    starts
        Sample of the record at which a stream begins, and the sample of the source that it begins with.
    """
    index = np.zeros(record.n_samples, dtype=np.int64)
    for position, first in starts:
        index[position:] = first + np.arange(record.n_samples - position)
    expected = source.samples[:, index % source.n_samples] * source.lsb_uv
    offset_uv = np.array(record.offset_uv) - np.array(ELECTRODE_OFFSET_UV)
    found = record.samples * record.lsb_uv + offset_uv[:, None]
    claimed = np.ones(record.n_samples, dtype=bool)
    for gap in record.gaps:
        claimed[gap.start : gap.stop] = False
    assert claimed.any()
    return float(np.abs(found - expected)[:, claimed].max())
