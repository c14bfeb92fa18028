"""The file of a notification log: everything a link carried, line by line.

JSON Lines. The first line is ``{"format": "e6l-log/1", "driver": NAME}``, each further one ``{"t_us", "channel",
"hex"}``: microseconds since the log began, what it is, the bytes. Channels of the six-lead profile:

- live, control, status, bulk: notifications, damaged ones too; request: what the host wrote to control;
- descriptor, status_read: what a read returned;
- connect (with "kind" and "mtu"), connect_failed, lost, disconnect: the link; without bytes.

Channels of another driver are its characteristics' UUIDs ("" on a serial line), and write. No name, no address and no
time of day goes into a log. It does hold the ECG of whoever was recorded, and an ECG can be recognised: treat it as a
health record.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lsemvae.ecg.errors import FormatError, StoreError

_LOGGER = logging.getLogger(__name__)

FORMAT: Final = "e6l-log/1"
E6L_DRIVER: Final = "e6l"

# 30 s of a six-lead device are 0.3 MB; ten minutes at ten times the rate stay below this.
MAX_LOG_BYTES: Final = 64 * 1024 * 1024
# No attribute is longer than 512 bytes; a serial port hands on what lay in its buffer.
_MAX_DATA_BYTES: Final = 65_536
# A pause that no recording has: beyond it a time was damaged, and a replay would wait for it.
_MAX_PAUSE_US: Final = 600_000_000
_MAX_CHANNEL: Final = 64
# The writer ends a log with the line that reaches the limit.
_READ_BYTES: Final = MAX_LOG_BYTES + 2 * _MAX_DATA_BYTES + 1024

_NEW_FORMAT: Final = "Update this program, or have the log written again by a version that writes " + FORMAT + "."


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a log; `mtu` (bytes) and `kind` of link are those of a connect line, 0 and empty elsewhere."""

    t_us: int
    channel: str
    data: bytes
    mtu: int = 0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line that was left out: its number, counted from 1, and what is wrong with it."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class NotificationLog:
    """A log as read; `damaged` names the lines that are not in `entries`."""

    driver: str
    entries: tuple[LogEntry, ...]
    damaged: tuple[DamagedLine, ...] = ()


class LogWriter:
    """A new log file, readable by its owner only; usable as a context manager.

    A log is a second copy. What fails after the file was made (a full disk) ends the log, never the recording.

    Attributes
    ----------
    failed
        Why the log ended early; empty where it did not.
    """

    def __init__(self, path: Path, *, driver: str = E6L_DRIVER) -> None:
        self.path = path
        self.failed = ""
        self._written = 0
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._line({"format": FORMAT, "driver": driver})
        except OSError as exc:
            self.close()
            raise StoreError(f"log {path}: found {exc.strerror}, expected a new file that can be written") from exc

    def append(self, channel: str, data: bytes = b"", *, t_us: int, **details: Any) -> None:
        """Keep an entry; it survives a crash of this process from here on."""
        if self._fd < 0:
            return
        try:
            self._line({"t_us": t_us, "channel": channel, "hex": data.hex(), **details})
        except OSError as exc:
            self._give_up(exc.strerror or str(exc))
        if self._written > MAX_LOG_BYTES:
            self._give_up(f"longer than {MAX_LOG_BYTES} bytes")

    def close(self) -> None:
        """Close the file; harmless the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, fields: dict[str, Any]) -> None:
        view = memoryview(json.dumps(fields, separators=(",", ":")).encode() + b"\n")
        self._written += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def _give_up(self, why: str) -> None:
        _LOGGER.warning("log %s ends here: %s", self.path.name, why)
        self.failed = why
        self.close()


def read_log(path: Path) -> NotificationLog:
    """Read a log; lines that make no sense are left out and named by number; without a valid first line it is none.

    Raises
    ------
    FormatError
        Not a log, one of another version, or longer than any recording.
    StoreError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_READ_BYTES + 1)
    except OSError as exc:
        raise StoreError(f"log {path}: found {exc.strerror}, expected a readable file") from exc
    if len(data) > _READ_BYTES:
        raise FormatError(f"log {path.name}: found more than {MAX_LOG_BYTES} bytes, expected a log of one session")
    return parse_log(data)


def parse_log(data: bytes) -> NotificationLog:
    """Read a log from the bytes of its file; see `read_log`."""
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    try:
        header = _object(lines[0] if lines else b"")
    except FormatError as exc:
        raise FormatError(f"log line 1: {exc}", advice="Choose a file that a session wrote as its log.") from exc
    if header.get("format") != FORMAT:
        raise FormatError(f"log line 1: found format {header.get('format')!r}, expected {FORMAT!r}", advice=_NEW_FORMAT)
    driver = str(header.get("driver", E6L_DRIVER))
    entries: list[LogEntry] = []
    damaged: list[DamagedLine] = []
    for number, line in enumerate(lines[1:], 2):
        try:
            entries.append(_entry(line, after_us=entries[-1].t_us if entries else 0))
        except FormatError as exc:
            damaged.append(DamagedLine(number, f"log line {number}: {exc}"))
    for item in damaged:
        _LOGGER.warning("%s", item.message)
    return NotificationLog(driver=driver, entries=tuple(entries), damaged=tuple(damaged))


def _entry(line: bytes, *, after_us: int) -> LogEntry:
    fields = _object(line)
    t_us = _whole_number(fields, "t_us", most=2**63)
    channel = fields.get("channel")
    if not isinstance(channel, str) or len(channel) > _MAX_CHANNEL:
        raise FormatError(f"found channel {str(channel)[:40]!r}, expected a text of at most {_MAX_CHANNEL}")
    if not after_us <= t_us <= after_us + _MAX_PAUSE_US:
        raise FormatError(f"found t_us {t_us}, expected {after_us} to {after_us + _MAX_PAUSE_US}")
    kind = fields.get("kind", "")
    if not isinstance(kind, str):
        raise FormatError(f"found kind {kind!r}, expected a text")
    mtu = _whole_number(fields, "mtu", most=0xFFFF) if "mtu" in fields else 0
    text = fields.get("hex")
    if not isinstance(text, str) or len(text) > 2 * _MAX_DATA_BYTES:
        raise FormatError(f"found hex {str(text)[:40]!r}, expected text of at most {_MAX_DATA_BYTES} bytes")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise FormatError(f"found hex {text[:40]!r}, expected pairs of hexadecimal digits") from None
    return LogEntry(t_us=t_us, channel=channel, data=data, mtu=mtu, kind=kind)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(f"found {line[:40]!r}, expected JSON") from None
    if not isinstance(value, dict):
        raise FormatError(f"found {type(value).__name__}, expected a JSON object")
    return value


def _whole_number(fields: dict[str, Any], name: str, *, most: int) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise FormatError(f"found {name} {str(value)[:40]}, expected 0 to {most}")
    return value
