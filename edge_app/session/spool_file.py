"""The file of a spool: entries that are only ever appended, and how they are found again.

Each entry is ``marker u16, kind u8, t_us u64, length u32, payload, CRC-32`` (little-endian, CRC over all before it); bytes
that are no valid entry, such as a torn tail, are skipped and counted. Entries reach the operating system at once and
the disk once a second.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from lsemvae.ecg.errors import FormatError, LengthError, StoreError

MAGIC: Final = b"E6LSPL\x01\n"
_MARKER: Final = 0xE65A
_MARKER_BYTES: Final = _MARKER.to_bytes(2, "little")
_HEAD: Final = struct.Struct("<HBQI")
_CRC: Final = struct.Struct("<I")
# Nothing a device sends is longer than one attribute (512 bytes): a larger length is a damaged entry.
_MAX_PAYLOAD: Final = 65_536


class EntryKind(IntEnum):
    """What an entry holds."""

    SESSION = 1  # JSON: record_id, start, device, source
    DESCRIPTOR = 2
    STREAM = 3  # JSON: at, codec, t_us, pace
    LIVE = 4
    CONTROL = 5
    STATUS = 6
    END = 7  # JSON: upto
    BULK = 8
    STORED = 9  # JSON: first_index, n_bytes, crc32, upto; the BULK entries before it hold the bytes


class Sink(Protocol):
    """Where a session puts what it receives."""

    def append(self, kind: EntryKind, payload: bytes, *, t_us: int) -> None:
        """Keep an entry; `StoreError` if that fails."""
        ...

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        ...


class Spool:
    """A new spool file; usable as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._write(MAGIC)
            os.fsync(self._fd)
            _sync_folder(path.parent)
        except OSError as exc:
            self._abandon()
            raise StoreError(f"spool {path}: found {exc.strerror}, expected a new file that can be written") from exc

    def append(self, kind: EntryKind, payload: bytes, *, t_us: int) -> None:
        """Keep an entry; it survives a crash of this process from here on."""
        body = _HEAD.pack(_MARKER, kind, t_us, len(payload)) + payload
        try:
            self._write(body + _CRC.pack(zlib.crc32(body)))
        except OSError as exc:
            raise StoreError(f"spool {self.path}: found {exc.strerror}, expected room for {len(body)} bytes") from exc

    def sync(self) -> None:
        """Bring what was appended to the disk; may take long on a memory card, so call it off the event loop."""
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise StoreError(f"spool {self.path}: found {exc.strerror}, expected a healthy disk") from exc

    def close(self) -> None:
        """Sync and close; harmless the second time. The file is closed even where the disk refuses to sync."""
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _abandon(self) -> None:
        """Leave no file behind that could not even be begun; one that was there before is not ours."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a spool."""

    kind: EntryKind
    t_us: int
    payload: bytes


def read_entries(data: bytes) -> Iterator[Entry | int]:
    """Valid entries in order; an int stands for that many bytes that are none."""
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        raise LengthError(f"spool: found {len(data)} bytes, expected at least the first {len(MAGIC)}")
    if not data.startswith(MAGIC):
        raise FormatError(f"spool: found {data[: len(MAGIC)]!r}, expected {MAGIC!r}")
    position, skipped = len(MAGIC), 0
    while position < len(data):
        entry, size = _entry_at(data, position)
        if entry is None:
            following = data.find(_MARKER_BYTES, position + 1)
            stop = len(data) if following < 0 else following
            skipped += stop - position
            position = stop
            continue
        if skipped:
            yield skipped
            skipped = 0
        yield entry
        position += size
    if skipped:
        yield skipped


def _entry_at(data: bytes, position: int) -> tuple[Entry | None, int]:
    if len(data) - position < _HEAD.size + _CRC.size:
        return None, 0
    marker, kind, t_us, length = _HEAD.unpack_from(data, position)
    stop = position + _HEAD.size + length
    if marker != _MARKER or length > _MAX_PAYLOAD or stop + _CRC.size > len(data) or kind not in tuple(EntryKind):
        return None, 0
    if zlib.crc32(data[position:stop]) != _CRC.unpack_from(data, stop)[0]:
        return None, 0
    return Entry(
        kind=EntryKind(kind), t_us=t_us, payload=data[position + _HEAD.size : stop]
    ), stop + _CRC.size - position


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
