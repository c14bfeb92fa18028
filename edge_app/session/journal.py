"""What a recording keeps while it runs, whatever the device: received bytes in the spool first, then events.

The spool is the safety copy. A disk that refuses it costs the copy, never the recording.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, ParamSpec

from edge_app.session.events import EventKind, SessionEvent, Watch
from edge_app.session.spool import EntryKind, Sink
from lsemvae.ecg.errors import StoreError

_LOGGER = logging.getLogger(__name__)
_P = ParamSpec("_P")

_SYNC_EVERY_S: Final = 1.0


class Journal:
    """The clock, the events and the safety copy of one recording.

    Parameters
    ----------
    sink
        Gets everything received, in order (an open `Spool`); None: no safety copy.
    watch
        Who is told.
    """

    def __init__(self, *, sink: Sink | None, watch: Watch) -> None:
        self.loop = asyncio.get_running_loop()
        self.t0_s = self.loop.time()
        self.watch = watch
        self.events: list[SessionEvent] = []
        self.bytes_received = 0
        self._sink = sink

    @property
    def t_us(self) -> int:
        """Microseconds since the recording began."""
        return round((self.loop.time() - self.t0_s) * 1e6)

    def note(self, kind: EventKind, message: str) -> None:
        """Keep an event and tell it."""
        _LOGGER.info("%s: %s", kind.value, message)
        event = SessionEvent(t_s=self.t_us / 1e6, kind=kind, message=message)
        self.events.append(event)
        self.tell(self.watch.on_event, event)

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

    def _sink_failed(self, exc: StoreError) -> None:
        """Go on in memory: the recording is worth more than its safety copy."""
        self._sink = None
        self.note(EventKind.SPOOL_FAILED, str(exc))

    def tell(self, observer: Callable[_P, object] | None, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Call an observer; what it raises is logged, because a screen that fails must not end a recording."""
        if observer is None:
            return
        try:
            observer(*args, **kwargs)
        except Exception:
            _LOGGER.exception("observer failed")
