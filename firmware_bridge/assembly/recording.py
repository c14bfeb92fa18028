"""One recording made of one or more streams.

Usually a recording is one stream. When a device was switched off and on in the middle, its ring and its sample count
are gone and a second stream begins; both lie on one time line, with the silence between them declared as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.assembly.drift import DriftFit
from firmware_bridge.assembly.einthoven import LimbCheck, check_limb_relations
from firmware_bridge.assembly.host_clock import HostClock
from firmware_bridge.assembly.quantise import UNKNOWN_SOURCE, Timeline, build_record, measured
from firmware_bridge.assembly.reassembly import Assembler, AssemblyStatistics
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.control import RetransmitParams
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import SampleCodec
from lsemvae.ecg.errors import LengthError, ProtocolError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime, runs_of
from lsemvae.ecg.source import SourceInfo


@dataclass(frozen=True, slots=True)
class _Part:
    at: int
    assembler: Assembler


class Recording:
    """Streams of one device on one time line; positions are samples since the start of the recording."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._of_empty_streams = AssemblyStatistics()
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
        total = self._of_empty_streams
        for part in self._parts:
            total = total.plus(part.assembler.statistics)
        return total

    def begin(
        self,
        descriptor: DeviceDescriptor,
        *,
        at: int = 0,
        codec: SampleCodec = SampleCodec.RAW24,
        t_us: int | None = None,
        pace: float = 1.0,
    ) -> None:
        """Open a stream at position `at`; a device with other leads, rate or scale cannot continue a recording.

        Parameters
        ----------
        codec
            What START asks for; frames in another are refused.
        t_us
            Host time in microseconds before START is written; None: the stream is not held against the host's clock.
        pace
            Seconds of the device per second of the host: 1, except for a simulation or a replay.
        """
        if self._descriptor is None:
            self._descriptor = descriptor
        elif not self._descriptor.same_signal(descriptor):
            message = (
                f"device changed during the recording: found {_brief(descriptor)}, expected {_brief(self._descriptor)}"
            )
            raise ProtocolError(message, advice="Use one device for a recording.")
        if self._parts and not self._parts[-1].assembler.elapsed:
            empty = self._parts.pop()  # it was opened but brought nothing, except perhaps frames to refuse
            self._of_empty_streams = self._of_empty_streams.plus(empty.assembler.statistics)
        if at < self.elapsed:
            raise LengthError(f"stream begins at sample {at}, expected {self.elapsed} or later")
        clock = None if t_us is None else HostClock(begun_us=t_us, fs_hz=descriptor.fs_hz, pace=pace)
        assembler = Assembler(n_leads=len(descriptor.leads), codec=codec, clock=clock)
        self._parts.append(_Part(at=at, assembler=assembler))

    def feed_bytes(self, data: bytes | bytearray, t_us: int | None = None) -> LiveFrame | None:
        """Put a notification that came at host time `t_us` in place in the newest stream (see `Assembler.feed_bytes`)."""
        return self._newest().feed_bytes(data, t_us)

    def fill(
        self,
        first_index: int,
        codes: NDArray[np.int32],
        contact: NDArray[np.uint8] | None = None,
        *,
        upto: int | None = None,
    ) -> int:
        """Put samples from the device's memory into gaps of the newest stream; return how many (see `Assembler.fill`).

        Parameters
        ----------
        first_index
            Index on the wire of the first sample: `StoredRecording.start_index`.
        upto
            Position on the recording's time line beyond which nothing is put (default: the newest sample seen).
        """
        newest = self._newest()
        return newest.fill(
            first_index, codes, contact, upto=None if upto is None else max(0, upto - self._parts[-1].at)
        )

    def retransmissions(
        self, *, upto: int | None = None, oldest_index: int | None = None
    ) -> tuple[RetransmitParams, ...]:
        """Return requests that would close gaps of the newest stream; earlier ones are gone with the device's ring.

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

    def gaps(self, upto: int | None = None) -> tuple[tuple[int, int], ...]:
        """Return runs ``(start, stop)`` without samples up to position `upto`."""
        return runs_of(~self.timeline(upto).received)

    def missing(self, upto: int | None = None) -> int:
        """Return how many samples are missing up to position `upto`."""
        return int(np.count_nonzero(~self.timeline(upto).received))

    def stream_position(self, index: int) -> int:
        """Return the position on the recording's time line of an index on the wire of the newest stream."""
        return self._parts[-1].at + self._newest().relative(index)

    def timeline(self, upto: int | None = None) -> Timeline:
        """Return everything up to position `upto`."""
        stop = self.elapsed if upto is None else upto
        joined = Timeline(
            codes=np.zeros((len(self.descriptor.leads), stop), dtype=np.int32),
            received=np.zeros(stop, dtype=np.bool_),
            contact=np.zeros(stop, dtype=np.uint8),
        )
        for part in self._parts:
            length = max(0, min(part.assembler.elapsed, stop - part.at))
            source, here = part.assembler.timeline(length), slice(part.at, part.at + length)
            joined.codes[:, here] = source.codes
            joined.received[here] = source.received
            joined.contact[here] = source.contact
        return joined

    def drift(self) -> DriftFit | None:
        """Return the device's clock against the host's, from the longest stream: a restart begins a new count and a new fit."""
        if not self._parts:
            return None
        longest = max(self._parts, key=lambda part: part.assembler.elapsed)
        return longest.assembler.drift()

    def limb_check(self, upto: int | None = None) -> LimbCheck:
        """Return whether the limb leads obey Einthoven's and Goldberger's relations, over samples with every electrode on."""
        timeline = self.timeline(upto)
        usable = measured(timeline, descriptor=self.descriptor).usable.all(axis=0)
        return check_limb_relations(
            timeline.codes[:, usable], leads=self.descriptor.leads, lsb_uv=self.descriptor.lsb_uv
        )

    def to_record(
        self,
        *,
        upto: int | None = None,
        start: StartTime | None = None,
        device: str = "",
        record_id: str = "",
        source: SourceInfo = UNKNOWN_SOURCE,
    ) -> EcgRecord:
        """Return the record up to position `upto`; what is missing is declared as gaps, the rate is the descriptor's."""
        return build_record(
            self.timeline(upto),
            descriptor=self.descriptor,
            start=start,
            device=device,
            record_id=record_id,
            source=source,
        )

    def _newest(self) -> Assembler:
        if not self._parts:
            raise LengthError("found no stream in the recording, expected at least one")
        return self._parts[-1].assembler


def _brief(descriptor: DeviceDescriptor) -> str:
    return f"{'/'.join(descriptor.leads)} at {descriptor.fs_hz:g} Hz, {descriptor.lsb_uv:g} uV per code"
