"""`edge_app devices simulate` in one terminal, the other commands in another: the way of a real ECG into the store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.data.folder import EcgFolder
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import read_npz, write_npz
from tests.edge_app.devices.conftest import Simulator, finished, largest_difference_lsb, until_recorded

pytestmark = [pytest.mark.needs_dbus, pytest.mark.needs_data, pytest.mark.slow]

Start = Callable[..., Simulator]
Devices = Callable[..., subprocess.Popen[str]]
SECONDS = 10
FS_HZ = 500


@cache
def _a_real_ecg(data: Path) -> EcgRecord:
    folder = EcgFolder(data)
    return folder.record(next(row for row in folder.select("train") if row["y_RHS"].startswith("1")))


@pytest.fixture
def ecg(ecg_data_dir: Path, tmp_path: Path) -> tuple[EcgRecord, Path]:
    """A real 12-lead recording at 500 Hz, as a file."""
    record, path = _a_real_ecg(ecg_data_dir), tmp_path / "source.ecg.npz"
    write_npz(path, record)
    return record, path


def _stored(values: dict[str, Any], environment: dict[str, str]) -> EcgRecord:
    path = Path(environment["LSEMVAE_HOME"]) / "simulated" / STORE_FILE
    assert values["stored"]["path"] == str(path)
    with ClinicStore(path, create=False) as store:
        assert not store.integrity_check()
        return store.get_record(values["stored"]["record_id"])


@pytest.mark.slow
@pytest.mark.promise(144)
def test_a_real_ecg_is_stored_equal_to_its_source(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    simulate("--record", str(ecg[1]))
    stdout, stderr = finished(devices("record", "--seconds", str(SECONDS), "--json"))
    assert "no real device" in stderr
    values = json.loads(stdout)
    assert values["session"]["complete"]
    record = _stored(values, environment)
    assert not record.gaps
    assert record.source.authenticated is True
    assert record.device == "simulated device"
    assert largest_difference_lsb(record, ecg[0], [(0, SECONDS * FS_HZ, 0)]) <= 1.0


@pytest.mark.slow
@pytest.mark.promise(144)
def test_a_bad_radio_changes_nothing(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    simulator = simulate(
        "--record",
        str(ecg[1]),
        "--speed",
        "4",
        "--drop",
        "0.05",
        "--corrupt",
        "0.03",
        "--swap",
        "0.03",
        "--duplicate",
        "0.02",
    )
    values = json.loads(finished(devices("record", "--seconds", str(SECONDS), "--json"))[0])
    assert values["session"]["complete"]
    record = _stored(values, environment)
    assert largest_difference_lsb(record, ecg[0], [(0, SECONDS * FS_HZ, 0)]) <= 1.0
    simulator.tell("report")
    faults = simulator.wait_for("report")["faults"]
    assert values["session"]["corrupt_frames"] == faults["corrupt"] > 0


@pytest.mark.slow
@pytest.mark.promise(144)
def test_a_simulator_killed_and_started_again_leaves_one_declared_gap(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    first = simulate("--record", str(ecg[1]))
    recording = devices("record", "--seconds", str(2 * SECONDS), "--json")
    until_recorded(recording, 5.0)
    first.kill()
    second = simulate("--record", str(ecg[1]))
    values = json.loads(finished(recording)[0])
    began = second.wait_for("stream")["source_index"]
    assert values["session"]["restarts"] == 1
    record = _stored(values, environment)
    assert record.n_samples == 2 * SECONDS * FS_HZ
    (gap,) = record.gaps
    assert 5 * FS_HZ - 100 <= gap.start < 2 * SECONDS * FS_HZ
    assert record.received_samples + gap.n_samples == record.n_samples
    spans = [(0, gap.start, 0), (gap.stop, record.n_samples, began)]
    assert largest_difference_lsb(record, ecg[0], spans) <= 1.0


@pytest.mark.slow
def test_a_device_without_power_for_a_moment_leaves_one_declared_gap(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    simulator = simulate("--record", str(ecg[1]))
    recording = devices("record", "--seconds", str(SECONDS), "--json")
    simulator.wait_for("stream")
    until_recorded(recording, 3.0)
    simulator.tell("power_cycle 1")
    values = json.loads(finished(recording)[0])
    record = _stored(values, environment)
    (gap,) = record.gaps
    began = simulator.wait_for("stream")["source_index"]
    spans = [(0, gap.start, 0), (gap.stop, record.n_samples, began)]
    assert largest_difference_lsb(record, ecg[0], spans) <= 1.0


@pytest.mark.slow
def test_scan_info_and_stream_find_it_too(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    simulate("--record", str(ecg[1]), "--encrypted", "--speed", "4")
    (seen,) = json.loads(finished(devices("scan", "--seconds", "2", "--json"))[0])["devices"]
    assert (seen["name"], seen["driver"]) == ("E6L-SIM", "e6l")
    info = json.loads(finished(devices("info", "--self-test", "--calibrate", "--json"))[0])
    assert (info["leads"], info["fs_hz"], info["simulated"]) == (["I", "II"], 500.0, True)
    assert info["trusted"].startswith("yes: E6L-SIM")
    assert info["self_test"].startswith("passed")
    assert np.abs(info["gain_errors"]).max() < 0.05
    streamed = json.loads(finished(devices("stream", "--seconds", "2", "--json"))[0])
    assert streamed["session"]["received_samples"] == 2 * FS_HZ
    assert not (Path(environment["LSEMVAE_HOME"]) / "simulated").exists(), "nothing is kept"


@pytest.mark.slow
def test_a_device_without_a_key_is_refused_unless_allowed(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path]
) -> None:
    simulate("--record", str(ecg[1]), "--no-key")
    error = json.loads(finished(devices("record", "--seconds", "2", "--json"), code=1)[0])["error"]
    assert error["code"] == "E_DEVICE_NOT_AUTHENTICATED"
    assert "--allow-unauthenticated" in error["advice"]
    values = json.loads(finished(devices("record", "--seconds", "2", "--allow-unauthenticated", "--json"))[0])
    assert _stored(values, environment).source.authenticated is False


@pytest.mark.slow
def test_a_log_of_the_bug_replays_to_the_same_samples(
    simulate: Start, devices: Devices, environment: dict[str, str], ecg: tuple[EcgRecord, Path], tmp_path: Path
) -> None:
    simulate("--record", str(ecg[1]), "--speed", "4", "--drop", "0.05", "--corrupt", "0.03")
    log = str(tmp_path / "bug.jsonl")
    values = json.loads(finished(devices("record", "--seconds", "5", "--log", log, "--json"))[0])
    out = tmp_path / "replayed.ecg.npz"
    finished(devices("record", "--seconds", "5", "--replay", log, "--speed", "20", "--out", str(out)))
    np.testing.assert_array_equal(read_npz(out).samples, _stored(values, environment).samples)


@pytest.mark.slow
def test_a_second_simulator_is_refused(simulate: Start, devices: Devices, ecg: tuple[EcgRecord, Path]) -> None:
    simulate("--record", str(ecg[1]))
    _, stderr = finished(devices("simulate", "--record", str(ecg[1])), code=1)
    assert "found a bus in use" in stderr
    assert "What to do:" in stderr
