"""An append-only log of everything a device sent, written while it is received.

After a crash or a power cut the record is rebuilt from it. Each entry is ``marker u16, kind u8, t_us u64, length u32,
payload, CRC-32`` (little- endian, CRC over all before it); bytes that are no valid entry, such as a torn tail, are
skipped and counted. Entries reach the operating system at once and the disk once a second.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from firmware_bridge.descriptor import decode_descriptor
from firmware_bridge.reassembly import AssemblyStatistics
from firmware_bridge.recording import Recording
from lsemvae.ecg.errors import FormatError, LengthError, StoreError
from lsemvae.ecg.record import EcgRecord, StartTime

MAGIC: Final = b"E6LSPL\x01\n"
_MARKER: Final = 0xE65A
_MARKER_BYTES: Final = _MARKER.to_bytes(2, "little")
_HEAD: Final = struct.Struct("<HBQI")
_CRC: Final = struct.Struct("<I")
# Nothing a device sends is longer than one attribute (512 bytes): a larger length is a damaged entry.
_MAX_PAYLOAD: Final = 65_536


class EntryKind(IntEnum):
    """What an entry holds."""

    SESSION = 1  # JSON: record_id, start, device
    DESCRIPTOR = 2
    STREAM = 3  # JSON: at
    LIVE = 4
    CONTROL = 5
    STATUS = 6
    END = 7  # JSON: upto


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


@dataclass(frozen=True, slots=True)
class RecoveredSpool:
    """What a spool still holds.

    Attributes
    ----------
    complete
        Whether the session ended in order (an END entry is there).
    skipped_bytes
        Bytes that are no valid entry.
    """

    record: EcgRecord
    statistics: AssemblyStatistics
    complete: bool
    skipped_bytes: int


@dataclass(slots=True)
class _Rebuild:
    recording: Recording = field(default_factory=Recording)
    descriptor: bytes = b""
    session: dict[str, Any] = field(default_factory=dict)
    upto: int | None = None

    def take(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SESSION:
            self.session = _json(entry.payload)
        elif entry.kind is EntryKind.DESCRIPTOR:
            self.descriptor = entry.payload
        elif entry.kind is EntryKind.STREAM:
            self.recording.begin(decode_descriptor(self.descriptor), at=int(_json(entry.payload)["at"]))
        elif entry.kind is EntryKind.LIVE and self.recording.n_streams:
            self.recording.feed_bytes(entry.payload)
        elif entry.kind is EntryKind.END:
            self.upto = int(_json(entry.payload)["upto"])

    def record(self) -> EcgRecord:
        start = self.session.get("start")
        return self.recording.to_record(
            upto=self.upto,
            start=None if start is None else StartTime(start["utc_iso"], start["source"]),
            device=str(self.session.get("device", "")),
            record_id=str(self.session.get("record_id", "")),
        )


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


def recover_spool(path: Path) -> RecoveredSpool:
    """The record that a spool holds, torn tail or not; `FormatError` or `LengthError` if it holds none."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise StoreError(f"spool {path}: found {exc.strerror}, expected a readable file") from exc
    rebuild, skipped = _Rebuild(), 0
    for item in read_entries(data):
        if isinstance(item, int):
            skipped += item
        else:
            _take(rebuild, item)
    return RecoveredSpool(
        record=rebuild.record(),
        statistics=rebuild.recording.statistics,
        complete=rebuild.upto is not None,
        skipped_bytes=skipped,
    )


def _take(rebuild: _Rebuild, entry: Entry) -> None:
    try:
        rebuild.take(entry)
    except (KeyError, TypeError, ValueError) as exc:
        raise FormatError(
            f"spool entry: found {entry.payload[:80]!r}, expected the fields of {entry.kind.name}"
        ) from exc


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


def _json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as exc:
        raise FormatError(f"spool entry: found {payload[:40]!r}, expected JSON") from exc
    if not isinstance(value, dict):
        raise FormatError(f"spool entry: found {type(value).__name__}, expected a JSON object")
    return value


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


__all__ = ["Entry", "EntryKind", "RecoveredSpool", "Sink", "Spool", "read_entries", "recover_spool"]
