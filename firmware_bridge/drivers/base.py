"""What every device driver offers: bytes in, a record out, and what the record cannot know.

A driver is pure: no clock, no loop, no radio. Whoever runs it writes what :meth:`Driver.begin` and :meth:`Driver.poll`
return, hands over what arrives, and passes the time of arrival along. Bytes that cannot be used are counted, never
raised: a device that sends rubbish must not end a recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from lsemvae.ecg.record import check_lsb_uv
from lsemvae.ecg.source import SourceInfo

if TYPE_CHECKING:
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.ecg.runs import StartTime

Kind = Literal["ble", "serial"]

_SIG_BASE: Final = "0000{:04x}-0000-1000-8000-00805f9b34fb"

# With an unknown scale one code is written down as one microvolt. Nothing may be concluded from it: the record says
# `gain_known=False`.
ARBITRARY_LSB_UV: Final = 1.0


def sig_uuid(short: int) -> str:
    """Return the full UUID of a 16-bit one on the Bluetooth SIG's base."""
    return _SIG_BASE.format(short)


@dataclass(frozen=True, slots=True)
class QualityInfo:
    """What is known about the recordings of a device: gaps, scale, time.

    Attributes
    ----------
    gap_detectable
        Whether lost samples show: the stream carries an index, a sequence number or a time for each packet.
    calibrated
        Whether the weight of a code is known.
    timestamped
        Whether samples carry the device's own time or index.
    """

    gap_detectable: bool
    calibrated: bool
    timestamped: bool

    def source(self, driver: str, *, authenticated: bool | None = None) -> SourceInfo:
        """Return what a record says about where it came from."""
        return SourceInfo(
            driver=driver,
            gap_detectable=self.gap_detectable,
            calibrated=self.calibrated,
            timestamped=self.timestamped,
            authenticated=authenticated,
        )


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """How to find a device, how to talk to it, and what it measures.

    Attributes
    ----------
    name
        Key in the catalogue.
    title
        The trade name, to describe what the driver is for; no endorsement by anyone.
    kind
        "ble" or "serial".
    leads
        Leads of the record, in the order of its rows.
    fs_hz
        Nominal sampling rate.
    lsb_uv
        Weight of one code in microvolt, or None where nobody stated it.
    quality
        What its recordings can know.
    service_uuids, name_prefixes
        What it advertises; either is enough to recognise it.
    notify
        Characteristics to subscribe to, in this order, before anything is written. Also the names of the channels of
        `Driver.feed`.
    read
        Characteristics to read once before START; what comes back is fed under their name.
    write
        Characteristic for everything that the driver wants written.
    write_response
        Whether a write asks for a response; None where nothing says so: as the characteristic offers.
    min_mtu
        Smallest MTU at which its notifications arrive whole.
    baud
        Rate of the serial line.
    """

    name: str
    title: str
    kind: Kind
    leads: tuple[str, ...]
    fs_hz: float
    lsb_uv: float | None
    quality: QualityInfo
    service_uuids: tuple[str, ...] = ()
    name_prefixes: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: str | None = None
    write_response: bool | None = None
    min_mtu: int = 23
    baud: int | None = None

    def recognises(self, *, name: str = "", services: tuple[str, ...] = ()) -> bool:
        """Return whether an advertisement with this name and these services may be of such a device."""
        offered = {service.lower() for service in services}
        return bool(offered & set(self.service_uuids)) or bool(name and name.startswith(self.name_prefixes))


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """Counts since the beginning.

    Attributes
    ----------
    packets
        Packets whose samples were taken.
    corrupt
        Packets whose check sum, where there is one, does not match.
    malformed
        Packets or stretches of bytes that are nothing the driver knows.
    lost_samples
        Samples known to be missing (0 where gaps cannot be detected).
    duplicates
        Packets that brought only samples that were here already.
    overflow
        Samples not kept because the recording is full.
    """

    packets: int = 0
    corrupt: int = 0
    malformed: int = 0
    lost_samples: int = 0
    duplicates: int = 0
    overflow: int = 0


class Driver(Protocol):
    """One device during one recording.

    Attributes
    ----------
    info
        What the device is; where the device says more of itself on the way, this changes.
    remarks
        What the device refused or said of itself, in words.
    """

    info: DriverInfo
    remarks: tuple[str, ...]

    def begin(self) -> tuple[bytes, ...]:
        """Return what to write to start."""

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Return what to write now (keep-alive, polled protocols); `t_us` is monotonic, given by the caller."""

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take bytes of a characteristic (its UUID), or of the serial line (channel "")."""

    def end(self) -> tuple[bytes, ...]:
        """Return what to write to stop."""

    @property
    def elapsed(self) -> int:
        """Samples so far, gaps included."""

    @property
    def statistics(self) -> DriverStatistics:
        """What came so far."""

    @property
    def rate_seen_hz(self) -> float | None:
        """Samples per second by their arrival, gaps included; None under 5 s."""

    def to_record(self, *, start: StartTime | None, device: str, record_id: str = "") -> EcgRecord:
        """Return the record of everything so far; what is known to be missing is declared as gaps."""


def stated_lsb_uv(lsb_uv: float | None) -> float | None:
    """Return a weight that the user stated, checked; None stays None."""
    return None if lsb_uv is None else check_lsb_uv(lsb_uv)
