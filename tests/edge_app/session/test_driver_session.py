"""A recording through a driver: polled, kept alive, watched, always disconnected, and no more certain than its source."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable

import numpy as np
import pytest

from edge_app.devices.ways import port_for
from edge_app.link.log.file import read_log
from edge_app.link.log.replay import replay_driver
from edge_app.link.log.writer import LoggingPort
from edge_app.link.serial.port import LOST_REASON, SerialPort
from edge_app.session.driver import record_driver
from edge_app.session.events import EventKind, Progress
from firmware_bridge.drivers import catalogue
from firmware_bridge.drivers.viatom import ViatomDriver
from firmware_bridge.drivers.viatom_frames import NOTIFY_UUID, TYPE_OK, ViatomFrame
from firmware_bridge.sim.air.serial_device import ProtoCentralBoard, board_codes
from lsemvae.ecg.errors import LengthError, LinkError, ProtocolError
from lsemvae.ecg.record import record_from_physical
from lsemvae.ecg.runs import StartTime

needs_pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")

FS_HZ = 100.0
LSB_UV = 0.9


class FakePort:
    """A device in the same process: answers what is written, and counts what was opened and closed."""

    def __init__(self, *, answer: Callable[[bytes], list[tuple[str, bytes]]] = lambda _data: []) -> None:
        self._answer = answer
        self._on_bytes: Callable[[str, bytes], None] = lambda _channel, _data: None
        self._on_lost: Callable[[str], None] = lambda _reason: None
        self.written: list[bytes] = []
        self.fail_open = False
        self.hang_write = False
        self.opened = self.closed = 0

    async def open(self, *, on_bytes, on_lost):
        self.opened += 1
        if self.fail_open:
            raise LinkError("found no device, expected one")
        self._on_bytes, self._on_lost = on_bytes, on_lost
        return "fake device"

    async def write(self, data):
        if self.hang_write:
            await asyncio.sleep(60)
        self.written.append(data)
        for channel, reply in self._answer(data):
            self._on_bytes(channel, reply)

    async def close(self):
        self.closed += 1

    def lose(self):
        self._on_lost("the device is out of reach")


def viatom(per_answer: int = 63, answers: int = 10**6) -> Callable[[bytes], list[tuple[str, bytes]]]:
    """A polled device: every request is answered with what gathered, at most `answers` times."""
    left, sent = iter(range(answers)), 0

    def answer(data: bytes) -> list[tuple[str, bytes]]:
        nonlocal sent
        if next(left, None) is None:
            return []
        codes = np.arange(sent, sent + per_answer, dtype="<i2")
        sent += per_answer
        state = bytes(8) + b"\x01" + bytes(11)
        payload = state + struct.pack("<H", per_answer) + codes.tobytes()
        raw = ViatomFrame(cmd=data[1], kind=TYPE_OK, payload=payload).to_bytes()
        return [(NOTIFY_UUID, raw[at : at + 20]) for at in range(0, len(raw), 20)]

    return answer


def record(driver, port, *, seconds: float = 0.5, **options):
    return asyncio.run(record_driver(driver, over=port, seconds=seconds, **options))


def kinds(result) -> list[EventKind]:
    return [event.kind for event in result.events]


def test_a_polled_device_is_asked_until_the_time_is_reached():
    port = FakePort(answer=viatom())
    progress: list[Progress] = []
    start = StartTime("2026-01-01T00:00:00Z", "host")
    result = record(ViatomDriver(), port, seconds=1.0, on_progress=progress.append, start=start, record_id="X")
    assert result.complete
    assert kinds(result) == [EventKind.CONNECTED, EventKind.STARTED, EventKind.STOPPED]
    assert result.record.n_samples == 125
    np.testing.assert_array_equal(np.diff(result.record.samples[0]), 1)
    assert (result.record.device, result.record.record_id, result.record.start) == ("fake device", "X", start)
    assert (port.opened, port.closed) == (1, 1)
    assert len(port.written) == 2
    covered_s = [one.elapsed_s for one in progress]
    assert covered_s == sorted(covered_s)
    assert covered_s[-1] >= 1.0
    assert {(one.target_s, one.contact, one.battery_percent) for one in progress} == {(1.0, None, None)}


def test_the_record_says_what_its_source_cannot_know():
    source = record(ViatomDriver(), FakePort(answer=viatom())).record.source
    assert (source.driver, source.gap_detectable, source.timestamped, source.authenticated) == (
        "viatom", False, False, None,
    )  # fmt: skip


def test_an_unknown_scale_leaves_a_record_without_gain():
    class Talks(FakePort):
        async def open(self, *, on_bytes, on_lost):
            await super().open(on_bytes=on_bytes, on_lost=on_lost)
            packet = b"\x0a\xfa\x0c\x00\x02" + struct.pack("<3i", 1000, -1000, 0) + b"\x00\x0b"
            on_bytes("", packet * 100)
            return "board"

    result = record(catalogue["protocentral-ads1293"](), Talks())
    assert result.record.n_samples == 50
    assert not result.record.gain_known
    assert not result.record.source.calibrated


def test_a_device_that_falls_silent_ends_the_recording_with_what_came():
    result = record(ViatomDriver(), FakePort(answer=viatom(answers=1)), seconds=1.0, watchdog_s=0.7)
    assert not result.complete
    assert EventKind.SILENT in kinds(result)
    assert result.record.n_samples == 63


def test_a_link_that_is_lost_ends_the_recording_with_what_came():
    """No reconnection: samples lost meanwhile would be missing without a trace."""

    async def run():
        port = FakePort(answer=viatom())
        asyncio.get_running_loop().call_later(0.2, port.lose)
        result = await record_driver(ViatomDriver(), over=port, seconds=10, watchdog_s=5)
        return result, port

    result, port = asyncio.run(run())
    assert not result.complete
    assert EventKind.LOST in kinds(result)
    assert EventKind.STOPPED not in kinds(result)
    assert result.record.n_samples == 63
    assert (port.opened, port.closed) == (1, 1)


def test_a_write_that_hangs_counts_as_a_lost_link(monkeypatch):
    monkeypatch.setattr("edge_app.session.driver._WRITE_S", 0.1)

    async def run():
        port = FakePort(answer=viatom())
        asyncio.get_running_loop().call_later(0.2, setattr, port, "hang_write", True)
        return await record_driver(ViatomDriver(), over=port, seconds=10, watchdog_s=5)

    result = asyncio.run(run())
    assert any("found no answer" in event.message for event in result.events if event.kind is EventKind.LOST)


def test_a_rate_of_arrival_that_does_not_fit_is_told(monkeypatch):
    """A board whose sketch runs at another rate than the driver was told: the record's time axis would be wrong."""
    monkeypatch.setattr(ViatomDriver, "rate_seen_hz", 150.0)
    result = record(ViatomDriver(), FakePort(answer=viatom()))
    (fault,) = [event.message for event in result.events if event.kind is EventKind.FAULT]
    assert fault.startswith("samples arrived at 150.0 Hz, expected 125 Hz")


