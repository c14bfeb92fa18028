"""Frames a second of both codecs on one core, in turn, over the same frames: pure Python, and the C core called through cffi.

    OMP_NUM_THREADS=1 python tests/evidence/bridge_speed.py [FRAMES] [RESULT.json]

Live frames of 25 samples x 2 leads as 24-bit codes (162 bytes), and bulk frames of 236 bytes. Both codecs must give the same
result for each frame; the figure of C holds the crossing from Python, one call a frame (its own loop: `core_speed.py`). Without cffi
or a compiler the rows of C are missing, and the result says why. Bars: Python 5,000 frames/s; C 100,000. Exit status 1 below a bar.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.protocol.bulk import BulkFrame, decode_bulk, encode_bulk
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame

LEADS = 2
SAMPLES = 25
BULK_BYTES = 236
ROUNDS = 5
BARS = {"python": 5_000, "c": 100_000}


def make_frames(n: int) -> list[LiveFrame]:
    """Frames as a device makes them: an offset of some millivolt, full use of 24 bits now and then."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-400_000, 400_000, (n, LEADS, SAMPLES)).astype(np.int32)
    codes[::50, 0, 0] = -(1 << 23)
    return [LiveFrame(samples=codes[k], t0=SAMPLES * k, seq=k & 0xFFFF) for k in range(n)]


def python_candidates(frames: Sequence[LiveFrame]) -> dict[str, Callable[[], object]]:
    """What is timed of the Python codec."""
    live = [encode_frame(frame) for frame in frames]
    parts = [BulkFrame(k * BULK_BYTES, bytes(range(BULK_BYTES))) for k in range(len(frames))]
    bulk = [encode_bulk(part) for part in parts]
    return {
        "python encode live": lambda: [encode_frame(frame) for frame in frames],
        "python decode live": lambda: [decode_frame(raw, n_leads=LEADS) for raw in live],
        "python encode bulk": lambda: [encode_bulk(part) for part in parts],
        "python decode bulk": lambda: [decode_bulk(raw) for raw in bulk],
    }


def c_candidates(frames: Sequence[LiveFrame]) -> tuple[dict[str, Callable[[], object]], str]:
    """What is timed of the C core, or why it is not here; its results are compared with the Python codec's first."""
    from firmware_bridge.sim.device.core_build import load_core, missing_for_core

    lacking = missing_for_core()
    if lacking:
        return {}, f"not measured: found no {', no '.join(lacking)}"
    core = load_core()
    ffi, lib = core.ffi, core.lib
    live = [encode_frame(frame) for frame in frames]
    inputs = [np.ascontiguousarray(frame.samples.T) for frame in frames]
    pointers = [ffi.from_buffer("int32_t[]", array) for array in inputs]
    heads = [_head(ffi, frame) for frame in frames]
    out, head, samples = ffi.new("uint8_t[514]"), ffi.new("e6l_frame *"), ffi.new("int32_t[]", LEADS * SAMPLES)

    def encode() -> None:
        for given, pointer in zip(heads, pointers, strict=True):
            lib.e6l_frame_encode(given, pointer, LEADS, out, 514)

    def decode() -> None:
        for raw in live:
            lib.e6l_frame_decode(raw, len(raw), LEADS, head, samples, LEADS * SAMPLES)

    for given, pointer, array, raw in zip(heads, pointers, inputs, live, strict=True):
        length = lib.e6l_frame_encode(given, pointer, LEADS, out, 514)
        assert bytes(ffi.buffer(out)[0:length]) == raw
        assert lib.e6l_frame_decode(raw, len(raw), LEADS, head, samples, LEADS * SAMPLES) == 0
        assert list(samples) == array.reshape(-1).tolist()
    return {"c encode live": encode, "c decode live": decode}, ""


def _head(ffi: Any, frame: LiveFrame) -> Any:
    return ffi.new("e6l_frame *", {"codec": 0, "flags": 0, "seq": frame.seq, "t0": frame.t0, "n": SAMPLES})


def rates(candidates: dict[str, Callable[[], object]], *, n_frames: int) -> dict[str, int]:
    """Frames a second of each candidate, the best of `ROUNDS` in turn: other work on the machine only slows."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: round(n_frames / seconds) for name, seconds in best.items()}


def measure(n_frames: int) -> dict[str, Any]:
    """The result as written: rates, bars, and what was not measured."""
    frames = make_frames(n_frames)
    of_c, why = c_candidates(frames)
    found = rates(python_candidates(frames) | of_c, n_frames=n_frames)
    below = [name for name, rate in found.items() if rate < BARS[name.split()[0]]]
    return {
        "frames": n_frames, "samples_per_frame": SAMPLES, "leads": LEADS, "bulk_bytes": BULK_BYTES,
        "machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__,
        "frames_per_second": found, "bars": BARS, "below_the_bar": below, "c_core": why or "called through cffi",
    }  # fmt: skip


def main() -> int:
    """Measure, print, and write the result where asked."""
    n_frames = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    result = measure(n_frames)
    text = json.dumps(result, indent=1)
    print(text)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(text + "\n", encoding="utf-8")
    return 1 if result["below_the_bar"] else 0


if __name__ == "__main__":
    sys.exit(main())
