"""The recorder keeps what a driver's device sent as it keeps what a six-lead device sent: killed, cut off or ended in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_app.session import recorder
from edge_app.session.events import Progress, SessionEvent, Watch
from edge_app.session.recorder import SPOOL_DIR, leftovers, record, waiting
from edge_app.session.spool import EntryKind, Spool, read_entries, recover_spool
from edge_app.session.wish import DriverChoice, Wish, at_most
from firmware_bridge.drivers import viatom as viatom_module
from lsemvae.ecg.errors import FormatError, LengthError, LinkError, StoreError
from lsemvae.ecg.record import EcgRecord
from tests.edge_app.session.test_driver_session import FakePort, viatom

VIATOM = DriverChoice("viatom", lsb_uv=1.5, options={"lead": "II"})
NAMES = (
    "lsb_uv",
    "fs_hz",
    "leads",
    "offset_uv",
    "gaps",
    "lead_off",
    "saturated",
    "start",
    "record_id",
    "device",
    "source",
)


def assert_same(found: EcgRecord, expected: EcgRecord) -> None:
    np.testing.assert_array_equal(found.samples, expected.samples)
    for name in NAMES:
        assert getattr(found, name) == getattr(expected, name), name


def in_uv(record: EcgRecord) -> np.ndarray:
    """`[lead, time]` in microvolt; a shorter record may have another offset."""
    return record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]


def entries_of(path: Path) -> list[Any]:
    return [entry for entry in read_entries(path.read_bytes()) if not isinstance(entry, int)]


@pytest.fixture
def recorded(tmp_path: Path) -> recorder.Recorded:
    """A polled device, recorded for a second through its driver."""
    return record(FakePort(answer=viatom()), Wish(seconds=1.0, driver=VIATOM), data_dir=tmp_path)


def test_the_safety_copy_of_a_driver_gives_the_same_record(recorded: recorder.Recorded) -> None:
    recovered = recover_spool(recorded.spool)
    assert recovered.complete
    assert recovered.skipped_bytes == 0
    assert recovered.statistics == recorded.session.statistics.assembly
    assert_same(recovered.record, recorded.session.record)
    record = recovered.record
    assert (record.leads, record.lsb_uv, record.device) == (("II",), 1.5, "fake device")
    assert record.record_id == recorded.spool.stem
    assert record.start is not None


def test_a_result_of_a_driver_accounts_for_every_sample(recorded: recorder.Recorded) -> None:
    statistics = recorded.session.statistics
    assert statistics.received_samples + statistics.missing_samples == statistics.elapsed_samples == 125
    assert statistics.assembly.frames > 0
    assert statistics.bytes_received > 250
    assert recorded.session.descriptor is None


def test_what_the_driver_needs_to_read_its_bytes_again_stands_in_the_safety_copy(recorded: recorder.Recorded) -> None:
    headers = [json.loads(entry.payload) for entry in entries_of(recorded.spool) if entry.kind is EntryKind.SESSION]
    assert [header["device"] for header in headers] == ["", "fake device"]
    assert headers[0]["driver"] == {"name": "viatom", "lsb_uv": 1.5, "options": {"lead": "II"}}
    channels = {entry.payload[1 : 1 + entry.payload[0]] for entry in entries_of(recorded.spool) if entry.kind == 10}
    assert channels == {viatom_module.NOTIFY_UUID.encode()}


def test_a_safety_copy_that_is_cut_off_anywhere_gives_what_came_before(
    recorded: recorder.Recorded, tmp_path: Path
) -> None:
    data, expected = recorded.spool.read_bytes(), recorded.session.record
    lengths = set()
    for cut in range(len(data), 0, -37):
        path = tmp_path / "cut.spool"
        path.write_bytes(data[:cut])
        try:
            found = recover_spool(path).record
        except LengthError:
            continue
        lengths.add(found.n_samples)
        assert found.n_samples <= expected.n_samples
        np.testing.assert_array_equal(in_uv(found), in_uv(expected)[:, : found.n_samples])
    assert lengths == {63, 125}, "a polled device sends 63 samples at a time; the wanted second are 125"


def test_bytes_reach_the_safety_copy_before_anything_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that dies of the bytes of its device: they are on the disk."""
    sent = b"\xa5\x5a whatever"

    def dies(*_: Any) -> None:
        raise MemoryError

    class Talks(FakePort):
        async def open(self, *, on_bytes: Any, on_lost: Any) -> str:
            await super().open(on_bytes=on_bytes, on_lost=on_lost)
            on_bytes(viatom_module.NOTIFY_UUID, sent)
            return "device"

    monkeypatch.setattr(viatom_module.ViatomDriver, "feed", dies)
    seen: list[bytes] = []
    monkeypatch.setattr(Spool, "append", lambda _self, kind, payload, *, t_us: seen.append(payload))
    with pytest.raises(MemoryError):
        record(Talks(), Wish(seconds=1.0, driver=VIATOM), data_dir=tmp_path)
    assert any(payload.endswith(sent) for payload in seen)


def test_more_bytes_at_once_than_an_entry_holds_are_all_kept(tmp_path: Path) -> None:
    """What lay in the buffer of a serial port, 200 kB of it."""
    packet = b"\x0a\xfa\x0c\x00\x02" + np.array([1000, -1000, 0], "<i4").tobytes() + b"\x00\x0b"

    class Talks(FakePort):
        async def open(self, *, on_bytes: Any, on_lost: Any) -> str:
            await super().open(on_bytes=on_bytes, on_lost=on_lost)
            on_bytes("", packet * 10_000)
            return "board"

    choice = DriverChoice("protocentral-ads1293", lsb_uv=0.5)
    recorded = record(Talks(), Wish(seconds=60.0, driver=choice), data_dir=tmp_path)
    assert recorded.session.record.n_samples == 6000
    assert recorded.session.record.gain_known
    assert_same(recover_spool(recorded.spool).record, recorded.session.record)


