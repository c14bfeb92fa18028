"""Speed as ratios in one run: the front-end against scipy, the shipped INT8 model on each runtime against the same network in torch.

    OMP_NUM_THREADS=1 python tests/evidence/speed.py [RUN_FOLDER_OF_THE_STUDENT]

Candidates are timed in turn (A B C A B C ...), so that a drifting machine slows all of them alike. Printed: 10th percentile and
median in milliseconds, and the ratio of medians to the peer named in the row. Without a run folder the torch row is a student of
the same shape with random weights: its speed does not depend on them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROUNDS = 300
WARM_UP = 20


def time_in_turn(candidates: dict[str, Callable[[], object]]) -> dict[str, np.ndarray]:
    """Milliseconds per call `[round]` of each candidate."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for k in range(ROUNDS + WARM_UP):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if k >= WARM_UP:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in taken.items()}


def front_end() -> dict[str, Callable[[], object]]:
    """Six leads of 10 s at 500 Hz in mV: ours, and a usual scipy chain (zero-phase Butterworth, polyphase resampling)."""
    from scipy import signal

    from lsemvae.ecg.frontend import apply_array

    x = np.random.default_rng(0).normal(0, 0.2, (6, 5000))
    sos = signal.butter(4, [0.5, 40], btype="bandpass", fs=250, output="sos")
    return {
        "scipy: resample_poly + sosfiltfilt": lambda: signal.sosfiltfilt(
            sos, signal.resample_poly(x, 1, 2, axis=-1), axis=-1
        ),
        "lsemvae.ecg.frontend": lambda: apply_array(x, fs_hz=500.0),
    }


def models(run: Path | None) -> dict[str, Callable[[], object]]:
    """The same student in torch fp32 and, as shipped, in INT8 on both runtimes."""
    import torch

    from lsemvae.model.config import StudentConfig
    from lsemvae.model.student import StudentNet
    from lsemvae.screen.bundle import open_bundle
    from lsemvae.screen.runtime.load import load_runtime
    from lsemvae.screen.trust import load_trusted_keys
    from lsemvae.train.checkpoint import load_student

    torch.set_num_threads(1)
    net = load_student(run)[0] if run else StudentNet(StudentConfig()).eval()
    bundle = open_bundle(None, trusted_keys=load_trusted_keys())
    x = np.random.default_rng(0).normal(0, 0.2, (1, 2, 2500)).astype(np.float32)
    tensor = torch.from_numpy(x)
    lite, onnx = load_runtime(bundle, prefer="tflite"), load_runtime(bundle, prefer="onnx")

    def run_torch() -> object:
        with torch.inference_mode():
            return net(tensor)

    return {"torch fp32": run_torch, "LiteRT INT8": lambda: lite.run(x), "ONNX Runtime INT8": lambda: onnx.run(x)}


def show(title: str, taken: dict[str, np.ndarray]) -> None:
    """One Markdown table; ratios are to the first row."""
    peer = next(iter(taken.values()))
    print(f"\n| {title} | p10 ms | median ms | median / first row |\n| --- | --- | --- | --- |")
    for name, ms in taken.items():
        print(f"| {name} | {np.percentile(ms, 10):.3f} | {np.median(ms):.3f} | {np.median(ms) / np.median(peer):.2f} |")


if __name__ == "__main__":
    show("front-end, 6 leads x 10 s at 500 Hz", time_in_turn(front_end()))
    show(
        "student, one 10 s recording, one thread",
        time_in_turn(models(Path(sys.argv[1]) if len(sys.argv) > 1 else None)),
    )
