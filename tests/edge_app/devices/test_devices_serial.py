"""`edge_app devices` over a serial line: a six-lead device, and another maker's board."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_app.store.records import STORE_FILE, ClinicStore
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.air.serial_device import ProtoCentralBoard
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.formats.npz import read_npz, write_npz
from tests.edge_app.devices.conftest import largest_difference_lsb

Invoke = Callable[..., Any]

KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))
FS_HZ = 500


@pytest.fixture
def ecg(tmp_path: Path) -> tuple[EcgRecord, Path]:
    rng = np.random.default_rng(5)
    signal_uv = np.cumsum(rng.normal(0, 4, (2, 6000)), axis=1)
    record = record_from_physical(signal_uv, unit="uV", fs_hz=float(FS_HZ), leads=("I", "II"))
    path = tmp_path / "source.ecg.npz"
    write_npz(path, record)
    return record, path


@pytest.fixture
def port(ecg: tuple[EcgRecord, Path]) -> Iterator[str]:
    """The port of a six-lead device that is a program of its own."""
    command = [
        sys.executable,
        "-m",
        "firmware_bridge.sim.air.serial_device",
        "--record",
        str(ecg[1]),
        "--key",
        KEY.to_text(),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as device:
        assert device.stdout is not None
        yield json.loads(device.stdout.readline())["port"]
        device.communicate(timeout=20)


@pytest.mark.slow
def test_a_device_on_a_wire_is_recorded_like_one_on_the_air(
    invoke: Invoke, port: str, ecg: tuple[EcgRecord, Path], environment: dict[str, str]
) -> None:
    invoke("trust", input=KEY.to_text())
    result = invoke("record", "--serial", port, "--seconds", 3, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["session"]["complete"]
    with ClinicStore(Path(environment["LSEMVAE_HOME"]) / STORE_FILE, create=False) as store:
        record = store.get_record(values["stored"]["record_id"])
    assert record.source.authenticated is True
    assert largest_difference_lsb(record, ecg[0], [(0, 3 * FS_HZ, 0)]) <= 1.0


@pytest.mark.slow
def test_a_device_on_a_wire_describes_itself(invoke: Invoke, port: str) -> None:
    values = json.loads(invoke("info", "--serial", port, "--json").stdout)
    assert (values["leads"], values["link"], values["simulated"]) == (["I", "II"], "serial", False)
    assert values["trusted"].startswith("no: ")


@pytest.fixture
def board() -> Iterator[str]:
    """The port of a ProtoCentral ADS1293 board, which streams from power-on in a loop of its own."""
    codes = (np.arange(3000) % 200 * 100).astype(np.int32)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> ProtoCentralBoard:
        running = ProtoCentralBoard(np.stack([codes, -codes, 0 * codes]), fs_hz=100.0)
        running.start()
        return running

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=10)
    yield running.path
    asyncio.run_coroutine_threadsafe(running.close(), loop).result(timeout=10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)
    loop.close()


@pytest.mark.slow
def test_another_makers_board_is_recorded_and_asks_for_its_scale(invoke: Invoke, board: str, tmp_path: Path) -> None:
    out = tmp_path / "board.ecg.npz"
    result = invoke("record", "--driver", "protocentral-ads1293", "--serial", board, "--seconds", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert "does not know what a code is worth: measure it and state --lsb-uv" in result.stderr
    record = read_npz(out)
    assert record.n_samples == 200
    assert not record.gain_known
    assert not record.source.gap_detectable


@pytest.mark.slow
def test_a_stated_scale_is_taken_and_nothing_is_asked(invoke: Invoke, board: str, tmp_path: Path) -> None:
    out = tmp_path / "board.ecg.npz"
    driver = ("--driver", "protocentral-ads1293", "--serial", board, "--lsb-uv", "0.1")
    result = invoke("record", *driver, "--seconds", 2, "--out", out)
    assert "--lsb-uv" not in result.stderr
    record = read_npz(out)
    assert record.gain_known
    assert np.ptp(record.samples[0] * record.lsb_uv) == pytest.approx(199 * 100 * 0.1, rel=0.01)
