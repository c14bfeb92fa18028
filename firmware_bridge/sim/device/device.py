"""The core of a virtual six-lead device: bytes in, bytes out, time passed in.

It acquires as soon as it is started and never stops because of the link: what could not be sent stays in a ring of 30 s
and is sent again on request. Nothing is streamed without START, a link that comes back included (START with RESUME goes
on where the stream is).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.control import Reply, StartParams, decode_request
from firmware_bridge.protocol.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.protocol.errors import ControlError
from firmware_bridge.protocol.profile import (
    RING_S,
    SEQ_RETRANSMITTED,
    UPDATE_MIN_BATTERY_PERCENT,
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    ReplyStatus,
    StartFlag,
    samples_per_frame,
)
from firmware_bridge.protocol.status import DeviceStatus, encode_status
from firmware_bridge.sim.device.front_end import CALIBRATION_NV, DEFAULT_FEATURES, FrontEnd
from firmware_bridge.sim.device.memory import RecordingMemory
from firmware_bridge.sim.device.notification import Channel, Notification
from firmware_bridge.sim.device.operations import answer
from firmware_bridge.sim.device.source import LSB_PV, SOURCE_LEADS, SignalSource
from firmware_bridge.sim.device.stream import Stream

__all__ = ["CALIBRATION_NV", "DEFAULT_FEATURES", "Channel", "Notification", "VirtualDevice"]

_STATUS_PERIOD_US: Final = 1_000_000
_BATTERY_PERCENT: Final = 90
_TEMPERATURE_CENTI_C: Final = 2_510


class VirtualDevice:
    """State machine of a device.

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
        """Everything that does not survive a power-off."""
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
            leads=SOURCE_LEADS, fs_mhz=self.front_end.fs_mhz, lsb_pv=LSB_PV, range_uv=403_000,
            features=self._features, ring_s=self._ring_s, boot_id=self._boot_id,
            calibration_nv=self._calibration_nv, front_end_id=0x1292,
        )  # fmt: skip

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
        """Value of the descriptor characteristic."""
        return encode_descriptor(self.descriptor)

    def read_status(self) -> bytes:
        """Value of the status characteristic."""
        state, contact = self._condition()
        status = DeviceStatus(
            state=state, contact=contact, battery_percent=self.battery_percent, battery_mv=self.battery_mv,
            temperature_centi_c=_TEMPERATURE_CENTI_C, next_index=self.next_index, oldest_index=self.oldest_index,
            overruns=self.stream.overrun if self.stream else 0,
        )  # fmt: skip
        return encode_status(status)

    def set_battery(self, percent: int, *, mv: int | None = None) -> None:
        """Charge of the battery; at 0 % the device loses power."""
        self.battery_percent = percent
        self.battery_mv = 3_000 + 10 * percent if mv is None else mv
        if percent == 0:
            self.power_off()

    def may_update(self) -> bool:
        """Whether a firmware update may begin, as far as the device knows; the link must be encrypted as well."""
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
        """A host connected; nothing is sent before START."""
        self._mtu = mtu

    def link_down(self) -> None:
        """The host is gone; acquisition goes on."""
        self._mtu = None
        self._sending = False
        self.memory.end_read()

    def next_due_us(self) -> int | None:
        """Device time at which something will be ready to send or to keep; None while nothing goes on."""
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
            status, body, frames = answer(self, request, now_us=now_us)
        except ControlError:
            status, body, frames = ReplyStatus.BAD_PARAMETER, b"", []
        reply = Reply(op=request.op, txn=request.txn, status=status, data=body)
        return [Notification(Channel.CONTROL, reply.to_bytes()), *frames]

    def advance(self, now_us: int) -> list[Notification]:
        """Acquire up to `now_us`; returns the frames and the status that became due, if a host listens."""
        due: list[Notification] = []
        while (event_us := self.next_due_us()) is not None and event_us <= now_us:
            due.extend(self._acquire() if event_us == self._block_due_us() else self._bulk())
        if self._mtu is not None and (now_us >= self._status_due_us or self._told != self._condition()):
            self._status_due_us, self._told = now_us + _STATUS_PERIOD_US, self._condition()
            due.append(Notification(Channel.STATUS, self.read_status()))
        return due

    def begin_stream(self, params: StartParams, *, n_samples: int, now_us: int) -> Stream:
        """Stream from sample 0, or go on with the stream that runs (RESUME), in frames of `n_samples`."""
        if self.stream is None or not params.flags & StartFlag.RESUME:
            self._streams_started += 1
            self.front_end.pulse.reset()
            self.stream = Stream(
                stream_id=self._streams_started & 0xFFFF, start_us=now_us, fs_mhz=self.front_end.fs_mhz,
                n_samples=n_samples,
            )  # fmt: skip
        self.stream.n_samples = n_samples
        self._sending = True
        return self.stream

    def end_stream(self) -> None:
        """Stop acquiring; the ring stays."""
        if self.stream is not None and self.stream.running:
            self.stream.running = False
            self.front_end.pulse.end(self.stream.next_index)
            self.memory.finish()
        self._sending = False

    def fitting_samples(self, wanted: int) -> int:
        """Samples per lead in a frame on this link."""
        preferred = min(wanted, self.descriptor.preferred_samples)
        return samples_per_frame(self.mtu, n_leads=len(SOURCE_LEADS), preferred=preferred)

    def frames_again(self, first: int, stop: int) -> list[Notification]:
        """The samples ``[first, stop)`` as retransmitted live frames."""
        step = self.fitting_samples(self.descriptor.preferred_samples)
        if step < 1:
            return []  # the link went down after the request, or holds no sample
        return [
            _live(
                self.front_end.frame(low, min(low + step, stop), seq=SEQ_RETRANSMITTED, flags=FrameFlag.RETRANSMITTED)
            )
            for low in range(first, stop, step)
        ]

    def _block_due_us(self) -> int | None:
        """When the next live frame, or the next block of a recording without a stream, is complete."""
        if self.stream is not None and self.stream.running:
            return self.stream.due_us
        return self.memory.block_due_us(fs_mhz=self.front_end.fs_mhz)

    def _acquire(self) -> list[Notification]:
        stream = self.stream
        if stream is None or not stream.running:
            self.memory.keep_block(self.front_end)
            return []
        first, stop, last = self.front_end.span(stream.next_index, stream.n_samples)
        flags = (FrameFlag.OVERRUN if stream.lost_before else FrameFlag(0)) | (FrameFlag.LAST if last else FrameFlag(0))
        frame = self.front_end.frame(first, stop, seq=stream.seq, flags=flags)
        self.memory.keep(frame.samples)
        stream.acquired(stop=stop, sent=self._sending, last=last)
        if last:
            self.memory.finish()
            self.front_end.pulse.end(stop)
        return [_live(frame)] if self._sending else []

    def _bulk(self) -> list[Notification]:
        return [Notification(Channel.BULK, frame) for frame in self.memory.next_bulk(mtu=self.mtu)]

    def _condition(self) -> tuple[DeviceState, Contact]:
        """What a host is told about without waiting for the second to end."""
        idle = DeviceState.FAULT if self.front_end.silent else DeviceState.IDLE
        contact = self.front_end.read(self.next_index - 1, self.next_index)[1] if self.next_index else Contact(0)
        return DeviceState.STREAMING if self.running else idle, contact


def _live(frame: LiveFrame) -> Notification:
    return Notification(Channel.LIVE, encode_frame(frame))
