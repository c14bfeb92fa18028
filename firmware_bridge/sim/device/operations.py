"""How a virtual device answers each request: status, data, and live frames that follow the reply.

Checks come in one order, so that two implementations answer alike: operation and feature (2), parameters (3), MTU (1),
then the state of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmware_bridge.protocol.authenticity import AuthenticateReply, decode_authenticate, tag
from firmware_bridge.protocol.bulk import (
    RecordListReply,
    decode_record_arm,
    decode_record_id,
    decode_record_list,
    decode_record_read,
    encode_record_id,
)
from firmware_bridge.protocol.control import (
    Request,
    SelfTestReply,
    StartReply,
    StopReply,
    TimeReply,
    decode_calibrate,
    decode_retransmit,
    decode_start,
    decode_time,
    encode_oldest,
)
from firmware_bridge.protocol.errors import ControlError
from firmware_bridge.protocol.profile import (
    BATTERY_LOW_PERCENT,
    INDEX_MODULUS,
    MIN_FRAME_SAMPLES,
    MIN_REPLY_MTU,
    NO_FAULTS,
    NONCE_BYTES,
    Feature,
    Op,
    ReplyStatus,
    SampleCodec,
    SelfTestFault,
    StartFlag,
    recording_samples,
)
from firmware_bridge.sim.device.notification import Notification

if TYPE_CHECKING:
    from firmware_bridge.sim.device.device import VirtualDevice

Answer = tuple[ReplyStatus, bytes, list[Notification]]

_NEEDED_FEATURE: Final[Mapping[Op, Feature]] = MappingProxyType(
    {
        Op.CALIBRATE: Feature.CALIBRATION,
        Op.RECORD_ARM: Feature.RECORD,
        Op.RECORD_LIST: Feature.RECORD,
        Op.RECORD_READ: Feature.RECORD,
        Op.RECORD_DELETE: Feature.RECORD,
    }
)


def answer(device: VirtualDevice, request: Request, *, now_us: int) -> Answer:
    """Status, data and frames; a `ControlError` means BAD_PARAMETER."""
    needed = _NEEDED_FEATURE.get(request.op)
    if needed is not None and needed not in device.descriptor.features:
        return _bare(ReplyStatus.BAD_OP)
    return _ANSWERS[request.op](device, request.params, now_us)


def _bare(status: ReplyStatus) -> Answer:
    return status, b"", []


def _ok(data: bytes = b"") -> Answer:
    return ReplyStatus.OK, data, []


def _start(device: VirtualDevice, raw: bytes, now_us: int) -> Answer:
    params = decode_start(raw)
    if params.codec is not SampleCodec.RAW24 or params.n_samples < MIN_FRAME_SAMPLES:
        return _bare(ReplyStatus.BAD_PARAMETER)
    n_samples = device.fitting_samples(params.n_samples)
    refusal = _start_refusal(device, n_samples=n_samples, resume=bool(params.flags & StartFlag.RESUME))
    if refusal is not ReplyStatus.OK:
        return _bare(refusal)
    stream = device.begin_stream(params, n_samples=n_samples, now_us=now_us)
    reply = StartReply(n_samples=n_samples, mtu=device.mtu, stream_id=stream.stream_id, t_us=stream.start_us)
    return _ok(reply.to_bytes())


def _start_refusal(device: VirtualDevice, *, n_samples: int, resume: bool) -> ReplyStatus:
    if n_samples < MIN_FRAME_SAMPLES:
        return ReplyStatus.MTU_TOO_SMALL
    if resume:
        return ReplyStatus.OK if device.running else ReplyStatus.NO_STREAM
    if device.acquiring:
        return ReplyStatus.BUSY
    return ReplyStatus.OK if device.front_end.start() else ReplyStatus.FRONT_END_FAULT


def _stop(device: VirtualDevice, _raw: bytes, _now_us: int) -> Answer:
    stream = device.stream
    if stream is None:
        return _bare(ReplyStatus.NO_STREAM)
    device.end_stream()
    return _ok(StopReply(next_index=stream.next_index, sent=stream.sent, overrun=stream.overrun).to_bytes())


def _retransmit(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    params = decode_retransmit(raw)
    if device.stream is None:
        return _bare(ReplyStatus.NO_STREAM)
    first = device.stream.unwrap(params.t0)
    stop = first + params.count
    if stop > device.next_index:
        return _bare(ReplyStatus.BAD_PARAMETER)
    if first < device.oldest_index:
        return ReplyStatus.EVICTED, encode_oldest(device.oldest_index), []
    return ReplyStatus.OK, b"", device.frames_again(first, stop)


def _time(device: VirtualDevice, raw: bytes, now_us: int) -> Answer:
    return _ok(TimeReply(host_us=decode_time(raw), device_us=now_us, index=device.next_index).to_bytes())


def _calibrate(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    params = decode_calibrate(raw)
    if not device.running:
        return _bare(ReplyStatus.NO_STREAM)
    if not params.on:
        device.front_end.pulse.end(device.next_index)
        return _ok()
    if device.memory.making is not None:
        return _bare(ReplyStatus.BUSY)
    n_samples = recording_samples(params.seconds, fs_mhz=device.front_end.fs_mhz)
    device.front_end.pulse.begin(device.next_index, n_samples=n_samples)
    return _ok()


def _record_arm(device: VirtualDevice, raw: bytes, now_us: int) -> Answer:
    params = decode_record_arm(raw)
    memory, stream = device.memory, device.stream
    if memory.making is not None or memory.reading or device.calibrating:
        return _bare(ReplyStatus.BUSY)
    wanted = recording_samples(params.seconds, fs_mhz=device.front_end.fs_mhz)
    if stream is not None and stream.running:
        index = stream.next_index
        record_id = memory.arm(start_us=stream.time_us(index), start_index=index % INDEX_MODULUS, wanted=wanted)
    elif device.front_end.start():
        record_id = memory.arm(start_us=now_us, start_index=None, wanted=wanted)
    else:
        return _bare(ReplyStatus.FRONT_END_FAULT)
    return _ok(encode_record_id(record_id))


def _record_list(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    index, stored = decode_record_list(raw), device.memory.stored()
    if device.mtu < MIN_REPLY_MTU:
        return _bare(ReplyStatus.MTU_TOO_SMALL)
    if stored and index >= len(stored):
        return _bare(ReplyStatus.BAD_PARAMETER)
    return _ok(RecordListReply(count=len(stored), recording=stored[index] if stored else None).to_bytes())


def _record_read(device: VirtualDevice, raw: bytes, now_us: int) -> Answer:
    linked = device.mtu > 0
    return _bare(device.memory.begin_read(decode_record_read(raw), now_us=now_us, linked=linked))


def _record_delete(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    return _bare(device.memory.delete(decode_record_id(raw)))


def _self_test(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    if raw:
        raise ControlError(f"SELF_TEST parameters: found {len(raw)} bytes, expected 0")
    if device.acquiring:
        return _bare(ReplyStatus.BUSY)
    device.front_end.start()
    faults = device.front_end.faults
    faults |= SelfTestFault.BATTERY_LOW if device.battery_percent < BATTERY_LOW_PERCENT else NO_FAULTS
    faults |= NO_FAULTS if device.key else SelfTestFault.NO_DEVICE_KEY
    return _ok(SelfTestReply(faults=faults, battery_mv=device.battery_mv).to_bytes())


def _authenticate(device: VirtualDevice, raw: bytes, _now_us: int) -> Answer:
    host_nonce = decode_authenticate(raw)
    if device.mtu < MIN_REPLY_MTU:
        return _bare(ReplyStatus.MTU_TOO_SMALL)
    if device.key is None:
        return _bare(ReplyStatus.NOT_AUTHENTICATED)
    nonce = device.random_bytes(NONCE_BYTES)
    proof = tag(device.key, device.read_descriptor(), host_nonce, nonce)
    return _ok(AuthenticateReply(device_nonce=nonce, tag=proof).to_bytes())


_ANSWERS: Final[Mapping[Op, Callable[[VirtualDevice, bytes, int], Answer]]] = MappingProxyType(
    {
        Op.START: _start,
        Op.STOP: _stop,
        Op.RETRANSMIT: _retransmit,
        Op.TIME: _time,
        Op.CALIBRATE: _calibrate,
        Op.RECORD_ARM: _record_arm,
        Op.RECORD_LIST: _record_list,
        Op.RECORD_READ: _record_read,
        Op.RECORD_DELETE: _record_delete,
        Op.SELF_TEST: _self_test,
        Op.AUTHENTICATE: _authenticate,
    }
)
