"""From a device to the store: whatever breaks on the way, what was received is shown, stored or recoverable."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_app import visit
from edge_app.cli import app
from edge_app.demo import demo_recording
from edge_app.devices import simulated_radio, ways
from edge_app.link.inprocess import InProcessTransport
from edge_app.session import recorder
from edge_app.session.events import Watch
from edge_app.session.keys import DeviceKeys
from edge_app.session.recorder import SPOOL_DIR, leftovers, record
from edge_app.session.spool import Spool
from edge_app.session.wish import Wish
from edge_app.store.records import STORE_FILE, ClinicStore
from firmware_bridge.drivers.viatom_frames import NOTIFY_UUID, TYPE_OK, ViatomFrame
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.source import SignalSource
from lsemvae.ecg.errors import FormatError, LinkError, StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.source import SourceInfo
from lsemvae.formats.npz import write_npz

pytestmark = pytest.mark.usefixtures("jumping_clock")

Records = Callable[..., EcgRecord]
SPEED = 20.0
KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))
# A device on the bench, which proves no key.
BENCH = Wish(seconds=10.0, allow_unauthenticated=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def invoke(bundle_dir: Path, trust_dir: Path, home: Path) -> Callable[..., Any]:
    def call(*words: Any, **options: Any) -> Any:
        options_of_all = ["--bundle", bundle_dir, "--trust", trust_dir, "--data-dir", home]
        result = CliRunner().invoke(app, [str(word) for word in (*words, *options_of_all)], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


def _trusted(source: SignalSource) -> VirtualDevice:
    return VirtualDevice(source, key=KEY)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, make_record: Records, home: Path) -> None:
    """A virtual device in place of the radio, whose key this clinic knows."""

    def transport(*_: Any, **__: Any) -> InProcessTransport:
        return InProcessTransport(make_record(seconds=13.0), speed=SPEED, device=_trusted)

    monkeypatch.setitem(sys.modules, "edge_app.link.ble.transport", SimpleNamespace(BleTransport=transport))
    DeviceKeys(home).add(KEY)


@pytest.mark.promise(37)
def test_demo_goes_the_whole_way(invoke: Callable[..., Any], home: Path) -> None:
    result = invoke("demo", "--speed", SPEED)
    assert result.exit_code in (0, 3), result.output
    assert "leads I, II" in result.stdout
    assert "lead II, 10.0 s" in result.stdout
    assert "ECG readers, not pulmonary hypertension" in result.stdout
    assert str(home / "demo" / STORE_FILE) in result.stdout
    assert not (home / STORE_FILE).exists()
    assert list((home / "demo" / SPOOL_DIR).iterdir()) == []


@pytest.mark.promise(6)
def test_demo_json_accounts_for_every_sample(invoke: Callable[..., Any], home: Path) -> None:
    values = json.loads(invoke("demo", "--speed", SPEED, "--json").stdout)
    session = values["session"]
    assert session["complete"] is True
    assert session["received_samples"] + session["missing_samples"] == session["elapsed_samples"] == 10_000
    assert values["recording"]["fs_hz"] == 1000.0
    with ClinicStore(home / "demo" / STORE_FILE) as store:
        stored = store.get_record(values["stored"]["record_id"])
    original = demo_recording()
    deviation = stored.to_mv()[1] - original.to_mv()[1]
    assert abs(deviation - deviation.mean()).max() < 0.003


def test_demo_without_pydicom_says_what_to_install(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import edge_app.demo as demo

    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    result = invoke("demo")
    assert result.exit_code == 1
    assert "lsemvae[demo]" in result.stderr


@pytest.mark.usefixtures("device")
def test_run_records_screens_and_stores(invoke: Callable[..., Any], home: Path) -> None:
    result = invoke("run", "--yes", "--seconds", "10", "--json", "--operator", "op 3")
    assert result.exit_code in (0, 3), result.output
    values = json.loads(result.stdout)
    assert values["recording"]["duration_s"] == pytest.approx(10.0, abs=0.2)
    assert values["recording"]["time_source"] == "host"
    assert "recording" in result.stderr
    assert values["session"]["authenticated"] is True
    with ClinicStore(home / STORE_FILE) as store:
        assert store.get_results(values["stored"]["record_id"])[0]["operator"] == "op 3"
        assert store.get_record(values["stored"]["record_id"]).source == SourceInfo(driver="e6l", authenticated=True)
    assert list((home / SPOOL_DIR).iterdir()) == []


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, {"name": None}),
        ("E6L-0042", {"name": "E6L-0042"}),
        ("AA:BB:cc:00:11:22", {"address": "AA:BB:cc:00:11:22"}),
        ("12345678-ABCD-abcd-0000-123456789ABC", {"address": "12345678-ABCD-abcd-0000-123456789ABC"}),
    ],
)
def test_a_device_is_an_address_or_a_name(
    monkeypatch: pytest.MonkeyPatch, device: str | None, expected: dict[str, str | None]
) -> None:
    monkeypatch.setitem(
        sys.modules, "edge_app.link.ble.transport", SimpleNamespace(BleTransport=lambda **options: options)
    )
    assert ways.way_to(device=device, simulated=False).link == expected


def test_bluetooth_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("bleak", "edge_app.link.ble"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bleak", None)
    with pytest.raises(LinkError) as caught:
        ways.way_to(simulated=False)
    assert "lsemvae[edge]" in caught.value.advice


@pytest.mark.usefixtures("device")
def test_run_asks_first_and_no_means_no(invoke: Callable[..., Any], home: Path) -> None:
    assert invoke("run", input="n\n").exit_code == 1
    assert not (home / SPOOL_DIR).exists()


def test_a_device_that_is_not_there_is_an_error_with_advice(
    invoke: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch, make_record: Records
) -> None:
    def off(*_: Any, **__: Any) -> InProcessTransport:
        transport = InProcessTransport(make_record(), speed=SPEED)
        transport.player.device.powered = False
        return transport

    monkeypatch.setitem(sys.modules, "edge_app.link.ble.transport", SimpleNamespace(BleTransport=off))
    result = invoke("run", "--yes")
    assert result.exit_code == 1
    assert "E_LINK" in result.stderr
    assert list((home / SPOOL_DIR).iterdir()) == []


@pytest.mark.promise(51)
@pytest.mark.usefixtures("device")
def test_a_store_that_refuses_still_shows_the_outcome_and_keeps_the_recording(
    invoke: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(visit, "keep", full)
        result = invoke("run", "--yes", "--seconds", "10")
    assert result.exit_code == 1
    assert "Recording quality" in result.stdout
    assert "E_STORE" in result.stderr
    assert "edge_app recover" in result.stderr
    (spool,) = (home / SPOOL_DIR).iterdir()
    recovered = invoke("recover", "--json")
    assert recovered.exit_code == 0, recovered.output
    (report,) = json.loads(recovered.stdout)["recovered"]
    assert report["record_id"] == spool.stem
    assert not spool.exists()
    with ClinicStore(home / STORE_FILE) as store:
        assert store.get_record(spool.stem).duration_s == pytest.approx(10.0, abs=0.2)
        assert len(store.get_results(spool.stem)) == 1


def test_nothing_to_recover(invoke: Callable[..., Any], home: Path) -> None:
    result = invoke("recover")
    assert result.exit_code == 0
    assert "Nothing to recover" in result.stdout
    assert json.loads(invoke("recover", "--json").stdout) == {"recovered": []}


def test_a_safety_copy_that_holds_nothing_is_reported_and_left(invoke: Callable[..., Any], home: Path) -> None:
    (home / SPOOL_DIR).mkdir(parents=True)
    bad = home / SPOOL_DIR / "x.spool"
    bad.write_bytes(b"not a spool")
    result = invoke("recover")
    assert result.exit_code == 1
    assert "holds no recording" in result.stdout
    assert bad.exists()


CHILD = """
import sys, time
from pathlib import Path
from edge_app.session.events import Watch
from edge_app.session.recorder import record
from edge_app.session.wish import Wish
from edge_app.demo import demo_recording, demo_transport
record(
    demo_transport(demo_recording(), speed=5.0), Wish(seconds=10.0, allow_unauthenticated=True),
    data_dir=Path(sys.argv[1]), watch=Watch(on_progress=lambda p: print(f"{p.received_s:.2f}", flush=True)),
)
"""


def _until(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if float(line) >= seconds:
            return
    raise AssertionError("the recording ended early")


@pytest.mark.slow
@pytest.mark.promise(44)
def test_a_killed_app_loses_nothing_that_it_had_received(invoke: Callable[..., Any], home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(home)], stdout=subprocess.PIPE, text=True) as process:
        _until(process, 4.0)
        assert list(leftovers(home)) == [], "a running recording is nobody else's"
        process.send_signal(signal.SIGKILL)
    result = invoke("recover", "--json")
    (report,) = json.loads(result.stdout)["recovered"]
    assert report["outcome"] == "ABSTAIN"
    with ClinicStore(home / STORE_FILE) as store:
        assert store.get_record(report["record_id"]).duration_s >= 4.0
    assert json.loads(invoke("recover", "--json").stdout) == {"recovered": []}


@pytest.mark.slow
def test_ctrl_c_ends_the_recording_early_and_in_order(home: Path) -> None:
    code = CHILD + "\nprint('ended in order')"
    with subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) as process:
        _until(process, 2.0)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "ended in order" in process.stdout.read()
    assert process.returncode == 0
    (leftover,) = leftovers(home)
    assert leftover.recovered is not None
    assert 2.0 <= leftover.recovered.record.duration_s < 10.0


@pytest.mark.promise(44)
def test_a_crash_between_store_and_safety_copy_stores_nothing_twice(home: Path, make_record: Records) -> None:
    transport = InProcessTransport(make_record(seconds=13.0), speed=SPEED)
    recording = record(transport, BENCH, data_dir=home)
    with ClinicStore(home / STORE_FILE) as store:
        first = store.save_record(recording.session.record)
        (leftover,) = leftovers(home)
        assert leftover.recovered is not None
        assert store.save_record(leftover.recovered.record) == first
        assert len(store.list_records()) == 1


def test_a_device_that_vanishes_leaves_what_was_received(home: Path, make_record: Records) -> None:
    """The link dies for good after four seconds of signal: the session ends with a shorter record, not an exception."""
    transport = InProcessTransport(make_record(seconds=13.0), speed=SPEED)
    dying = []

    def watch(progress: Any) -> None:
        if progress.elapsed_s >= 4.0 and not dying:
            dying.append(asyncio.get_running_loop().create_task(transport.player.power_off()))

    wish = Wish(seconds=12.0, allow_unauthenticated=True, watchdog_s=0.5, reconnect_for_s=0.5)
    recording = record(transport, wish, data_dir=home, watch=Watch(on_progress=watch))
    assert recording.session.complete is False
    assert 4.0 <= recording.session.record.duration_s < 12.0
    assert recording.spool.exists()


def test_a_spool_that_cannot_be_created_stops_before_the_device_is_asked(tmp_path: Path, make_record: Records) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")
    with pytest.raises(StoreError):
        record(InProcessTransport(make_record()), BENCH, data_dir=tmp_path / "file")


def test_the_safety_copy_of_a_device_that_never_answered_is_removed(home: Path, make_record: Records) -> None:
    transport = InProcessTransport(make_record(), speed=SPEED)
    transport.player.device.powered = False
    with pytest.raises(LinkError):
        record(transport, Wish(seconds=10.0), data_dir=home)
    assert list((home / SPOOL_DIR).iterdir()) == []


def _interrupted(home: Path, name: str, make_record: Records) -> Path:
    """Leave a safety copy behind, as a crash does; returns it."""
    transport = InProcessTransport(make_record(seconds=13.0), speed=SPEED)
    recording = record(transport, BENCH, data_dir=home)
    return recording.spool.rename(recording.spool.with_name(f"{name}.spool"))


def test_a_safety_copy_without_a_sample_is_cleared_away_and_is_no_failure(
    invoke: Callable[..., Any], home: Path
) -> None:
    (home / SPOOL_DIR).mkdir(parents=True)
    Spool(home / SPOOL_DIR / "a.spool").close()
    (home / SPOOL_DIR / "b.spool").touch()
    result = invoke("recover")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("no sample had been received; removed") == 2
    assert list((home / SPOOL_DIR).iterdir()) == []


@pytest.mark.slow
def test_a_safety_copy_that_cannot_be_stored_does_not_hold_up_the_next(
    invoke: Callable[..., Any], home: Path, make_record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _interrupted(home, "a", make_record), _interrupted(home, "b", make_record)
    calls = []

    def keep_second(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise StoreError("A different recording is stored under the id")
        return real(*arguments, **options)

    real = visit.keep
    monkeypatch.setattr(visit, "keep", keep_second)
    result = invoke("recover")
    assert result.exit_code == 1
    assert "not stored (A different recording" in result.stdout
    assert "recovered as" in result.stdout
    assert first.exists()
    assert not second.exists()


def test_a_safety_copy_with_samples_is_kept_whatever_is_wrong_with_it(
    home: Path, make_record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> None:
        raise StoreError("spool: found an input/output error, expected a readable file")

    async def broken(*_: Any, **__: Any) -> None:
        raise LinkError("gone")

    monkeypatch.setattr(recorder, "recover_spool", unreadable)
    monkeypatch.setattr(recorder.Session, "run", broken)
    with pytest.raises(LinkError, match="gone"):
        record(InProcessTransport(make_record()), Wish(seconds=10.0), data_dir=home)
    assert len(list((home / SPOOL_DIR).iterdir())) == 1


@pytest.mark.usefixtures("device")
def test_a_disk_that_fails_when_the_safety_copy_is_closed_costs_no_outcome(
    invoke: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Spool.close

    def broken(self: Spool) -> None:
        real(self)
        raise StoreError("spool: found an input/output error, expected a healthy disk")

    def full(*_: Any, **__: Any) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(Spool, "close", broken)
    stored = invoke("run", "--yes", "--seconds", "10", "--json")
    assert stored.exit_code in (0, 3), stored.output
    assert json.loads(stored.stdout)["session"]["complete"] is True
    monkeypatch.setattr(visit, "keep", full)
    refused = invoke("run", "--yes", "--seconds", "10")
    assert refused.exit_code == 1
    assert "Recording quality" in refused.stdout
    assert "not complete either" in refused.stderr
    assert "The recording is safe" not in refused.stderr


@pytest.mark.usefixtures("device")
def test_an_interrupted_recording_is_mentioned_by_run_and_doctor(
    invoke: Callable[..., Any], home: Path, make_record: Records
) -> None:
    assert "recovery  no interrupted recording" in invoke("doctor").stdout
    _interrupted(home, "a", make_record)
    doctor = invoke("doctor")
    assert doctor.exit_code == 0
    assert "1 interrupted recording(s)" in doctor.stdout
    assert "edge_app recover" in doctor.stdout
    result = invoke("run", "--yes", "--seconds", "10", "--device", "E6L-0042")
    assert "1 interrupted recording(s) wait to be stored" in result.stderr
    assert "Looking for E6L-0042" in result.stderr


def test_a_lost_device_is_told_while_it_is_away_and_in_the_end(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, make_record: Records
) -> None:
    def dying(*_: Any, **__: Any) -> InProcessTransport:
        faults = Faults(power_off_at=100)
        return InProcessTransport(make_record(seconds=13.0), speed=SPEED, faults=faults)

    real = recorder.recording

    async def impatient(link: Any, wish: Wish, **options: Any) -> Any:
        return await real(link, replace(wish, watchdog_s=0.5, reconnect_for_s=2.0), **options)

    monkeypatch.setitem(sys.modules, "edge_app.link.ble.transport", SimpleNamespace(BleTransport=dying))
    monkeypatch.setattr(recorder, "recording", impatient)
    result = invoke("run", "--yes", "--seconds", "10", "--json", "--allow-unauthenticated")
    assert result.exit_code == 3
    assert re.search(r"5\.0 of 10\.0 s, no connection for [1-9] s, trying again", result.stderr)
    assert "Note: the device did not come back; what was received is kept" in result.stderr
    events = json.loads(result.stdout)["session"]["events"]
    assert "switched off" in next(event["message"] for event in events if event["kind"] == "lost")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_that_is_stopped_ends_the_recording_in_order(home: Path, number: signal.Signals) -> None:
    code = CHILD + "\nprint('ended in order')"
    with subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) as process:
        _until(process, 2.0)
        process.send_signal(number)
        assert process.stdout is not None
        assert "ended in order" in process.stdout.read()
    assert process.returncode == 0


@pytest.mark.usefixtures("device")
def test_a_device_whose_key_is_not_known_is_refused_and_leaves_nothing(invoke: Callable[..., Any], home: Path) -> None:
    DeviceKeys(home).remove(KEY.name)
    result = invoke("run", "--yes", "--seconds", "10")
    assert result.exit_code == 1
    assert "E_DEVICE_NOT_AUTHENTICATED" in result.stderr
    assert "edge_app devices trust" in result.stderr
    assert list((home / SPOOL_DIR).iterdir()) == []
    assert not (home / STORE_FILE).exists()


@pytest.mark.usefixtures("device")
def test_a_device_on_the_bench_is_recorded_if_asked_and_the_store_says_so(
    invoke: Callable[..., Any], home: Path
) -> None:
    DeviceKeys(home).remove(KEY.name)
    values = json.loads(invoke("run", "--yes", "--seconds", "10", "--json", "--allow-unauthenticated").stdout)
    assert values["session"]["authenticated"] is False
    with ClinicStore(home / STORE_FILE) as store:
        assert store.get_record(values["stored"]["record_id"]).source.authenticated is False


def test_the_mark_of_a_device_that_proved_nothing_survives_a_crash(home: Path, make_record: Records) -> None:
    spool = _interrupted(home, "a", make_record)
    (leftover,) = leftovers(home)
    assert leftover.spool == spool
    assert leftover.recovered is not None
    assert leftover.recovered.record.source == SourceInfo(driver="e6l", authenticated=False)


@pytest.mark.usefixtures("device")
def test_a_damaged_list_of_keys_is_an_error_and_not_an_empty_list(
    invoke: Callable[..., Any], home: Path, make_record: Records
) -> None:
    DeviceKeys(home).add(KEY)
    DeviceKeys(home).path.write_text("{}", encoding="ascii")
    with pytest.raises(FormatError, match="device keys"):
        ways.Way(InProcessTransport(make_record()), "device").wish(seconds=10.0, data_dir=home)
    result = invoke("run", "--yes")
    assert "device keys" in result.stderr
    assert not (home / SPOOL_DIR).exists()


# -- the other ways of `devices record` --------------------------------------------------------------------------------


@pytest.fixture
def serial_device(tmp_path: Path, make_record: Records) -> Iterator[str]:
    """The port of a six-lead device on a serial line that is a program of its own: the wall clock is its clock."""
    asyncio.set_event_loop_policy(None)
    path = tmp_path / "source.ecg.npz"
    write_npz(path, make_record(seconds=15.0))
    command = [sys.executable, "-m", "firmware_bridge.sim.air.serial_device", "--record", str(path)]
    with subprocess.Popen(
        [*command, "--key", KEY.to_text()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.communicate(timeout=20)


@pytest.mark.slow
def test_run_screens_a_device_on_a_serial_line(invoke: Callable[..., Any], home: Path, serial_device: str) -> None:
    DeviceKeys(home).add(KEY)
    result = invoke("run", "--yes", "--seconds", "10", "--json", "--serial", serial_device)
    assert result.exit_code in (0, 3), result.output
    values = json.loads(result.stdout)
    assert values["session"]["authenticated"] is True
    assert values["session"]["complete"] is True
    assert f"Looking for six-lead device on {serial_device} ..." in result.stderr
    assert list((home / SPOOL_DIR).iterdir()) == []


class _Board:
    """A polled device of another maker: ten seconds of a heart at 125 Hz, as fast as it is asked."""

    def __init__(self, record: EcgRecord) -> None:
        self._codes = np.round(record.to_mv()[0] * 1000 / 2.0).astype("<i2")[:: round(record.fs_hz / 125)]
        self._sent = 0

    async def open(self, *, on_bytes: Any, on_lost: Any) -> str:
        self._on_bytes = on_bytes
        return "board"

    async def write(self, data: bytes) -> None:
        codes = self._codes[self._sent : self._sent + 625]
        self._sent += len(codes)
        payload = bytes(8) + b"\x01" + bytes(11) + struct.pack("<H", len(codes)) + codes.tobytes()
        self._on_bytes(NOTIFY_UUID, ViatomFrame(cmd=data[1], kind=TYPE_OK, payload=payload).to_bytes())

    async def close(self) -> None:
        """Nothing is open."""


def test_run_screens_through_the_driver_of_another_maker(
    invoke: Callable[..., Any], home: Path, make_record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "port_for", lambda *_, **__: _Board(make_record(seconds=15.0)))
    driver = ("--driver", "viatom", "--lsb-uv", "2", "--driver-option", "lead=I")
    result = invoke("run", "--yes", "--seconds", "10", "--json", *driver)
    assert result.exit_code in (0, 1, 3), result.output
    values = json.loads(result.stdout)
    assert values["outcome"] in ("ABSTAIN", "ERROR"), "one lead is no six-lead recording"
    assert values["session"]["received_samples"] == 1250
    with ClinicStore(home / STORE_FILE) as store:
        record = store.get_record(values["stored"]["record_id"])
    assert (record.leads, record.lsb_uv, record.source.driver) == (("I",), 2.0, "viatom")
    assert list((home / SPOOL_DIR).iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--lsb-uv", "1"), 2, "need --driver"),
        (("--driver", "acme"), 1, "expected one of e6l"),
        (("--driver", "protocentral-ads1293"), 1, "found no serial port"),
        (("--driver", "hativ", "--simulated"), 2, "speaks E6L"),
        (("--serial", "/dev/none"), 1, "/dev/none"),
        (("--serial", "/dev/none", "--device", "E6L-0042"), 1, "expected one way to a device"),
    ],
)
def test_run_says_what_is_wrong_with_a_way(
    invoke: Callable[..., Any], words: tuple[str, ...], code: int, said: str
) -> None:
    result = invoke("run", "--yes", *words)
    assert result.exit_code == code, result.output
    assert said in result.stderr


@pytest.mark.usefixtures("device")
def test_a_screening_takes_a_simulated_radio_only_where_it_is_told_to(
    invoke: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_radio, "is_running", lambda: True)
    monkeypatch.setattr(simulated_radio, "use", lambda: None)
    real = invoke("run", "--yes", "--seconds", "10", "--json")
    assert "no real device" not in real.stderr
    assert Path(json.loads(real.stdout)["stored"]["path"]) == home / STORE_FILE
    played = invoke("run", "--yes", "--seconds", "10", "--json", "--simulated", "--allow-unauthenticated")
    assert "no real device, no person" in played.stderr
    values = json.loads(played.stdout)
    assert Path(values["stored"]["path"]) == home / "simulated" / STORE_FILE
    assert values["recording"]["device"] == "simulated device"
