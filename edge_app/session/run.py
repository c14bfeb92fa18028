"""The stages of a session with a six-lead device: begin, stream, finish.

From the first sample on no failure takes away what was received.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from typing import Final

from edge_app.link.base import Transport
from edge_app.session.auth import Gatekeeper
from edge_app.session.events import EventKind, SessionResult, Watch
from edge_app.session.journal import Journal
from edge_app.session.link import SessionLink, is_lasting
from edge_app.session.repair import Repair
from edge_app.session.spool import Sink
from edge_app.session.state import SessionState
from edge_app.session.stream import Stream, WeightError
from edge_app.session.wish import Wish
from lsemvae.ecg.errors import EcgError, LinkError

_LOGGER = logging.getLogger(__name__)

STOPPED_EARLY: Final = "Nothing was recorded. Start again when device and person are ready."
_TICK_S: Final = 0.1


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
        self._stream = Stream(self._state, self._link, self._repair)
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