@pytest.mark.parametrize("rate_hz", [None, 125.0, 115.0])
def test_a_rate_within_what_lumps_explain_is_not(monkeypatch, rate_hz):
    monkeypatch.setattr(ViatomDriver, "rate_seen_hz", rate_hz)
    result = record(ViatomDriver(), FakePort(answer=viatom()))
    assert EventKind.FAULT not in kinds(result)


def test_nothing_received_is_an_error_with_advice_and_the_port_is_closed():
    port = FakePort()
    with pytest.raises(LinkError, match="found 0 bytes without a sample") as caught:
        record(ViatomDriver(), port, first_sample_s=0.2)
    assert "electrodes" in caught.value.advice
    assert port.closed == 1


def test_what_the_device_refused_is_in_the_error():
    refusal = ViatomFrame(cmd=0x03, kind=0xE1, payload=b"").to_bytes()
    with pytest.raises(LinkError, match="refused"):
        record(ViatomDriver(), FakePort(answer=lambda _data: [(NOTIFY_UUID, refusal)]), first_sample_s=0.2)


def test_a_port_that_cannot_be_opened_is_closed_all_the_same():
    port = FakePort()
    port.fail_open = True
    with pytest.raises(LinkError, match="no device"):
        record(ViatomDriver(), port)
    assert port.closed == 1


def test_a_driver_that_cannot_begin_closes_the_port():
    port = FakePort()
    with pytest.raises(ProtocolError, match="descriptor"):
        record(catalogue["e6l"](), port)
    assert port.closed == 1


def test_the_caller_ends_early_with_what_is_there():
    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return await record_driver(ViatomDriver(), over=FakePort(answer=viatom()), seconds=30, stop=stop)

    result = asyncio.run(run())
    assert not result.complete
    assert result.record.n_samples == 63


def test_the_caller_ends_a_search():
    class Searches(FakePort):
        async def open(self, *, on_bytes, on_lost):
            await asyncio.sleep(60)
            return ""

    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        await record_driver(ViatomDriver(), over=Searches(), seconds=30, stop=stop)

    with pytest.raises(LinkError, match="stopped before"):
        asyncio.run(run())


def test_an_observer_that_fails_does_not_end_the_recording():
    def fail(_seconds):
        raise RuntimeError("screen")

    assert record(ViatomDriver(), FakePort(answer=viatom()), on_progress=fail).complete


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_length_is_refused(seconds):
    with pytest.raises(LengthError):
        record(ViatomDriver(), FakePort(), seconds=seconds)


