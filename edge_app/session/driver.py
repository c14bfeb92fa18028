"""One recording from a device that speaks a protocol of its own, through its driver.

Simpler than a session with a six-lead device: these protocols cannot ask for lost samples again, and most cannot even
show that samples are missing. A link that is lost therefore ends the recording; what was received is kept, and the
record says what its source could not know.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from edge_app.link.base import Port
from edge_app.link.bounded import unless_stopped, within
from edge_app.session.events import EventKind, Progress, SessionResult, SessionStatistics, Watch
from edge_app.session.journal import Journal
from edge_app.session.run import STOPPED_EARLY
from edge_app.session.spool import EntryKind, Sink, assembly_of, channel_payloads
from edge_app.session.wish import FIRST_SAMPLE_S, WATCHDOG_S, DriverChoice, Wish, at_most, n_samples_of
from firmware_bridge.drivers.base import Driver
from lsemvae.ecg.errors import EcgError, LinkError
from lsemvae.ecg.runs import StartTime

# Polled protocols ask twice a second, keep-alives come every two: well below both.
_TICK_S: Final = 0.05
_WRITE_S: Final = 5.0
# Where samples are missing at the end, the driver gets this long to ask for them again, if its protocol can: requests
# are repeated after a second.
_REPAIR_S: Final = 2.5
# A device that repeats a fault a hundred times a second would fill the events.
_MAX_FAULTS: Final = 20

# Polled devices send in lumps of half a second, so 10 s of them are good to a twentieth. More than this is another rate
# than the driver was told, or samples that got lost without a trace.
_MAX_RATE_DEVIATION: Final = 0.1

_NOTHING_CAME: Final = "Check that the driver fits the device, that it measures, and that its electrodes are on."


async def record_driver(
    driver: Driver,
    *,
    over: Port,
    seconds: float,
    watchdog_s: float = WATCHDOG_S,
    first_sample_s: float = FIRST_SAMPLE_S,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    start: StartTime | None = None,
    record_id: str = "",
    device: str = "",
) -> SessionResult:
    """Record `seconds` of signal with `driver` from the device behind `over`, without a safety copy.

    Parameters
    ----------
    over
        `GattPort`, `SerialPort`, or a `LoggingPort` around one.
    seconds, watchdog_s, first_sample_s, start, record_id, device
        What to record; see `Wish`.
    stop
        Set by the caller to end early with what is there.
    on_progress
        Told how far the recording is, about twenty times a second.

    Raises
    ------
    LinkError
        Only if no sample came.
    """
    wish = Wish(
        seconds=seconds, watchdog_s=watchdog_s, first_sample_s=first_sample_s, start=start, record_id=record_id,
        device=device,
    )  # fmt: skip
    return await DriverSession(driver, over, wish, sink=None, watch=Watch(on_progress=on_progress), stop=stop).run()


class DriverSession:
    """One recording through a driver; `run` once, in the event loop that made it.

    Parameters
    ----------
    driver
        A fresh one: what `wish.driver` makes, where there is a sink.
    sink
        Gets every byte as received, with what the driver needs to read it again (`wish.driver`).
    """

    def __init__(
        self, driver: Driver, port: Port, wish: Wish, *, sink: Sink | None, watch: Watch, stop: asyncio.Event | None
    ) -> None:
        self._driver = driver
        self._port = port
        self._wish = wish
        self._stop = stop
        self._journal = Journal(sink=sink, watch=watch)
        self._last_growth_s = self._journal.t0_s
        self._device = wish.device
        self._elapsed = 0
        self._lost = ""
        self._faults: set[str] = set()
        self._changed = asyncio.Event()

    async def run(self) -> SessionResult:
        """Record; see `record_driver`."""
        sync = self._journal.loop.create_task(self._journal.sync_regularly())
        try:
            await self._begin()
            await self._until_done()
            await self._end()
        finally:
            sync.cancel()
            await self._port.close()
            await asyncio.gather(sync, return_exceptions=True)
        return self._result()

    async def _begin(self) -> None:
        """Connect and have the device start. What is read before counts as part of the recording."""
        driver, journal = self._driver, self._journal
        self._put_header()
        opening = self._port.open(on_bytes=self._received, on_lost=self._link_lost)
        task = await unless_stopped(opening, self._stop)
        if task.cancelled():
            raise LinkError("recording: stopped before the first sample", advice=STOPPED_EARLY)
        label = task.result()
        self._device = self._device or label
        self._put_header()
        journal.note(EventKind.CONNECTED, label)
        written = driver.begin()
        journal.put(EntryKind.BEGIN, b"".join(written))
        await self._write(written)
        self._last_growth_s = journal.loop.time()
        journal.note(EventKind.STARTED, f"driver {driver.info.name}, {driver.info.fs_hz:g} Hz")

    async def _until_done(self) -> None:
        """Keep the device going until the target, silence, loss or the caller's stop."""
        wish = self._wish
        while self._elapsed < self._target and not self._lost and not (self._stop is not None and self._stop.is_set()):
            patience_s = wish.watchdog_s if self._elapsed else wish.first_sample_s
            if self._journal.loop.time() - self._last_growth_s > patience_s:
                self._journal.note(EventKind.SILENT, f"no new sample for {patience_s:g} s; what was received is kept")
                return
            await self._tick()
        self._report()

    async def _end(self) -> None:
        """Have the device send again what it can, then stop, where it still listens."""
        driver, loop = self._driver, self._journal.loop
        deadline_s = loop.time() + _REPAIR_S
        while driver.statistics.lost_samples and not self._lost and loop.time() < deadline_s:
            await self._tick()
        for remark in driver.remarks:
            self._fault(remark)
        seen_hz, told_hz = driver.rate_seen_hz, driver.info.fs_hz
        if seen_hz is not None and abs(seen_hz - told_hz) > _MAX_RATE_DEVIATION * told_hz:
            self._fault(
                f"samples arrived at {seen_hz:.1f} Hz, expected {told_hz:g} Hz: another rate, or samples were lost"
            )
        if self._lost:
            return
        with suppress(LinkError):
            await self._write(driver.end())
            self._journal.note(EventKind.STOPPED, f"stopped at sample {self._elapsed}")

    def _result(self) -> SessionResult:
        """Return the record of what came."""
        driver, wish, journal = self._driver, self._wish, self._journal
        if not self._elapsed:
            why = self._lost or "; ".join(sorted(self._faults))
            message = f"{driver.info.name}: found {journal.bytes_received} bytes without a sample, expected samples"
            raise LinkError(f"{message} ({why})" if why else message, advice=_NOTHING_CAME)
        record = at_most(
            driver.to_record(start=wish.start, device=self._device, record_id=wish.record_id), wish.seconds
        )
        missing = sum(gap.n_samples for gap in record.gaps)
        statistics = SessionStatistics(
            assembly=assembly_of(driver.statistics), elapsed_samples=record.n_samples,
            received_samples=record.n_samples - missing, missing_samples=missing, missing_before_repair=missing,
            reconnects=0, restarts=0, bytes_received=journal.bytes_received,
        )  # fmt: skip
        journal.put(EntryKind.END, json.dumps({"upto": record.n_samples}).encode())
        complete = record.n_samples == self._target and not record.gaps
        return SessionResult(record=record, statistics=statistics, events=tuple(journal.events), complete=complete)

    @property
    def _target(self) -> int:
        """Samples wanted; some devices state their rate only after connecting."""
        return n_samples_of(self._wish.seconds, fs_hz=self._driver.info.fs_hz)

    async def _tick(self) -> None:
        """Write what is due, then wait for samples, not for long."""
        t_us = self._journal.t_us
        written = self._driver.poll(t_us)
        if written:
            self._journal.put(EntryKind.POLL, b"".join(written), t_us=t_us)
        try:
            await self._write(written)
        except LinkError as exc:
            self._link_lost(str(exc))
        self._report()
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await self._changed.wait()

    async def _write(self, chunks: tuple[bytes, ...]) -> None:
        for data in chunks:
            try:
                await within(_WRITE_S, self._port.write(data))
            except TimeoutError:
                raise LinkError(f"writing: found no answer in {_WRITE_S:g} s, expected one") from None

    def _received(self, channel: str, data: bytes) -> None:
        """Take bytes from the device: into the safety copy first, then to the driver."""
        journal, driver = self._journal, self._driver
        journal.bytes_received += len(data)
        t_us = journal.t_us
        for payload in channel_payloads(channel, data):
            journal.put(EntryKind.BYTES, payload, t_us=t_us)
        try:
            driver.feed(channel, data, t_us)
        except EcgError as exc:
            self._fault(f"{exc.code}: {exc}")
        if driver.elapsed > self._elapsed:
            self._elapsed = driver.elapsed
            self._last_growth_s = journal.loop.time()
            self._changed.set()

    def _put_header(self) -> None:
        """Put what the device does not send into the safety copy: before connecting, and again once its name is known."""
        wish = self._wish
        choice = wish.driver or DriverChoice(self._driver.info.name)
        values = {
            "record_id": wish.record_id, "device": self._device, "seconds": wish.seconds, "driver": choice.to_dict(),
            "start": None if wish.start is None else {"utc_iso": wish.start.utc_iso, "source": wish.start.source},
        }  # fmt: skip
        self._journal.put(EntryKind.SESSION, json.dumps(values).encode())

    def _fault(self, message: str) -> None:
        """Keep a fault once."""
        if message not in self._faults and len(self._faults) < _MAX_FAULTS:
            self._faults.add(message)
            self._journal.note(EventKind.FAULT, message)

    def _link_lost(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
            self._journal.note(EventKind.LOST, f"{reason}; what was received is kept")
            self._changed.set()

    def _report(self) -> None:
        """Tell the caller how far the recording is; these protocols say nothing of contact or battery."""
        fs_hz, loop = self._driver.info.fs_hz, self._journal.loop
        lost = self._driver.statistics.lost_samples
        progress = Progress(
            elapsed_s=self._elapsed / fs_hz, received_s=max(0, self._elapsed - lost) / fs_hz,
            target_s=self._wish.seconds, contact=None, connected=not self._lost, battery_percent=None,
            silent_s=loop.time() - self._last_growth_s,
        )  # fmt: skip
        self._journal.tell(self._journal.watch.on_progress, progress)
