"""One recorder for every device: what is received is on the disk before anything is made of it, and found after a crash.

Six-lead devices and those of other makers, over Bluetooth, a serial line or from a log: the same safety copy, the same
result, the same `edge_app recover`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from edge_app.session.events import EventKind, SessionResult, Watch
from edge_app.session.loop import run, stop_on_signals
from edge_app.session.run import Session
from edge_app.session.spool import RecoveredSpool, Spool, recover_spool
from edge_app.session.wish import Wish
from edge_app.store.clock import new_id, now
from lsemvae.ecg.errors import EcgError, LengthError, StoreError
from lsemvae.ecg.runs import StartTime
from lsemvae.screen.datadir import ensure_dir, store_error

if TYPE_CHECKING:
    from edge_app.link.base import Port, Transport

_LOGGER = logging.getLogger(__name__)

SPOOL_DIR: Final = "spool"
SPOOL_SUFFIX: Final = ".spool"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished recording and the safety copy that must go once the recording is in the store.

    Attributes
    ----------
    spool_whole
        Whether the safety copy holds everything; False where the disk refused some of it.
    """

    session: SessionResult
    spool: Path
    spool_whole: bool = True

    def discard_spool(self) -> None:
        """Remove the safety copy; where the disk refuses, `recover` later finds a recording that is stored already."""
        try:
            self.spool.unlink(missing_ok=True)
        except OSError as error:
            _LOGGER.warning("safety copy %s stays: %s", self.spool, error)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A safety copy that a crash left behind: what it holds, or why it holds nothing."""

    spool: Path
    recovered: RecoveredSpool | None
    error: EcgError | None

    @property
    def empty(self) -> bool:
        """Whether the device had not sent a sample yet: then nothing is lost with the file."""
        return isinstance(self.error, LengthError)


def record(link: Transport | Port, wish: Wish, *, data_dir: Path, watch: Watch | None = None) -> Recorded:
    """Record as `recording` does, in an event loop of its own.

    Ctrl-C (or SIGTERM, or a terminal that is closed) ends the recording early and keeps what was received.
    """

    async def until_stopped() -> Recorded:
        stop = asyncio.Event()
        with stop_on_signals(stop):
            return await recording(link, wish, data_dir=data_dir, watch=watch, stop=stop)

    return run(until_stopped())


async def recording(
    link: Transport | Port, wish: Wish, *, data_dir: Path, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> Recorded:
    """Record what `wish` says; every received byte is on its way to the disk before anything is made of it.

    Parameters
    ----------
    link
        A `Transport` to a six-lead device; with `wish.driver` the `Port` that its device is behind.
    wish
        What to record; time and id of the recording are filled in here.
    data_dir
        The safety copy lies in its folder `SPOOL_DIR`.
    watch
        Who is told how it goes.
    stop
        Set by the caller to end early with what is there.

    Raises
    ------
    DeviceNotAuthenticatedError
        The device proved none of the keys, and that was not allowed.
    LinkError, ProtocolError
        Nothing was received.
    DriftError
        The device's clock is far off; the safety copy stays.
    StoreError
        The safety copy cannot be created.
    """
    record_id = new_id()
    path = ensure_dir(data_dir / SPOOL_DIR) / f"{record_id}{SPOOL_SUFFIX}"
    wish = replace(wish, record_id=record_id, start=StartTime(utc_iso=now().utc_iso, source="host"))
    watch = watch or Watch()
    session: SessionResult | None = None
    whole = True
    try:
        with Spool(path) as spool, _held(path):
            if wish.driver is None:
                session = await Session(cast("Transport", link), wish, sink=spool, watch=watch, stop=stop).run()
            else:
                from edge_app.session.driver import DriverSession

                port, driver = cast("Port", link), wish.driver.make()
                session = await DriverSession(driver, port, wish, sink=spool, watch=watch, stop=stop).run()
    except BaseException as error:  # a second Ctrl-C included
        if session is None or not isinstance(error, StoreError):
            # A copy without a sample goes; whatever else is in it or wrong with it, it stays.
            try:
                recover_spool(path)
            except LengthError:
                path.unlink(missing_ok=True)
            except EcgError as kept:
                _LOGGER.info("safety copy kept: %s", kept)
            raise
        # The disk failed when the copy was closed; the recording itself is here and can still be judged and stored.
        _LOGGER.info("safety copy: %s", error)
        whole = False
    whole = whole and all(event.kind is not EventKind.SPOOL_FAILED for event in session.events)
    return Recorded(session=session, spool=path, spool_whole=whole)


def waiting(data_dir: Path) -> int:
    """Count the safety copies that no running recording holds: recordings that were interrupted."""
    count = 0
    for path in (data_dir / SPOOL_DIR).glob(f"*{SPOOL_SUFFIX}"):
        try:
            count += not _is_held(path)
        except StoreError:  # `leftovers` says what is wrong with it
            count += 1
    return count


def leftovers(data_dir: Path) -> Iterator[Leftover]:
    """Yield every safety copy that no running recording holds."""
    for path in sorted((data_dir / SPOOL_DIR).glob(f"*{SPOOL_SUFFIX}")):
        try:
            if _is_held(path):
                continue
            yield Leftover(spool=path, recovered=recover_spool(path), error=None)
        except EcgError as error:
            yield Leftover(spool=path, recovered=None, error=error)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Lock a safety copy while it is written; the lock ends with the process, however that ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        with _held(path):
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise store_error("read", path, error) from error
