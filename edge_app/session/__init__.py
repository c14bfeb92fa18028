"""One recording from a device, whatever the radio does.

A session connects, has the device prove its key, starts the stream, puts frames in place, asks again for what is
missing, reconnects when the link is lost or silent, stops, reads from the device's own recording what is still missing,
and ends with a record of what was received: a device that never comes back leaves a shorter record and an event, not an
exception. Everything received goes to a sink first (see `edge_app.session.spool`). Time is the event loop's; the wall clock is
the caller's business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

from edge_app.link.base import Transport
from edge_app.session.auth import DeviceNotAuthenticatedError, Gatekeeper
from edge_app.session.events import EventKind, Progress, SessionEvent, SessionResult, SessionStatistics
from edge_app.session.intake import Intake, OnFrame
from edge_app.session.run import Session
from edge_app.session.spool import Sink
from edge_app.session.state import SessionOptions, SessionState
from edge_app.session.stream import WeightError
from firmware_bridge.protocol.authenticity import DeviceKey
from lsemvae.ecg.errors import LengthError, RateError
from lsemvae.ecg.record import StartTime

__all__ = [
    "DeviceNotAuthenticatedError",
    "EventKind",
    "Progress",
    "SessionEvent",
    "SessionResult",
    "SessionStatistics",
    "WeightError",
    "record_session",
]

# Frames come every 50 ms and the supervision time-out of a link is 4 s at most: silence of 3 s means a hanging device.
WATCHDOG_S: Final = 3.0
RECONNECT_FOR_S: Final = 15.0


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
    """Record `seconds` of signal from the device behind `transport`.

    Parameters
    ----------
    keys, allow_unauthenticated
        Keys of the devices that may be recorded, and whether one that proves none of them may be as well; its record is
        marked (``record.source.authenticated``).
    pace
        Seconds of the device per second of this computer: 1.0 for a real one. With it no sample is taken that cannot
        exist yet, and the drift of the device's clock is told. A transport that knows better is believed; None: unknown.
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
    DeviceNotAuthenticatedError
        The device proved none of `keys`, and that was not allowed. One that takes the place of the device in the middle
        of a recording ends it instead.
    LinkError, ProtocolError
        Only if nothing was received: the device was not found, was refused, or vanished before the first sample.
    DriftError
        In real time: the device's clock is off by more than 5000 ppm, so that every interval in the record is wrong.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise LengthError(f"recording: found {seconds} s, expected more than 0 s", advice="Ask for 10 to 30 seconds.")
    if pace is not None and not (math.isfinite(pace) and pace > 0):
        raise RateError(f"recording: found pace {pace}, expected more than 0", advice="A real device has pace 1.")
    options = SessionOptions(
        seconds=seconds, watchdog_s=watchdog_s, reconnect_for_s=reconnect_for_s, on_progress=on_progress, stop=stop,
        start=start, record_id=record_id, device=device, pace=pace,
    )  # fmt: skip
    state = SessionState(options, Intake(sink=sink, on_frame=on_frame))
    gatekeeper = Gatekeeper(keys, allow_unauthenticated=allow_unauthenticated)
    return await Session(transport, state, gatekeeper).run()
