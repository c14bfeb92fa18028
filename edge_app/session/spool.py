"""An append-only log of everything a device sent, written while it is received.

After a crash or a power cut the record is rebuilt from it, by the same steps that a session takes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_app.session.spool_file import MAGIC, Entry, EntryKind, Sink, Spool, read_entries
from firmware_bridge.assembly.reassembly import AssemblyStatistics
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.bulk import BulkAssembler, decode_recording
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.profile import SampleCodec
from lsemvae.ecg.errors import EcgError, FormatError, StoreError
from lsemvae.ecg.record import EcgRecord, StartTime
from lsemvae.ecg.source import SourceInfo

__all__ = ["MAGIC", "Entry", "EntryKind", "RecoveredSpool", "Sink", "Spool", "read_entries", "recover_spool"]

_LOGGER = logging.getLogger(__name__)

# Name of the driver in the records of this protocol.
DRIVER: Final = "e6l"

# Seconds of the device per second of this computer, unless the device is a simulation.
REAL_TIME: Final = 1.0

# The longest recording that a device may announce: 30 s at 2 kHz of 4 leads in 24 bits, rounded up.
MAX_RECORDING_BYTES: Final = 1 << 20


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
    pace: float = 1.0
    session: dict[str, Any] = field(default_factory=dict)
    bulk: list[bytes] = field(default_factory=list)
    upto: int | None = None

    def take(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SESSION:
            self.session = _json(entry.payload)
        elif entry.kind is EntryKind.DESCRIPTOR:
            self.descriptor = entry.payload
        elif entry.kind is EntryKind.STREAM:
            self._begin(_json(entry.payload))
        elif entry.kind is EntryKind.LIVE and self.recording.n_streams:
            self.recording.feed_bytes(entry.payload, entry.t_us)
        elif entry.kind is EntryKind.BULK:
            self.bulk.append(entry.payload)
        elif entry.kind is EntryKind.STORED:
            self._fill(_json(entry.payload))
        elif entry.kind is EntryKind.END:
            self.upto = int(_json(entry.payload)["upto"])

    def _begin(self, stream: dict[str, Any]) -> None:
        t_us, self.pace = stream.get("t_us"), float(stream.get("pace", 1.0))
        self.recording.begin(
            decode_descriptor(self.descriptor), at=int(stream["at"]), codec=SampleCodec(stream.get("codec", 0)),
            t_us=None if t_us is None else int(t_us), pace=self.pace,
        )  # fmt: skip

    def _fill(self, stored: dict[str, Any]) -> None:
        """What the device kept in its memory; a copy that is damaged leaves the gaps as they are."""
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
        if self.pace == REAL_TIME:
            self.recording.drift()  # raises where the device's clock, and with it the time axis, is wrong
        start = self.session.get("start")
        source = self.session.get("source")
        return self.recording.to_record(
            source=SourceInfo(driver=DRIVER) if source is None else SourceInfo.from_dict(source),
            upto=self.upto,
            start=None if start is None else StartTime(start["utc_iso"], start["source"]),
            device=str(self.session.get("device", "")),
            record_id=str(self.session.get("record_id", "")),
        )


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


def _json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as exc:
        raise FormatError(f"spool entry: found {payload[:40]!r}, expected JSON") from exc
    if not isinstance(value, dict):
        raise FormatError(f"spool entry: found {type(value).__name__}, expected a JSON object")
    return value
