"""Recordings that a device keeps: the requests about them, bulk frames, and the way from frames to samples.

A bulk frame is ``offset u32, length u16, data, CRC-16`` (little-endian); the data of a recording are ``n x leads``
signed 24-bit codes, interleaved as in raw24 live frames, and a CRC-32/ISO-HDLC over all of them is in the list.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.checksum import check_crc, with_crc
from firmware_bridge.protocol.codec import pack_samples, unpack_samples
from firmware_bridge.protocol.control import check_range, unpack_fields
from firmware_bridge.protocol.errors import BulkError, ControlError
from firmware_bridge.protocol.profile import (
    BULK_HEADER_BYTES,
    BULK_OVERHEAD_BYTES,
    BYTES_PER_SAMPLE,
    NO_STREAM_INDEX,
    RECORDING_MAX_S,
    RECORDING_MIN_S,
    SampleCodec,
)

_ID: Final = struct.Struct("<H")
_BYTE: Final = struct.Struct("<B")
_ENTRY: Final = struct.Struct("<BHQIII")
_READ: Final = struct.Struct("<HII")
_BULK_HEADER: Final = struct.Struct("<IH")
_MAX_ID: Final = 0xFFFF
_MAX_U32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class RecordArmParams:
    """Seconds (10-30) to keep from now on."""

    seconds: int

    def to_bytes(self) -> bytes:
        """Return the parameters of a RECORD_ARM request."""
        check_range("RECORD_ARM seconds", self.seconds, RECORDING_MIN_S, RECORDING_MAX_S)
        return _BYTE.pack(self.seconds)


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A finished recording on a device.

    Attributes
    ----------
    record_id
        1-65535, counted since power-on.
    start_us
        Device time of the first sample, microseconds.
    start_index
        Index since START of the first sample; None if it was made without a stream.
    n_samples
        Samples per lead.
    crc32
        CRC-32/ISO-HDLC over its bytes.
    """

    record_id: int
    start_us: int
    start_index: int | None
    n_samples: int
    crc32: int

    def n_bytes(self, *, n_leads: int) -> int:
        """Length of its data."""
        return self.n_samples * n_leads * BYTES_PER_SAMPLE[SampleCodec.RAW24]


@dataclass(frozen=True, slots=True)
class RecordListReply:
    """How many recordings there are, and the one that was asked for (None if there is none)."""

    count: int
    recording: StoredRecording | None = None

    def to_bytes(self) -> bytes:
        """Return the data of a RECORD_LIST reply."""
        found = self.recording
        if found is None:
            return _BYTE.pack(self.count)
        index = NO_STREAM_INDEX if found.start_index is None else found.start_index
        return _ENTRY.pack(self.count, found.record_id, found.start_us, index, found.n_samples, found.crc32)


@dataclass(frozen=True, slots=True)
class RecordReadParams:
    """Bytes ``[offset, offset + length)`` of a recording, to be sent as bulk frames."""

    record_id: int
    offset: int
    length: int

    def to_bytes(self) -> bytes:
        """Return the parameters of a RECORD_READ request."""
        check_range("RECORD_READ length", self.length, 1, _MAX_U32)
        return _READ.pack(self.record_id, self.offset, self.length)


@dataclass(frozen=True, slots=True)
class BulkFrame:
    """Some bytes of a recording and where they belong."""

    offset: int
    data: bytes


def decode_record_arm(params: bytes) -> RecordArmParams:
    """Read the parameters of a RECORD_ARM request."""
    (seconds,) = unpack_fields(_BYTE, params, what="RECORD_ARM parameters")
    check_range("RECORD_ARM seconds", seconds, RECORDING_MIN_S, RECORDING_MAX_S)
    return RecordArmParams(seconds=seconds)


def encode_record_id(record_id: int) -> bytes:
    """Return the data of a RECORD_ARM reply, and parameters of a RECORD_DELETE request."""
    check_range("recording id", record_id, 1, _MAX_ID)
    return _ID.pack(record_id)


def decode_record_id(data: bytes) -> int:
    """Read the recording id in the data of a RECORD_ARM reply, or in the parameters of a RECORD_DELETE request."""
    (record_id,) = unpack_fields(_ID, data, what="recording id")
    check_range("recording id", record_id, 1, _MAX_ID)
    return record_id


def encode_record_list(index: int) -> bytes:
    """Return the parameters of a RECORD_LIST request: which of the recordings, from 0."""
    check_range("RECORD_LIST index", index, 0, 0xFF)
    return _BYTE.pack(index)


def decode_record_list(params: bytes) -> int:
    """Read the index in the parameters of a RECORD_LIST request."""
    (index,) = unpack_fields(_BYTE, params, what="RECORD_LIST parameters")
    return index


