"""What the source of a recording can know, and why some recordings may not be judged.

A device that sends no sample index cannot show that samples are missing; one whose scale nobody knows has no millivolts. Such
a recording may be looked at, but nothing may be concluded from it (:func:`missing_knowledge`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What the source of a recording knows: its scale, lost samples, time, and who it is.

    Attributes
    ----------
    driver
        Name of the device driver; empty for a file.
    gap_detectable
        Whether lost samples show. False: the recording may lack samples without a trace.
    calibrated
        Whether the weight of a count is known. False: amplitudes mean nothing.
    timestamped
        Whether samples carry the device's own time or index.
    authenticated
        Whether the device proved that it holds its key; None where nobody asked, as for a file.
    """

    driver: str = ""
    gap_detectable: bool = True
    calibrated: bool = True
    timestamped: bool = True
    authenticated: bool | None = None

    def __post_init__(self) -> None:
        """Refuse values of another type: a text "false" would be true."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            right = isinstance(value, str) if entry.name == "driver" else isinstance(value, bool)
            if not right and not (entry.name == "authenticated" and value is None):
                kind = "text" if entry.name == "driver" else "True or False"
                raise FormatError(f"found source {entry.name} {value!r}, expected {kind}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceInfo:
        """Return the source of a mapping; fields that are not there keep their defaults, unknown ones are refused."""
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            found = sorted(values) if isinstance(values, dict) else values
            raise FormatError(f"found source fields {found!r}, expected some of {sorted(known)}")
        return cls(**values)


# What is said of a recording that came from a file: it states its scale, and nobody asked a device who it is.
OF_A_FILE: Final = SourceInfo()


def missing_knowledge(source: SourceInfo) -> tuple[Reason, ...]:
    """Return why a recording of this source may not be judged, whatever its samples look like; empty where it may."""
    reasons = []
    if not source.gap_detectable:
        reasons.append(Reason.GAPS_UNKNOWN)
    if not source.calibrated:
        reasons.append(Reason.UNCALIBRATED)
    return tuple(reasons)
