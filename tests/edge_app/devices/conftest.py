"""Both sides of `edge_app devices` as an operator meets them: two programs, one account."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_app.cli import app
from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import read_npz
from tests.edge_app.clock import jumping_clock  # noqa: F401
from tests.edge_app.heartbeat import equals_source, signal_uv, source  # noqa: F401

APP = [sys.executable, "-c", "from edge_app.cli import main; main()"]
PATIENCE_S = 60.0


class Simulator:
    """`edge_app devices simulate` in a terminal of its own; obeys commands, tells events."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        self.process = subprocess.Popen(
            [*APP, "devices", "simulate", "--json", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []
        self._queue: Queue[dict[str, Any] | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.bus = self.wait_for("ready")["bus"]

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def wait_for(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        while True:
            try:
                event = self._queue.get(timeout=PATIENCE_S)
            except Empty:
                raise AssertionError(f"no {name!r} in {PATIENCE_S:g} s; seen {self.events}") from None
            if event is None:
                assert self.process.stderr is not None
                raise AssertionError(f"the simulator ended before {name!r}: {self.process.stderr.read()}")
            self.events.append(event)
            if event["event"] == name:
                return event

    def kill(self) -> None:
        """As a power cut ends it: no last words."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One account: its runtime folder and its recordings."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    return {
        **os.environ, "XDG_RUNTIME_DIR": str(runtime), "LSEMVAE_HOME": str(tmp_path / "home"), "NO_COLOR": "1",
        "COLUMNS": "100",
    }  # fmt: skip


@pytest.fixture
def simulate(needs_dbus: str, environment: dict[str, str]) -> Iterator[Callable[..., Simulator]]:
    started: list[Simulator] = []

    def start(*options: str) -> Simulator:
        started.append(Simulator(environment, *options))
        return started[-1]

    yield start
    for simulator in started:
        simulator.close()


@pytest.fixture
def devices(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `edge_app devices ...` in another terminal."""

    def call(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*APP, "devices", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip

    return call


def finished(process: subprocess.Popen[str], *, code: int = 0) -> tuple[str, str]:
    """Both outputs of a command that ended with `code`."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, f"{stdout}\n{stderr}"
    assert "Traceback" not in stderr
    return stdout, stderr


def until_recorded(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until a recording has come so far, as its progress lines say."""
    assert process.stderr is not None
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        line = process.stderr.readline()
        assert line, f"recording ended: {process.communicate()}"
        if line.startswith("recording") and float(line.split()[1]) >= seconds:
            return
    raise AssertionError(f"not at {seconds} s after {PATIENCE_S:g} s")


def largest_difference_lsb(record: EcgRecord, played: EcgRecord, spans: list[tuple[int, int, int]]) -> float:
    """Largest difference from the microvolts of what was played, in steps of the record.

    `spans` are (start, stop, sample of `played` at start); it is repeated. The simulated electrodes add an
    offset that is known.
    """
    rows = [played.leads.index(lead) for lead in record.leads]
    worst = 0.0
    for start, stop, at in spans:
        index = np.arange(at, at + stop - start) % played.n_samples
        expected_uv = played.samples[np.ix_(rows, index)] * played.lsb_uv + np.array(ELECTRODE_OFFSET_UV)[:, None]
        found_uv = record.samples[:, start:stop] * record.lsb_uv + np.array(record.offset_uv)[:, None]
        worst = max(worst, float(np.abs(found_uv - expected_uv).max()) / record.lsb_uv)
    return worst


@pytest.fixture
def invoke(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call `edge_app devices ...` in this process."""
    for name in ("XDG_RUNTIME_DIR", "LSEMVAE_HOME", "NO_COLOR", "COLUMNS"):
        monkeypatch.setenv(name, environment[name])

    def call(*words: Any, **options: Any) -> Any:
        result = CliRunner().invoke(app, ["devices", *map(str, words)], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return call


def exported(path: Path) -> EcgRecord:
    return read_npz(path)
