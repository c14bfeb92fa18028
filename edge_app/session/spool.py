"""The safety copy of a recording: an append-only file of everything a device sent, written while it is received.

Each entry is ``marker u16, kind u8, t_us u64, length u32, payload, CRC-32`` (little-endian, CRC over all before it); bytes
that are no valid entry, such as a torn tail, are skipped and counted. Entries reach the operating system at once and
the disk once a second. After a crash or a power cut the record is rebuilt by the same steps that the recording took.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_app.link.stored import MAX_RECORDING_BYTES
from edge_app.session.wish import REAL_TIME, DriverChoice, at_most
from firmware_bridge.assembly.reassembly import AssemblyStatistics
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.bulk import BulkAssembler, decode_recording
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.profile import SampleCodec
from lsemvae.ecg.errors import EcgError, FormatError, LengthError, StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime
from lsemvae.ecg.source import SourceInfo

if TYPE_CHECKING:
    from firmware_bridge.drivers.base import Driver, DriverStatistics

_LOGGER = logging.getLogger(__name__)

# Name of the driver in the records of the six-lead profile.
DRIVER: Final = "e6l"

MAGIC: Final = b"E6LSPL\x01\n"
_MARKER: Final = 0xE65A
_MARKER_BYTES: Final = _MARKER.to_bytes(2, "little")
_HEAD: Final = struct.Struct("<HBQI")
_CRC: Final = struct.Struct("<I")
# Nothing a device sends is longer than one attribute (512 bytes), and what lies in a serial port's buffer is cut to half
# of this: a larger length is a damaged entry.
_MAX_PAYLOAD: Final = 65_536
_CHUNK_BYTES: Final = _MAX_PAYLOAD // 2


class EntryKind(IntEnum):
    """What an entry holds."""

    SESSION = 1  # JSON: record_id, start, device, source; for a driver also seconds and driver (name, lsb_uv, options)
    DESCRIPTOR = 2
    STREAM = 3  # JSON: at, codec, t_us, pace
    LIVE = 4
    CONTROL = 5
    STATUS = 6
    END = 7  # JSON: upto
    BULK = 8
    STORED = 9  # JSON: first_index, n_bytes, crc32, upto; the BULK entries before it hold the bytes
    BYTES = 10  # for a driver: length u8 of the channel's name, the name, what came on the channel
    BEGIN = 11  # the driver was asked to begin; what it wrote
    POLL = 12  # the driver wrote something of its own accord; what


class Sink(Protocol):
    """Where a recording puts what it receives."""

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
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # without it the file's name may be gone after a power cut
            finally:
                os.close(folder)
        except OSError as exc:
            if self._fd >= 0:  # could not even be begun; one that was there before is not ours
                os.close(self._fd)
                self._fd = -1
                self.path.unlink(missing_ok=True)
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


def channel_payloads(channel: str, data: bytes) -> Iterator[bytes]:
    """Yield the payloads of BYTES entries that hold what came on a driver's channel."""
    name = channel.encode()
    for at in range(0, len(data), _CHUNK_BYTES):
        yield bytes((len(name),)) + name + data[at : at + _CHUNK_BYTES]


def assembly_of(statistics: DriverStatistics) -> AssemblyStatistics:
    """Return a driver's counts in the terms of a six-lead device."""
    return AssemblyStatistics(
        frames=statistics.packets, corrupt=statistics.corrupt, malformed=statistics.malformed,
        duplicates=statistics.duplicates,
    )  # fmt: skip


def read_entries(data: bytes) -> Iterator[Entry | int]:
    """Yield the valid entries in order; an int stands for that many bytes that are none."""
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        raise LengthError(f"spool: found {len(data)} bytes, expected at least the first {len(MAGIC)}")
    if not data.startswith(MAGIC):
        raise FormatError(f"spool: found {data[: len(MAGIC)]!r}, expected {MAGIC!r}")
    position, skipped = len(MAGIC), 0
    while position < len(data):
        entry = _entry_at(data, position)
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
        position += _HEAD.size + len(entry.payload) + _CRC.size
    if skipped:
        yield skipped


def _entry_at(data: bytes, position: int) -> Entry | None:
    """Return the entry that begins at `position`, None if no valid one does."""
    if len(data) - position < _HEAD.size + _CRC.size:
        return None
    marker, kind, t_us, length = _HEAD.unpack_from(data, position)
    stop = position + _HEAD.size + length
    if marker != _MARKER or length > _MAX_PAYLOAD or stop + _CRC.size > len(data) or kind not in tuple(EntryKind):
        return None
    if zlib.crc32(data[position:stop]) != _CRC.unpack_from(data, stop)[0]:
        return None
    return Entry(kind=EntryKind(kind), t_us=t_us, payload=data[position + _HEAD.size : stop])


@dataclass(frozen=True, slots=True)
class RecoveredSpool:
    """What a spool still holds.

    Attributes
    ----------
    complete
        Whether the recording ended in order (an END entry is there).
    skipped_bytes
        Bytes that are no valid entry.
    """

    record: EcgRecord
    statistics: AssemblyStatistics
    complete: bool
    skipped_bytes: int


