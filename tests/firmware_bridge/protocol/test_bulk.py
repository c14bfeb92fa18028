"""Bulk frames: damaged ones are refused, the rest is put in place in any order, and what is missing is known."""

from __future__ import annotations

import binascii
import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol import bulk
from firmware_bridge.protocol.bulk import BulkAssembler, BulkFrame, RecordListReply, RecordReadParams, StoredRecording
from firmware_bridge.protocol.checksum import with_crc
from firmware_bridge.protocol.errors import BulkError, ControlError
from firmware_bridge.protocol.profile import ATT_HEADER_BYTES, bulk_data_bytes
from lsemvae.ecg.errors import ProtocolError


def cut(data: bytes, *, step: int) -> list[bytes]:
    return [bulk.encode_bulk(BulkFrame(at, data[at : at + step])) for at in range(0, len(data), step)]


@settings(max_examples=100, deadline=None)
@given(offset=st.integers(0, 0xFFFFFFFF), data=st.binary(min_size=1, max_size=236))
def test_bulk_frame_round_trip(offset, data):
    assert bulk.decode_bulk(bulk.encode_bulk(BulkFrame(offset, data))) == BulkFrame(offset, data)


def test_any_single_bit_error_of_a_bulk_frame_is_refused():
    raw = bulk.encode_bulk(BulkFrame(90_000, bytes(range(60))))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BulkError, match=r"check sum: found 0x.*, expected 0x"):
            bulk.decode_bulk(changed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_raise_only_protocol_errors(raw):
    decoders = (
        bulk.decode_bulk, bulk.decode_record_arm, bulk.decode_record_id, bulk.decode_record_list,
        bulk.decode_record_list_reply, bulk.decode_record_read,
    )  # fmt: skip
    for decode in decoders:
        for data in (raw, with_crc(raw)):
            with suppress(ProtocolError):
                decode(data)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=2000), step=st.integers(1, 236), seed=st.integers(0, 999), keep=st.floats(0, 1)
)
def test_received_and_missing_bytes_together_are_the_recording(data, step, seed, keep):
    rng = random.Random(seed)
    frames = [frame for frame in cut(data, step=step) if rng.random() < keep]
    rng.shuffle(frames)
    assembler = BulkAssembler(len(data))
    for frame in frames:
        assert assembler.feed(frame)
        assert not assembler.feed(frame)  # a duplicate brings nothing
    missing = assembler.missing()
    assert sum(length for _, length in missing) + sum(len(frame) - 8 for frame in frames) == len(data)
    for offset, length in missing:  # asked for again, cut differently
        assert assembler.feed(bulk.encode_bulk(BulkFrame(offset, data[offset : offset + length])))
    assert assembler.complete
    assert assembler.missing() == ()
    assert assembler.bytes(crc32=binascii.crc32(data)) == data


def test_the_first_valid_frame_that_brings_a_byte_wins():
    assembler = BulkAssembler(6)
    assembler.feed(bulk.encode_bulk(BulkFrame(2, b"bb")))
    assert assembler.missing() == ((0, 2), (4, 2))
    assert assembler.feed(bulk.encode_bulk(BulkFrame(0, b"aaaaaa")))
    assert assembler.bytes() == b"aabbaa"


def test_a_damaged_frame_and_one_beyond_the_end_are_counted_and_not_used():
    assembler = BulkAssembler(10)
    good = bulk.encode_bulk(BulkFrame(0, bytes(10)))
    assert not assembler.feed(good[:-1] + bytes((good[-1] ^ 1,)))
    assert not assembler.feed(bulk.encode_bulk(BulkFrame(1, bytes(10))))
    assert not assembler.feed(bulk.encode_bulk(BulkFrame(0xFFFFFFFF, b"x")))
    assert not assembler.feed(b"")
    assert (assembler.rejected, assembler.missing()) == (4, ((0, 10),))


