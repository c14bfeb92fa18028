"""The stages of a session: begin, stream, finish. From the first sample on no failure takes away what was received."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from typing import Final

from edge_app.link.base import Transport
from edge_app.session.auth import Gatekeeper
from edge_app.session.events import EventKind, SessionResult
from edge_app.session.link import SessionLink, is_lasting
from edge_app.session.repair import Repair
from edge_app.session.spool import EntryKind
from edge_app.session.state import SessionState
from edge_app.session.stream import Stream, WeightError
from lsemvae.ecg.errors import EcgError, LinkError

__all__ = ["Session"]

_LOGGER = logging.getLogger(__name__)

_STOPPED_EARLY: Final = "Nothing was recorded. Start again when device and person are ready."
_TICK_S: Final = 0.1


class _Ending(Enum):
    TARGET = "target"
    LOST = "lost"
    BY_DEVICE = "by device"
    BY_CALLER = "by caller"


class Session:
    """One recording; `run` once."""

    def __init__(self, transport: Transport, state: SessionState, gatekeeper: Gatekeeper) -> None:
        self._state = state
        self._intake = state.intake
        self._recording = state.recording
        self._link = SessionLink(transport, state, gatekeeper)
        self._repair = Repair(state, self._link)
        self._stream = Stream(state, self._link, self._repair)
        self._gave_up = False

    async def run(self) -> SessionResult:
        """Record; see `record_session`."""
        sync = self._state.loop.create_task(self._intake.sync_regularly())
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
        try:
            done = await self._link.unless_stopped(self._connect_and_start())
        except Exception as exc:
            if not self._recording.received or isinstance(exc, WeightError):
                raise
            self._fault(exc)
            return
        if not done and not self._recording.received:
            raise LinkError("recording: stopped before the first sample", advice=_STOPPED_EARLY)

    async def _connect_and_start(self) -> None:
        opened = await self._link.connect()
        self._intake.put(EntryKind.SESSION, self._state.header())
        await self._stream.start(opened, at=0)

    async def _watch_all(self) -> None:
        while await self._watch() is _Ending.LOST:
            # Counted from the last sample, not from the last connect: a device may connect for ever and send nothing.
            since_s = self._intake.last_sample_s + self._state.options.watchdog_s
            if not await self._link.reconnect(self._stream.go_on, since_s=since_s):
                why = "stopped while the device was away" if self._state.stop_asked else "the device did not come back"
                self._intake.note(EventKind.GAVE_UP, f"{why}; what was received is kept")
                self._gave_up = True
                return

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
        """From here on samples may be there: no failure of link or device may take them away."""
        try:
            await stage
        except Exception as exc:  # a radio library may let out anything
            self._gave_up = self._gave_up or (self._link.lost and is_lasting(exc))
            self._fault(exc)

    def _fault(self, exc: Exception) -> None:
        _LOGGER.debug("stage of a session failed", exc_info=exc)
        name = exc.code if isinstance(exc, EcgError) else type(exc).__name__
        self._intake.note(EventKind.FAULT, f"{name}: {exc}")

    async def _watch(self) -> _Ending:
        """Stay with the stream until it ends or the link is lost."""
        while (ending := self._ending()) is None:
            await self._mend()
            self._state.report()
            self._intake.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._intake.changed.wait()
        self._state.report()
        return ending

    async def _mend(self) -> None:
        """A radio that fails at a request in an unforeseen way may still bring samples; if not, the watchdog tells."""
        try:
            await self._repair.when_due()
        except EcgError:
            raise
        except Exception as exc:
            self._fault(exc)

    def _ending(self) -> _Ending | None:
        state = self._state
        if self._recording.elapsed >= state.target:
            return _Ending.TARGET
        if state.stop_asked:
            return _Ending.BY_CALLER
        if self._recording.ended_by_device or state.end is not None:
            self._intake.note(EventKind.ENDED_BY_DEVICE, f"the device ended the stream near sample {state.upto()}")
            return _Ending.BY_DEVICE
        if self._link.lost:
            return _Ending.LOST
        if state.loop.time() - self._intake.last_growth_s > state.options.watchdog_s:
            self._intake.note(EventKind.SILENT, f"no new sample for {state.options.watchdog_s:g} s")
            return _Ending.LOST
        return None
