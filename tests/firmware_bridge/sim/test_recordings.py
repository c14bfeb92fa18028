"""Recordings in the memory of the virtual device: arm, list, read over a link that loses frames, delete, and refusals."""

from __future__ import annotations

import binascii
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.protocol import bulk
from firmware_bridge.protocol.bulk import BulkAssembler, RecordReadParams, StoredRecording
from firmware_bridge.protocol.control import (
    CalibrateParams,
    Reply,
    Request,
    StartParams,
    decode_reply,
    decode_stop_reply,
)
from firmware_bridge.protocol.profile import Feature, Op, ReplyStatus, SelfTestFault
from firmware_bridge.sim.device.device import DEFAULT_FEATURES, Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.memory import RecordingMemory
from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV, SignalSource, source_from_record, source_from_uv
from lsemvae.data.folder import EcgFolder

S = 1_000_000


def make_source(n: int = 3000, *, loop: bool = True, fs_hz: float = 500.0) -> SignalSource:
    return source_from_uv(np.random.default_rng(0).normal(0, 300, (2, n)), fs_hz=fs_hz, loop=loop)


def make_device(source: SignalSource | None = None, *, mtu: int = 247, **options: object) -> VirtualDevice:
    device = VirtualDevice(source or make_source(), **options)
    device.link_up(mtu=mtu)
    return device


def ask(device: VirtualDevice, op: Op, params: bytes = b"", *, now_us: int = 0) -> Reply:
    first, *rest = device.control(Request(op=op, txn=5, params=params).to_bytes(), now_us=now_us)
    assert rest == []
    return decode_reply(first.data)


def status_of(device: VirtualDevice, op: Op, params: bytes = b"", *, now_us: int = 0) -> ReplyStatus:
    return ask(device, op, params, now_us=now_us).status


def arm(device: VirtualDevice, *, seconds: int = 10, now_us: int = 0) -> int:
    reply = ask(device, Op.RECORD_ARM, bulk.RecordArmParams(seconds).to_bytes(), now_us=now_us)
    assert reply.status is ReplyStatus.OK
    return bulk.decode_record_id(reply.data)


def listed(device: VirtualDevice) -> StoredRecording | None:
    return bulk.decode_record_list_reply(ask(device, Op.RECORD_LIST, b"\0").data).recording


def bulk_of(notifications: list[Notification]) -> list[bytes]:
    return [item.data for item in notifications if item.channel is Channel.BULK]


def read(device: VirtualDevice, record_id: int, offset: int, length: int, *, now_us: int) -> list[bytes]:
    assert ask(device, Op.RECORD_READ, RecordReadParams(record_id, offset, length).to_bytes(), now_us=now_us) == Reply(
        op=Op.RECORD_READ, txn=5, status=ReplyStatus.OK
    )
    frames: list[bytes] = []
    while device.memory.reading:
        now_us += 50_000
        frames += bulk_of(device.advance(now_us))
    return frames


def expected_codes(source: SignalSource, first: int, n: int) -> np.ndarray:
    return source.read(first, first + n)[0]


def test_a_recording_made_during_a_stream_is_the_stream_s_samples_from_that_index_on():
    source = make_source()
    device = make_device(source)
    ask(device, Op.START, StartParams().to_bytes(), now_us=S)
    device.advance(2 * S)
    assert arm(device, now_us=2 * S) == 1
    device.advance(12 * S - 1)
    assert listed(device) is None  # one that is being made is not listed
    device.advance(12 * S)
    found = listed(device)
    assert found is not None
    assert (found.record_id, found.start_us, found.start_index, found.n_samples) == (1, 2 * S, 500, 5000)
    data = b"".join(bulk.decode_bulk(frame).data for frame in read(device, 1, 0, 30_000, now_us=12 * S))
    assert binascii.crc32(data) == found.crc32
    np.testing.assert_array_equal(bulk.decode_recording(data, n_leads=2), expected_codes(source, 500, 5000))


