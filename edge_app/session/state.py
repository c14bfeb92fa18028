"""What the parts of a session with a six-lead device share: what came in, and where the session stands."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from edge_app.link.client import Origin
from edge_app.session.events import EventKind, Progress, SessionResult, SessionStatistics
from edge_app.session.journal import Journal
from edge_app.session.spool import DRIVER, EntryKind
from edge_app.session.wish import REAL_TIME, Wish, n_samples_of
from firmware_bridge.assembly.drift import DriftError
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.profile import ALL_ELECTRODES_ON, Feature, SampleCodec
from firmware_bridge.protocol.status import decode_status
from lsemvae.ecg.errors import LeadError, LinkError, ProtocolError
from lsemvae.ecg.source import SourceInfo

_LOGGER = logging.getLogger(__name__)

# Crystals are good to 0.02 %, arrival times on a radio are not: the nominal rate is the better one, unless what is
# seen is so far off that the device cannot run in real time (a simulation).
_MIN_RATE_SAMPLES: Final = 1000
_MAX_DEVIATION: Final = 0.1

# Three milliseconds that a radio takes more in the end than at the beginning look like 250 ppm over 12 s: what is told to
# an operator needs a longer look than what goes into the figures.
_DRIFT_NOTE_S: Final = 20.0


class SampleClock:
    """Where the device's sample count is by the host's clock: needed only when a device lost its count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def observe(self, now_s: float, position: int) -> None:
        """Note that at `now_s` the newest sample was the one before `position`."""
        self._first = self._first or (now_s, position)
        self._last = (now_s, position)

    def position_at(self, now_s: float, *, fs_hz: float) -> int:
        """Return the position at `now_s`."""
        if self._first is None or self._last is None:
            return 0
        span_s, samples = self._last[0] - self._first[0], self._last[1] - self._first[1]
        measured_hz = samples / span_s if samples >= _MIN_RATE_SAMPLES and span_s > 0 else fs_hz
        rate_hz = measured_hz if abs(measured_hz - fs_hz) > _MAX_DEVIATION * fs_hz else fs_hz
        return self._last[1] + round((now_s - self._last[0]) * rate_hz)