def recover_spool(path: Path) -> RecoveredSpool:
    """Return the record that a spool holds, torn tail or not.

    Raises
    ------
    LengthError
        The device had not sent a sample yet.
    FormatError
        The file is no spool, or its entries do not fit each other.
    StoreError
        The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise StoreError(f"spool {path}: found {exc.strerror}, expected a readable file") from exc
    rebuild, skipped = _Rebuild(), 0
    for item in read_entries(data):
        if isinstance(item, int):
            skipped += item
            continue
        try:
            rebuild.take(item)
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            raise FormatError(
                f"spool entry: found {item.payload[:80]!r}, expected the fields of {item.kind.name}"
            ) from exc
    driver = rebuild.driver
    return RecoveredSpool(
        record=rebuild.record(),
        statistics=rebuild.recording.statistics if driver is None else assembly_of(driver.statistics),
        complete=rebuild.upto is not None,
        skipped_bytes=skipped,
    )


@dataclass(slots=True)
class _Rebuild:
    """The steps of a recording, taken again."""

    recording: Recording = field(default_factory=Recording)
    driver: Driver | None = None
    seconds: float = 0.0
    descriptor: bytes = b""
    pace: float = REAL_TIME
    session: dict[str, Any] = field(default_factory=dict)
    bulk: list[bytes] = field(default_factory=list)
    upto: int | None = None

    def take(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SESSION:
            self.session = _json(entry.payload)
            if self.session.get("driver") is not None:
                self.seconds = float(self.session["seconds"])
                self.driver = self.driver or DriverChoice.from_dict(self.session["driver"]).make()
        elif entry.kind is EntryKind.DESCRIPTOR:
            self.descriptor = entry.payload
        elif entry.kind is EntryKind.STREAM:
            stream = _json(entry.payload)
            t_us, self.pace = stream.get("t_us"), float(stream.get("pace", REAL_TIME))
            self.recording.begin(
                decode_descriptor(self.descriptor), at=int(stream["at"]), codec=SampleCodec(stream.get("codec", 0)),
                t_us=None if t_us is None else int(t_us), pace=self.pace,
            )  # fmt: skip
        elif entry.kind is EntryKind.LIVE and self.recording.n_streams:
            self.recording.feed_bytes(entry.payload, entry.t_us)
        elif entry.kind is EntryKind.BULK:
            self.bulk.append(entry.payload)
        elif entry.kind is EntryKind.STORED:
            self._fill(_json(entry.payload))
        elif entry.kind is EntryKind.END:
            self.upto = int(_json(entry.payload)["upto"])
        elif self.driver is not None:
            self._drive(self.driver, entry)
        elif entry.kind is EntryKind.BYTES:
            raise FormatError("spool: found bytes for a driver, expected the driver's name before them")

    def _drive(self, driver: Driver, entry: Entry) -> None:
        """Repeat one step of the driver; what it would write is not sent, because the answers are already here."""
        with suppress(EcgError):  # told while it was recorded
            if entry.kind is EntryKind.BEGIN:
                driver.begin()
            elif entry.kind is EntryKind.POLL:
                driver.poll(entry.t_us)
            elif entry.kind is EntryKind.BYTES:
                stop = 1 + entry.payload[0]
                driver.feed(entry.payload[1:stop].decode(), entry.payload[stop:], entry.t_us)

    def _fill(self, stored: dict[str, Any]) -> None:
        """Fill gaps from the device's own recording; a copy that is damaged leaves them as they are."""
        assembler = BulkAssembler(min(int(stored["n_bytes"]), MAX_RECORDING_BYTES))
        for frame in self.bulk:
            assembler.feed(frame)
        try:
            data = assembler.bytes(crc32=int(stored["crc32"]))
            codes = decode_recording(data, n_leads=len(self.recording.descriptor.leads))
            self.recording.fill(int(stored["first_index"]), codes, upto=int(stored["upto"]))
        except EcgError as exc:
            _LOGGER.info("stored recording in the spool not used: %s", exc)

    def record(self) -> EcgRecord:
        start = self.session.get("start")
        facts: dict[str, Any] = {
            "start": None if start is None else StartTime(start["utc_iso"], start["source"]),
            "device": str(self.session.get("device", "")),
            "record_id": str(self.session.get("record_id", "")),
        }
        if self.driver is not None:
            if not self.driver.elapsed:
                raise LengthError("spool: found no sample, expected at least one")
            return at_most(self.driver.to_record(**facts), self.seconds)
        if self.pace == REAL_TIME:
            self.recording.drift()  # raises where the device's clock, and with it the time axis, is wrong
        source = self.session.get("source")
        return self.recording.to_record(
            source=SourceInfo(driver=DRIVER) if source is None else SourceInfo.from_dict(source),
            upto=self.upto,
            **facts,
        )


def _json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as exc:
        raise FormatError(f"spool entry: found {payload[:40]!r}, expected JSON") from exc
    if not isinstance(value, dict):
        raise FormatError(f"spool entry: found {type(value).__name__}, expected a JSON object")
    return value