def test_a_recording_without_a_stream_starts_the_front_end_and_sends_nothing():
    source = make_source()
    device = make_device(source, mtu=23)
    assert arm(device, seconds=11, now_us=7) == 1
    assert {item.channel for item in device.advance(11 * S + 6)} == {Channel.STATUS}
    assert device.acquiring
    device.advance(11 * S + 7)
    assert not device.acquiring
    device.link_up(mtu=247)
    found = listed(device)
    assert found is not None
    assert (found.start_us, found.start_index, found.n_samples) == (7, None, 5500)
    data = b"".join(bulk.decode_bulk(frame).data for frame in read(device, 1, 0, 33_000, now_us=12 * S))
    np.testing.assert_array_equal(bulk.decode_recording(data, n_leads=2), expected_codes(source, 0, 5500))
    assert (device.next_index, device.running) == (0, False)


def test_frames_lost_on_the_way_are_asked_for_again_and_the_check_sum_closes():
    device = make_device()
    arm(device)
    device.advance(10 * S)
    found = listed(device)
    assert found is not None
    assembler = BulkAssembler(found.n_bytes(n_leads=2))
    rng, now_us, rounds = np.random.default_rng(1), 10 * S, 0
    while not assembler.complete:
        rounds += 1
        for offset, length in assembler.missing():
            for frame in read(device, 1, offset, length, now_us=now_us):
                kind = rng.random()
                if kind > 0.2:
                    assembler.feed(frame if kind > 0.4 else bytes((frame[0] ^ 8,)) + frame[1:])
            now_us += S
    assert 1 < rounds < 20
    assert assembler.rejected > 0
    assert binascii.crc32(assembler.bytes(crc32=found.crc32)) == found.crc32


def test_the_time_of_a_sample_is_rounded_half_up_and_the_length_down():
    """25 samples at 128 Hz are 195 312.5 us; 10 s at 128.063 Hz are 1280.6 samples."""
    device = make_device(make_source(fs_hz=128.0))
    ask(device, Op.START, StartParams().to_bytes())
    device.advance(195_313)
    arm(device)
    device.advance(20 * S)
    assert [(item.start_index, item.start_us) for item in device.memory.stored()] == [(25, 195_313)]
    odd = make_device(make_source(fs_hz=128.063))
    arm(odd)
    odd.advance(20 * S)
    assert [item.n_samples for item in odd.memory.stored()] == [1280]


@pytest.mark.parametrize("mtu", [23, 39, 100, 247])
def test_bulk_frames_fill_the_notification_and_cover_the_range_in_order(mtu):
    device = make_device()
    arm(device)
    device.advance(10 * S)
    device.link_up(mtu=mtu)
    frames = [bulk.decode_bulk(frame) for frame in read(device, 1, 100, 1000, now_us=10 * S)]
    ends = [frame.offset + len(frame.data) for frame in frames]
    assert [frame.offset for frame in frames] == [100, *ends[:-1]]
    assert ends[-1] == 1100
    assert {len(frame.data) for frame in frames[:-1]} == {mtu - 3 - 8}


def test_bulk_frames_are_paced_and_live_frames_pass_between_them():
    device = make_device()
    ask(device, Op.START, StartParams().to_bytes())
    arm(device)
    device.advance(10 * S)
    ask(device, Op.RECORD_READ, RecordReadParams(1, 0, 30_000).to_bytes(), now_us=10 * S)
    kinds = [item.channel for item in device.advance(10 * S + 150_000) if item.channel is not Channel.STATUS]
    assert kinds.count(Channel.BULK) == 76  # one at once, then one each 2 ms
    assert [at for at, kind in enumerate(kinds) if kind is Channel.LIVE] == [25, 51, 77]


def test_a_second_read_delete_or_arm_during_a_read_is_busy():
    device = make_device()
    arm(device)
    device.advance(10 * S)
    ask(device, Op.RECORD_READ, RecordReadParams(1, 0, 30_000).to_bytes(), now_us=10 * S)
    assert status_of(device, Op.RECORD_READ, RecordReadParams(1, 0, 1).to_bytes()) is ReplyStatus.BUSY
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(1)) is ReplyStatus.BUSY
    assert status_of(device, Op.RECORD_ARM, b"\x0a") is ReplyStatus.BUSY
    device.advance(12 * S)
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(1)) is ReplyStatus.OK


