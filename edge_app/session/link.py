"""The connections of a session: the first one, and those after the link was lost. No samples without a proof of the key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from edge_app.link.base import Transport
from edge_app.link.bounded import unless_stopped
from edge_app.link.client import DeviceClient, Opened
from edge_app.session.auth import Gatekeeper
from edge_app.session.events import EventKind
from edge_app.session.state import SessionState
from lsemvae.ecg.errors import EcgError, LinkError
from lsemvae.ecg.source import SourceInfo

_LOGGER = logging.getLogger(__name__)

# A recording lasts 10 to 30 s: a device that is back must not wait long to be asked.
BACKOFF_S: Final = (0.25, 0.5, 1.0, 1.5)

# How often an operator is told that the device is still looked for.
_AWAY_TICK_S: Final = 1.0


class SessionLink:
    """One device, over as many connections as it takes.

    Attributes
    ----------
    client
        The present connection.
    """

    def __init__(self, transport: Transport, state: SessionState, gatekeeper: Gatekeeper) -> None:
        self._transport = transport
        self._state = state
        self._gatekeeper = gatekeeper
        self.client = self._new_client()

    @property
    def lost(self) -> bool:
        """Whether the present connection is gone."""
        return self.client.lost

    async def connect(self) -> Opened:
        """Connect, and take samples if the device is the one it should be."""
        opened = await self.client.open()
        state, info = self._state, opened.info
        state.journal.note(EventKind.CONNECTED, f"{info.name}, packets of {info.mtu} bytes")
        remark = await self._gatekeeper.admit(self.client, opened)
        key = self._gatekeeper.key
        if key is None:
            state.journal.note(EventKind.UNAUTHENTICATED, f"{remark}; the recording is marked")
        else:
            state.journal.note(EventKind.AUTHENTICATED, f"key of {key.name} ({key.fingerprint})")
        state.source = SourceInfo(driver=state.source.driver, authenticated=key is not None)
        state.device = state.device or f"{info.name} ({info.address})"
        state.pace = state.pace if info.pace is None else info.pace
        state.connected = True
        return opened

    async def reconnect(self, then: Callable[[Opened], Awaitable[None]], *, since_s: float | None = None) -> bool:
        """Try until the device is back, was away too long or the caller stops; `then` follows each connect.

        Parameters
        ----------
        since_s
            Loop time since which the device counts as away (default: now).

        Raises
        ------
        EcgError
            For what no further attempt can mend (see `is_lasting`).
        """

        async def reopen() -> None:
            opened = await self.client.open()
            await self._gatekeeper.admit(self.client, opened)
            await then(opened)

        state = self._state
        state.connected = False
        state.report()
        deadline_s = (state.loop.time() if since_s is None else since_s) + state.wish.reconnect_for_s
        attempt = 0
        while (left_s := deadline_s - state.loop.time()) > 0 and not state.stop_asked:
            await self.client.close()
            self.client = self._new_client()
            try:
                async with asyncio.timeout(left_s):
                    if not await self.unless_stopped(reopen()):
                        return False
            except Exception as exc:
                if is_lasting(exc):
                    await self.client.close()
                    raise
                attempt += 1
                state.journal.note(EventKind.RETRY, f"attempt {attempt}: {_words(exc)}")
            else:
                state.reconnects += 1
                state.connected = True
                return True
            pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1]
            await self.unless_stopped(asyncio.sleep(max(0.0, min(pause_s, deadline_s - state.loop.time()))))
        return False

    async def unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but leave it as soon as the caller asks to stop; return whether it was done."""

        def tick() -> None:
            if not self._state.connected:
                self._state.report()

        task = await unless_stopped(work, self._state.stop, tick_s=_AWAY_TICK_S, on_tick=tick)
        if task.cancelled():
            return False
        task.result()
        return True

    async def close(self) -> None:
        """Disconnect."""
        await self.client.close()

    def _new_client(self) -> DeviceClient:
        def lost(reason: str) -> None:
            self._state.connected = False
            self._state.journal.note(EventKind.LOST, reason)
            self._state.changed.set()

        return DeviceClient(self._transport, on_bytes=self._state.received, on_lost=lost)


def is_lasting(exc: Exception) -> bool:
    """Return whether trying again cannot help.

    A radio, its service or the bus between them may be away for a while and raise whatever they like: that is tried
    again. What a device says for certain (another protocol, another signal, a wrong key) it will say again, and a link
    error may say the same of itself with an attribute `lasting` (no permission, ...).
    """
    if isinstance(exc, LinkError):
        return bool(getattr(exc, "lasting", False)) or isinstance(exc.__cause__, PermissionError)
    return isinstance(exc, EcgError)


def _words(exc: Exception) -> str:
    """Return why an attempt to reconnect failed, for the list of events."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, EcgError):
        return str(exc)
    _LOGGER.debug("attempt to reconnect failed", exc_info=exc)
    return f"{type(exc).__name__}: {exc}"
