"""Record through a driver of another maker's protocol: options to driver, driver to recording."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_app.session.driver import DriverResult, port_for, record_driver
from edge_app.session.live import stop_on_signals
from edge_app.session.loop import run
from edge_app.store.clock import new_id, now
from firmware_bridge.drivers import catalogue, make
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime

if TYPE_CHECKING:
    from edge_app.link.base import Port
    from edge_app.link.log.file import NotificationLog
    from firmware_bridge.drivers import Driver

__all__ = ["driver_from", "record_from", "replayed_record"]

_SEE: Final = "docs/devices.md says which device needs which driver and which options."


def driver_from(name: str, *, lsb_uv: float | None, options: Sequence[str]) -> Driver:
    """Make a driver.

    Parameters
    ----------
    options
        Each ``NAME=VALUE``, a parameter of the driver beside the weight of a code.

    Raises
    ------
    FormatError
        The driver or an option is unknown, or a value has the wrong form.
    """
    if name not in catalogue:
        make(name)  # raises, with the list
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(catalogue[name]).parameters.items()
        if key != "lsb_uv"
    }
    return make(name, lsb_uv=lsb_uv, **dict(_option(text, known, driver=name) for text in options))


def record_from(
    driver: Driver, *, seconds: float, serial: str | None, address: str | None, device: str | None,
    log: Path | None, on_seconds: Callable[[float], None],
) -> DriverResult:  # fmt: skip
    """Record from the device behind `driver`; Ctrl-C ends early and keeps what was received.

    Raises
    ------
    LinkError
        No sample came.
    """
    port = port_for(driver.info, serial=serial or "", address=address, name=device)
    with _logged(port, log, driver=driver.info.name) as over:
        return run(_record(driver, over, seconds=seconds, on_seconds=on_seconds))


def replayed_record(driver: Driver, log: NotificationLog, *, seconds: float, label: str) -> EcgRecord:
    """Feed `driver` a log; at most `seconds` of it.

    Raises
    ------
    EcgError
        The log holds no sample.
    """
    from edge_app.link.log.replay import replay_driver

    record = replay_driver(driver, log).to_record(start=None, device=label, record_id=new_id())
    limit = round(seconds * record.fs_hz)
    return record if record.n_samples <= limit else record.slice(0, limit)


async def _record(driver: Driver, over: Port, *, seconds: float, on_seconds: Callable[[float], None]) -> DriverResult:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        return await record_driver(
            driver, over=over, seconds=seconds, stop=stop, on_progress=on_seconds,
            start=StartTime(utc_iso=now().utc_iso, source="host"), record_id=new_id(),
        )  # fmt: skip


def _logged(port: Port, log: Path | None, *, driver: str) -> Any:
    if log is None:
        return nullcontext(port)
    from edge_app.link.log.writer import LoggingPort

    return LoggingPort(port, log, driver=driver)


def _option(text: str, known: dict[str, Any], *, driver: str) -> tuple[str, object]:
    """Name and value of ``NAME=VALUE``; a parameter with a number as default takes a number."""
    name, separator, value = text.partition("=")
    if not separator or name not in known:
        names = ", ".join(known) or "none"
        raise FormatError(f"found driver option {text!r}, expected NAME=VALUE with one of: {names}", advice=_SEE)
    default = known[name]
    # `plain_channels` has no default that tells its kind; no text of an option is a bare number.
    if not isinstance(default, int | float) and not (default is None and value.isdigit()):
        return name, value
    kind = int if isinstance(default, int) or default is None else float
    try:
        return name, kind(value)
    except ValueError:
        raise FormatError(f"{driver}: found {name}={value}, expected a number", advice=_SEE) from None
