"""`edge_app run` as a clinic starts it: a process of its own, real bleak, a Bluetooth service, a device on the air."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import write_npz

pytestmark = [pytest.mark.needs_dbus, pytest.mark.slow]

NAME = "E6L-0042"
APP = "from edge_app.cli import main; main()"
# The simulated device has no key, and plays twice as fast as a real one.
PLAYED = ("--allow-unauthenticated", "--pace", "2")


class Radio:
    """The test radio as a process; obeys commands."""

    def __init__(self, recording: Path) -> None:
        command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(recording)]
        self.process = subprocess.Popen(
            [*command, "--speed", "2", "--name", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        assert ready["event"] == "ready", ready
        self.bus = ready["bus"]

    def command(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.communicate("quit\n", timeout=20)


@pytest.fixture
def radio(needs_dbus: str, tmp_path: Path, make_record: Callable[..., EcgRecord]) -> Iterator[Radio]:
    path = tmp_path / "replayed.ecg.npz"
    write_npz(path, make_record(seconds=15.0))
    radio = Radio(path)
    yield radio
    radio.close()


@pytest.fixture
def start(radio: Radio, bundle_dir: Path, trust_dir: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def call(*words: str) -> subprocess.Popen[str]:
        options = ["--bundle", str(bundle_dir), "--trust", str(trust_dir), "--data-dir", str(tmp_path / "home")]
        return subprocess.Popen(
            [sys.executable, "-c", APP, "run", "--yes", "--json", *PLAYED, *options, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": radio.bus},
        )

    return call


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=120)
    assert stdout, stderr
    assert "Traceback" not in stderr
    return json.loads(stdout)


@pytest.mark.slow
def test_a_named_device_is_recorded_screened_and_stored(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start("--device", NAME, "--seconds", "10")
    values = _result(process)
    assert process.returncode in (0, 3)
    assert values["session"]["complete"] is True
    assert values["recording"]["device"].startswith(NAME)
    assert values["quality"]["acceptable"] is True
    with ClinicStore(tmp_path / "home" / STORE_FILE) as store:
        record = store.get_record(values["stored"]["record_id"])
    assert record.leads == ("I", "II")
    assert record.received_samples == values["session"]["received_samples"]


@pytest.mark.slow
@pytest.mark.promise(42)
def test_a_device_that_loses_its_battery_ends_as_abstain_with_what_was_received(
    start: Callable[..., Any], radio: Radio, tmp_path: Path
) -> None:
    process = start("--seconds", "12")
    for line in process.stderr:
        if line.startswith("recording  4"):
            break
    radio.command("power_off")
    values = _result(process)
    assert process.returncode == 3
    assert values["outcome"] == "ABSTAIN"
    assert set(values["reasons"]) & {"TOO_SHORT", "GAP"}
    assert values["recording"]["received_samples"] >= 4 * 500
    assert "lost" in {event["kind"] for event in values["session"]["events"]}
    with ClinicStore(tmp_path / "home" / STORE_FILE) as store:
        assert store.get_record(values["stored"]["record_id"]).received_samples >= 4 * 500
