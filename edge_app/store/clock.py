"""Host time, written down with how far it can be trusted: a Pi has no clock of its own while it is off."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# systemd-timesyncd touches this file after each successful synchronisation since boot.
_SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")

# Kernel's random id of this boot: orders monotonic times that belong together.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

# Crockford's base 32, as the ULID specification uses it: no I, L, O, U to misread.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

ID_LENGTH: Final = 26
_RANDOM_BITS: Final = 80


@dataclass(frozen=True, slots=True)
class HostTime:
    """One reading of the host's clocks.

    Attributes
    ----------
    utc_iso
        Wall time, ISO 8601 in UTC, milliseconds.
    trusted
        True where the wall clock was synchronised since boot; False where nothing vouches for it.
    monotonic_s
        Seconds of the clock that is never set back; comparable within one `boot_id`.
    boot_id
        Id of this boot, empty where the system has none.
    """

    utc_iso: str
    trusted: bool
    monotonic_s: float
    boot_id: str


def now() -> HostTime:
    """Read the clocks."""
    try:
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return HostTime(
        utc_iso=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        trusted=_SYNCHRONISED.exists(),
        monotonic_s=time.monotonic(),
        boot_id=boot_id,
    )


def new_id() -> str:
    """Return a new ULID: 48 bits of milliseconds, then 80 random bits; sorts by time, names nobody."""
    value = (time.time_ns() // 1_000_000 % (1 << 48)) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (ID_LENGTH - 1), -1, -5))


def is_id(text: str) -> bool:
    """Return whether `text` has the form of `new_id`."""
    return len(text) == ID_LENGTH and set(text) <= set(_ALPHABET)
