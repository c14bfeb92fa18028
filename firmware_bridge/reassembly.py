"""Frames in any order, some twice, some never, to one time line: pure, without a clock.

Order, duplicates and gaps are decided by the sample index ``t0`` alone (sequence numbers only count losses); the first
valid frame that brings a sample wins. Indices are 32 bits on the wire and are unwrapped against the newest sample seen.
At every moment ``received + samples in gaps = elapsed samples``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from firmware_bridge.codec import LiveFrame, decode_frame
from firmware_bridge.control import RetransmitParams
from firmware_bridge.descriptor import DeviceDescriptor
from firmware_bridge.errors import FrameCrcError, FrameError
from firmware_bridge.profile import INDEX_MODULUS, RETRANSMIT_MAX_SAMPLES, Contact, FrameFlag
from firmware_bridge.quantise import Timeline, build_record
from firmware_bridge.runs import runs_of
from lsemvae.ecg.record import EcgRecord, StartTime

# A valid frame further ahead than this is a firmware fault, not a gap: without a bound one frame could ask for
# gigabytes of silence. Ten minutes at 1 kHz are far beyond any ring.
MAX_JUMP_SAMPLES: Final = 600_000

_FIRST_CAPACITY: Final = 16_384  # 30 s at 500 Hz without growing


@dataclass(frozen=True, slots=True)
class AssemblyStatistics:
    """Counts since the start: what came, what was refused, what was mended."""

    frames: int = 0
    corrupt: int = 0
    malformed: int = 0
    duplicates: int = 0
    reordered: int = 0
    retransmitted: int = 0
    overruns: int = 0
    implausible: int = 0

    def plus(self, other: AssemblyStatistics) -> AssemblyStatistics:
        """Sum of both, field by field."""
        return AssemblyStatistics(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Assembler:
    """Puts the frames of one stream on one time line.

    Parameters
    ----------
    n_leads
        Channels per sample, from the descriptor.
    start_index
        Unwrapped index of the first sample of interest (0: the first since START).
    """

    def __init__(self, *, n_leads: int, start_index: int = 0, max_jump: int = MAX_JUMP_SAMPLES) -> None:
        self._n_leads = n_leads
        self._start = start_index
        self._max_jump = max_jump
        self._end = 0  # relative to _start, as is everything below
        self._codes = np.zeros((n_leads, _FIRST_CAPACITY), dtype=np.int32)
        self._received = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._contact = np.zeros(_FIRST_CAPACITY, dtype=np.uint8)
        self._counts: dict[str, int] = {field.name: 0 for field in fields(AssemblyStatistics)}
        self.last_seen = False

    @property
    def elapsed(self) -> int:
        """Samples from the start to the newest one, received or not."""
        return self._end

    @property
    def received(self) -> int:
        """Samples that are here."""
        return int(np.count_nonzero(self._received[: self._end]))

    @property
    def statistics(self) -> AssemblyStatistics:
        """What came so far."""
        return AssemblyStatistics(**self._counts)

    def feed_bytes(self, data: bytes | bytearray) -> LiveFrame | None:
        """Decode a notification and put it in place; a frame that cannot be trusted is counted and None is returned."""
        try:
            frame = decode_frame(data, n_leads=self._n_leads)
        except FrameCrcError:
            self._counts["corrupt"] += 1
            return None
        except FrameError:
            self._counts["malformed"] += 1
            return None
        return frame if self.feed(frame) else None

    def feed(self, frame: LiveFrame) -> bool:
        """Put a frame in place; False if its index is implausible or all of its samples were here already."""
        start = self._unwrap(frame.t0)
        stop = start + frame.n_samples
        if frame.samples.shape[0] != self._n_leads or stop <= 0 or start > self._end + self._max_jump:
            self._counts["implausible"] += 1
            return False
        self._count(frame)
        skip = max(0, -start)
        return self._place(frame, start=start + skip, skip=skip)

    def gaps(self, upto: int | None = None) -> tuple[tuple[int, int], ...]:
        """Runs ``(start, stop)`` that are missing up to sample `upto` (default: the newest one)."""
        stop = self._end if upto is None else upto
        missing = np.ones(stop, dtype=np.bool_)
        known = min(stop, self._end)
        missing[:known] = ~self._received[:known]
        return runs_of(missing)

    def retransmissions(self, *, upto: int | None = None, oldest: int = 0) -> tuple[RetransmitParams, ...]:
        """Requests that would close the gaps up to `upto`, less what lies before `oldest` (gone from the ring)."""
        requests: list[RetransmitParams] = []
        for start, stop in self.gaps(upto):
            for first in range(max(start, oldest), stop, RETRANSMIT_MAX_SAMPLES):
                count = min(RETRANSMIT_MAX_SAMPLES, stop - first)
                requests.append(RetransmitParams(t0=(self._start + first) % INDEX_MODULUS, count=count))
        return tuple(requests)

    def relative(self, index: int) -> int:
        """Position on this time line of an index as sent on the wire (modulo 2^32)."""
        return self._unwrap(index)

    def timeline(self, upto: int | None = None) -> Timeline:
        """Everything up to sample `upto`, copied."""
        stop = self._end if upto is None else upto
        self._reserve(stop)
        return Timeline(
            codes=self._codes[:, :stop].copy(),
            received=self._received[:stop].copy(),
            contact=self._contact[:stop].copy(),
        )

    def to_record(
        self,
        *,
        descriptor: DeviceDescriptor,
        upto: int | None = None,
        start: StartTime | None = None,
        device: str = "",
        record_id: str = "",
    ) -> EcgRecord:
        """The record up to sample `upto`: what is missing is declared as gaps (see `quantise.build_record`)."""
        return build_record(self.timeline(upto), descriptor=descriptor, start=start, device=device, record_id=record_id)

    def _unwrap(self, index: int) -> int:
        """Position on the time line nearest to the newest sample that `index` (modulo 2^32) can mean."""
        newest = self._start + self._end
        difference = (index - newest) % INDEX_MODULUS
        if difference >= INDEX_MODULUS // 2:
            difference -= INDEX_MODULUS
        return self._end + difference

    def _count(self, frame: LiveFrame) -> None:
        self._counts["frames"] += 1
        self._counts["retransmitted"] += bool(frame.flags & FrameFlag.RETRANSMITTED)
        self._counts["overruns"] += bool(frame.flags & FrameFlag.OVERRUN)
        self.last_seen |= bool(frame.flags & FrameFlag.LAST)

    def _place(self, frame: LiveFrame, *, start: int, skip: int) -> bool:
        stop = start + frame.n_samples - skip
        self._reserve(stop)
        new = ~self._received[start:stop]
        if not new.any():
            self._counts["duplicates"] += 1
            return False
        late = start < self._end and not frame.flags & FrameFlag.RETRANSMITTED
        self._counts["reordered"] += late
        self._codes[:, start:stop][:, new] = frame.samples[:, skip:][:, new]
        self._contact[start:stop][new] = int(frame.contact & Contact(0xFF))
        self._received[start:stop] = True
        self._end = max(self._end, stop)
        return True

    def _reserve(self, n_samples: int) -> None:
        have = self._received.size
        if n_samples <= have:
            return
        more = max(n_samples, 2 * have) - have
        self._codes = np.pad(self._codes, ((0, 0), (0, more)))
        self._received = np.pad(self._received, (0, more))
        self._contact = np.pad(self._contact, (0, more))