def decode_record_list_reply(data: bytes) -> RecordListReply:
    """Read the data of a RECORD_LIST reply."""
    if data == b"\0":
        return RecordListReply(count=0)
    count, record_id, start_us, start_index, n_samples, crc32 = unpack_fields(_ENTRY, data, what="RECORD_LIST reply")
    check_range("number of recordings", count, 1, 0xFF)
    check_range("recording id", record_id, 1, _MAX_ID)
    check_range("samples of a recording", n_samples, 1, _MAX_U32)
    recording = StoredRecording(
        record_id=record_id,
        start_us=start_us,
        start_index=None if start_index == NO_STREAM_INDEX else start_index,
        n_samples=n_samples,
        crc32=crc32,
    )
    return RecordListReply(count=count, recording=recording)


def decode_record_read(params: bytes) -> RecordReadParams:
    """Read the parameters of a RECORD_READ request."""
    record_id, offset, length = unpack_fields(_READ, params, what="RECORD_READ parameters")
    if length == 0:
        raise ControlError("RECORD_READ length: found 0, expected at least 1")
    return RecordReadParams(record_id=record_id, offset=offset, length=length)


def encode_bulk(frame: BulkFrame) -> bytes:
    """Return the bytes of a bulk frame."""
    return with_crc(_BULK_HEADER.pack(frame.offset, len(frame.data)) + frame.data)


def decode_bulk(data: bytes | bytearray) -> BulkFrame:
    """Read the bulk frame in `data`, or raise a `BulkError`; nothing of a frame with a wrong check sum is used."""
    raw = bytes(data)
    if len(raw) <= BULK_OVERHEAD_BYTES:
        raise BulkError(f"bulk frame: found {len(raw)} bytes, expected more than {BULK_OVERHEAD_BYTES}")
    check_crc(raw, what="bulk frame", error=BulkError)
    offset, length = _BULK_HEADER.unpack_from(raw)
    if length != len(raw) - BULK_OVERHEAD_BYTES:
        raise BulkError(f"bulk frame length: found {length}, expected {len(raw) - BULK_OVERHEAD_BYTES}")
    return BulkFrame(offset=offset, data=raw[BULK_HEADER_BYTES:-2])


class BulkAssembler:
    """Puts bulk frames in place, in whatever order, and knows what is missing.

    Parameters
    ----------
    length
        Bytes of the whole recording; offsets of frames count from its beginning.

    Attributes
    ----------
    rejected
        Frames that were damaged or did not lie within the recording.
    """

    def __init__(self, length: int) -> None:
        if length < 1:
            raise BulkError(f"recording: found {length} bytes, expected at least 1")
        self._data = bytearray(length)
        self._missing: list[tuple[int, int]] = [(0, length)]  # [start, stop), ascending
        self.rejected = 0

    @property
    def complete(self) -> bool:
        """Whether every byte is there."""
        return not self._missing

    def feed(self, data: bytes | bytearray) -> bool:
        """Take one notification; True if it brought bytes that were missing. A damaged one is counted, not used."""
        try:
            frame = decode_bulk(data)
        except BulkError:
            self.rejected += 1
            return False
        stop = frame.offset + len(frame.data)
        if stop > len(self._data):
            self.rejected += 1
            return False
        left: list[tuple[int, int]] = []
        for lower, upper in self._missing:  # the first valid frame wins: only bytes that are missing are written
            low, high = max(lower, frame.offset), min(upper, stop)
            if low >= high:
                left.append((lower, upper))
                continue
            self._data[low:high] = frame.data[low - frame.offset : high - frame.offset]
            left.extend(span for span in ((lower, low), (high, upper)) if span[0] < span[1])
        brought = left != self._missing
        self._missing = left
        return brought

    def missing(self) -> tuple[tuple[int, int], ...]:
        """``(offset, length)`` of what is not there yet, ascending: what to ask for with RECORD_READ."""
        return tuple((start, stop - start) for start, stop in self._missing)

    def bytes(self, *, crc32: int | None = None) -> bytes:
        """Return the recording; `BulkError` if a byte is missing or the CRC-32 differs from the one of the list."""
        if self._missing:
            lacking = sum(stop - start for start, stop in self._missing)
            raise BulkError(f"recording: found {len(self._data) - lacking} bytes, expected {len(self._data)}")
        found = binascii.crc32(self._data)
        if crc32 is not None and found != crc32:
            raise BulkError(f"recording check sum: found 0x{found:08X}, expected 0x{crc32:08X}")
        return bytes(self._data)


def encode_recording(codes: NDArray[np.int32]) -> bytes:
    """Return the bytes of a recording from codes ``[lead, time]``."""
    return pack_samples(codes, codec=SampleCodec.RAW24)


def decode_recording(data: bytes, *, n_leads: int) -> NDArray[np.int32]:
    """Read the codes ``[lead, time]`` of a recording; their weight is the descriptor's ``lsb_pv``."""
    step = n_leads * BYTES_PER_SAMPLE[SampleCodec.RAW24]
    if not data or len(data) % step:
        raise BulkError(f"recording of {n_leads} leads: found {len(data)} bytes, expected a multiple of {step}")
    return unpack_samples(data, codec=SampleCodec.RAW24, n_leads=n_leads)
