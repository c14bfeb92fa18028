"""A million damaged, foreign and hostile frames through `Assembler.feed_bytes`.

    OMP_NUM_THREADS=1 python tests/evidence/reassembly_fuzz.py [FRAMES] [SEED]

Each frame is one of: a true one; a true one with bits flipped, cut, lengthened or joined to another; random bytes; a frame with a
right check sum but another header. Held against an oracle of its own (`binascii.crc_hqx` and a look at the header):

- nothing but the codec's own refusals happens: no exception;
- every accepted frame has a right check sum, version, codec and length, and its samples are the bytes of the notification;
- samples that cannot exist by the host's time are refused;
- received + gaps = elapsed, checked every 1000 frames;
- the memory of the time line stays under what the stream's length allows.
"""

from __future__ import annotations

import binascii
import resource
import struct
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from firmware_bridge.assembly.host_clock import HostClock
from firmware_bridge.assembly.reassembly import MAX_STREAM_SAMPLES, Assembler
from firmware_bridge.protocol.codec import LiveFrame, encode_frame

FS_HZ = 500.0
N = 25
LEADS = 2
# Two leads: 4 bytes a code and 3 bytes of flags a sample, doubled while an array grows.
BYTES_PER_SAMPLE = 4 * LEADS + 3
ARRIVALS_BYTES = 4_000_000


@dataclass
class Outcome:
    """Counts of a run; `violations` are sentences, none of which may exist."""

    kinds: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)
    elapsed: int = 0
    peak_bytes: int = 0


class Attack:
    """Makes frames; half of them are what a device sends, so that the stream goes on."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._sent = 0
        self._last = b""

    def next(self) -> tuple[str, bytes, int]:
        """Kind, bytes and host time in us of the next notification."""
        kind = str(self._rng.choice(KINDS, p=WEIGHTS))
        raw: bytes = getattr(self, f"_{kind}")()
        return kind, raw, round(self._sent * N / FS_HZ * 1e6)

    def _true(self) -> bytes:
        samples = self._rng.integers(-(1 << 23), 1 << 23, (LEADS, N), dtype=np.int32)
        self._last = encode_frame(LiveFrame(samples=samples, t0=self._sent * N % (1 << 32), seq=self._sent & 0xFFFF))
        self._sent += 1
        return self._last

    def _flipped(self) -> bytes:
        raw = bytearray(self._true())
        for bit in self._rng.integers(0, 8 * len(raw), int(self._rng.integers(1, 9))):
            raw[bit // 8] ^= 1 << bit % 8
        return bytes(raw)

    def _cut(self) -> bytes:
        return self._true()[: int(self._rng.integers(0, 162))]

    def _lengthened(self) -> bytes:
        return self._true() + self._rng.bytes(int(self._rng.integers(1, 30)))

    def _joined(self) -> bytes:
        at = int(self._rng.integers(1, 161))
        before = self._last or self._true()
        return before[:at] + self._true()[at:]

    def _random(self) -> bytes:
        return bytes(self._rng.bytes(int(self._rng.integers(0, 300))))

    def _hostile(self) -> bytes:
        """A right check sum over a header that may say anything."""
        rng, due = self._rng, self._sent * N
        n = int(rng.integers(0, 60))
        first = int(rng.choice([0x10, 0x10, 0x10, 0x11, 0x12, 0x20, 0x00, int(rng.integers(0, 256))]))
        t0 = int(rng.choice([due, due + int(rng.integers(1, 650_000)), int(rng.integers(0, 1 << 32))])) % (1 << 32)
        flags = int(rng.choice([0, 1, 2, 4, 8, 0x80, int(rng.integers(0, 256))]))
        stated = n if rng.random() < 0.8 else int(rng.integers(0, 256))
        head = struct.pack("<BBHIBB", first, flags, self._sent & 0xFFFF, t0, stated, int(rng.integers(0, 256)))
        raw = head + rng.bytes(n * LEADS * int(rng.choice([2, 3])))
        return raw + struct.pack("<H", binascii.crc_hqx(raw, 0xFFFF))


KINDS = ("true", "flipped", "cut", "lengthened", "joined", "random", "hostile")
WEIGHTS = (0.3, 0.2, 0.08, 0.08, 0.08, 0.06, 0.2)


def oracle_refuses(raw: bytes, *, t_us: int, clock: HostClock) -> str | None:
    """Why these bytes may not bring samples, said without the code under test; None where they may."""
    if len(raw) < 12 or binascii.crc_hqx(raw[:-2], 0xFFFF) != int.from_bytes(raw[-2:], "little"):
        return "check sum"
    if raw[0] != 0x10:
        return "version or codec"
    if raw[8] == 0 or len(raw) != 12 + raw[8] * LEADS * 3:
        return "length"
    # An index in the upper half of its range lies before the stream, not 49 days after it.
    t0 = int.from_bytes(raw[4:8], "little")
    latest = t_us * 1e-6 * 1.01 * clock.fs_hz + 0.5 * clock.fs_hz
    return "time" if latest < t0 + raw[8] < (1 << 31) else None


def run(frames: int, *, seed: int = 0, guarded: bool = True) -> Outcome:
    """Feed `frames` notifications and hold every one against the oracle; without `guarded` nobody gives the host's time."""
    attack, outcome = Attack(seed), Outcome()
    clock = HostClock(begun_us=0, fs_hz=FS_HZ)
    assembler = Assembler(n_leads=LEADS, clock=clock)
    for number in range(frames):
        kind, raw, t_us = attack.next()
        outcome.kinds[kind] += 1
        before = assembler.elapsed
        try:
            frame = assembler.feed_bytes(raw, t_us if guarded else None)
        except Exception as error:  # whatever it is, it is a violation
            outcome.violations.append(f"frame {number} ({kind}): {type(error).__name__}: {error}")
            continue
        refusal = oracle_refuses(raw, t_us=t_us if guarded else 1 << 50, clock=clock)
        if frame is not None:
            outcome.accepted[kind] += 1
            if refusal is not None:
                outcome.violations.append(f"frame {number} ({kind}): accepted, expected a refusal for its {refusal}")
            if _bytes_of(frame) != raw[10:-2]:
                outcome.violations.append(f"frame {number} ({kind}): samples differ from the bytes")
        elif refusal is not None and assembler.elapsed != before:
            outcome.violations.append(f"frame {number} ({kind}): refused, but the time line grew")
        if number % 1000 == 0:
            _check(assembler, outcome, number)
    _check(assembler, outcome, frames)
    outcome.statistics = {name: getattr(assembler.statistics, name) for name in assembler.statistics.__slots__}
    outcome.elapsed = assembler.elapsed
    return outcome


