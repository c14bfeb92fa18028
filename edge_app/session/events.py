"""What a recording tells while it runs, and what it ends with; the same for every device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from firmware_bridge.assembly.reassembly import AssemblyStatistics
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import Contact
from lsemvae.ecg.record import EcgRecord


class EventKind(StrEnum):
    """What can happen in a recording."""

    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"
    UNAUTHENTICATED = "unauthenticated"
    STARTED = "started"
    LOST = "lost"
    SILENT = "silent"
    RETRY = "retry"
    RESUMED = "resumed"
    RESTARTED = "restarted"
    REPAIR = "repair"
    EVICTED = "evicted"
    STORED = "stored"
    DRIFT = "drift"
    ENDED_BY_DEVICE = "ended_by_device"
    STOPPED = "stopped"
    GAVE_UP = "gave_up"
    SPOOL_FAILED = "spool_failed"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something worth telling, with seconds since the recording began."""

    t_s: float
    kind: EventKind
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is.

    Attributes
    ----------
    elapsed_s, received_s, target_s
        Seconds of signal: time covered, really received, wanted.
    contact
        Electrodes off and channels saturated in the newest frame; None where the device's protocol does not say.
    silent_s
        Seconds of real time since the recording last became longer.
    """

    elapsed_s: float
    received_s: float
    target_s: float
    contact: Contact | None
    connected: bool
    battery_percent: int | None
    silent_s: float = 0.0


OnFrame = Callable[[LiveFrame, DeviceDescriptor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told how a recording goes; what an observer raises is logged and ends nothing.

    Attributes
    ----------
    on_progress
        Told how far the recording is, at least ten times a second.
    on_frame
        Told about each new frame of a six-lead device.
    on_event
        Told about each event, as it happens.
    """

    on_progress: Callable[[Progress], None] | None = None
    on_frame: OnFrame | None = None
    on_event: Callable[[SessionEvent], None] | None = None


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """Figures of a recording; ``received_samples + missing_samples == elapsed_samples`` always.

    Attributes
    ----------
    drift_ppm, drift_rms_ms
        The device's clock against the host's, parts per million (positive: the device is fast), and the scatter of the
        arrivals; None where the pace is unknown or the stream is shorter than 10 s.
    """

    assembly: AssemblyStatistics
    elapsed_samples: int
    received_samples: int
    missing_samples: int
    missing_before_repair: int
    reconnects: int
    restarts: int
    bytes_received: int
    drift_ppm: float | None = None
    drift_rms_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a recording ends with.

    Attributes
    ----------
    complete
        Whether the record has the wanted length and no gap.
    descriptor
        What a six-lead device says of itself; None for a device of another protocol.
    """

    record: EcgRecord
    statistics: SessionStatistics
    events: tuple[SessionEvent, ...]
    complete: bool
    descriptor: DeviceDescriptor | None = None
