"""Damaged, foreign and hostile frames: no crash, no sample with a bad check sum, bounded memory.

The small version of ``tests/evidence/reassembly_fuzz.py``, which sends a million.
"""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.assembly.host_clock import HostClock
from firmware_bridge.assembly.reassembly import Assembler
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.errors import FrameError
from firmware_bridge.protocol.profile import SampleCodec
from tests.evidence import reassembly_fuzz as fuzz


@pytest.mark.slow
@pytest.mark.promise(131)
@pytest.mark.parametrize("guarded", [True, False], ids=["host time given", "without host time"])
def test_six_thousand_hostile_frames_break_nothing(guarded):
    outcome = fuzz.run(6_000, seed=11, guarded=guarded)
    assert outcome.violations == []
    assert outcome.accepted["true"] > 0.5 * outcome.kinds["true"]
    assert outcome.accepted["flipped"] <= 1  # two bits or more pass a 16-bit check sum once in 65 536
    assert outcome.statistics["corrupt"] > 1_000
    assert outcome.statistics["premature"] > 20 or not guarded
    assert min(outcome.statistics[name] for name in ("malformed", "foreign_codec", "calibration", "implausible")) > 0


@pytest.mark.slow
def test_the_time_line_of_a_guarded_stream_takes_the_memory_of_its_seconds():
    outcome, peak_bytes = fuzz.traced_peak(2_000, seed=5)
    assert outcome.violations == []
    assert outcome.elapsed < 2_000 * fuzz.N + 1_000
    assert peak_bytes < 4 * fuzz.BYTES_PER_SAMPLE * max(16_384, outcome.elapsed) + fuzz.ARRIVALS_BYTES


def test_the_oracle_agrees_with_the_codec_on_what_is_a_frame():
    """A check of the check: it refuses what `decode_frame` refuses, and takes what it takes."""
    attack, clock = fuzz.Attack(3), HostClock(begun_us=0, fs_hz=fuzz.FS_HZ)
    seen = set()
    for _ in range(1_500):
        _, raw, _ = attack.next()
        try:
            decoded = decode_frame(raw).codec is SampleCodec.RAW24
        except FrameError:
            decoded = False
        refused = fuzz.oracle_refuses(raw, t_us=1 << 50, clock=clock) is not None
        assert decoded is not refused
        seen.add(refused)
    assert seen == {True, False}


def test_a_broken_assembler_is_found(monkeypatch):
    """The fuzzer can fail: one that takes frames without looking at their check sum is caught at once."""
    monkeypatch.setattr("firmware_bridge.protocol.codec.check_crc", lambda *_args, **_kwargs: None)
    outcome = fuzz.run(300, seed=1)
    assert any("refusal for its check sum" in sentence for sentence in outcome.violations)


def test_every_single_bit_error_of_a_frame_is_refused():
    raw = encode_frame(LiveFrame(samples=np.arange(20, dtype=np.int32).reshape(2, 10), t0=0))
    assembler = Assembler(n_leads=2)
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        assert assembler.feed_bytes(damaged) is None
    assert (assembler.elapsed, assembler.statistics.corrupt) == (0, 8 * len(raw))