def test_a_device_that_sends_no_sample_leaves_no_safety_copy(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="without a sample"):
        record(FakePort(), Wish(seconds=1.0, driver=VIATOM, first_sample_s=0.1), data_dir=tmp_path)
    assert list((tmp_path / SPOOL_DIR).iterdir()) == []


def test_a_driver_that_this_program_does_not_know_keeps_its_safety_copy(
    recorded: recorder.Recorded, tmp_path: Path
) -> None:
    changed = tmp_path / SPOOL_DIR / "other.spool"
    with Spool(changed) as spool:
        for entry in entries_of(recorded.spool):
            spool.append(entry.kind, entry.payload.replace(b'"viatom"', b'"acme99"'), t_us=entry.t_us)
    found = {leftover.spool.name: leftover for leftover in leftovers(tmp_path)}["other.spool"]
    assert found.recovered is None
    assert isinstance(found.error, FormatError)
    assert "expected one of e6l" in str(found.error)
    assert not found.empty


def test_bytes_whose_driver_nobody_names_are_no_empty_safety_copy(recorded: recorder.Recorded, tmp_path: Path) -> None:
    """Both headers are damaged: what was received must not be thrown away as a recording without a sample."""
    damaged = tmp_path / "damaged.spool"
    with Spool(damaged) as spool:
        for entry in entries_of(recorded.spool):
            if entry.kind is not EntryKind.SESSION:
                spool.append(entry.kind, entry.payload, t_us=entry.t_us)
    with pytest.raises(FormatError, match="expected the driver's name"):
        recover_spool(damaged)


def test_a_disk_that_refuses_the_copy_of_a_driver_costs_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("spool: found no space left on device, expected some")

    monkeypatch.setattr(Spool, "append", full)
    recorded = record(FakePort(answer=viatom()), Wish(seconds=1.0, driver=VIATOM), data_dir=tmp_path)
    assert recorded.session.complete
    assert not recorded.spool_whole


def test_a_screen_is_told_progress_and_events_as_they_happen(tmp_path: Path) -> None:
    progress: list[Progress] = []
    events: list[SessionEvent] = []
    watch = Watch(on_progress=progress.append, on_event=events.append)
    recorded = record(FakePort(answer=viatom()), Wish(seconds=1.0, driver=VIATOM), data_dir=tmp_path, watch=watch)
    assert tuple(events) == recorded.session.events
    assert progress[-1].elapsed_s >= 1.0


def test_a_program_with_a_loop_of_its_own_stops_a_recording(tmp_path: Path) -> None:
    async def run() -> recorder.Recorded:
        stop = asyncio.Event()
        watch = Watch(on_progress=lambda progress: stop.set() if progress.elapsed_s else None)
        wish = Wish(seconds=30.0, driver=VIATOM)
        return await recorder.recording(FakePort(answer=viatom()), wish, data_dir=tmp_path, watch=watch, stop=stop)

    recorded = asyncio.run(run())
    assert not recorded.session.complete
    assert recorded.session.record.n_samples == 63


def test_at_most_the_wanted_length(recorded: recorder.Recorded) -> None:
    whole = recorded.session.record
    assert at_most(whole, 0.5).n_samples == 63
    assert at_most(whole, 2.0) is whole


# -- killed ------------------------------------------------------------------------------------------------------------

BOARD = """
import asyncio
import numpy as np
from firmware_bridge.sim.air.serial_device import ProtoCentralBoard

async def main():
    codes = (np.arange(3000) % 200 * 100).astype(np.int32)
    board = ProtoCentralBoard(np.stack([codes, -codes, 0 * codes]), fs_hz=100.0, speed=4.0)
    board.start()
    print(board.path, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, input)
    await board.close()

asyncio.run(main())
"""


@pytest.fixture
def board() -> Iterator[str]:
    """The port of a ProtoCentral ADS1293 board that is a program of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", BOARD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", timeout=20)


@pytest.fixture
def start(board: str, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Begin `edge_app devices record` through the board's driver, as in a terminal of its own."""

    def call(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge_app", "devices", "record", "--driver", "protocentral-ads1293"]
        options = ["--serial", board, "--lsb-uv", "0.5", "--data-dir", str(tmp_path), *words]
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return call


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_driver_recording_that_is_killed_loses_nothing_it_had_received(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with start("--seconds", "60") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("recording  5"):
                break
        assert list(leftovers(tmp_path)) == [], "a running recording is nobody else's"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert waiting(tmp_path) == 1
    (leftover,) = leftovers(tmp_path)
    assert leftover.recovered is not None
    assert not leftover.recovered.complete
    record = leftover.recovered.record
    assert 5.0 <= record.duration_s < 60.0
    assert (record.leads, record.lsb_uv, record.gain_known) == (("I", "II"), 0.5, True)
    assert record.source.driver == "protocentral-ads1293"
    steps = np.diff(record.samples[0].astype(int))
    assert set(steps[steps > 0].tolist()) == {100}, "every sample of the board's ramp is there, in order"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_driver_recording_that_ends_in_order_leaves_no_safety_copy(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with start("--seconds", "2", "--json") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    values = json.loads(stdout)
    assert values["session"]["complete"] is True
    assert values["recording"]["duration_s"] == 2.0
    assert list((tmp_path / SPOOL_DIR).iterdir()) == []
