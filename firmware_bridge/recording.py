"""One recording made of one or more streams.

Usually a recording is one stream. When a device was switched off and on in the middle, its ring and its sample count
are gone and a second stream begins; both lie on one time line, with the silence between them declared as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firmware_bridge.codec import LiveFrame
from firmware_bridge.control import RetransmitParams
from firmware_bridge.descriptor import DeviceDescriptor
from firmware_bridge.quantise import Timeline, build_record
from firmware_bridge.reassembly import Assembler, AssemblyStatistics
from lsemvae.ecg.errors import LengthError, ProtocolError
from lsemvae.ecg.record import EcgRecord, StartTime


@dataclass(frozen=True, slots=True)
class _Part:
    at: int
    assembler: Assembler


class Recording:
    """Streams of one device on one time line; positions are samples since the start of the recording."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._descriptor: DeviceDescriptor | None = None

    @property
    def descriptor(self) -> DeviceDescriptor:
        """What the device said about itself when the recording began."""
        if self._descriptor is None:
            raise LengthError("found no stream in the recording, expected at least one")
        return self._descriptor

    @property
    def n_streams(self) -> int:
        """Streams so far: more than one means that the device was restarted."""
        return len(self._parts)

    @property
    def elapsed(self) -> int:
        """Samples from the start to the newest one, received or not."""
        ends = (part.at + part.assembler.elapsed for part in self._parts if part.assembler.elapsed)
        return max(ends, default=0)

    @property
    def received(self) -> int:
        """Samples that are here."""
        return sum(part.assembler.received for part in self._parts)

    @property
    def ended_by_device(self) -> bool:
        """Whether the newest stream carried the flag of a last frame."""
        return bool(self._parts) and self._parts[-1].assembler.last_seen

    @property
    def statistics(self) -> AssemblyStatistics:
        """Counts over all streams."""
        total = AssemblyStatistics()
        for part in self._parts:
            total = total.plus(part.assembler.statistics)
        return total

    def begin(self, descriptor: DeviceDescriptor, *, at: int = 0) -> None:
        """Open a stream at position `at`; a device with other leads, rate or scale cannot continue a recording."""
        if self._descriptor is None:
            self._descriptor = descriptor
        elif not self._descriptor.same_signal(descriptor):
            message = (
                f"device changed during the recording: found {_brief(descriptor)}, expected {_brief(self._descriptor)}"
            )
            raise ProtocolError(message, advice="Use one device for a recording.")
        if self._parts and not self._parts[-1].assembler.elapsed:
            self._parts.pop()  # it was opened but brought nothing
        if at < self.elapsed:
            raise LengthError(f"stream begins at sample {at}, expected {self.elapsed} or later")
        self._parts.append(_Part(at=at, assembler=Assembler(n_leads=len(descriptor.leads))))

    def feed_bytes(self, data: bytes | bytearray) -> LiveFrame | None:
        """Put a notification in place in the newest stream (see `Assembler.feed_bytes`)."""
        return self._newest().feed_bytes(data)

    def retransmissions(
        self, *, upto: int | None = None, oldest_index: int | None = None
    ) -> tuple[RetransmitParams, ...]:
        """Requests that would close gaps of the newest stream; earlier ones are gone with the device's ring.

        Parameters
        ----------
        upto
            Position on the recording's time line.
        oldest_index
            Index on the wire of the oldest sample in the device's ring.
        """
        part = self._parts[-1]
        oldest = 0 if oldest_index is None else part.assembler.relative(oldest_index)
        return part.assembler.retransmissions(
            upto=None if upto is None else max(0, upto - part.at), oldest=max(0, oldest)
        )

    def missing(self, upto: int | None = None) -> int:
        """Samples not received up to position `upto`."""
        return int(np.count_nonzero(~self.timeline(upto).received))

    def stream_position(self, index: int) -> int:
        """Position on the recording's time line of an index on the wire of the newest stream."""
        return self._parts[-1].at + self._newest().relative(index)

    def timeline(self, upto: int | None = None) -> Timeline:
        """Everything up to position `upto`."""
        stop = self.elapsed if upto is None else upto
        joined = Timeline(
            codes=np.zeros((len(self.descriptor.leads), stop), dtype=np.int32),
            received=np.zeros(stop, dtype=np.bool_),
            contact=np.zeros(stop, dtype=np.uint8),
        )
        for part in self._parts:
            _paste(part, into=joined)
        return joined

    def to_record(
        self, *, upto: int | None = None, start: StartTime | None = None, device: str = "", record_id: str = ""
    ) -> EcgRecord:
        """The record up to position `upto`; what is missing is declared as gaps."""
        return build_record(
            self.timeline(upto), descriptor=self.descriptor, start=start, device=device, record_id=record_id
        )

    def _newest(self) -> Assembler:
        if not self._parts:
            raise LengthError("found no stream in the recording, expected at least one")
        return self._parts[-1].assembler


def _paste(part: _Part, *, into: Timeline) -> None:
    length = max(0, min(part.assembler.elapsed, into.n_samples - part.at))
    source = part.assembler.timeline(length)
    here = slice(part.at, part.at + length)
    into.codes[:, here] = source.codes
    into.received[here] = source.received
    into.contact[here] = source.contact


def _brief(descriptor: DeviceDescriptor) -> str:
    return f"{'/'.join(descriptor.leads)} at {descriptor.fs_hz:g} Hz, {descriptor.lsb_uv:g} uV per code"
