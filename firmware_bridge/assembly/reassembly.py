"""Frames in any order, some twice, some never, to one time line: pure, without a clock.

Order, duplicates and gaps are decided by the sample index ``t0`` alone (sequence numbers only count losses); the first
valid frame that brings a sample wins. Indices are 32 bits on the wire and are unwrapped against the newest sample seen.
At every moment ``received + samples in gaps = elapsed samples``. What a stream cannot hold is refused and counted: another
codec than START asked for, samples that cannot exist yet by the host's time (which the caller gives), calibration
pulses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.assembly.drift import Arrivals, DriftFit
from firmware_bridge.assembly.host_clock import HostClock
from firmware_bridge.assembly.quantise import Timeline
from firmware_bridge.assembly.sample_buffer import SampleBuffer
from firmware_bridge.assembly.stored import check_agreement, check_stored
from firmware_bridge.protocol.codec import LiveFrame, decode_frame
from firmware_bridge.protocol.control import RetransmitParams
from firmware_bridge.protocol.errors import FrameCrcError, FrameError
from firmware_bridge.protocol.profile import INDEX_MODULUS, RETRANSMIT_MAX_SAMPLES, FrameFlag, SampleCodec
from lsemvae.ecg.runs import runs_of

# A valid frame further ahead than this is a firmware fault, not a gap: without a bound one frame could ask for
# gigabytes of silence. Ten minutes at 1 kHz are far beyond any ring.
MAX_JUMP_SAMPLES: Final = 600_000

# Two hours at 500 Hz: two leads then take 40 MB. A screening record is 30 s; only a device that makes up indices gets here.
MAX_STREAM_SAMPLES: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class AssemblyStatistics:
    """Counts since the start: what came, what was refused, what was mended.

    Attributes
    ----------
    frames
        Frames put in their place, new samples or not.
    corrupt, malformed
        Refused for the check sum; for anything else in their bytes.
    implausible, premature, foreign_codec
        Valid frames refused: an index far from the stream; samples that cannot exist yet by the host's time; another codec than
        the stream's.
    calibration
        Frames with the calibration pulse: time without signal.
    stored
        Samples filled in from the device's own recording.
    """

    frames: int = 0
    corrupt: int = 0
    malformed: int = 0
    duplicates: int = 0
    reordered: int = 0
    retransmitted: int = 0
    overruns: int = 0
    implausible: int = 0
    premature: int = 0
    foreign_codec: int = 0
    calibration: int = 0
    stored: int = 0

    def plus(self, other: AssemblyStatistics) -> AssemblyStatistics:
        """Return the sum of both, field by field."""
        return AssemblyStatistics(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Assembler:
    """The frames of one stream on one time line.

    Parameters
    ----------
    n_leads
        Channels per sample, from the descriptor.
    start_index
        Unwrapped index of the first sample of interest (0: the first since START).
    codec
        What START asked for: a frame in any other is not of this stream.
    clock
        Bounds the index by the host's time; None leaves only `max_jump`.
    keep_calibration
        Take samples under the calibration pulse as signal: for a check of the gain, never for a record.
    """

    def __init__(
        self,
        *,
        n_leads: int,
        start_index: int = 0,
        max_jump: int = MAX_JUMP_SAMPLES,
        max_samples: int = MAX_STREAM_SAMPLES,
        codec: SampleCodec = SampleCodec.RAW24,
        clock: HostClock | None = None,
        keep_calibration: bool = False,
    ) -> None:
        self._n_leads = n_leads
        self._start = start_index
        self._max_jump = max_jump
        self._max_samples = max_samples
        self._codec = codec
        self._clock = clock
        self._keep_calibration = keep_calibration
        self._buffer = SampleBuffer(n_leads=n_leads, limit=max_samples)  # positions are relative to _start
        self._arrivals = Arrivals()
        self._counts: dict[str, int] = {field.name: 0 for field in fields(AssemblyStatistics)}
        self.last_seen = False

    @property
    def elapsed(self) -> int:
        """Samples from the start to the newest one, received or not."""
        return self._buffer.end

    @property
    def received(self) -> int:
        """Samples that are here."""
        return self._buffer.received

    @property
    def statistics(self) -> AssemblyStatistics:
        """What came so far."""
        return AssemblyStatistics(**self._counts)

    @property
    def n_bytes(self) -> int:
        """Memory that the samples take."""
        return self._buffer.n_bytes

    def feed_bytes(self, data: bytes | bytearray, t_us: int | None = None) -> LiveFrame | None:
        """Decode a notification and put it in place; a frame that cannot be trusted is counted and None is returned."""
        try:
            frame = decode_frame(data, n_leads=self._n_leads)
        except FrameCrcError:
            self._counts["corrupt"] += 1
            return None
        except FrameError:
            self._counts["malformed"] += 1
            return None
        return frame if self.feed(frame, t_us) else None

    def feed(self, frame: LiveFrame, t_us: int | None = None) -> bool:
        """Put a frame in place; False if it does not belong here or brings nothing new.

        Parameters
        ----------
        t_us
            Host time of its arrival, on the clock of `clock`; without it neither guard nor drift sees the frame.
        """
        start = self._unwrap(frame.t0)
        refusal = self._refusal(frame, start=start, t_us=t_us)
        if refusal is not None:
            self._counts[refusal] += 1
            return False
        retransmitted, pulse = (bool(frame.flags & flag) for flag in (FrameFlag.RETRANSMITTED, FrameFlag.CALIBRATION))
        self._counts["frames"] += 1
        self._counts["retransmitted"] += retransmitted
        self._counts["overruns"] += bool(frame.flags & FrameFlag.OVERRUN)
        self._counts["calibration"] += pulse
        self.last_seen |= bool(frame.flags & FrameFlag.LAST)
        before, stop, skip = self.elapsed, start + frame.n_samples, max(0, -start)
        start += skip
        if pulse and not self._keep_calibration:
            new = self._buffer.bar(start, stop)
        else:
            new = self._buffer.place(frame.samples[:, skip:], start=start, contact=int(frame.contact) & 0xFF)
        if not new:
            self._counts["duplicates"] += 1
            return False
        if not retransmitted:
            self._counts["reordered"] += start < before
            if stop > before and t_us is not None and self._clock is not None:
                self._arrivals.add((self._start + stop) % INDEX_MODULUS, self._clock.device_us(t_us))
        return True

    def fill(
        self,
        first_index: int,
        codes: NDArray[np.int32],
        contact: NDArray[np.uint8] | None = None,
        *,
        upto: int | None = None,
    ) -> int:
        """Put samples that were read from the device's memory into gaps; what is here stays.

        Parameters
        ----------
        first_index
            Index on the wire of the first one (a stored recording's ``start_index``).
        codes
            Integers ``[lead, time]`` in device codes.
        contact
            uint8 ``[time]``, bits of `Contact`; None takes for each gap the electrodes that were off right before or after it.
        upto
            End of the time line (default: the newest sample seen); nothing is put beyond it.

        Returns
        -------
        int
            Samples that were missing and are now here.

        Raises
        ------
        StoredSamplesError
            If they are not of this stream: another shape, no place on it, or another signal where both are known.
        """
        samples, bits = check_stored(first_index, codes, contact, n_leads=self._n_leads)
        start = self._unwrap(first_index)
        stop = min(self.elapsed if upto is None else upto, self._max_samples)
        keep = slice(max(0, -start), max(0, stop - start))
        samples = samples[:, keep]
        if not samples.size:
            return 0
        at = start + keep.start
        check_agreement(*self._buffer.contradictions(samples, start=at))
        filled = self._buffer.fill(samples, None if bits is None else bits[keep], start=at)
        self._counts["stored"] += filled
        return filled

    def gaps(self, upto: int | None = None) -> tuple[tuple[int, int], ...]:
        """Return runs ``(start, stop)`` that are missing up to sample `upto` (default: the newest one)."""
        return runs_of(self._buffer.missing(self.elapsed if upto is None else upto))

    def retransmissions(self, *, upto: int | None = None, oldest: int = 0) -> tuple[RetransmitParams, ...]:
        """Return requests that would close the gaps up to `upto`, less what lies before `oldest` (gone from the ring)."""
        requests: list[RetransmitParams] = []
        for start, stop in runs_of(self._buffer.missing(self.elapsed if upto is None else upto, barred=False)):
            for first in range(max(start, oldest), stop, RETRANSMIT_MAX_SAMPLES):
                count = min(RETRANSMIT_MAX_SAMPLES, stop - first)
                requests.append(RetransmitParams(t0=(self._start + first) % INDEX_MODULUS, count=count))
        return tuple(requests)

    def relative(self, index: int) -> int:
        """Return the position on this time line of an index as sent on the wire (modulo 2^32)."""
        return self._unwrap(index)

    def drift(self) -> DriftFit | None:
        """Return the device's clock against the host's; None without a `clock` or while there is too little to tell."""
        return None if self._clock is None else self._arrivals.fit(nominal_fs_hz=self._clock.fs_hz)

    def timeline(self, upto: int | None = None) -> Timeline:
        """Return everything up to sample `upto`, copied."""
        return self._buffer.timeline(self.elapsed if upto is None else upto)

    def _refusal(self, frame: LiveFrame, *, start: int, t_us: int | None) -> str | None:
        """Return the name of the count for a frame that has no place here; None for one that has."""
        stop = start + frame.n_samples
        if frame.codec is not self._codec:
            return "foreign_codec"
        if frame.samples.shape[0] != self._n_leads or stop <= 0 or stop > self._max_samples:
            return "implausible"
        if start > self.elapsed + self._max_jump:
            return "implausible"
        possible = None if self._clock is None or t_us is None else self._clock.possible_samples(t_us)
        return "premature" if possible is not None and self._start + stop > possible else None

    def _unwrap(self, index: int) -> int:
        """Return the position nearest to the newest sample that `index` (modulo 2^32) can mean."""
        newest = self._start + self.elapsed
        difference = (index - newest) % INDEX_MODULUS
        if difference >= INDEX_MODULUS // 2:
            difference -= INDEX_MODULUS
        return self.elapsed + difference
