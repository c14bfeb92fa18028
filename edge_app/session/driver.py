"""One recording from a device that speaks a protocol of its own, through its driver.

Simpler than a session with a six-lead device: these protocols cannot ask for lost samples again, and most cannot even
show that samples are missing. A link that is lost therefore ends the recording; what was received is kept, and the
record says what its source could not know.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from edge_app.link.base import Port
from edge_app.link.bounded import unless_stopped
from edge_app.link.serial.port import SerialPort
from edge_app.session.events import EventKind, SessionEvent
from firmware_bridge.drivers.base import Driver, DriverInfo
from firmware_bridge.protocol.serial_packets import DEFAULT_BAUD
from lsemvae.ecg.errors import EcgError, LengthError, LinkError
from lsemvae.ecg.record import EcgRecord, StartTime

_LOGGER = logging.getLogger(__name__)

WATCHDOG_S: Final = 3.0
# Boards restart when their port is opened, others measure only once electrodes are on.
FIRST_SAMPLE_S: Final = 10.0
# Polled protocols ask twice a second, keep-alives come every two: well below both.
_TICK_S: Final = 0.05
_WRITE_S: Final = 5.0
# Where samples are missing at the end, the driver gets this long to ask for them again, if its protocol can: requests
# are repeated after a second.
_REPAIR_S: Final = 2.5
_MAX_FAULTS: Final = 20

# Polled devices send in lumps of half a second, so 10 s of them are good to a twentieth. More than this is another rate
# than the driver was told, or samples that got lost without a trace.
_MAX_RATE_DEVIATION: Final = 0.1

_NOTHING_CAME: Final = "Check that the driver fits the device, that it measures, and that its electrodes are on."
_NAME_PORT: Final = "Name the port that the device is plugged into, for example /dev/ttyACM0, /dev/ttyUSB0 or COM3."
_STOPPED_EARLY: Final = "Nothing was recorded. Start again when device and person are ready."


@dataclass(frozen=True, slots=True)
class DriverResult:
    """What a recording through a driver ends with.

    Attributes
    ----------
    record
        At most as long as was asked for; its `source` says what it cannot know.
    complete
        Whether the record has the wanted length and no gap that could be seen.
    """

    record: EcgRecord
    events: tuple[SessionEvent, ...]
    bytes_received: int
    complete: bool


def port_for(info: DriverInfo, *, serial: str = "", address: str | None = None, name: str | None = None) -> Port:
    """The port that a driver needs: the serial port `serial` at its rate, or Bluetooth, by `address` or `name`."""
    if info.kind == "serial":
        if not serial:
            raise LinkError(f"{info.name}: found no serial port, expected the name of one", advice=_NAME_PORT)
        return SerialPort(serial, baud=info.baud or DEFAULT_BAUD)
    from edge_app.link.ble.port import GattPort

    return GattPort(info, address=address, name=name)


async def record_driver(
    driver: Driver,
    *,
    over: Port,
    seconds: float,
    watchdog_s: float = WATCHDOG_S,
    first_sample_s: float = FIRST_SAMPLE_S,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[float], None] | None = None,
    start: StartTime | None = None,
    record_id: str = "",
    device: str = "",
) -> DriverResult:
    """Record `seconds` of signal with `driver` from the device behind `over`.

    Parameters
    ----------
    over
        `GattPort`, `SerialPort`, or a `LoggingPort` around one.
    watchdog_s, first_sample_s
        Silence after which the device counts as gone: in the middle, and before its first sample; seconds.
    stop
        Set by the caller to end early with what is there.
    on_progress
        Told the seconds of signal so far, about twenty times a second.
    start, record_id, device
        Go into the record; without `device` it is the name of the link's other end.

    Raises
    ------
    LinkError
        Only if no sample came.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise LengthError(f"recording: found {seconds} s, expected more than 0 s", advice="Ask for 10 to 30 seconds.")
    run = _Run(driver, over, seconds=seconds, on_progress=on_progress)
    try:
        label = await run.begin(stop=stop)
        await run.until_done(watchdog_s=watchdog_s, first_sample_s=first_sample_s, stop=stop)
        await run.end()
    finally:
        await over.close()
    return run.result(start=start, device=device or label, record_id=record_id)


