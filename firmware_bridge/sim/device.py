"""The core of a virtual six-lead device: bytes in, bytes out, time passed in.

It acquires as soon as it is started and never stops because of the link: what could not be sent stays in a ring of 30 s
and is sent again on request. Nothing is streamed without START, a link that comes back included (START with RESUME goes
on where the stream is).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.codec import LiveFrame, encode_frame
from firmware_bridge.control import (
    Reply,
    Request,
    RetransmitParams,
    StartReply,
    StopReply,
    TimeReply,
    decode_request,
    decode_retransmit,
    decode_start,
    decode_time,
    encode_oldest,
)
from firmware_bridge.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.errors import ControlError
from firmware_bridge.profile import (
    INDEX_MODULUS,
    MIN_FRAME_SAMPLES,
    RING_S,
    SEQ_RETRANSMITTED,
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    Op,
    ReplyStatus,
    SampleCodec,
    StartFlag,
    samples_per_frame,
)
from firmware_bridge.sim.source import LSB_PV, SOURCE_LEADS, SignalSource
from firmware_bridge.status import DeviceStatus, encode_status

_STATUS_PERIOD_US: Final = 1_000_000
_BATTERY_MV: Final = 3_900
_BATTERY_PERCENT: Final = 90
_TEMPERATURE_CENTI_C: Final = 2_510


class Channel(Enum):
    """The characteristic that a notification belongs to."""

    LIVE = "live"
    CONTROL = "control"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Notification:
    """Bytes to send on a characteristic."""

    channel: Channel
    data: bytes


@dataclass(slots=True)
class _Stream:
    """What START began: sample clock and counters."""

    stream_id: int
    start_us: int
    n_samples: int
    next_index: int = 0
    seq: int = 0
    sent: int = 0
    overrun: int = 0
    lost_before: bool = False
    running: bool = True


class VirtualDevice:
    """State machine of a device.

    Parameters
    ----------
    source
        What it measures; a source that does not loop ends the stream with a frame flagged LAST.
    boot_id
        Number of the first power-on; each `power_on` adds one.
    """

    def __init__(self, source: SignalSource, *, boot_id: int = 1, ring_s: int = RING_S) -> None:
        self._source = source
        self._ring_samples = round(ring_s * source.fs_hz)
        self._ring_s = ring_s
        self._boot_id = boot_id
        self._streams_started = 0
        self._mtu: int | None = None
        self._stream: _Stream | None = None
        self._sending = False
        self._status_due_us = 0
        self._told: tuple[DeviceState, Contact] | None = None
        self.powered = True

    @property
    def descriptor(self) -> DeviceDescriptor:
        """What the device says about itself."""
        return DeviceDescriptor(
            leads=SOURCE_LEADS, fs_mhz=round(self._source.fs_hz * 1000), lsb_pv=LSB_PV, range_uv=403_000,
            features=Feature.RETRANSMIT | Feature.LEAD_OFF | Feature.DC_COUPLED | Feature.TIME_SYNC,
            ring_s=self._ring_s, boot_id=self._boot_id, front_end_id=0x1292,
        )  # fmt: skip

    @property
    def next_index(self) -> int:
        """Samples acquired since START."""
        return self._stream.next_index if self._stream else 0

    @property
    def oldest_index(self) -> int:
        """Oldest sample still in the ring."""
        return max(0, self.next_index - self._ring_samples)

    def read_descriptor(self) -> bytes:
        """Value of the descriptor characteristic."""
        return encode_descriptor(self.descriptor)

    def read_status(self) -> bytes:
        """Value of the status characteristic."""
        stream, (state, contact) = self._stream, self._condition()
        status = DeviceStatus(
            state=state, contact=contact,
            battery_percent=_BATTERY_PERCENT, battery_mv=_BATTERY_MV, temperature_centi_c=_TEMPERATURE_CENTI_C,
            next_index=self.next_index, oldest_index=self.oldest_index, overruns=stream.overrun if stream else 0,
        )  # fmt: skip
        return encode_status(status)

    def power_off(self) -> None:
        """Lose everything: link, stream and ring."""
        self.link_down()
        self._stream = None
        self.powered = False

    def power_on(self) -> None:
        """Come back with an empty ring and a new boot number."""
        self._boot_id += 1
        self.powered = True

    def link_up(self, *, mtu: int) -> None:
        """A host connected; nothing is sent before START."""
        self._mtu = mtu

    def link_down(self) -> None:
        """The host is gone; acquisition goes on."""
        self._mtu = None
        self._sending = False

    def next_due_us(self) -> int | None:
        """Device time at which the next frame will be complete; None while nothing is acquired."""
        stream = self._stream
        if stream is None or not stream.running:
            return None
        return self._time_of(stream, stream.next_index + stream.n_samples)

    def control(self, data: bytes, *, now_us: int) -> list[Notification]:
        """Answer a request written to the control characteristic."""
        try:
            request = decode_request(data)
        except ControlError:
            head = bytes(data).ljust(2, b"\0")
            return [Notification(Channel.CONTROL, bytes((0x80 | head[0], head[1], ReplyStatus.BAD_OP)))]
        try:
            return self._dispatch(request, now_us=now_us)
        except ControlError:
            return [_reply(request, ReplyStatus.BAD_PARAMETER)]

    def advance(self, now_us: int) -> list[Notification]:
        """Acquire up to `now_us`; returns the frames and the status that became due, if a host listens."""
        due: list[Notification] = []
        while (frame_us := self.next_due_us()) is not None and frame_us <= now_us:
            due.extend(self._acquire())
        if self._mtu is not None and (now_us >= self._status_due_us or self._told != self._condition()):
            self._status_due_us, self._told = now_us + _STATUS_PERIOD_US, self._condition()
            due.append(Notification(Channel.STATUS, self.read_status()))
        return due

    def _dispatch(self, request: Request, *, now_us: int) -> list[Notification]:
        if request.op is Op.START:
            return self._start(request, now_us=now_us)
        if request.op is Op.STOP:
            return self._stop(request)
        if request.op is Op.RETRANSMIT:
            return self._retransmit(request)
        if request.op is Op.TIME:
            answer = TimeReply(host_us=decode_time(request.params), device_us=now_us, index=self.next_index)
            return [_reply(request, ReplyStatus.OK, answer.to_bytes())]
        return [_reply(request, ReplyStatus.BAD_OP)]

    def _start(self, request: Request, *, now_us: int) -> list[Notification]:
        params = decode_start(request.params)
        if params.codec is not SampleCodec.RAW24 or params.n_samples < MIN_FRAME_SAMPLES:
            return [_reply(request, ReplyStatus.BAD_PARAMETER)]
        n_samples = self._fitting_samples(params.n_samples)
        resume = bool(params.flags & StartFlag.RESUME)
        refusal = self._start_refusal(n_samples=n_samples, resume=resume)
        if refusal is not ReplyStatus.OK:
            return [_reply(request, refusal)]
        stream = self._stream if resume and self._stream else self._new_stream(now_us=now_us)
        stream.n_samples = n_samples
        self._sending = True
        answer = StartReply(n_samples=n_samples, mtu=self._mtu or 0, stream_id=stream.stream_id, t_us=stream.start_us)
        return [_reply(request, ReplyStatus.OK, answer.to_bytes())]

    def _start_refusal(self, *, n_samples: int, resume: bool) -> ReplyStatus:
        running = self._stream is not None and self._stream.running
        if n_samples < MIN_FRAME_SAMPLES:
            return ReplyStatus.MTU_TOO_SMALL
        if resume and not running:
            return ReplyStatus.NO_STREAM
        if running and not resume:
            return ReplyStatus.BUSY
        return ReplyStatus.OK

    def _fitting_samples(self, wanted: int) -> int:
        preferred = min(wanted, self.descriptor.preferred_samples)
        return samples_per_frame(self._mtu or 0, n_leads=len(SOURCE_LEADS), preferred=preferred)

    def _new_stream(self, *, now_us: int) -> _Stream:
        self._streams_started += 1
        self._stream = _Stream(stream_id=self._streams_started & 0xFFFF, start_us=now_us, n_samples=MIN_FRAME_SAMPLES)
        return self._stream

    def _stop(self, request: Request) -> list[Notification]:
        if self._stream is None:
            return [_reply(request, ReplyStatus.NO_STREAM)]
        self._stream.running = False
        self._sending = False
        answer = StopReply(next_index=self._stream.next_index, sent=self._stream.sent, overrun=self._stream.overrun)
        return [_reply(request, ReplyStatus.OK, answer.to_bytes())]

    def _retransmit(self, request: Request) -> list[Notification]:
        params = decode_retransmit(request.params)
        if self._stream is None:
            return [_reply(request, ReplyStatus.NO_STREAM)]
        first = self._unwrap(params.t0)
        if first + params.count > self.next_index:
            return [_reply(request, ReplyStatus.BAD_PARAMETER)]
        if first < self.oldest_index:
            return [_reply(request, ReplyStatus.EVICTED, encode_oldest(self.oldest_index))]
        return [_reply(request, ReplyStatus.OK), *self._frames_again(RetransmitParams(t0=first, count=params.count))]

    def _unwrap(self, index: int) -> int:
        """Sample that `index` (modulo 2^32) means: the nearest one to the newest, so one ahead is not one long gone."""
        ahead = (index - self.next_index) % INDEX_MODULUS
        return self.next_index + (ahead if ahead < INDEX_MODULUS // 2 else ahead - INDEX_MODULUS)

    def _frames_again(self, params: RetransmitParams) -> list[Notification]:
        step = self._fitting_samples(self.descriptor.preferred_samples)
        if step == 0:
            return []  # the link went down after the request, or holds no sample
        stop = params.t0 + params.count
        frames = []
        for first in range(params.t0, stop, step):
            codes, contact = self._source.read(first, min(first + step, stop))
            frames.append(_live(codes, t0=first, seq=SEQ_RETRANSMITTED, flags=FrameFlag.RETRANSMITTED, contact=contact))
        return frames

    def _acquire(self) -> list[Notification]:
        stream = self._stream
        assert stream is not None  # next_due_us said so
        first, stop, last = self._frame_span(stream)
        codes, contact = self._source.read(first, stop)
        flags = (FrameFlag.OVERRUN if stream.lost_before else FrameFlag(0)) | (FrameFlag.LAST if last else FrameFlag(0))
        frame = _live(codes, t0=first, seq=stream.seq, flags=flags, contact=contact)
        stream.next_index, stream.seq, stream.running = stop, (stream.seq + 1) & 0xFFFF, not last
        stream.lost_before = not self._sending
        stream.sent += self._sending
        stream.overrun += not self._sending
        return [frame] if self._sending else []

    def _frame_span(self, stream: _Stream) -> tuple[int, int, bool]:
        first, stop = stream.next_index, stream.next_index + stream.n_samples
        if self._source.loop or stop < self._source.n_samples:
            return first, stop, False
        return first, self._source.n_samples, True

    def _condition(self) -> tuple[DeviceState, Contact]:
        """What a host is told about without waiting for the second to end."""
        running = self._stream is not None and self._stream.running
        return DeviceState.STREAMING if running else DeviceState.IDLE, self._contact()

    def _contact(self) -> Contact:
        if self._stream is None or self._stream.next_index == 0:
            return Contact(0)
        return self._source.read(self._stream.next_index - 1, self._stream.next_index)[1]

    def _time_of(self, stream: _Stream, index: int) -> int:
        return stream.start_us + round(index * 1e6 / self._source.fs_hz)


def _reply(request: Request, status: ReplyStatus, data: bytes = b"") -> Notification:
    return Notification(Channel.CONTROL, Reply(op=request.op, txn=request.txn, status=status, data=data).to_bytes())


def _live(codes: NDArray[np.int32], *, t0: int, seq: int, flags: FrameFlag, contact: Contact) -> Notification:
    frame = LiveFrame(samples=codes, t0=t0 % INDEX_MODULUS, seq=seq, flags=flags, contact=contact)
    return Notification(Channel.LIVE, encode_frame(frame))
