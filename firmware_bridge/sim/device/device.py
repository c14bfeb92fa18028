"""A virtual six-lead device: bytes in, bytes out, time passed in.

It acquires as soon as it is started and never stops because of the link: what could not be sent stays in a ring of 30 s
and is sent again on request. Nothing is streamed without START, a link that comes back included (START with RESUME goes
on where the stream is).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from firmware_bridge.protocol.authenticity import AuthenticateReply, DeviceKey, decode_authenticate, tag
from firmware_bridge.protocol.bulk import (
    RecordListReply,
    decode_record_arm,
    decode_record_id,
    decode_record_list,
    decode_record_read,
    encode_record_id,
)
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.control import (
    Reply,
    Request,
    SelfTestReply,
    StartParams,
    StartReply,
    StopReply,
    TimeReply,
    decode_calibrate,
    decode_request,
    decode_retransmit,
    decode_start,
    decode_time,
    encode_oldest,
)
from firmware_bridge.protocol.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.protocol.errors import ControlError
from firmware_bridge.protocol.profile import (
    BATTERY_LOW_PERCENT,
    INDEX_MODULUS,
    MIN_FRAME_SAMPLES,
    MIN_REPLY_MTU,
    NO_FAULTS,
    NO_FEATURES,
    NO_FLAGS,
    NONCE_BYTES,
    RING_S,
    SEQ_RETRANSMITTED,
    UPDATE_MIN_BATTERY_PERCENT,
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    Op,
    ReplyStatus,
    SampleCodec,
    SelfTestFault,
    StartFlag,
    recording_samples,
    samples_per_frame,
)
from firmware_bridge.protocol.status import DeviceStatus, encode_status
from firmware_bridge.sim.device.front_end import FrontEnd
from firmware_bridge.sim.device.memory import RecordingMemory
from firmware_bridge.sim.device.source import LSB_PV, SOURCE_LEADS, SignalSource

# What a virtual device can do; it has no right-leg drive.
DEFAULT_FEATURES: Final = (
    Feature.RETRANSMIT
    | Feature.RECORD
    | Feature.CALIBRATION
    | Feature.LEAD_OFF
    | Feature.DC_COUPLED
    | Feature.TIME_SYNC
)
CALIBRATION_NV: Final = 1_000_000  # 1 mV peak to peak
TEMPERATURE_CENTI_C: Final = 2_510  # of every virtual device

_STATUS_PERIOD_US: Final = 1_000_000
_BATTERY_PERCENT: Final = 90

_NEEDED_FEATURE: Final[Mapping[Op, Feature]] = MappingProxyType(
    {
        Op.CALIBRATE: Feature.CALIBRATION,
        Op.RECORD_ARM: Feature.RECORD,
        Op.RECORD_LIST: Feature.RECORD,
        Op.RECORD_READ: Feature.RECORD,
        Op.RECORD_DELETE: Feature.RECORD,
    }
)


class Channel(Enum):
    """The characteristic that a notification belongs to."""

    LIVE = "live"
    CONTROL = "control"
    STATUS = "status"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Notification:
    """Bytes to send on a characteristic."""

    channel: Channel
    data: bytes


# Status and data of a reply, and the live frames that follow it.
Answer = tuple[ReplyStatus, bytes, list[Notification]]


@dataclass(slots=True)
class Stream:
    """What START began: counters of a stream.

    Attributes
    ----------
    start_us
        Device time of sample 0, us.
    n_samples
        Samples per lead in a frame.
    lost_before
        Frames before the next one were not sent.
    """

    stream_id: int
    start_us: int
    n_samples: int
    next_index: int = 0
    seq: int = 0
    sent: int = 0
    overrun: int = 0
    lost_before: bool = False
    running: bool = True

    def unwrap(self, index: int) -> int:
        """Return the sample that `index` (modulo 2^32) means: the one nearest to the newest, so one ahead is not one long gone."""
        ahead = (index - self.next_index) % INDEX_MODULUS
        return self.next_index + (ahead if ahead < INDEX_MODULUS // 2 else ahead - INDEX_MODULUS)


class VirtualDevice:
    """A device without its radio: what it measures, keeps and answers.

    Parameters
    ----------
    source
        What it measures; a source that does not loop ends the stream with a frame flagged LAST.
    boot_id
        Number of the first power-on; each `power_on` adds one.
    key
        Its device key; None for a device that cannot prove what it is.
    features
        What it can do; `DEVICE_KEY` is added or taken away to match `key`.
    calibration_nv
        Peak-to-peak size of the calibration pulse, nV.
    random_bytes
        Source of nonces.

    Attributes
    ----------
    front_end
        Its measuring circuit; ``front_end.faults`` may be set.
    memory
        The recordings that it keeps.
    stream
        The one that runs, or the last one since power-on.
    """

    def __init__(
        self,
        source: SignalSource,
        *,
        boot_id: int = 1,
        ring_s: int = RING_S,
        key: DeviceKey | None = None,
        features: Feature = DEFAULT_FEATURES,
        calibration_nv: int = CALIBRATION_NV,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.key = key
        self.random_bytes = random_bytes
        self.powered = True
        self.front_end = FrontEnd(source, calibration_nv=calibration_nv)
        self._ring_samples = round(ring_s * source.fs_hz)
        self._ring_s = ring_s
        self._boot_id = boot_id
        self._features = features & ~Feature.DEVICE_KEY | (Feature.DEVICE_KEY if key else Feature(0))
        self._calibration_nv = calibration_nv
        self._mtu: int | None = None
        self.set_battery(_BATTERY_PERCENT)
        self._forget()

    def _forget(self) -> None:
        """Lose everything that does not survive a power-off."""
        self.memory = RecordingMemory()
        self.front_end.pulse.reset()
        self.front_end.silent = False
        self._streams_started = 0
        self.stream: Stream | None = None
        self._sending = False
        self._status_due_us = 0
        self._told: tuple[DeviceState, Contact] | None = None

    @property
    def descriptor(self) -> DeviceDescriptor:
        """What the device says about itself."""
        return DeviceDescriptor(
            leads=SOURCE_LEADS,
            fs_mhz=self.front_end.fs_mhz,
            lsb_pv=LSB_PV,
            range_uv=403_000,
            features=self._features,
            ring_s=self._ring_s,
            boot_id=self._boot_id,
            calibration_nv=self._calibration_nv,
            front_end_id=0x1292,
        )

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the link, bytes; 0 without one."""
        return self._mtu or 0

    @property
    def running(self) -> bool:
        """Whether a stream runs."""
        return self.stream is not None and self.stream.running

    @property
    def acquiring(self) -> bool:
        """Whether the front end is in use."""
        return self.running or self.memory.making is not None

    @property
    def calibrating(self) -> bool:
        """Whether the next sample holds the calibration pulse."""
        return self.running and self.front_end.pulse.on_at(self.next_index)

    @property
    def next_index(self) -> int:
        """Samples acquired since START."""
        return self.stream.next_index if self.stream else 0

    @property
    def oldest_index(self) -> int:
        """Oldest sample still in the ring."""
        return max(0, self.next_index - self._ring_samples)

    def read_descriptor(self) -> bytes:
        """Return the value of the descriptor characteristic."""
        return encode_descriptor(self.descriptor)

    def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        state, contact = self._condition()
        status = DeviceStatus(
            state=state,
            contact=contact,
            battery_percent=self.battery_percent,
            battery_mv=self.battery_mv,
            temperature_centi_c=TEMPERATURE_CENTI_C,
            next_index=self.next_index,
            oldest_index=self.oldest_index,
            overruns=self.stream.overrun if self.stream else 0,
        )
        return encode_status(status)

    def set_battery(self, percent: int, *, mv: int | None = None) -> None:
        """Set the charge of the battery; at 0 % the device loses power."""
        self.battery_percent = percent
        self.battery_mv = 3_000 + 10 * percent if mv is None else mv
        if percent == 0:
            self.power_off()

    def may_update(self) -> bool:
        """Return whether a firmware update may begin, as far as the device knows; the link must be encrypted as well."""
        return not self.acquiring and not self.memory.reading and self.battery_percent >= UPDATE_MIN_BATTERY_PERCENT

    def power_off(self) -> None:
        """Lose everything: link, stream, ring and recordings."""
        self.link_down()
        self._forget()
        self.powered = False

    def power_on(self) -> None:
        """Come back with an empty ring and a new boot number; an empty battery was exchanged."""
        self._boot_id += 1
        self.powered = True
        if self.battery_percent == 0:
            self.set_battery(_BATTERY_PERCENT)

    def link_up(self, *, mtu: int) -> None:
        """Take up a link: a host connected; no samples are sent before START."""
        self._mtu = mtu

    def link_down(self) -> None:
        """Give up the link: the host is gone; acquisition goes on."""
        self._mtu = None
        self._sending = False
        self.memory.end_read()

    def next_due_us(self) -> int | None:
        """Return the device time at which something will be ready to send or to keep; None while nothing goes on."""
        due = [time for time in (self._block_due_us(), self.memory.bulk_due_us) if time is not None]
        return min(due) if due else None

    def control(self, data: bytes, *, now_us: int) -> list[Notification]:
        """Answer a request written to the control characteristic."""
        try:
            request = decode_request(data)
        except ControlError:
            head = bytes(data).ljust(2, b"\0")
            return [Notification(Channel.CONTROL, bytes((0x80 | head[0], head[1], ReplyStatus.BAD_OP)))]
        try:
            status, body, frames = self._answer(request, now_us)
        except ControlError:
            status, body, frames = ReplyStatus.BAD_PARAMETER, b"", []
        reply = Reply(op=request.op, txn=request.txn, status=status, data=body)
        return [Notification(Channel.CONTROL, reply.to_bytes()), *frames]

    def advance(self, now_us: int) -> list[Notification]:
        """Acquire up to `now_us`; return the frames and the status that became due, if a host listens."""
        due: list[Notification] = []
        while (event_us := self.next_due_us()) is not None and event_us <= now_us:
            if event_us == self._block_due_us():
                due.extend(self._acquire())
            else:
                due.extend(Notification(Channel.BULK, frame) for frame in self.memory.next_bulk(mtu=self.mtu))
        if self._mtu is not None and (now_us >= self._status_due_us or self._told != self._condition()):
            self._status_due_us, self._told = now_us + _STATUS_PERIOD_US, self._condition()
            due.append(Notification(Channel.STATUS, self.read_status()))
        return due

    def _answer(self, request: Request, now_us: int) -> Answer:
        """Carry out a request; a `ControlError` means BAD_PARAMETER.

        Checks come in one order, so that two implementations answer alike: operation and feature (2), parameters (3), MTU (1),
        then the state of the device.
        """
        raw, stream, pulse = request.params, self.stream, self.front_end.pulse
        if _NEEDED_FEATURE.get(request.op, NO_FEATURES) & ~self._features:
            return _bare(ReplyStatus.BAD_OP)
        match request.op:
            case Op.START:
                return self._start(decode_start(raw), now_us)
            case Op.STOP:  # whatever follows is ignored
                if stream is None:
                    return _bare(ReplyStatus.NO_STREAM)
                if stream.running:
                    self._end_stream(stream)
                self._sending = False
                return _ok(StopReply(next_index=stream.next_index, sent=stream.sent, overrun=stream.overrun).to_bytes())
            case Op.RETRANSMIT:
                params = decode_retransmit(raw)
                if stream is None:
                    return _bare(ReplyStatus.NO_STREAM)
                first = stream.unwrap(params.t0)
                if first + params.count > self.next_index:
                    return _bare(ReplyStatus.BAD_PARAMETER)
                if first < self.oldest_index:
                    return ReplyStatus.EVICTED, encode_oldest(self.oldest_index), []
                step, stop = self._fitting_samples(self.descriptor.preferred_samples), first + params.count
                firsts = range(first, stop, step) if step else ()  # nothing on a link that is down or holds no sample
                seq, flags = SEQ_RETRANSMITTED, FrameFlag.RETRANSMITTED
                frames = [self.front_end.frame(at, min(at + step, stop), seq=seq, flags=flags) for at in firsts]
                return ReplyStatus.OK, b"", [_live(frame) for frame in frames]
            case Op.TIME:
                return _ok(TimeReply(host_us=decode_time(raw), device_us=now_us, index=self.next_index).to_bytes())
            case Op.CALIBRATE:
                wanted = decode_calibrate(raw)
                if not self.running:
                    return _bare(ReplyStatus.NO_STREAM)
                if wanted.on and self.memory.making is not None:
                    return _bare(ReplyStatus.BUSY)
                pulse.end(self.next_index)
                if wanted.on:
                    n_samples = recording_samples(wanted.seconds, fs_mhz=self.front_end.fs_mhz)
                    pulse.begin(self.next_index, n_samples=n_samples)
                return _ok()
            case Op.SELF_TEST:
                if raw:
                    raise ControlError(f"SELF_TEST parameters: found {len(raw)} bytes, expected 0")
                if self.acquiring:
                    return _bare(ReplyStatus.BUSY)
                self.front_end.start()
                faults = self.front_end.faults
                faults |= SelfTestFault.BATTERY_LOW if self.battery_percent < BATTERY_LOW_PERCENT else NO_FAULTS
                faults |= NO_FAULTS if self.key else SelfTestFault.NO_DEVICE_KEY
                return _ok(SelfTestReply(faults=faults, battery_mv=self.battery_mv).to_bytes())
            case Op.AUTHENTICATE:
                host_nonce = decode_authenticate(raw)
                if self.mtu < MIN_REPLY_MTU:
                    return _bare(ReplyStatus.MTU_TOO_SMALL)
                if self.key is None:
                    return _bare(ReplyStatus.NOT_AUTHENTICATED)
                nonce = self.random_bytes(NONCE_BYTES)
                proof = tag(self.key, self.read_descriptor(), host_nonce, nonce)
                return _ok(AuthenticateReply(device_nonce=nonce, tag=proof).to_bytes())
            case _:
                return self._answer_about_recordings(request, now_us)

    def _start(self, params: StartParams, now_us: int) -> Answer:
        """Stream from sample 0, or (RESUME) go on with the stream that runs, in frames that fit this link."""
        if params.codec is not SampleCodec.RAW24 or params.n_samples < MIN_FRAME_SAMPLES:
            return _bare(ReplyStatus.BAD_PARAMETER)
        n_samples = self._fitting_samples(params.n_samples)
        if n_samples < MIN_FRAME_SAMPLES:
            return _bare(ReplyStatus.MTU_TOO_SMALL)
        stream = self.stream
        if params.flags & StartFlag.RESUME:  # other flags mean nothing yet
            if stream is None or not stream.running:
                return _bare(ReplyStatus.NO_STREAM)
            stream.n_samples = n_samples
        else:
            if self.acquiring:
                return _bare(ReplyStatus.BUSY)
            if not self.front_end.start():
                return _bare(ReplyStatus.FRONT_END_FAULT)
            self._streams_started += 1
            self.front_end.pulse.reset()
            stream = Stream(stream_id=self._streams_started & 0xFFFF, start_us=now_us, n_samples=n_samples)
            self.stream = stream
        self._sending = True
        reply = StartReply(n_samples=n_samples, mtu=self.mtu, stream_id=stream.stream_id, t_us=stream.start_us)
        return _ok(reply.to_bytes())

    def _answer_about_recordings(self, request: Request, now_us: int) -> Answer:
        raw, memory, stream = request.params, self.memory, self.stream
        if request.op is Op.RECORD_ARM:
            params = decode_record_arm(raw)
            if memory.making is not None or memory.reading or self.calibrating:
                return _bare(ReplyStatus.BUSY)
            start_us, start_index = now_us, None
            if stream is not None and stream.running:
                start_us = self.front_end.time_us(stream.next_index, start_us=stream.start_us)
                start_index = stream.next_index % INDEX_MODULUS
            elif not self.front_end.start():
                return _bare(ReplyStatus.FRONT_END_FAULT)
            wanted = recording_samples(params.seconds, fs_mhz=self.front_end.fs_mhz)
            return _ok(encode_record_id(memory.arm(start_us=start_us, start_index=start_index, wanted=wanted)))
        if request.op is Op.RECORD_LIST:
            index, stored = decode_record_list(raw), memory.stored()
            if self.mtu < MIN_REPLY_MTU:
                return _bare(ReplyStatus.MTU_TOO_SMALL)
            if stored and index >= len(stored):
                return _bare(ReplyStatus.BAD_PARAMETER)
            return _ok(RecordListReply(count=len(stored), recording=stored[index] if stored else None).to_bytes())
        if request.op is Op.RECORD_READ:
            return _bare(memory.begin_read(decode_record_read(raw), now_us=now_us, linked=self.mtu > 0))
        return _bare(memory.delete(decode_record_id(raw)))

    def _end_stream(self, stream: Stream) -> None:
        """Stop acquiring; the ring stays."""
        stream.running = False
        self.front_end.pulse.end(stream.next_index)
        self.memory.finish()

    def _fitting_samples(self, wanted: int) -> int:
        """Return the samples per lead in a frame on this link."""
        preferred = min(wanted, self.descriptor.preferred_samples)
        return samples_per_frame(self.mtu, n_leads=len(SOURCE_LEADS), preferred=preferred)

    def _block_due_us(self) -> int | None:
        """Return when the next live frame, or the next block of a recording without a stream, is complete."""
        stream = self.stream
        if stream is not None and stream.running:
            return self.front_end.time_us(stream.next_index + stream.n_samples, start_us=stream.start_us)
        return self.memory.block_due_us(self.front_end)

    def _acquire(self) -> list[Notification]:
        """Measure the next block; return it as a live frame if a host listens."""
        stream, sending = self.stream, self._sending
        if stream is None or not stream.running:
            self.memory.keep_block(self.front_end)
            return []
        first, stop, last = self.front_end.span(stream.next_index, stream.n_samples)
        flags = (FrameFlag.OVERRUN if stream.lost_before else NO_FLAGS) | (FrameFlag.LAST if last else NO_FLAGS)
        frame = self.front_end.frame(first, stop, seq=stream.seq, flags=flags)
        self.memory.keep(frame.samples)
        stream.next_index, stream.seq = stop, (stream.seq + 1) & 0xFFFF
        stream.lost_before = not sending
        stream.sent += sending
        stream.overrun += not sending
        if last:
            self._end_stream(stream)
        return [_live(frame)] if sending else []

    def _condition(self) -> tuple[DeviceState, Contact]:
        """Return what a host is told about without waiting for the second to end."""
        idle = DeviceState.FAULT if self.front_end.silent else DeviceState.IDLE
        contact = self.front_end.read(self.next_index - 1, self.next_index)[1] if self.next_index else Contact(0)
        return DeviceState.STREAMING if self.running else idle, contact


def _bare(status: ReplyStatus) -> Answer:
    return status, b"", []


def _ok(data: bytes = b"") -> Answer:
    return ReplyStatus.OK, data, []


def _live(frame: LiveFrame) -> Notification:
    return Notification(Channel.LIVE, encode_frame(frame))
