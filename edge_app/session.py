"""One recording from a device, whatever the radio does.

A session connects, starts the stream, puts frames in place, asks again for what is missing, reconnects when the link is
lost or silent, stops, and ends with a record of what was received: a device that never comes back leaves a shorter
record and an event, not an exception. Everything received goes to a sink first (see `edge_app.spool`). Time is the
event loop's; the wall clock is the caller's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from edge_app.link.base import LinkInfo, Transport
from edge_app.link.client import DeviceClient, Opened
from edge_app.session_intake import Intake, OnFrame, call_safely
from edge_app.session_types import EventKind, Progress, SessionEvent, SessionResult, SessionStatistics
from edge_app.spool import EntryKind, Sink
from firmware_bridge.control import (
    StartParams,
    decode_oldest,
    decode_start_reply,
    decode_stop_reply,
    decode_time_reply,
    encode_time,
)
from firmware_bridge.profile import NO_START_FLAGS, Feature, Op, ReplyStatus, StartFlag
from lsemvae.ecg.errors import EcgError, LengthError, LinkError, ProtocolError
from lsemvae.ecg.record import StartTime

__all__ = ["EventKind", "Progress", "SessionEvent", "SessionResult", "SessionStatistics", "record_session"]

_LOGGER = logging.getLogger(__name__)

# Frames come every 50 ms and the supervision time-out of a link is 4 s at most: silence of 3 s means a hanging device.
WATCHDOG_S: Final = 3.0
RECONNECT_FOR_S: Final = 15.0
_BACKOFF_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0)

# Gaps are asked for again every 5 s of signal, so that none grows as old as the device's ring (30 s); the newest second
# may still be in flight or out of order.
_REPAIR_EVERY_S: Final = 5.0
_REPAIR_MARGIN_S: Final = 1.0

# After STOP a round ends when nothing new came for half a second; two rounds without gain mean that the rest is lost.
_QUIET_S: Final = 0.5
_FRUITLESS_ROUNDS: Final = 2

_STOPPED_EARLY: Final = "Nothing was recorded. Start again when device and person are ready."
_TICK_S: Final = 0.1
# How often an operator is told that the device is still looked for.
_AWAY_TICK_S: Final = 1.0


class WeightError(ProtocolError):
    """The device streams at another weight per code than it describes."""


class _Ending(Enum):
    TARGET = "target"
    LOST = "lost"
    BY_DEVICE = "by device"
    BY_CALLER = "by caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    seconds: float
    watchdog_s: float
    reconnect_for_s: float
    on_progress: Callable[[Progress], None] | None
    stop: asyncio.Event | None
    start: StartTime | None
    record_id: str
    device: str


async def record_session(
    transport: Transport,
    *,
    seconds: float,
    sink: Sink | None = None,
    watchdog_s: float = WATCHDOG_S,
    reconnect_for_s: float = RECONNECT_FOR_S,
    on_progress: Callable[[Progress], None] | None = None,
    on_frame: OnFrame | None = None,
    stop: asyncio.Event | None = None,
    start: StartTime | None = None,
    record_id: str = "",
    device: str = "",
) -> SessionResult:
    """Record `seconds` of signal from the device behind `transport`.

    Parameters
    ----------
    sink
        Gets every notification as received, in order (an open `Spool`).
    watchdog_s, reconnect_for_s
        Silence after which the link counts as lost, and how long the device may stay away; seconds of real time.
    on_progress, on_frame
        Told about progress (about ten times a second) and about each new frame; what they raise is logged.
    stop
        Set by the caller to end early with what is there.
    start, record_id, device
        Go into the record; the caller owns the wall clock.

    Raises
    ------
    LinkError, ProtocolError
        Only if nothing was received: the device was not found, was refused, or vanished before the first sample.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise LengthError(f"recording: found {seconds} s, expected more than 0 s", advice="Ask for 10 to 30 seconds.")
    options = _Options(
        seconds=seconds, watchdog_s=watchdog_s, reconnect_for_s=reconnect_for_s, on_progress=on_progress, stop=stop,
        start=start, record_id=record_id, device=device,
    )  # fmt: skip
    return await _Session(transport, options, Intake(sink=sink, on_frame=on_frame)).run()


