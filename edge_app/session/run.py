"""The stages of a session with a six-lead device: begin, stream, finish.

From the first sample on no failure takes away what was received.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from typing import Final

from edge_app.link.base import Transport
from edge_app.link.client import DeviceClient, Opened
from edge_app.session.auth import Gatekeeper
from edge_app.session.events import EventKind, SessionResult, Watch
from edge_app.session.journal import Journal
from edge_app.session.link import SessionLink, is_lasting
from edge_app.session.repair import Repair
from edge_app.session.spool import EntryKind, Sink
from edge_app.session.state import SessionState
from edge_app.session.wish import REAL_TIME, Wish
from firmware_bridge.protocol.control import (
    StartParams,
    StartReply,
    decode_start_reply,
    decode_stop_reply,
    decode_time_reply,
    encode_time,
)
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import NO_START_FLAGS, Feature, Op, ReplyStatus, SampleCodec, StartFlag
from lsemvae.ecg.errors import EcgError, LinkError, ProtocolError

_LOGGER = logging.getLogger(__name__)

STOPPED_EARLY: Final = "Nothing was recorded. Start again when device and person are ready."
_TICK_S: Final = 0.1


# In order of preference: 24 bits lose nothing.
_CODECS: Final = (SampleCodec.RAW24, SampleCodec.RAW16)


class _Ending(Enum):
    TARGET = "target"
    LOST = "lost"
    BY_DEVICE = "by device"
    BY_CALLER = "by caller"


class Session:
    """One recording from a six-lead device; `run` once, in the event loop that made it."""

    def __init__(
        self, transport: Transport, wish: Wish, *, sink: Sink | None, watch: Watch, stop: asyncio.Event | None
    ) -> None:
        self._journal = Journal(sink=sink, watch=watch)
        self._state = SessionState(wish, self._journal, stop=stop)
        self._recording = self._state.recording
        gatekeeper = Gatekeeper(wish.keys, allow_unauthenticated=wish.allow_unauthenticated)
        self._link = SessionLink(transport, self._state, gatekeeper)
        self._repair = Repair(self._state, self._link)
        self._stream = SessionStream(self._state, self._link, self._repair)
        self._gave_up = False

    async def run(self) -> SessionResult:
        """Record; see `edge_app.session.record_session`."""
        sync = self._state.loop.create_task(self._journal.sync_regularly())
        try:
            await self._begin()
            await self._guarded(self._watch_all())
            await self._guarded(self._finish())
        finally:
            sync.cancel()
            await self._link.close()
            await asyncio.gather(sync, return_exceptions=True)
        return self._state.result()

    async def _begin(self) -> None:
        """Connect and start. Samples that came although START was not answered are a recording like any other."""

        async def connect_and_start() -> None:
            opened = await self._link.connect()
            self._state.put_header()
            await self._stream.start(opened, at=0)

        try:
            done = await self._link.unless_stopped(connect_and_start())
        except Exception as exc:
            if not self._recording.received or isinstance(exc, WeightError):
                raise
            self._fault(exc)
            return
        if not done and not self._recording.received:
            raise LinkError("recording: stopped before the first sample", advice=STOPPED_EARLY)

    async def _watch_all(self) -> None:
        """Stay with the stream over lost links, until it ends or the device stays away."""
        state = self._state
        while await self._watch() is _Ending.LOST:
            # Counted from the last sample, not from the last connect: a device may connect for ever and send nothing.
            since_s = state.last_sample_s + state.wish.watchdog_s
            if not await self._link.reconnect(self._stream.go_on, since_s=since_s):
                why = "stopped while the device was away" if state.stop_asked else "the device did not come back"
                self._journal.note(EventKind.GAVE_UP, f"{why}; what was received is kept")
                self._gave_up = True
                return

    async def _watch(self) -> _Ending:
        """Stay with the stream until it ends or the link is lost."""
        while (ending := self._ending()) is None:
            try:
                await self._repair.when_due()
            except EcgError:
                raise
            except Exception as exc:  # a radio that fails at a request may still bring samples; if not, silence tells
                self._fault(exc)
            self._state.report()
            self._state.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._state.changed.wait()
        self._state.report()
        return ending

    def _ending(self) -> _Ending | None:
        """Return why the stream is over, None while it runs."""
        state, watchdog_s = self._state, self._state.wish.watchdog_s
        if self._recording.elapsed >= state.target:
            return _Ending.TARGET
        if state.stop_asked:
            return _Ending.BY_CALLER
        if self._recording.ended_by_device or state.end is not None:
            self._journal.note(EventKind.ENDED_BY_DEVICE, f"the device ended the stream near sample {state.upto()}")
            return _Ending.BY_DEVICE
        if self._link.lost:
            return _Ending.LOST
        if state.loop.time() - state.last_growth_s > watchdog_s:
            self._journal.note(EventKind.SILENT, f"no new sample for {watchdog_s:g} s")
            return _Ending.LOST
        return None

    async def _finish(self) -> None:
        """STOP, then ask for what is missing until it is here or cannot be had."""
        if self._gave_up:
            return
        await self._stream.stop()
        self._state.missing_before = self._recording.missing(self._state.upto())
        await self._repair.from_ring()
        await self._repair.from_memory()
        if not self._state.stopped:
            await self._stream.stop()

    async def _guarded(self, stage: Awaitable[None]) -> None:
        """Do a stage after which samples may be there: no failure of link or device may take them away."""
        try:
            await stage
        except Exception as exc:  # a radio library may let out anything
            self._gave_up = self._gave_up or (self._link.lost and is_lasting(exc))
            self._fault(exc)

    def _fault(self, exc: Exception) -> None:
        _LOGGER.debug("stage of a session failed", exc_info=exc)
        name = exc.code if isinstance(exc, EcgError) else type(exc).__name__
        self._journal.note(EventKind.FAULT, f"{name}: {exc}")


class WeightError(ProtocolError):
    """The device streams at another weight per code than it describes."""


class OtherStreamError(ProtocolError):
    """The device runs another stream than the one that is recorded: another program began it, perhaps of another person."""


class SessionStream:
    """START, RESUME and STOP of the device behind `link`."""

    def __init__(self, state: SessionState, link: SessionLink, repair: Repair) -> None:
        self._state = state
        self._link = link
        self._repair = repair
        self._stream_id = 0

    async def start(self, opened: Opened, *, at: int) -> None:
        """Begin a stream at position `at` of the recording, and have the device keep it as well."""
        state, journal, descriptor = self._state, self._state.journal, opened.descriptor
        state.codec = choose_codec(descriptor)
        # Recording and safety copy know the stream, and the time before START: no sample of it can be older.
        t_us = None if state.pace is None else journal.t_us
        pace = REAL_TIME if state.pace is None else state.pace
        state.recording.begin(descriptor, at=at, codec=state.codec, t_us=t_us, pace=pace)
        journal.put(EntryKind.DESCRIPTOR, opened.descriptor_bytes)
        entry = {"at": at, "codec": int(state.codec), "t_us": t_us, "pace": pace}
        journal.put(EntryKind.STREAM, json.dumps(entry).encode())
        state.battery_percent = opened.status.battery_percent
        state.boot_id = descriptor.boot_id
        state.stored_id = None
        self._repair.due_after(at)
        started = await start_stream(self._link.client, descriptor, codec=state.codec)
        self._stream_id = started.stream_id
        state.last_growth_s = state.loop.time()
        if not state.recording.received:
            state.last_sample_s = state.last_growth_s
        journal.note(EventKind.STARTED, f"stream {started.stream_id}, {started.n_samples} samples per frame")
        await self._repair.arm()

    async def go_on(self, opened: Opened) -> None:
        """After a reconnect: take up the stream that still runs, or begin a fresh one of a device that was switched off."""
        state = self._state
        if opened.descriptor.boot_id == state.boot_id:
            await self._resume(opened)
            return
        # A device that lost its power lost its count: only the host's clock knows how long it was away.
        position = state.clock.position_at(state.loop.time(), fs_hz=opened.descriptor.fs_hz)
        at = max(state.recording.elapsed, position)
        state.journal.note(EventKind.RESTARTED, f"the device was restarted; gap up to sample {at} by the host's clock")
        if at >= state.target:
            state.end = state.recording.elapsed
            return
        await self.start(opened, at=at)

    async def stop(self) -> None:
        """Send STOP; a link that is lost just now, or an answer that makes no sense, is no reason to do without the rest."""
        state = self._state
        with state.noted(EventKind.FAULT), suppress(LinkError):
            reply = await self._link.client.request(Op.STOP)
            state.stopped = True
            if reply.status is ReplyStatus.OK:
                state.end = state.recording.stream_position(decode_stop_reply(reply.data).next_index)
                state.journal.note(EventKind.STOPPED, f"device stopped at sample {state.end}")

    async def _resume(self, opened: Opened) -> None:
        state, client = self._state, self._link.client
        params = _start_params(opened.descriptor, codec=state.codec, flags=StartFlag.RESUME)
        reply = await client.request(Op.START, params)
        if reply.status is ReplyStatus.NO_STREAM:
            state.end = state.recording.stream_position(opened.status.next_index)
            return
        resumed = decode_start_reply(client.accepted(reply).data)
        _check_weight(resumed, opened.descriptor)
        if resumed.stream_id != self._stream_id:  # RESUME keeps the number (PROTOCOL.md, section 7)
            raise OtherStreamError(
                f"found stream {resumed.stream_id} on the device, expected {self._stream_id}, which is recorded",
                advice="Another program began a stream on this device. End it, and record again.",
            )
        state.last_growth_s = state.loop.time()
        # The device's newest sample: asked for with TIME, or as the status said it that was read after connecting.
        index = opened.status.next_index
        if opened.descriptor.features & Feature.TIME_SYNC:
            with state.noted(EventKind.REPAIR):
                told = await client.command(Op.TIME, encode_time(state.journal.t_us))
                index = decode_time_reply(told.data).index
        position = state.recording.stream_position(index)
        state.journal.note(EventKind.RESUMED, f"the device is at sample {position}")
        with state.noted(EventKind.REPAIR):
            await self._repair.request_missing(upto=min(state.target, position))
        self._repair.due_after(position)  # the hole is on its way


async def start_stream(client: DeviceClient, descriptor: DeviceDescriptor, *, codec: SampleCodec) -> StartReply:
    """Begin a stream; one that another program left running is stopped first.

    Raises
    ------
    LinkError, ProtocolError
        No answer came, or the device refuses.
    WeightError
        Its codes weigh other than it describes: they would be recorded at a wrong amplitude.
    """
    params = _start_params(descriptor, codec=codec)
    reply = await client.request(Op.START, params)
    if reply.status is ReplyStatus.BUSY:
        await client.command(Op.STOP)
        reply = await client.request(Op.START, params)
    started = decode_start_reply(client.accepted(reply).data)
    _check_weight(started, descriptor)
    return started


def choose_codec(descriptor: DeviceDescriptor) -> SampleCodec:
    """Return the codec to ask for.

    Raises
    ------
    ProtocolError
        The device has none that this program unpacks.
    """
    for codec in _CODECS:
        if descriptor.codecs >> codec & 1:
            return codec
    raise ProtocolError(
        f"found a device with codecs 0x{descriptor.codecs:02x}, expected raw24 (bit 0) or raw16 (bit 1)",
        advice="Update this program, or the device's firmware.",
    )


def _start_params(descriptor: DeviceDescriptor, *, codec: SampleCodec, flags: StartFlag = NO_START_FLAGS) -> bytes:
    return StartParams(codec=codec, n_samples=descriptor.preferred_samples, flags=flags).to_bytes()


def _check_weight(started: StartReply, descriptor: DeviceDescriptor) -> None:
    if started.lsb_pv not in (0, descriptor.lsb_pv):
        raise WeightError(
            f"found a stream of {started.lsb_pv} pV per code, expected {descriptor.lsb_pv} as in the descriptor",
            advice="Update the device's firmware: this app records streams at the descriptor's weight only.",
        )
