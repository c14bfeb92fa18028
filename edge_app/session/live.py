"""Record from a device with a safety copy on the disk, and bring back what a crash left there."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_app.session import record_session
from edge_app.session.events import EventKind, Progress, SessionResult
from edge_app.session.keys import DeviceKeys
from edge_app.session.loop import run
from edge_app.session.spool import REAL_TIME, RecoveredSpool, Spool, recover_spool
from edge_app.store.clock import new_id, now
from lsemvae.ecg.errors import EcgError, LengthError, StoreError
from lsemvae.ecg.record import StartTime
from lsemvae.screen.datadir import ensure_dir, store_error

if TYPE_CHECKING:
    from edge_app.link.base import Transport
    from edge_app.session.intake import OnFrame
    from firmware_bridge.protocol.authenticity import DeviceKey

_LOGGER = logging.getLogger(__name__)

SPOOL_DIR = "spool"
SPOOL_SUFFIX = ".spool"

#: Ctrl-C, a service that is stopped (or a machine that shuts down), a terminal window that is closed.
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LiveRecording:
    """A finished session and the safety copy that must go once the recording is in the store.

    Attributes
    ----------
    spool_whole
        Whether the safety copy holds everything; False where the disk refused some of it.
    """

    session: SessionResult
    spool: Path
    spool_whole: bool = True

    def discard_spool(self) -> None:
        """Remove the safety copy."""
        self.spool.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A safety copy that a crash left behind: what it holds, or why it holds nothing.

    `empty` is True where the device had not sent a sample yet: then nothing is lost with the file.
    """

    spool: Path
    recovered: RecoveredSpool | None
    error: EcgError | None

    @property
    def empty(self) -> bool:
        """Whether there never was a sample."""
        return isinstance(self.error, LengthError)


def record_live(
    transport: Transport, *, seconds: float, data_dir: Path, on_progress: OnProgress | None = None,
    on_frame: OnFrame | None = None, keys: Iterable[DeviceKey] | None = None, allow_unauthenticated: bool = False,
    pace: float | None = REAL_TIME, device: str = "",
) -> LiveRecording:  # fmt: skip
    """Record `seconds` of signal; every received byte is on its way to the disk before anything is made of it.

    Ctrl-C (or SIGTERM, or a terminal that is closed) ends the recording early and keeps what was received.

    Parameters
    ----------
    keys
        Keys of the devices that may be recorded; None: those stored in `data_dir`.
    on_frame, allow_unauthenticated, pace, device
        See `record_session`.

    Raises
    ------
    DeviceNotAuthenticatedError
        The device proved none of `keys`, and that was not allowed.
    LinkError, ProtocolError
        Nothing was received.
    DriftError
        The device's clock is far off; the safety copy stays.
    StoreError, FormatError
        The safety copy cannot be created, or the stored keys cannot be read.
    """
    known = tuple(DeviceKeys(data_dir) if keys is None else keys)
    record_id = new_id()
    path = ensure_dir(data_dir / SPOOL_DIR) / f"{record_id}{SPOOL_SUFFIX}"
    session: SessionResult | None = None
    whole = True
    try:
        with Spool(path) as spool, _held(path):
            session = run(
                _record(
                    transport,
                    seconds=seconds,
                    sink=spool,
                    record_id=record_id,
                    on_progress=on_progress,
                    on_frame=on_frame,
                    keys=known,
                    allow_unauthenticated=allow_unauthenticated,
                    pace=pace,
                    device=device,
                )
            )
    except BaseException as error:  # Ctrl-C while connecting included
        if session is None or not isinstance(error, StoreError):
            _discard_if_empty(path)
            raise
        # The disk failed when the copy was closed; the recording itself is here and can still be judged and stored.
        _LOGGER.info("safety copy: %s", error)
        whole = False
    whole = whole and all(event.kind is not EventKind.SPOOL_FAILED for event in session.events)
    return LiveRecording(session=session, spool=path, spool_whole=whole)


def waiting(data_dir: Path) -> int:
    """Count the safety copies that no running recording holds: recordings that were interrupted."""
    return sum(not _is_surely_held(path) for path in (data_dir / SPOOL_DIR).glob(f"*{SPOOL_SUFFIX}"))


def leftovers(data_dir: Path) -> Iterator[Leftover]:
    """Yield every safety copy that no running recording holds."""
    for path in sorted((data_dir / SPOOL_DIR).glob(f"*{SPOOL_SUFFIX}")):
        try:
            if _is_held(path):
                continue
            yield Leftover(spool=path, recovered=recover_spool(path), error=None)
        except EcgError as error:
            yield Leftover(spool=path, recovered=None, error=error)


async def _record(transport: Transport, **options: Any) -> SessionResult:
    stop = asyncio.Event()
    start = StartTime(utc_iso=now().utc_iso, source="host")
    with stop_on_signals(stop):
        return await record_session(transport, stop=stop, start=start, **options)


@contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C or request to end finish the recording in order; a second one interrupts the program."""
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def release() -> None:
        while caught:
            loop.remove_signal_handler(caught.pop())

    def interrupted() -> None:
        release()
        stop.set()

    try:
        for number in _ENDING_SIGNALS:
            loop.add_signal_handler(number, interrupted)
            caught.append(number)
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: whoever owns it handles signals
        _LOGGER.debug("signals are left to the main thread")
    try:
        yield
    finally:
        release()


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


def _is_surely_held(path: Path) -> bool:
    try:
        return _is_held(path)
    except StoreError:  # `leftovers` says what is wrong with it
        return False


def _discard_if_empty(path: Path) -> None:
    """Remove the safety copy of a recording that never had a sample; keep whatever else is in it or wrong with it."""
    try:
        recover_spool(path)
    except LengthError:
        path.unlink(missing_ok=True)
    except EcgError as error:
        _LOGGER.info("safety copy kept: %s", error)