def test_a_lost_link_ends_the_read_and_keeps_the_recording():
    device = make_device()
    arm(device)
    device.advance(10 * S)
    ask(device, Op.RECORD_READ, RecordReadParams(1, 0, 30_000).to_bytes(), now_us=10 * S)
    device.link_down()
    device.link_up(mtu=247)
    assert bulk_of(device.advance(20 * S)) == []
    assert len(read(device, 1, 0, 30_000, now_us=20 * S)) == 128


@pytest.mark.parametrize(
    ("record_id", "offset", "length"),
    [(2, 0, 1), (0, 0, 1), (1, 30_000, 1), (1, 29_999, 2), (1, 0, 0), (1, 2**32 - 1, 2)],
)
def test_a_read_of_an_unknown_recording_or_range_is_a_bad_parameter(record_id, offset, length):
    device = make_device()
    arm(device)
    device.advance(10 * S)
    raw = record_id.to_bytes(2, "little") + offset.to_bytes(4, "little") + length.to_bytes(4, "little")
    assert status_of(device, Op.RECORD_READ, raw) is ReplyStatus.BAD_PARAMETER
    assert bulk_of(device.advance(11 * S)) == []


def test_stop_finishes_a_recording_with_what_it_holds_and_so_does_the_end_of_the_signal():
    device = make_device()
    ask(device, Op.START, StartParams().to_bytes())
    arm(device, seconds=30)
    device.advance(3 * S)
    assert decode_stop_reply(ask(device, Op.STOP).data).next_index == 1500
    found = listed(device)
    assert found is not None
    assert (found.start_index, found.n_samples) == (0, 1500)
    ended = make_device(make_source(1010, loop=False))
    ask(ended, Op.START, StartParams().to_bytes())
    arm(ended)
    ended.advance(3 * S)
    assert [item.n_samples for item in ended.memory.stored()] == [1010]
    alone = make_device(make_source(1010, loop=False))
    arm(alone)
    alone.advance(3 * S)
    assert [item.n_samples for item in alone.memory.stored()] == [1010]


def test_stop_before_the_first_sample_leaves_no_recording():
    device = make_device()
    ask(device, Op.START, StartParams().to_bytes())
    arm(device)
    ask(device, Op.STOP)
    assert listed(device) is None
    assert not device.acquiring


def test_the_recording_goes_on_while_the_link_is_gone():
    source = make_source()
    device = make_device(source)
    ask(device, Op.START, StartParams().to_bytes())
    arm(device)
    device.advance(S)
    device.link_down()
    device.advance(9 * S)
    device.link_up(mtu=247)
    device.advance(10 * S)
    found = listed(device)
    assert found is not None
    assert found.crc32 == binascii.crc32(bulk.encode_recording(expected_codes(source, 0, 5000)))


def test_arming_again_replaces_the_finished_recording_and_ids_count_up_from_1_since_power_on():
    device = make_device()
    assert arm(device) == 1
    assert status_of(device, Op.RECORD_ARM, b"\x0a") is ReplyStatus.BUSY
    device.advance(10 * S)
    assert arm(device, now_us=10 * S) == 2
    assert listed(device) is None
    device.power_off()
    device.power_on()
    device.link_up(mtu=247)
    assert listed(device) is None
    assert arm(device) == 1


def test_ids_pass_over_0():
    memory = RecordingMemory()
    ids = [memory.arm(start_us=0, start_index=None, wanted=1) for _ in range(65_537)]
    assert (ids[0], ids[65_534], ids[65_535], ids[65_536]) == (1, 65_535, 1, 2)


def test_delete_removes_a_recording_abandons_the_one_being_made_and_knows_no_other():
    device = make_device()
    arm(device)
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(2)) is ReplyStatus.BAD_PARAMETER
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(1)) is ReplyStatus.OK
    assert not device.acquiring
    arm(device)
    device.advance(10 * S)
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(2)) is ReplyStatus.OK
    assert status_of(device, Op.RECORD_DELETE, bulk.encode_record_id(2)) is ReplyStatus.BAD_PARAMETER


def test_list_beyond_the_end_is_a_bad_parameter_and_of_nothing_says_nothing():
    device = make_device()
    assert ask(device, Op.RECORD_LIST, b"\x05").data == b"\0"
    arm(device)
    device.advance(10 * S)
    assert status_of(device, Op.RECORD_LIST, b"\x01") is ReplyStatus.BAD_PARAMETER
    assert status_of(device, Op.RECORD_LIST, b"") is ReplyStatus.BAD_PARAMETER


