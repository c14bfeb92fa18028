"""What the parts of a session share: the wishes of its caller, what came in, and where it stands."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from edge_app.session.events import EventKind, Progress, SessionResult, SessionStatistics
from edge_app.session.intake import Intake, call_safely
from edge_app.session.spool import DRIVER, REAL_TIME, EntryKind
from firmware_bridge.assembly.drift import DriftError, DriftFit
from firmware_bridge.protocol.profile import Feature, SampleCodec
from lsemvae.ecg.errors import LeadError, LinkError, ProtocolError
from lsemvae.ecg.record import StartTime
from lsemvae.ecg.source import SourceInfo

# Three milliseconds that a radio takes more in the end than at the beginning look like 250 ppm over 12 s: what is told to
# an operator needs a longer look than what goes into the figures.
_DRIFT_NOTE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What the caller of a session wants; see `record_session`."""

    seconds: float
    watchdog_s: float
    reconnect_for_s: float
    on_progress: Callable[[Progress], None] | None
    stop: asyncio.Event | None
    start: StartTime | None
    record_id: str
    device: str
    pace: float | None


class SessionState:
    """Where a session stands.

    Attributes
    ----------
    device, source
        Go into the record: which device, and whether it proved itself.
    pace
        Seconds of the device per second of this computer; None: unknown, and nothing is held against this clock.
    codec
        What START asked for.
    boot_id
        Of the device whose stream is recorded.
    end
        Position after the last sample of a stream that has ended.
    next_repair
        Position from which on gaps are asked for again.
    stored_id
        Number of the recording that the device keeps in its memory of the newest stream.
    connected
        Whether progress reports say so.
    """

    def __init__(self, options: SessionOptions, intake: Intake) -> None:
        self.options = options
        self.intake = intake
        self.recording = intake.recording
        self.loop = asyncio.get_running_loop()
        self.device = options.device
        self.source = SourceInfo(driver=DRIVER, authenticated=False)
        self.pace = options.pace
        self.codec = SampleCodec.RAW24
        self.boot_id = 0
        self.end: int | None = None
        self.next_repair = 0
        self.stored_id: int | None = None
        self.stopped = False
        self.connected = False
        self.reconnects = 0
        self.missing_before = 0

    @property
    def target(self) -> int:
        """Samples wanted."""
        return math.ceil(self.options.seconds * self.recording.descriptor.fs_hz)

    @property
    def stop_asked(self) -> bool:
        """Whether the caller wants no more."""
        return self.options.stop is not None and self.options.stop.is_set()

    def upto(self) -> int:
        """Last sample that the record can have."""
        known = self.recording.elapsed if self.end is None else max(self.end, self.recording.elapsed)
        return min(self.target, known)

    def can(self, feature: Feature) -> bool:
        """Whether the device whose stream is recorded has a feature."""
        return bool(self.recording.descriptor.features & feature)

    @contextmanager
    def noted(self, kind: EventKind) -> Iterator[None]:
        """Keep an answer that makes no sense as an event."""
        try:
            yield
        except ProtocolError as exc:
            self.intake.note(kind, f"{exc.code}: {exc}")

    def report(self) -> None:
        """Tell the caller how far the recording is."""
        if self.options.on_progress is None or not self.recording.n_streams:
            return
        fs_hz = self.recording.descriptor.fs_hz
        progress = Progress(
            elapsed_s=self.recording.elapsed / fs_hz, received_s=self.recording.received / fs_hz,
            target_s=self.options.seconds, contact=self.intake.contact, connected=self.connected,
            battery_percent=self.intake.battery_percent, silent_s=self.loop.time() - self.intake.last_growth_s,
        )  # fmt: skip
        call_safely(self.options.on_progress, progress)

    def header(self) -> bytes:
        """What the sink is told first: everything that no notification says."""
        start = self.options.start
        when = None if start is None else {"utc_iso": start.utc_iso, "source": start.source}
        values = {"record_id": self.options.record_id, "device": self.device, "start": when}
        return json.dumps({**values, "source": self.source.to_dict()}).encode()

    def result(self) -> SessionResult:
        """The record of what was received.

        Raises
        ------
        LinkError
            Nothing was.
        DriftError
            The device's clock is so far off that the time axis is wrong.
        """
        if not self.recording.received:
            raise LinkError("the device sent no sample, expected a stream of frames after START")
        drift = self._drift()
        upto = self.upto()
        self._check_limb_leads(upto)
        self.intake.put(EntryKind.END, json.dumps({"upto": upto}).encode())
        record = self.recording.to_record(
            upto=upto, start=self.options.start, device=self.device, record_id=self.options.record_id,
            source=self.source,
        )  # fmt: skip
        return SessionResult(
            record=record, statistics=self._statistics(upto, drift), events=tuple(self.intake.events),
            descriptor=self.recording.descriptor, complete=upto == self.target and not record.gaps,
        )  # fmt: skip

    def _drift(self) -> DriftFit | None:
        """A simulation runs as well as the computer lets it: what would be an error of a device is an event there."""
        try:
            fit = self.recording.drift()
        except DriftError as exc:
            if self.pace == REAL_TIME:
                raise
            self.intake.note(EventKind.DRIFT, str(exc))
            return None
        elapsed_s = self.recording.elapsed / self.recording.descriptor.fs_hz / (self.pace or REAL_TIME)
        if fit is not None and fit.flagged and elapsed_s >= _DRIFT_NOTE_S:
            self.intake.note(
                EventKind.DRIFT,
                f"the device's clock is off by {fit.ppm:+.0f} ppm ({fit.fs_hz:.3f} Hz by this computer's clock)",
            )
        return fit

    def _check_limb_leads(self, upto: int) -> None:
        """Leads that contradict each other are told here; the quality gate concludes nothing from them."""
        try:
            self.recording.limb_check(upto).require()
        except LeadError as exc:
            self.intake.note(EventKind.FAULT, f"{exc.code}: {exc} {exc.advice}")

    def _statistics(self, upto: int, drift: DriftFit | None) -> SessionStatistics:
        missing = self.recording.missing(upto)
        return SessionStatistics(
            assembly=self.recording.statistics, elapsed_samples=upto, received_samples=upto - missing,
            missing_samples=missing, missing_before_repair=self.missing_before, reconnects=self.reconnects,
            restarts=max(0, self.recording.n_streams - 1), bytes_received=self.intake.bytes_received,
            drift_ppm=None if drift is None else drift.ppm, drift_rms_ms=None if drift is None else drift.rms_ms,
        )  # fmt: skip