def test_the_port_that_a_driver_needs():
    board, polar = catalogue["protocentral-ads1292r"]().info, catalogue["polar-h10"]().info
    port = port_for(board, serial="/dev/ttyUSB0")
    assert isinstance(port, SerialPort)
    assert port.baud == board.baud
    assert type(port_for(polar)).__name__ == "GattPort"
    with pytest.raises(LinkError, match="no serial port"):
        port_for(board)


# -- a board on a serial line ------------------------------------------------------------------------------------------


@pytest.fixture
def measured(signal_uv):
    """What the board measures: leads I and II and a chest lead that stays out of the record."""
    signal = np.vstack([signal_uv, signal_uv[1] - signal_uv[0]])
    return record_from_physical(signal, unit="uV", fs_hz=FS_HZ, leads=("I", "II", "V1"))


def ads1293():
    return catalogue["protocentral-ads1293"](lsb_uv=LSB_UV, fs_hz=FS_HZ)


async def board_session(measured, *, seconds: float, unplug_after_s: float | None = None, log=None, **options):
    codes = board_codes(measured, leads=("I", "II", "V1"), lsb_uv=LSB_UV)
    board = ProtoCentralBoard(codes, fs_hz=FS_HZ, speed=20.0)
    board.start()
    if unplug_after_s is not None:
        asyncio.get_running_loop().call_later(unplug_after_s, board.unplug)
    try:
        port = SerialPort(board.path)
        if log is None:
            return await record_driver(ads1293(), over=port, seconds=seconds, **options)
        with LoggingPort(port, log, driver="protocentral-ads1293") as logging_port:
            return await record_driver(ads1293(), over=logging_port, seconds=seconds, **options)
    finally:
        await board.close()


def check_board(record, measured) -> None:
    """Each received sample is the board's, wherever in its endless signal the port was opened."""
    codes = board_codes(measured, leads=("I", "II"), lsb_uv=LSB_UV)
    looped = np.concatenate([codes, codes[:, : record.n_samples]], axis=1) * LSB_UV
    found = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    windows = np.lib.stride_tricks.sliding_window_view(looped, record.n_samples, axis=1)
    best = min(float(np.abs(windows[:, at] - found).max()) for at in range(windows.shape[1]))
    assert best <= record.lsb_uv


@pytest.mark.slow
@needs_pty
@pytest.mark.usefixtures("real_clock")
def test_a_board_on_a_serial_line_gives_its_samples(measured):
    result = asyncio.run(board_session(measured, seconds=10.0))
    assert result.complete
    assert result.record.leads == ("I", "II")
    assert result.record.n_samples == 1000
    assert result.record.gain_known
    assert not result.record.source.gap_detectable
    check_board(result.record, measured)


@needs_pty
@pytest.mark.usefixtures("real_clock")
def test_a_board_that_is_unplugged_leaves_what_was_received(measured):
    result = asyncio.run(board_session(measured, seconds=30.0, unplug_after_s=0.4))
    assert not result.complete
    assert any(LOST_REASON in event.message for event in result.events)
    assert 100 < result.record.n_samples < 1500
    check_board(result.record, measured)


@needs_pty
@pytest.mark.usefixtures("real_clock")
def test_the_log_of_a_board_replays_to_an_equal_record(measured, tmp_path):
    path = tmp_path / "board.jsonl"
    expected = asyncio.run(board_session(measured, seconds=5.0, log=path, device="board")).record
    log = read_log(path)
    assert log.driver == "protocentral-ads1293"
    assert not log.damaged
    found = replay_driver(ads1293(), log).to_record(start=None, device="board").slice(0, expected.n_samples)
    np.testing.assert_allclose(
        found.samples * found.lsb_uv + np.array(found.offset_uv)[:, None],
        expected.samples * expected.lsb_uv + np.array(expected.offset_uv)[:, None], atol=found.lsb_uv,
    )  # fmt: skip
    assert (found.leads, found.fs_hz, found.source) == (expected.leads, expected.fs_hz, expected.source)


def test_the_log_of_a_polled_device_replays_to_an_equal_record(tmp_path):
    path = tmp_path / "viatom.jsonl"

    async def run():
        with LoggingPort(FakePort(answer=viatom()), path, driver="viatom") as port:
            return await record_driver(ViatomDriver(), over=port, seconds=1.0, device="device")

    expected = asyncio.run(run()).record
    log = read_log(path)
    assert [entry.channel for entry in log.entries].count("write") == 2
    found = replay_driver(ViatomDriver(), log).to_record(start=None, device="device").slice(0, expected.n_samples)
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert found.source == expected.source