class _Run:
    def __init__(
        self, driver: Driver, port: Port, *, seconds: float, on_progress: Callable[[float], None] | None
    ) -> None:
        self._driver = driver
        self._port = port
        self._seconds = seconds
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._t0_s = self._loop.time()
        self._last_growth_s = self._t0_s
        self._elapsed = 0
        self._bytes = 0
        self._lost = ""
        self._faults: set[str] = set()
        self._events: list[SessionEvent] = []
        self._changed = asyncio.Event()

    async def begin(self, *, stop: asyncio.Event | None) -> str:
        """Connect and have the device start; returns its name. What is read before counts as part of the recording."""
        label = await self._unless_stopped(self._port.open(on_bytes=self._received, on_lost=self._link_lost), stop)
        self._note(EventKind.CONNECTED, label)
        await self._write(self._driver.begin())
        self._last_growth_s = self._loop.time()
        self._note(EventKind.STARTED, f"driver {self._driver.info.name}, {self._driver.info.fs_hz:g} Hz")
        return label

    async def until_done(self, *, watchdog_s: float, first_sample_s: float, stop: asyncio.Event | None) -> None:
        """Keep the device going until the target, silence, loss or the caller's stop."""
        while self._elapsed < self._target and not self._lost and not (stop is not None and stop.is_set()):
            patience_s = watchdog_s if self._elapsed else first_sample_s
            if self._loop.time() - self._last_growth_s > patience_s:
                self._note(EventKind.SILENT, f"no new sample for {patience_s:g} s; what was received is kept")
                return
            await self._tick()
        self._report()

    async def end(self) -> None:
        """Have the device send again what it can, then stop, where it still listens."""
        deadline_s = self._loop.time() + _REPAIR_S
        while self._driver.statistics.lost_samples and not self._lost and self._loop.time() < deadline_s:
            await self._tick()
        for remark in (*self._driver.remarks, *self._rate_remark()):
            self._fault(remark)
        if self._lost:
            return
        with suppress(LinkError):
            await self._write(self._driver.end())
            self._note(EventKind.STOPPED, f"stopped at sample {self._elapsed}")

    def result(self, *, start: StartTime | None, device: str, record_id: str) -> DriverResult:
        """The record of what came."""
        if not self._elapsed:
            why = self._lost or "; ".join(sorted(self._faults))
            message = f"{self._driver.info.name}: found {self._bytes} bytes without a sample, expected samples"
            raise LinkError(f"{message} ({why})" if why else message, advice=_NOTHING_CAME)
        record = self._driver.to_record(start=start, device=device, record_id=record_id)
        if record.n_samples > self._target:
            record = record.slice(0, self._target)
        complete = record.n_samples == self._target and not record.gaps
        return DriverResult(record=record, events=tuple(self._events), bytes_received=self._bytes, complete=complete)

    @property
    def _target(self) -> int:
        """Samples wanted; some devices state their rate only after connecting."""
        return math.ceil(self._seconds * self._driver.info.fs_hz)

    @property
    def _t_us(self) -> int:
        return round((self._loop.time() - self._t0_s) * 1e6)

    async def _tick(self) -> None:
        """Write what is due, then wait for samples, not for long."""
        try:
            await self._write(self._driver.poll(self._t_us))
        except LinkError as exc:
            self._link_lost(str(exc))
        self._report()
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await self._changed.wait()

    async def _write(self, chunks: Iterable[bytes]) -> None:
        for data in chunks:
            try:
                async with asyncio.timeout(_WRITE_S):
                    await self._port.write(data)
            except TimeoutError:
                raise LinkError(f"writing: found no answer in {_WRITE_S:g} s, expected one") from None

    async def _unless_stopped(self, opening: Coroutine[Any, Any, str], stop: asyncio.Event | None) -> str:
        """Connect, but leave off as soon as the caller asks to stop."""
        task = await unless_stopped(opening, stop)
        if task.cancelled():
            raise LinkError("recording: stopped before the first sample", advice=_STOPPED_EARLY)
        return task.result()

    def _received(self, channel: str, data: bytes) -> None:
        self._bytes += len(data)
        try:
            self._driver.feed(channel, data, self._t_us)
        except EcgError as exc:
            self._fault(f"{exc.code}: {exc}")
        if self._driver.elapsed > self._elapsed:
            self._elapsed = self._driver.elapsed
            self._last_growth_s = self._loop.time()
            self._changed.set()

    def _rate_remark(self) -> tuple[str, ...]:
        """A rate of arrival that does not fit the driver's."""
        seen_hz, told_hz = self._driver.rate_seen_hz, self._driver.info.fs_hz
        if seen_hz is None or abs(seen_hz - told_hz) <= _MAX_RATE_DEVIATION * told_hz:
            return ()
        return (f"samples arrived at {seen_hz:.1f} Hz, expected {told_hz:g} Hz: another rate, or samples were lost",)

    def _fault(self, message: str) -> None:
        """Keep a fault once: a device that repeats it a hundred times a second would fill the events."""
        if message not in self._faults and len(self._faults) < _MAX_FAULTS:
            self._faults.add(message)
            self._note(EventKind.FAULT, message)

    def _link_lost(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
            self._note(EventKind.LOST, f"{reason}; what was received is kept")
            self._changed.set()

    def _note(self, kind: EventKind, message: str) -> None:
        _LOGGER.info("%s: %s", kind.value, message)
        self._events.append(SessionEvent(t_s=self._t_us / 1e6, kind=kind, message=message))

    def _report(self) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(self._elapsed / self._driver.info.fs_hz)
        except Exception:
            _LOGGER.exception("observer failed")


__all__ = ["DriverResult", "port_for", "record_driver"]
