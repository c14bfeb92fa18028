"""Requests and replies of the control characteristic.

A request is ``op u8, txn u8, parameters``; the reply is an indication ``0x80 | op, txn, status u8, data``. The
transaction number, chosen by the host, ties the two together, so a late reply is never taken for another one. Data is
present only with status OK, except for EVICTED. The requests about recordings are in `bulk`, AUTHENTICATE is in
`authenticity`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from firmware_bridge.protocol.errors import ControlError
from firmware_bridge.protocol.profile import (
    CALIBRATION_MAX_S,
    CALIBRATION_MIN_S,
    INDEX_MODULUS,
    NO_START_FLAGS,
    PREFERRED_FRAME_SAMPLES,
    RETRANSMIT_MAX_SAMPLES,
    Op,
    ReplyStatus,
    SampleCodec,
    SelfTestFault,
    StartFlag,
)

REPLY_BIT: Final = 0x80
_REQUEST_HEAD: Final = 2
_REPLY_HEAD: Final = 3

_START: Final = struct.Struct("<BBB")
_START_REPLY: Final = struct.Struct("<BHHQI")
_STOP_REPLY: Final = struct.Struct("<III")
_RETRANSMIT: Final = struct.Struct("<IH")
_EVICTED_REPLY: Final = struct.Struct("<I")
_TIME: Final = struct.Struct("<Q")
_TIME_REPLY: Final = struct.Struct("<QQI")
_CALIBRATE: Final = struct.Struct("<BB")
_SELF_TEST_REPLY: Final = struct.Struct("<HH")

# What an operator can do about each refusal.
REFUSAL_ADVICE: Final[dict[ReplyStatus, str]] = {
    ReplyStatus.MTU_TOO_SMALL: "The radio link offers too small packets. Use a Bluetooth 4.2 adapter or a later one.",
    ReplyStatus.BAD_OP: "The device does not know this request. Update its firmware.",
    ReplyStatus.BAD_PARAMETER: "The device refused the parameters. Update this program or the device's firmware.",
    ReplyStatus.BUSY: "The device is busy. Stop the other recording or switch the device off and on.",
    ReplyStatus.EVICTED: "The device no longer holds these samples. Record again.",
    ReplyStatus.NOT_AUTHENTICATED: "Pair the device again.",
    ReplyStatus.FRONT_END_FAULT: "The measuring circuit of the device reports a fault. Use another device.",
    ReplyStatus.NO_CONTACT: "Place the electrodes on clean, moist skin and try again.",
    ReplyStatus.NO_STREAM: "The device was restarted. Start a new recording.",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request: operation, transaction number, parameters as bytes."""

    op: Op
    txn: int
    params: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the bytes to write to the control characteristic."""
        return bytes((self.op, self.txn & 0xFF)) + self.params


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: which operation and transaction it answers, how it went, data as bytes."""

    op: Op
    txn: int
    status: ReplyStatus
    data: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the bytes of the indication."""
        return bytes((REPLY_BIT | self.op, self.txn & 0xFF, self.status)) + self.data


@dataclass(frozen=True, slots=True)
class StartParams:
    """What the host asks of a stream; the device may send smaller frames, never larger ones."""

    codec: SampleCodec = SampleCodec.RAW24
    n_samples: int = PREFERRED_FRAME_SAMPLES
    flags: StartFlag = NO_START_FLAGS

    def to_bytes(self) -> bytes:
        """Return the parameters of a START request."""
        return _START.pack(self.codec, self.n_samples, self.flags)


@dataclass(frozen=True, slots=True)
class StartReply:
    """What the device streams: samples per frame, its MTU, stream number and device time of sample 0.

    ``lsb_pv`` is the weight of a code in this stream; 0 means the descriptor's.
    """

    n_samples: int
    mtu: int
    stream_id: int
    t_us: int
    lsb_pv: int = 0

    def to_bytes(self) -> bytes:
        """Return the data of a START reply."""
        return _START_REPLY.pack(self.n_samples, self.mtu, self.stream_id, self.t_us, self.lsb_pv)


@dataclass(frozen=True, slots=True)
class StopReply:
    """How a stream ended: index after the last sample acquired, frames sent, frames that could not be sent."""

    next_index: int
    sent: int
    overrun: int

    def to_bytes(self) -> bytes:
        """Return the data of a STOP reply."""
        return _STOP_REPLY.pack(self.next_index % INDEX_MODULUS, self.sent, self.overrun)


@dataclass(frozen=True, slots=True)
class RetransmitParams:
    """Samples to send again: ``count`` from index ``t0`` (modulo 2^32)."""

    t0: int
    count: int

    def to_bytes(self) -> bytes:
        """Return the parameters of a RETRANSMIT request."""
        if not 1 <= self.count <= RETRANSMIT_MAX_SAMPLES:
            raise ControlError(f"retransmission: found {self.count} samples, expected 1..{RETRANSMIT_MAX_SAMPLES}")
        return _RETRANSMIT.pack(self.t0 % INDEX_MODULUS, self.count)


@dataclass(frozen=True, slots=True)
class TimeReply:
    """The host's time as it was sent, and the device's time and sample index when it arrived."""

    host_us: int
    device_us: int
    index: int

    def to_bytes(self) -> bytes:
        """Return the data of a TIME reply."""
        return _TIME_REPLY.pack(self.host_us, self.device_us, self.index % INDEX_MODULUS)


@dataclass(frozen=True, slots=True)
class CalibrateParams:
    """Calibration pulse on for `seconds` (1-30), or off."""

    on: bool
    seconds: int = CALIBRATION_MIN_S

    def to_bytes(self) -> bytes:
        """Return the parameters of a CALIBRATE request."""
        if self.on:
            check_range("CALIBRATE seconds", self.seconds, CALIBRATION_MIN_S, CALIBRATION_MAX_S)
        return _CALIBRATE.pack(self.on, self.seconds if self.on else 0)


@dataclass(frozen=True, slots=True)
class SelfTestReply:
    """What a device found wrong with itself, and its battery in millivolt."""

    faults: SelfTestFault
    battery_mv: int

    def to_bytes(self) -> bytes:
        """Return the data of a SELF_TEST reply."""
        return _SELF_TEST_REPLY.pack(self.faults, self.battery_mv)


def decode_request(data: bytes | bytearray) -> Request:
    """Read the request in `data`; an unknown operation is a `ControlError` (a device answers it with BAD_OP)."""
    raw = bytes(data)
    if len(raw) < _REQUEST_HEAD:
        raise ControlError(f"request: found {len(raw)} bytes, expected at least {_REQUEST_HEAD}")
    return Request(op=_op_of(raw[0]), txn=raw[1], params=raw[_REQUEST_HEAD:])


def decode_reply(data: bytes | bytearray) -> Reply:
    """Read the reply in `data`."""
    raw = bytes(data)
    if len(raw) < _REPLY_HEAD or not raw[0] & REPLY_BIT:
        found = raw.hex(" ") or "nothing"
        raise ControlError(f"reply: found {found}, expected at least {_REPLY_HEAD} bytes with bit 7 of the first set")
    try:
        status = ReplyStatus(raw[2])
    except ValueError:
        raise ControlError(f"reply status: found {raw[2]}, expected 0..{max(ReplyStatus)}") from None
    return Reply(op=_op_of(raw[0] & ~REPLY_BIT), txn=raw[1], status=status, data=raw[_REPLY_HEAD:])


def decode_start(params: bytes) -> StartParams:
    """Read the parameters of a START request."""
    codec, n_samples, flags = unpack_fields(_START, params, what="START parameters")
    if codec not in (SampleCodec.RAW24, SampleCodec.RAW16) or n_samples == 0:
        raise ControlError(
            f"START: found codec {codec} and {n_samples} samples, expected codec 0 or 1 and 1..255 samples"
        )
    return StartParams(codec=SampleCodec(codec), n_samples=n_samples, flags=StartFlag(flags))


def decode_start_reply(data: bytes) -> StartReply:
    """Read the data of a START reply."""
    n_samples, mtu, stream_id, t_us, lsb_pv = unpack_fields(_START_REPLY, data, what="START reply")
    return StartReply(n_samples=n_samples, mtu=mtu, stream_id=stream_id, t_us=t_us, lsb_pv=lsb_pv)


def decode_stop_reply(data: bytes) -> StopReply:
    """Read the data of a STOP reply."""
    next_index, sent, overrun = unpack_fields(_STOP_REPLY, data, what="STOP reply")
    return StopReply(next_index=next_index, sent=sent, overrun=overrun)


def decode_retransmit(params: bytes) -> RetransmitParams:
    """Read the parameters of a RETRANSMIT request."""
    t0, count = unpack_fields(_RETRANSMIT, params, what="RETRANSMIT parameters")
    if count == 0:
        raise ControlError("RETRANSMIT: found 0 samples, expected 1..65535")
    return RetransmitParams(t0=t0, count=count)


def encode_oldest(index: int) -> bytes:
    """Return the data of an EVICTED reply: index of the oldest sample that the device still holds."""
    return _EVICTED_REPLY.pack(index % INDEX_MODULUS)


def decode_oldest(data: bytes) -> int:
    """Read the index (modulo 2^32) of the oldest sample that the device still holds."""
    (oldest,) = unpack_fields(_EVICTED_REPLY, data, what="EVICTED reply")
    return oldest


def encode_time(host_us: int) -> bytes:
    """Return the parameters of a TIME request."""
    return _TIME.pack(host_us)


def decode_time(params: bytes) -> int:
    """Read the host time of a TIME request, microseconds."""
    (host_us,) = unpack_fields(_TIME, params, what="TIME parameters")
    return host_us


def decode_time_reply(data: bytes) -> TimeReply:
    """Read the data of a TIME reply."""
    host_us, device_us, index = unpack_fields(_TIME_REPLY, data, what="TIME reply")
    return TimeReply(host_us=host_us, device_us=device_us, index=index)


def decode_calibrate(params: bytes) -> CalibrateParams:
    """Read the parameters of a CALIBRATE request; `seconds` of a request that switches the pulse off are ignored."""
    on, seconds = unpack_fields(_CALIBRATE, params, what="CALIBRATE parameters")
    check_range("CALIBRATE on", on, 0, 1)
    if not on:
        return CalibrateParams(on=False)
    check_range("CALIBRATE seconds", seconds, CALIBRATION_MIN_S, CALIBRATION_MAX_S)
    return CalibrateParams(on=True, seconds=seconds)


def decode_self_test_reply(data: bytes) -> SelfTestReply:
    """Read the data of a SELF_TEST reply; fault bits that this version does not name are kept."""
    faults, battery_mv = unpack_fields(_SELF_TEST_REPLY, data, what="SELF_TEST reply")
    return SelfTestReply(faults=SelfTestFault(faults), battery_mv=battery_mv)


def _op_of(code: int) -> Op:
    try:
        return Op(code)
    except ValueError:
        raise ControlError(f"operation: found 0x{code:02X}, expected 0x01..0x{max(Op):02X}") from None


def unpack_fields(layout: struct.Struct, data: bytes, *, what: str) -> tuple[int, ...]:
    """Return the numbers in `data`, which must have the size of `layout`."""
    if len(data) != layout.size:
        raise ControlError(f"{what}: found {len(data)} bytes, expected {layout.size}")
    return layout.unpack(data)


def check_range(what: str, found: int, low: int, high: int) -> None:
    """Refuse a number of a request or reply that is outside of `low`..`high`."""
    if not low <= found <= high:
        raise ControlError(f"{what}: found {found}, expected {low}..{high}")
