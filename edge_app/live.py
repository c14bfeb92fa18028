"""Record from a device with a safety copy on the disk, and bring back what a crash left there."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_app.clock import new_id, now
from edge_app.datadir import ensure_dir, store_error
from edge_app.session import record_session
from edge_app.session_types import Progress, SessionResult
from edge_app.spool import RecoveredSpool, Spool, recover_spool
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.runs import StartTime

if TYPE_CHECKING:
    from edge_app.link.base import Transport

SPOOL_DIR = "spool"
SPOOL_SUFFIX = ".spool"

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LiveRecording:
    """A finished session and the safety copy that must go once the recording is in the store."""

    session: SessionResult
    spool: Path

    def discard_spool(self) -> None:
        """Remove the safety copy."""
        self.spool.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A safety copy that a crash left behind: what it holds, or why it holds nothing."""

    spool: Path
    recovered: RecoveredSpool | None
    error: EcgError | None


def record_live(
    transport: Transport, *, seconds: float, data_dir: Path, on_progress: OnProgress | None = None
) -> LiveRecording:
    """Record `seconds` of signal; every received byte is on its way to the disk before anything is made of it.

    Ctrl-C ends the recording early and keeps what was received.

    Raises
    ------
    LinkError, ProtocolError
        Nothing was received.
    StoreError
        The safety copy cannot be created.
    """
    record_id = new_id()
    path = ensure_dir(data_dir / SPOOL_DIR) / f"{record_id}{SPOOL_SUFFIX}"
    try:
        with Spool(path) as spool, _held(path):
            session = asyncio.run(_record(transport, seconds, spool, record_id, on_progress))
    except BaseException:  # Ctrl-C while connecting included
        _discard_if_empty(path)
        raise
    return LiveRecording(session=session, spool=path)


def leftovers(data_dir: Path) -> Iterator[Leftover]:
    """Yield every safety copy that no running recording holds."""
    for path in sorted((data_dir / SPOOL_DIR).glob(f"*{SPOOL_SUFFIX}")):
        if _is_held(path):
            continue
        try:
            yield Leftover(spool=path, recovered=recover_spool(path), error=None)
        except EcgError as error:
            yield Leftover(spool=path, recovered=None, error=error)


async def _record(
    transport: Transport, seconds: float, spool: Spool, record_id: str, on_progress: OnProgress | None
) -> SessionResult:
    stop = asyncio.Event()
    with _interrupt_sets(stop):
        return await record_session(
            transport,
            seconds=seconds,
            sink=spool,
            on_progress=on_progress,
            stop=stop,
            start=StartTime(utc_iso=now().utc_iso, source="host"),
            record_id=record_id,
        )


@contextmanager
def _interrupt_sets(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C end the recording in order; a second one interrupts the program."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


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


def _discard_if_empty(path: Path) -> None:
    """Remove the safety copy of a recording that never had a sample; keep anything that can be brought back."""
    try:
        recover_spool(path)
    except EcgError:
        path.unlink(missing_ok=True)