def test_an_incomplete_recording_and_a_wrong_check_sum_are_refused():
    assembler = BulkAssembler(4)
    assembler.feed(bulk.encode_bulk(BulkFrame(0, b"ab")))
    with pytest.raises(BulkError, match="found 2 bytes, expected 4"):
        assembler.bytes()
    assembler.feed(bulk.encode_bulk(BulkFrame(2, b"cd")))
    with pytest.raises(BulkError, match="recording check sum: found 0xED82CD11, expected 0x00000001"):
        assembler.bytes(crc32=1)


def test_a_length_that_does_not_match_is_refused_though_the_check_sum_is_right():
    with pytest.raises(BulkError, match="length: found 5, expected 4"):
        bulk.decode_bulk(with_crc(bytes.fromhex("00000000 0500") + b"abcd"))
    with pytest.raises(BulkError, match="expected more than 8"):
        bulk.decode_bulk(with_crc(bytes(6)))


@settings(max_examples=50, deadline=None)
@given(leads=st.integers(1, 4), n=st.integers(1, 50), seed=st.integers(0, 999))
def test_codes_of_a_recording_survive(leads, n, seed):
    codes = np.random.default_rng(seed).integers(-(1 << 23), 1 << 23, (leads, n)).astype(np.int32)
    data = bulk.encode_recording(codes)
    stored = StoredRecording(record_id=1, start_us=0, start_index=None, n_samples=n, crc32=0)
    assert len(data) == stored.n_bytes(n_leads=leads)
    np.testing.assert_array_equal(bulk.decode_recording(data, n_leads=leads), codes)


@pytest.mark.parametrize("length", [0, 1, 5, 7])
def test_bytes_that_are_no_whole_samples_are_refused(length):
    with pytest.raises(BulkError, match="expected a multiple of 6"):
        bulk.decode_recording(bytes(length), n_leads=2)


def test_list_entries_with_and_without_a_stream_round_trip():
    assert bulk.decode_record_list_reply(RecordListReply(count=0).to_bytes()) == RecordListReply(count=0)
    for start_index in (None, 0, 4_000_000_000):
        entry = StoredRecording(record_id=7, start_us=1 << 40, start_index=start_index, n_samples=15_000, crc32=1 << 31)
        reply = RecordListReply(count=1, recording=entry)
        assert bulk.decode_record_list_reply(reply.to_bytes()) == reply


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bulk.RecordArmParams(9).to_bytes(), r"found 9, expected 10\.\.30"),
        (lambda: bulk.decode_record_arm(b"\x1f"), r"found 31, expected 10\.\.30"),
        (lambda: bulk.encode_record_id(0), r"found 0, expected 1\.\.65535"),
        (lambda: bulk.decode_record_id(b"\0\0"), r"found 0, expected 1\.\.65535"),
        (lambda: RecordReadParams(1, 0, 0).to_bytes(), "found 0, expected 1"),
        (lambda: bulk.decode_record_read(bytes(10)), "found 0, expected at least 1"),
        (lambda: bulk.decode_record_read(bytes(9)), "found 9 bytes, expected 10"),
        (lambda: bulk.encode_record_list(256), "found 256"),
        (lambda: bulk.decode_record_list_reply(bytes(23)), "number of recordings: found 0"),
    ],
)
def test_numbers_out_of_range_are_refused_both_ways(call, words):
    with pytest.raises(ControlError, match=words):
        call()


@pytest.mark.parametrize("mtu", [12, 23, 100, 247, 517])
def test_a_bulk_frame_of_that_many_bytes_fills_the_notification(mtu):
    frame = bulk.encode_bulk(BulkFrame(0, bytes(bulk_data_bytes(mtu))))
    assert len(frame) == mtu - ATT_HEADER_BYTES


def test_no_byte_fits_below_an_mtu_of_12():
    assert (bulk_data_bytes(11), bulk_data_bytes(0)) == (0, 0)