@pytest.mark.parametrize("mtu", [23, 38])
def test_list_is_refused_below_an_mtu_of_39(mtu):
    assert status_of(make_device(mtu=mtu), Op.RECORD_LIST, b"\0") is ReplyStatus.MTU_TOO_SMALL


@pytest.mark.parametrize("seconds", [0, 9, 31, 255])
def test_arm_for_other_than_10_to_30_seconds_is_a_bad_parameter(seconds):
    assert status_of(make_device(), Op.RECORD_ARM, bytes((seconds,))) is ReplyStatus.BAD_PARAMETER


def test_start_during_a_recording_without_a_stream_is_busy():
    device = make_device()
    arm(device)
    assert status_of(device, Op.START, StartParams().to_bytes()) is ReplyStatus.BUSY
    device.advance(10 * S)
    assert status_of(device, Op.START, StartParams().to_bytes(), now_us=10 * S) is ReplyStatus.OK


def test_no_recording_while_the_pulse_is_on():
    device = make_device()
    ask(device, Op.START, StartParams().to_bytes())
    ask(device, Op.CALIBRATE, CalibrateParams(on=True, seconds=2).to_bytes())
    assert status_of(device, Op.RECORD_ARM, b"\x0a") is ReplyStatus.BUSY
    device.advance(2 * S)
    assert status_of(device, Op.RECORD_ARM, b"\x0a") is ReplyStatus.OK


def test_a_dead_front_end_refuses_start_and_recording():
    device = make_device()
    device.front_end.faults = SelfTestFault.FRONT_END
    assert status_of(device, Op.RECORD_ARM, b"\x0a") is ReplyStatus.FRONT_END_FAULT
    assert status_of(device, Op.START, StartParams().to_bytes()) is ReplyStatus.FRONT_END_FAULT
    assert not device.acquiring


@pytest.mark.parametrize("op", [Op.RECORD_ARM, Op.RECORD_LIST, Op.RECORD_READ, Op.RECORD_DELETE])
def test_a_device_without_recording_memory_answers_bad_op(op):
    device = make_device(features=DEFAULT_FEATURES & ~Feature.RECORD)
    assert status_of(device, op, bytes(10)) is ReplyStatus.BAD_OP


def test_a_firmware_update_waits_for_stream_recording_read_and_battery():
    device = make_device()
    assert device.may_update()
    device.set_battery(29)
    assert not device.may_update()
    device.set_battery(30)
    arm(device)
    assert not device.may_update()
    device.advance(10 * S)
    assert device.may_update()
    ask(device, Op.RECORD_READ, RecordReadParams(1, 0, 30_000).to_bytes(), now_us=10 * S)
    assert not device.may_update()
    device.advance(11 * S)
    ask(device, Op.START, StartParams().to_bytes(), now_us=11 * S)
    assert not device.may_update()
    ask(device, Op.STOP)
    assert device.may_update()


@pytest.mark.slow
def test_real_recordings_come_back_from_the_memory_within_half_a_code_of_the_source(ecg_data_dir: Path):
    """The labels of these recordings are of no matter here: only their samples are used."""
    folder = EcgFolder(ecg_data_dir)
    for row in folder.select("train")[:3]:
        record = folder.record(row)
        device = make_device(source_from_record(record))
        arm(device)
        device.advance(10 * S)
        (found,) = device.memory.stored()
        assembler = BulkAssembler(found.n_bytes(n_leads=2))
        frames = read(device, 1, 0, found.n_bytes(n_leads=2), now_us=10 * S)
        for frame in reversed(frames):
            assembler.feed(frame)
        codes = bulk.decode_recording(assembler.bytes(crc32=found.crc32), n_leads=2)
        uv = codes * device.descriptor.lsb_uv - np.array(ELECTRODE_OFFSET_UV)[:, None]
        expected = record.samples[[record.leads.index("I"), record.leads.index("II")]] * record.lsb_uv
        n = found.n_samples
        assert n == round(10 * record.fs_hz)
        assert np.abs(uv - expected[:, np.arange(n) % record.n_samples]).max() <= device.descriptor.lsb_uv / 2 + 1e-9
