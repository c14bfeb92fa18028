"""One recording from a device, whatever the link does.

A session with a six-lead device connects, has the device prove its key, starts the stream, puts frames in place, asks
again for what is missing, reconnects when the link is lost or silent, stops, reads from the device's own recording what
is still missing, and ends with a record of what was received: a device that never comes back leaves a shorter record and
an event, not an exception. A device of another maker is recorded through its driver (`edge_app.session.driver`). Either
way everything received goes to a sink first (`edge_app.session.spool`); `edge_app.session.recorder` puts both together.
Time is the event loop's; the wall clock is the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edge_app.link.base import Transport
from edge_app.session.auth import DeviceNotAuthenticatedError
from edge_app.session.events import EventKind, OnFrame, Progress, SessionEvent, SessionResult, SessionStatistics, Watch
from edge_app.session.run import Session, WeightError
from edge_app.session.spool import Sink
from edge_app.session.wish import RECONNECT_FOR_S, WATCHDOG_S, DriverChoice, Wish
from firmware_bridge.protocol.authenticity import DeviceKey
from lsemvae.ecg.runs import StartTime

__all__ = [
    "DeviceNotAuthenticatedError",
    "DriverChoice",
    "EventKind",
    "Progress",
    "SessionEvent",
    "SessionResult",
    "SessionStatistics",
    "Watch",
    "WeightError",
    "Wish",
    "record_session",
]


async def record_session(
    transport: Transport,
    *,
    seconds: float,
    keys: Sequence[DeviceKey] = (),
    allow_unauthenticated: bool = False,
    pace: float | None = None,
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
    """Record `seconds` of signal from the six-lead device behind `transport`.

    Parameters
    ----------
    seconds, keys, allow_unauthenticated, pace, watchdog_s, reconnect_for_s, start, record_id, device
        What to record; see `Wish`.
    sink
        Gets every notification as received, in order (an open `Spool`).
    on_progress, on_frame
        Who is told; see `Watch`.
    stop
        Set by the caller to end early with what is there.

    Raises
    ------
    DeviceNotAuthenticatedError
        The device proved none of `keys`, and that was not allowed. One that takes the place of the device in the middle
        of a recording ends it instead.
    LinkError, ProtocolError
        Only if nothing was received: the device was not found, was refused, or vanished before the first sample.
    DriftError
        In real time: the device's clock is off by more than 5000 ppm, so that every interval in the record is wrong.
    """
    wish = Wish(
        seconds=seconds, keys=tuple(keys), allow_unauthenticated=allow_unauthenticated, pace=pace, watchdog_s=watchdog_s,
        reconnect_for_s=reconnect_for_s, start=start, record_id=record_id, device=device,
    )  # fmt: skip
    watch = Watch(on_progress=on_progress, on_frame=on_frame)
    return await Session(transport, wish, sink=sink, watch=watch, stop=stop).run()