def _bytes_of(frame: LiveFrame) -> bytes:
    return b"".join(int(code).to_bytes(3, "little", signed=True) for code in frame.samples.T.ravel())


def _check(assembler: Assembler, outcome: Outcome, number: int) -> None:
    missing = sum(stop - start for start, stop in assembler.gaps())
    if assembler.received + missing != assembler.elapsed:
        outcome.violations.append(f"after frame {number}: {assembler.received} + {missing} != {assembler.elapsed}")
    allowed = BYTES_PER_SAMPLE * min(max(16_384, 2 * assembler.elapsed), MAX_STREAM_SAMPLES)
    outcome.peak_bytes = max(outcome.peak_bytes, assembler.n_bytes)
    if assembler.n_bytes > allowed or assembler.elapsed > MAX_STREAM_SAMPLES:
        outcome.violations.append(f"after frame {number}: {assembler.n_bytes} bytes for {assembler.elapsed} samples")


def main(frames: int = 1_000_000, seed: int = 0) -> int:
    """Run in stretches of a fresh stream each, half of them without the host's time, and print what came out."""
    total, violations = Counter[str](), list[str]()
    began_s, stretch = time.perf_counter(), max(1, frames // 10)
    for part in range(10):
        outcome = run(stretch, seed=seed + part, guarded=part % 2 == 0)
        total.update({f"sent {kind}": n for kind, n in outcome.kinds.items()})
        total.update({f"accepted {kind}": n for kind, n in outcome.accepted.items()})
        total.update({f"counted {name}": n for name, n in outcome.statistics.items()})
        violations += outcome.violations
        host = "host time given" if part % 2 == 0 else "without host time"
        print(
            f"stretch {part} ({host}): {stretch} frames, {outcome.elapsed} samples, time line {outcome.peak_bytes / 1e6:.1f} MB"
        )
    for name, n in sorted(total.items()):
        print(f"{name:26} {n:9d}")
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{10 * stretch} frames in {time.perf_counter() - began_s:.0f} s, peak resident {rss_mb:.0f} MB")
    print("\n".join(violations[:20]) or "no violation")
    return 1 if violations else 0


def traced_peak(frames: int, *, seed: int) -> tuple[Outcome, int]:
    """A run under `tracemalloc`: its outcome and the most bytes that were held at once."""
    tracemalloc.start()
    try:
        outcome = run(frames, seed=seed)
        return outcome, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:3])))