class _Session:
    def __init__(self, transport: Transport, options: _Options, intake: Intake) -> None:
        self._transport = transport
        self._options = options
        self._intake = intake
        self._recording = intake.recording
        self._loop = asyncio.get_running_loop()
        self._boot_id = 0
        self._device = options.device
        self._next_repair = 0
        self._end: int | None = None
        self._stopped = False
        self._gave_up = False
        self._away = False
        self._reconnects = 0
        self._missing_before = 0
        self._client = self._new_client()

    async def run(self) -> SessionResult:
        sync = self._loop.create_task(self._intake.sync_regularly())
        try:
            await self._begin()
            await self._guarded(self._stream())
            await self._guarded(self._finish())
        finally:
            sync.cancel()
            await self._client.close()
            await asyncio.gather(sync, return_exceptions=True)
        return self._result()

    # -- stages ------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Connect and start. Samples that came although START was not answered are a recording like any other."""
        try:
            done = await self._unless_stopped(self._connect_and_start())
        except EcgError as exc:
            if not self._recording.received or isinstance(exc, WeightError):
                raise
            self._intake.note(EventKind.FAULT, f"{exc.code}: {exc}")
            self._boot_id = self._recording.descriptor.boot_id
            return
        if not done and not self._recording.received:
            raise LinkError("recording: stopped before the first sample", advice=_STOPPED_EARLY)

    async def _connect_and_start(self) -> None:
        opened = await self._client.open()
        self._intake.note(EventKind.CONNECTED, f"{opened.info.name}, packets of {opened.info.mtu} bytes")
        self._device = self._device or _label(opened.info)
        self._intake.put(EntryKind.SESSION, self._header())
        await self._start_stream(opened, at=0)

    async def _stream(self) -> None:
        while await self._watch() is _Ending.LOST:
            if not await self._reconnect():
                why = "stopped while the device was away" if self._stop_asked() else "the device did not come back"
                self._intake.note(EventKind.GAVE_UP, f"{why}; what was received is kept")
                self._gave_up = True
                return

    async def _finish(self) -> None:
        """STOP, then ask for what is missing until it is here or cannot be had."""
        if self._gave_up:
            return
        await self._stop()
        self._missing_before = self._recording.missing(self._upto())
        await self._repair_all()
        if not self._stopped:
            await self._stop()

    async def _stop(self) -> None:
        """A link that is lost just now, or an answer that makes no sense, is no reason to do without the rest."""
        with self._noted(EventKind.FAULT), suppress(LinkError):
            reply = await self._client.request(Op.STOP)
            self._stopped = True
            if reply.status is ReplyStatus.OK:
                self._end = self._recording.stream_position(decode_stop_reply(reply.data).next_index)
                self._intake.note(EventKind.STOPPED, f"device stopped at sample {self._end}")

    async def _repair_all(self) -> None:
        fruitless = 0
        while fruitless < _FRUITLESS_ROUNDS and self._recording.retransmissions(upto=self._upto()):
            before = self._recording.received
            if self._client.lost and not await self._reconnect(restart=False):
                return
            with suppress(LinkError):
                await self._request_missing(upto=self._upto())
                await self._until_quiet()
            fruitless = 0 if self._recording.received > before else fruitless + 1

    async def _guarded(self, stage: Awaitable[None]) -> None:
        """From here on samples may be there: no failure of link or device may take them away."""
        try:
            await stage
        except EcgError as exc:
            self._intake.note(EventKind.FAULT, f"{exc.code}: {exc}")
        except Exception as exc:  # a radio library may let out anything
            _LOGGER.debug("stage of a session failed", exc_info=True)
            self._intake.note(EventKind.FAULT, f"{type(exc).__name__}: {exc}")

    @contextmanager
    def _noted(self, kind: EventKind) -> Iterator[None]:
        """Keep a broken answer as an event."""
        try:
            yield
        except ProtocolError as exc:
            self._intake.note(kind, f"{exc.code}: {exc}")

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but leave it as soon as the caller asks to stop; says whether it was done."""
        task = self._loop.create_task(work)
        stop = self._options.stop or asyncio.Event()
        asked = self._loop.create_task(stop.wait())
        try:
            while not (task.done() or asked.done()):
                await asyncio.wait((task, asked), timeout=_AWAY_TICK_S, return_when=asyncio.FIRST_COMPLETED)
                if self._away:
                    self._report()
        finally:
            task.cancel()
            asked.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)
        if task.cancelled():
            return False
        task.result()
        return True

    # -- streaming ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> _Ending:
        while (ending := self._ending()) is None:
            await self._repair_when_due()
            self._report()
            self._intake.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._intake.changed.wait()
        self._report()
        return ending

    def _ending(self) -> _Ending | None:
        if self._recording.elapsed >= self._target:
            return _Ending.TARGET
        if self._stop_asked():
            return _Ending.BY_CALLER
        if self._recording.ended_by_device or self._end is not None:
            self._intake.note(EventKind.ENDED_BY_DEVICE, f"the device ended the stream near sample {self._upto()}")
            return _Ending.BY_DEVICE
        if self._client.lost:
            return _Ending.LOST
        if self._loop.time() - self._intake.last_growth_s > self._options.watchdog_s:
            self._intake.note(EventKind.SILENT, f"no new sample for {self._options.watchdog_s:g} s")
            return _Ending.LOST
        return None

    async def _repair_when_due(self) -> None:
        descriptor = self._recording.descriptor
        if self._recording.elapsed < self._next_repair or not descriptor.features & Feature.RETRANSMIT:
            return
        self._next_repair = self._recording.elapsed + round(_REPAIR_EVERY_S * descriptor.fs_hz)
        margin = round(_REPAIR_MARGIN_S * descriptor.fs_hz)
        with self._noted(EventKind.REPAIR), suppress(LinkError):
            await self._request_missing(upto=max(0, self._recording.elapsed - margin))

    async def _request_missing(self, *, upto: int) -> None:
        """Ask once for each gap up to `upto`; what has left the device's ring is passed over."""
        oldest: int | None = None
        pending = list(self._recording.retransmissions(upto=upto))
        while pending:
            reply = await self._client.request(Op.RETRANSMIT, pending.pop(0).to_bytes())
            if reply.status is ReplyStatus.EVICTED and oldest is None:
                oldest = decode_oldest(reply.data)
                self._intake.note(EventKind.EVICTED, f"the device holds nothing before its sample {oldest}")
                pending = list(self._recording.retransmissions(upto=upto, oldest_index=oldest))

    async def _until_quiet(self) -> None:
        received, since_s = -1, self._loop.time()
        while self._loop.time() - since_s < _QUIET_S and self._recording.missing(self._upto()):
            if self._recording.received != received:
                received, since_s = self._recording.received, self._loop.time()
            await asyncio.sleep(_QUIET_S / 10)

    # -- connections -------------------------------------------------------------------------------------------------

    async def _reconnect(self, *, restart: bool = True) -> bool:
        """Try until the device is back, was away too long or the caller stops; `restart` brings its stream back too."""
        self._away = True
        try:
            self._report()
            return await self._try_again(restart=restart)
        finally:
            self._away = False

    async def _try_again(self, *, restart: bool) -> bool:
        deadline_s = self._intake.last_growth_s + self._options.watchdog_s + self._options.reconnect_for_s
        attempt = 0
        while (left_s := deadline_s - self._loop.time()) > 0 and not self._stop_asked():
            await self._client.close()
            self._client = self._new_client()
            try:
                async with asyncio.timeout(left_s):
                    if not await self._unless_stopped(self._reopen(restart=restart)):
                        return False
                self._reconnects += 1
                return True
            except (LinkError, TimeoutError) as exc:
                attempt += 1
                self._intake.note(EventKind.RETRY, f"attempt {attempt}: {str(exc) or 'no answer in time'}")
            except ProtocolError:
                await self._client.close()
                raise
            pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S)) - 1]
            await self._unless_stopped(asyncio.sleep(max(0.0, min(pause_s, deadline_s - self._loop.time()))))
        return False

    async def _reopen(self, *, restart: bool) -> None:
        opened = await self._client.open()
        if opened.descriptor.boot_id == self._boot_id:
            if restart:
                await self._resume(opened)
        elif restart:
            await self._restart(opened)
        else:
            raise ProtocolError("found a device that was restarted, expected the one that still holds the samples")

    async def _resume(self, opened: Opened) -> None:
        reply = await self._client.request(Op.START, _start_params(opened, flags=StartFlag.RESUME))
        if reply.status is ReplyStatus.NO_STREAM:
            self._end = self._recording.stream_position(opened.status.next_index)
            return
        decode_start_reply(self._client.accepted(reply).data)
        self._intake.last_growth_s = self._loop.time()
        now = decode_time_reply((await self._client.command(Op.TIME, encode_time(self._intake.t_us))).data)
        position = self._recording.stream_position(now.index)
        self._intake.note(EventKind.RESUMED, f"the device is at sample {position}")
        await self._request_missing(upto=min(self._target, position))

    async def _restart(self, opened: Opened) -> None:
        """A device that lost its power lost its count: only the host's clock knows how long it was away."""
        position = self._intake.clock.position_at(self._loop.time(), fs_hz=opened.descriptor.fs_hz)
        at = max(self._recording.elapsed, position)
        self._intake.note(EventKind.RESTARTED, f"the device was restarted; gap up to sample {at} by the host's clock")
        if at >= self._target:
            self._end = self._recording.elapsed
            return
        await self._start_stream(opened, at=at)

    async def _start_stream(self, opened: Opened, *, at: int) -> None:
        self._recording.begin(opened.descriptor, at=at)
        self._intake.put(EntryKind.DESCRIPTOR, self._intake.descriptor_bytes)
        self._intake.put(EntryKind.STREAM, json.dumps({"at": at}).encode())
        self._intake.battery_percent = opened.status.battery_percent
        reply = await self._client.request(Op.START, _start_params(opened))
        if reply.status is ReplyStatus.BUSY:
            await self._client.command(Op.STOP)
            reply = await self._client.request(Op.START, _start_params(opened))
        started = decode_start_reply(self._client.accepted(reply).data)
        _check_weight(started.lsb_pv, opened.descriptor.lsb_pv)
        self._boot_id = opened.descriptor.boot_id
        self._intake.last_growth_s = self._loop.time()
        self._next_repair = at + round(_REPAIR_EVERY_S * opened.descriptor.fs_hz)
        self._intake.note(EventKind.STARTED, f"stream {started.stream_id}, {started.n_samples} samples per frame")

    def _new_client(self) -> DeviceClient:
        return DeviceClient(self._transport, on_bytes=self._intake.received, on_lost=self._lost)

    def _lost(self, reason: str) -> None:
        self._intake.note(EventKind.LOST, reason)
        self._intake.changed.set()

    # -- figures -----------------------------------------------------------------------------------------------------

    @property
    def _target(self) -> int:
        return math.ceil(self._options.seconds * self._recording.descriptor.fs_hz)

    def _upto(self) -> int:
        """Last sample that the record can have."""
        known = self._recording.elapsed if self._end is None else max(self._end, self._recording.elapsed)
        return min(self._target, known)

    def _stop_asked(self) -> bool:
        return self._options.stop is not None and self._options.stop.is_set()

    def _report(self) -> None:
        if self._options.on_progress is None:
            return
        fs_hz = self._recording.descriptor.fs_hz
        progress = Progress(
            elapsed_s=self._recording.elapsed / fs_hz, received_s=self._recording.received / fs_hz,
            target_s=self._options.seconds, contact=self._intake.contact,
            connected=not (self._client.lost or self._away), battery_percent=self._intake.battery_percent,
            silent_s=self._loop.time() - self._intake.last_growth_s,
        )  # fmt: skip
        call_safely(self._options.on_progress, progress)

    def _header(self) -> bytes:
        start = self._options.start
        when = None if start is None else {"utc_iso": start.utc_iso, "source": start.source}
        return json.dumps({"record_id": self._options.record_id, "device": self._device, "start": when}).encode()

    def _result(self) -> SessionResult:
        if not self._recording.received:
            raise LinkError("the device sent no sample, expected a stream of frames after START")
        upto = self._upto()
        self._intake.put(EntryKind.END, json.dumps({"upto": upto}).encode())
        record = self._recording.to_record(
            upto=upto, start=self._options.start, device=self._device, record_id=self._options.record_id
        )
        return SessionResult(
            record=record, statistics=self._statistics(upto), events=tuple(self._intake.events),
            descriptor=self._recording.descriptor, complete=upto == self._target and not record.gaps,
        )  # fmt: skip

    def _statistics(self, upto: int) -> SessionStatistics:
        missing = self._recording.missing(upto)
        return SessionStatistics(
            assembly=self._recording.statistics, elapsed_samples=upto, received_samples=upto - missing,
            missing_samples=missing, missing_before_repair=self._missing_before, reconnects=self._reconnects,
            restarts=max(0, self._recording.n_streams - 1), bytes_received=self._intake.bytes_received,
        )  # fmt: skip


def _check_weight(started_pv: int, described_pv: int) -> None:
    """A stream whose codes weigh other than described would be recorded at a wrong amplitude: it is not recorded."""
    if started_pv not in (0, described_pv):
        raise WeightError(
            f"found a stream of {started_pv} pV per code, expected {described_pv} as in the descriptor",
            advice="Update the device's firmware: this app records streams at the descriptor's weight only.",
        )


def _start_params(opened: Opened, *, flags: StartFlag = NO_START_FLAGS) -> bytes:
    return StartParams(n_samples=opened.descriptor.preferred_samples, flags=flags).to_bytes()


def _label(info: LinkInfo) -> str:
    return f"{info.name} ({info.address})"
