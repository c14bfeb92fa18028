"""The receiving half of a session: every byte to the sink first, then frames to the recording."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, ParamSpec

from edge_app.link.client import Source
from edge_app.session.events import EventKind, SessionEvent
from edge_app.session.spool import EntryKind, Sink
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import ALL_ELECTRODES_ON
from firmware_bridge.protocol.status import decode_status
from lsemvae.ecg.errors import ProtocolError, StoreError

_LOGGER = logging.getLogger(__name__)
_P = ParamSpec("_P")

_SYNC_EVERY_S: Final = 1.0

# Crystals are good to 0.02 %, arrival times on a radio are not: the nominal rate is the better one, unless what is
# seen is so far off that the device cannot run in real time (a simulation).
_MIN_RATE_SAMPLES: Final = 1000
_MAX_DEVIATION: Final = 0.1

OnFrame = Callable[[LiveFrame, DeviceDescriptor], None]


class SampleClock:
    """Where the device's sample count is by the host's clock: needed only when a device lost its count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def observe(self, now_s: float, position: int) -> None:
        """The newest sample at `now_s` is the one before `position`."""
        self._first = self._first or (now_s, position)
        self._last = (now_s, position)

    def position_at(self, now_s: float, *, fs_hz: float) -> int:
        """Position at `now_s`."""
        if self._first is None or self._last is None:
            return 0
        span_s, samples = self._last[0] - self._first[0], self._last[1] - self._first[1]
        measured_hz = samples / span_s if samples >= _MIN_RATE_SAMPLES and span_s > 0 else fs_hz
        rate_hz = measured_hz if abs(measured_hz - fs_hz) > _MAX_DEVIATION * fs_hz else fs_hz
        return self._last[1] + round((now_s - self._last[0]) * rate_hz)


class Intake:
    """Takes what a device sends.

    Attributes
    ----------
    recording
        The frames received so far, in place.
    last_growth_s
        Loop time at which the recording last became longer, or its stream was begun or resumed.
    last_sample_s
        Loop time at which the recording last became longer, or was begun.
    changed
        Set with each frame that makes the recording longer.
    on_bulk
        Gets the frames of a stored recording while one is read.
    """

    def __init__(self, *, sink: Sink | None, on_frame: OnFrame | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._t0_s = self._loop.time()
        self._sink = sink
        self._on_frame = on_frame
        self.recording = Recording()
        self.clock = SampleClock()
        self.events: list[SessionEvent] = []
        self.last_growth_s = self.last_sample_s = self._t0_s
        self.changed = asyncio.Event()
        self.contact = ALL_ELECTRODES_ON
        self.battery_percent: int | None = None
        self.bytes_received = 0
        self.on_bulk: Callable[[bytes], None] | None = None
        self.descriptor_bytes = b""

    @property
    def t_us(self) -> int:
        """Microseconds since the session began."""
        return round((self._loop.time() - self._t0_s) * 1e6)

    def note(self, kind: EventKind, message: str) -> None:
        """Keep an event."""
        _LOGGER.info("%s: %s", kind.value, message)
        self.events.append(SessionEvent(t_s=self.t_us / 1e6, kind=kind, message=message))

    def received(self, source: Source, data: bytes) -> None:
        """Take bytes from the device."""
        self.bytes_received += len(data)
        t_us = self.t_us
        if source is Source.DESCRIPTOR:
            self.descriptor_bytes = data
        elif source is Source.LIVE:
            self.put(EntryKind.LIVE, data, t_us=t_us)
            self._frame(data, t_us)
        elif source is Source.CONTROL:
            self.put(EntryKind.CONTROL, data)
        elif source is Source.BULK:
            self.put(EntryKind.BULK, data)
            if self.on_bulk is not None:
                self.on_bulk(data)
        else:
            self.put(EntryKind.STATUS, data)
            self._status(data)

    def put(self, kind: EntryKind, payload: bytes, *, t_us: int | None = None) -> None:
        """Keep an entry in the sink, if there is one that works; `t_us` is now where it is None."""
        if self._sink is None:
            return
        try:
            self._sink.append(kind, payload, t_us=self.t_us if t_us is None else t_us)
        except StoreError as exc:
            self._sink_failed(exc)

    async def sync_regularly(self) -> None:
        """Bring the sink to the disk once a second, off the event loop: a memory card may take its time."""
        while self._sink is not None:
            await asyncio.sleep(_SYNC_EVERY_S)
            try:
                if self._sink is not None:
                    await asyncio.to_thread(self._sink.sync)
            except StoreError as exc:
                self._sink_failed(exc)

    def _frame(self, data: bytes, t_us: int) -> None:
        if not self.recording.n_streams:
            return
        before = self.recording.elapsed
        frame = self.recording.feed_bytes(data, t_us)
        if frame is None:
            return
        if self.recording.elapsed > before:
            self.last_growth_s = self.last_sample_s = self._loop.time()
            self.contact = frame.contact
            self.clock.observe(self.last_growth_s, self.recording.elapsed)
            self.changed.set()
        if self._on_frame is not None:
            call_safely(self._on_frame, frame, self.recording.descriptor)

    def _status(self, data: bytes) -> None:
        try:
            self.battery_percent = decode_status(data).battery_percent
        except ProtocolError as exc:
            _LOGGER.info("status ignored: %s", exc)

    def _sink_failed(self, exc: StoreError) -> None:
        """The recording goes on in memory: it is worth more than its safety copy."""
        self._sink = None
        self.note(EventKind.SPOOL_FAILED, str(exc))


def call_safely(callback: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Call an observer; what it raises is logged, because a screen that fails must not end a recording."""
    try:
        callback(*args, **kwargs)
    except Exception:
        _LOGGER.exception("observer failed")