class SessionState:
    """Where a session stands.

    Parameters
    ----------
    wish
        What the caller asked for.
    journal
        Clock, events and safety copy.
    stop
        Set by the caller to end early with what is there.

    Attributes
    ----------
    recording
        The frames received so far, in place.
    last_growth_s
        Loop time at which the recording last became longer, or its stream was begun or resumed.
    last_sample_s
        Loop time at which the recording last became longer, or was begun.
    changed
        Set with each frame that makes the recording longer.
    on_bulk
        Gets the frames of a stored recording while one is read.
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

    def __init__(self, wish: Wish, journal: Journal, *, stop: asyncio.Event | None) -> None:
        self.wish = wish
        self.journal = journal
        self.stop = stop
        self.recording = Recording()
        self.clock = SampleClock()
        self.loop = journal.loop
        self.last_growth_s = self.last_sample_s = journal.t0_s
        self.changed = asyncio.Event()
        self.contact = ALL_ELECTRODES_ON
        self.battery_percent: int | None = None
        self.on_bulk: Callable[[bytes], None] | None = None
        self.device = wish.device
        self.source = SourceInfo(driver=DRIVER, authenticated=False)
        self.pace = wish.pace
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
        return n_samples_of(self.wish.seconds, fs_hz=self.recording.descriptor.fs_hz)

    @property
    def stop_asked(self) -> bool:
        """Whether the caller wants no more."""
        return self.stop is not None and self.stop.is_set()

    def upto(self) -> int:
        """Return the position after the last sample that the record can have."""
        known = self.recording.elapsed if self.end is None else max(self.end, self.recording.elapsed)
        return min(self.target, known)

    def can(self, feature: Feature) -> bool:
        """Return whether the device whose stream is recorded has a feature."""
        return bool(self.recording.descriptor.features & feature)

    @contextmanager
    def noted(self, kind: EventKind) -> Iterator[None]:
        """Keep an answer that makes no sense as an event."""
        try:
            yield
        except ProtocolError as exc:
            self.journal.note(kind, f"{exc.code}: {exc}")

    def received(self, source: Origin, data: bytes) -> None:
        """Take bytes from the device: into the safety copy first, then apart."""
        journal = self.journal
        journal.bytes_received += len(data)
        if source is Origin.LIVE:
            t_us = journal.t_us
            journal.put(EntryKind.LIVE, data, t_us=t_us)
            self._frame(data, t_us)
        elif source is Origin.CONTROL:
            journal.put(EntryKind.CONTROL, data)
        elif source is Origin.BULK:
            journal.put(EntryKind.BULK, data)
            if self.on_bulk is not None:
                self.on_bulk(data)
        elif source is Origin.STATUS:
            journal.put(EntryKind.STATUS, data)
            try:
                self.battery_percent = decode_status(data).battery_percent
            except ProtocolError as exc:
                _LOGGER.info("status ignored: %s", exc)
        # A descriptor goes into the safety copy with the stream that it describes (`Stream.start`).

    def _frame(self, data: bytes, t_us: int) -> None:
        """Put a frame in its place; frames from before START belong to nobody."""
        if not self.recording.n_streams:
            return
        before = self.recording.elapsed
        frame = self.recording.feed_bytes(data, t_us)
        if frame is None:
            return
        if self.recording.elapsed > before:
            self.last_growth_s = self.last_sample_s = self.loop.time()
            self.contact = frame.contact
            self.clock.observe(self.last_growth_s, self.recording.elapsed)
            self.changed.set()
        self.journal.tell(self.journal.watch.on_frame, frame, self.recording.descriptor)

    def report(self) -> None:
        """Tell the caller how far the recording is."""
        if not self.recording.n_streams:
            return
        fs_hz = self.recording.descriptor.fs_hz
        progress = Progress(
            elapsed_s=self.recording.elapsed / fs_hz, received_s=self.recording.received / fs_hz,
            target_s=self.wish.seconds, contact=self.contact, connected=self.connected,
            battery_percent=self.battery_percent, silent_s=self.loop.time() - self.last_growth_s,
        )  # fmt: skip
        self.journal.tell(self.journal.watch.on_progress, progress)

    def put_header(self) -> None:
        """Put everything that no notification says into the safety copy."""
        start = self.wish.start
        values = {
            "record_id": self.wish.record_id,
            "device": self.device,
            "start": None if start is None else {"utc_iso": start.utc_iso, "source": start.source},
            "source": self.source.to_dict(),
        }
        self.journal.put(EntryKind.SESSION, json.dumps(values).encode())

    def result(self) -> SessionResult:
        """Return the record of what was received.

        Raises
        ------
        LinkError
            Nothing was.
        DriftError
            The device's clock is so far off that the time axis is wrong.
        """
        recording, journal = self.recording, self.journal
        if not recording.received:
            raise LinkError("the device sent no sample, expected a stream of frames after START")
        drift = None
        try:
            drift = recording.drift()
        except DriftError as exc:
            if self.pace == REAL_TIME:
                raise
            # A simulation runs as well as the computer lets it: what is an error of a device is an event there.
            journal.note(EventKind.DRIFT, str(exc))
        elapsed_s = recording.elapsed / recording.descriptor.fs_hz / (self.pace or REAL_TIME)
        if drift is not None and drift.flagged and elapsed_s >= _DRIFT_NOTE_S:
            journal.note(
                EventKind.DRIFT,
                f"the device's clock is off by {drift.ppm:+.0f} ppm ({drift.fs_hz:.3f} Hz by this computer's clock)",
            )
        upto = self.upto()
        try:
            recording.limb_check(upto).require()
        except LeadError as exc:  # leads that contradict each other: the quality gate concludes nothing from them
            journal.note(EventKind.FAULT, f"{exc.code}: {exc} {exc.advice}")
        journal.put(EntryKind.END, json.dumps({"upto": upto}).encode())
        record = recording.to_record(
            upto=upto, start=self.wish.start, device=self.device, record_id=self.wish.record_id, source=self.source
        )
        missing = recording.missing(upto)
        statistics = SessionStatistics(
            assembly=recording.statistics, elapsed_samples=upto, received_samples=upto - missing,
            missing_samples=missing, missing_before_repair=self.missing_before, reconnects=self.reconnects,
            restarts=max(0, recording.n_streams - 1), bytes_received=journal.bytes_received,
            drift_ppm=None if drift is None else drift.ppm, drift_rms_ms=None if drift is None else drift.rms_ms,
        )  # fmt: skip
        return SessionResult(
            record=record, statistics=statistics, events=tuple(journal.events), descriptor=recording.descriptor,
            complete=upto == self.target and not record.gaps,
        )  # fmt: skip
