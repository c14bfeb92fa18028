"""Training throughput in one run: the published loop re-created plainly, our `paper` preset, our `base` preset.

    python tests/evidence/throughput.py [--batch 128] [--steps 5] [--threads 1] [--json OUT] [CANDIDATE ...]

A candidate is `reference`, `paper` or `base`, with options after a colon: `bf16`, `fp16` (autocast; fp16 with loss scaling), `compile`
(torch.compile) and `fused` (fused AdamW), as in `paper:bf16,compile`. Without names a default list for the device is taken; with a GPU
that list holds half precision and compilation, without one this command says so.

One step is forward + loss + backward + clip + AdamW on the same recordings, 10 s of 12 leads: 5,000 samples a lead at 500 Hz for
`reference` and `paper`, 2,500 at 250 Hz for `base`. Candidates take turns (A B C A B C ...), so that a drifting machine slows all
alike, and each ratio is taken inside one turn. On a CPU, seconds of processor time are reported beside wall time: on a machine that
does other work they are the steadier of the two. Input is random: no kernel here takes a time that depends on values.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from throughput_peers import PEERS, Loss, Peer, recordings
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

NO_GPU = "no GPU here: not run"
PHASES = ("forward_backward", "clip", "optimizer")
BYTES_PER_PARAMETER = 4 * 13
"""fp32, the least an eager step can move: weights read forward and backward (2), gradient written (1), read for the norm (1), read and
written to clip (2), AdamW: weight, gradient and two moments read, weight and two moments written (7)."""
CPU_CANDIDATES = ("reference", "paper", "base")
GPU_CANDIDATES = tuple(
    f"{name}:{options}" if options else name
    for name in CPU_CANDIDATES
    for options in ("", "fp16,compile", "bf16,compile", "bf16,compile,fused")
)
ENVIRONMENT = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE", "LD_PRELOAD")
"""What changes how memory is taken, and with it every step that makes gradients afresh."""
LOSS_SCALE = 128.0
"""fp16: small enough that no gradient overflows, for the scaler leaves out the optimizer step where one does."""
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Candidate:
    """A peer under options, and what was measured: seconds `[turn]` of each phase, wall and processor."""

    name: str
    peer: Peer
    x: Tensor
    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler
    gflop_per_recording: float
    wall_s: list[dict[str, float]] = field(default_factory=list)
    cpu_s: list[dict[str, float]] = field(default_factory=list)


def build(name: str, x_mv: Tensor, *, device: str) -> Candidate:
    """A candidate from its name; operations are counted before anything is compiled."""
    kind, _, rest = name.partition(":")
    options = set(filter(None, rest.split(",")))
    unknown = options - {*PRECISIONS, "compile", "fused"}
    if kind not in PEERS or unknown:
        raise SystemExit(f"found candidate {name}, expected {', '.join(PEERS)} with options bf16, fp16, compile, fused")
    torch.manual_seed(0)
    peer = PEERS[kind](device, fused="fused" in options)
    x = peer.prepare(x_mv).to(device)
    counted = gflop(peer.loss, x[:2]) / len(x[:2])
    peer.model.zero_grad(set_to_none=True)
    if "compile" in options:
        peer.loss = torch.compile(peer.loss)
    autocast = next((PRECISIONS[option] for option in options if option in PRECISIONS), None)
    scaler = torch.amp.GradScaler(device, init_scale=LOSS_SCALE, enabled=autocast == torch.float16)
    return Candidate(name, peer, x, autocast, scaler, counted)


def gflop(loss: Loss, x: Tensor) -> float:
    """Floating-point operations of products and convolutions, forward and backward, in units of 1e9."""
    with FlopCounterMode(display=False) as counter:
        loss(x).backward()
    return counter.get_total_flops() / 1e9


def marks(device: str) -> tuple[Any, float]:
    """A point in time: an event in the GPU's queue or a wall clock, and processor seconds of this process, all threads."""
    if device == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event, time.process_time()
    return time.perf_counter(), time.process_time()


def train_step(candidate: Candidate, device: str) -> tuple[dict[str, float], dict[str, float]]:
    """One step; wall and processor seconds of each phase."""
    peer, scaler = candidate.peer, candidate.scaler
    half = torch.autocast(device, candidate.autocast) if candidate.autocast else nullcontext()
    points = [marks(device)]
    peer.optimizer.zero_grad(set_to_none=True)
    with half:
        loss = peer.loss(candidate.x)
    scaler.scale(loss).backward()
    points.append(marks(device))
    scaler.unscale_(peer.optimizer)
    nn.utils.clip_grad_norm_(peer.model.parameters(), peer.clip_norm)
    points.append(marks(device))
    scaler.step(peer.optimizer)
    scaler.update()
    points.append(marks(device))
    if not torch.isfinite(loss):
        raise SystemExit(f"found loss {float(loss.detach())} of {candidate.name}, expected a finite number")
    if device == "cuda":
        torch.cuda.synchronize()
    if scaler.is_enabled() and scaler.get_scale() < LOSS_SCALE:
        raise SystemExit(f"found an overflow of {candidate.name}, expected a step of the optimizer in each turn")
    pairs = list(pairwise(points))
    wall = [1e-3 * a.elapsed_time(b) if device == "cuda" else b - a for (a, _), (b, _) in pairs]
    return dict(zip(PHASES, wall, strict=True)), dict(zip(PHASES, (b - a for (_, a), (_, b) in pairs), strict=True))


def take_turns(candidates: list[Candidate], *, steps: int, warm_up: int, device: str) -> Iterator[int]:
    """Steps of all candidates in turn; those of the warm-up are not kept. Yields the number of kept turns after each."""
    for turn in range(warm_up + steps):
        for candidate in candidates:
            wall, cpu = train_step(candidate, device)
            words = (
                f"turn {turn + 1}, {candidate.name}: {sum(wall.values()):.3f} s, processor {sum(cpu.values()):.3f} s"
            )
            print(words, file=sys.stderr, flush=True)
            if turn >= warm_up:
                candidate.wall_s.append(wall)
                candidate.cpu_s.append(cpu)
        if turn >= warm_up:
            yield turn + 1 - warm_up


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, extremes and relative range of a few measurements."""
    median = float(np.median(values))
    return {
        "median": round(median, 4), "min": round(float(values.min()), 4), "max": round(float(values.max()), 4),
        "range_over_median": round(float(values.max() - values.min()) / median, 3),
    }  # fmt: skip


def seconds(rows: list[dict[str, float]]) -> np.ndarray:
    """Whole steps `[turn]`."""
    return np.array([sum(row.values()) for row in rows])


def summary(candidate: Candidate, first: Candidate, *, device: str) -> dict[str, Any]:
    """What one candidate did, and its ratio to the first, above 1 where it is the faster one."""
    n, n_parameters = len(candidate.x), sum(p.numel() for p in candidate.peer.model.parameters())
    wall, cpu = seconds(candidate.wall_s), seconds(candidate.cpu_s)
    steady = wall if device == "cuda" else cpu  # processor seconds do not count what other programs took
    rows = candidate.wall_s if device == "cuda" else candidate.cpu_s
    median_s = float(np.median(steady))
    share = {phase: round(float(np.median([row[phase] / sum(row.values()) for row in rows])), 3) for phase in PHASES}
    result = {
        "parameters": n_parameters,
        "gflop_per_recording": round(candidate.gflop_per_recording, 4),
        "recordings_per_wall_s": spread(n / wall),
        "step_wall_s": spread(wall),
        "share_of_step": share,
        "gflop_per_s": round(n * candidate.gflop_per_recording / median_s, 1),
        "least_bytes_per_step": BYTES_PER_PARAMETER * n_parameters,
        "gigabytes_per_s_of_least_bytes": round(BYTES_PER_PARAMETER * n_parameters / median_s / 1e9, 2),
        "speed_over_first_wall": spread(seconds(first.wall_s) / wall),
    }
    if device == "cuda":
        return result
    return result | {
        "recordings_per_cpu_s": spread(n / cpu),
        "step_cpu_s": spread(cpu),
        "speed_over_first_cpu": spread(seconds(first.cpu_s) / cpu),
        "cpu_s_over_wall_s": round(float(cpu.sum() / wall.sum()), 3),
    }


def published_accumulation(candidate: Candidate, *, device: str) -> dict[str, float]:
    """The published loop from the measured phases: two mini-batches, one step, and the gradient of the second alone in it."""
    rows = candidate.wall_s if device == "cuda" else candidate.cpu_s
    phase = {name: float(np.median([row[name] for row in rows])) for name in PHASES}
    two = 2 * phase["forward_backward"] + phase["clip"] + phase["optimizer"]
    n = len(candidate.x)
    return {
        "recordings_read_per_s": round(2 * n / two, 3),
        "recordings_that_reach_a_step_per_s": round(n / two, 3),
    }


def machine(device: str) -> dict[str, Any]:
    """Where this was measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return {
        "cpu": cpu,
        "cpu_flags": [flag for flag in flags if flag.startswith(("avx512f", "avx512_bf16", "avx512_vnni", "amx"))],
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "load_average": [round(v, 2) for v in os.getloadavg()],
        "niceness": os.nice(0),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }  # fmt: skip


def report(candidates: list[Candidate], *, device: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything measured, as JSON-able data."""
    data: dict[str, Any] = {
        "what": "training step = forward + loss + backward + clip + AdamW; recordings of 10 s, 12 leads",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "batch": arguments.batch, "turns": len(candidates[0].wall_s), "warm_up_turns": arguments.warm_up, "device": device,
        "machine": machine(device),
        "gpu": NO_GPU if device == "cpu" else torch.cuda.get_device_name(),
        "candidates": {c.name: summary(c, candidates[0], device=device) for c in candidates},
    }  # fmt: skip
    plain = next((c for c in candidates if c.name == "reference"), None)
    if plain:
        data["reference_with_its_accumulation"] = published_accumulation(plain, device=device)
    return data


def show(data: dict[str, Any]) -> None:
    """One Markdown table; ratios are to the first row."""
    clock = "wall" if data["device"] == "cuda" else "cpu"
    print(f"batch {data['batch']}, {data['machine']['threads']} threads, {data['turns']} turns; GPU: {data['gpu']}\n")
    print(
        f"| candidate | parameters | recordings / {clock} s (min to max) | / first row (min to max) | fwd+bwd | optimizer |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, row in data["candidates"].items():
        speed, ratio, share = row[f"recordings_per_{clock}_s"], row[f"speed_over_first_{clock}"], row["share_of_step"]
        print(
            f"| {name} | {row['parameters']:,} | {speed['median']:.2f} ({speed['min']:.2f} to {speed['max']:.2f}) "
            f"| {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) "
            f"| {share['forward_backward']:.0%} | {share['optimizer']:.0%} |"
        )


def parse(words: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("candidates", nargs="*", help="reference, paper, base, with options after a colon")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="turns that are kept")
    parser.add_argument("--warm-up", type=int, default=1, help="turns before them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    arguments = parse(words)
    if min(arguments.batch, arguments.steps, arguments.threads) < 1 or arguments.warm_up < 0:
        raise SystemExit(
            "found a batch, steps or threads below 1, or a negative warm-up, expected at least 1, and 0 for the warm-up"
        )
    torch.set_num_threads(arguments.threads)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = found if arguments.device == "auto" else arguments.device
    if device == "cuda" and found == "cpu":
        print(NO_GPU)
        return 1
    names = arguments.candidates or (GPU_CANDIDATES if device == "cuda" else CPU_CANDIDATES)
    x_mv = recordings(arguments.batch)
    candidates = [build(name, x_mv, device=device) for name in names]
    data: dict[str, Any] = {}
    for _ in take_turns(candidates, steps=arguments.steps, warm_up=arguments.warm_up, device=device):
        data = report(candidates, device=device, arguments=arguments)
        if arguments.json:  # after each turn: what is measured survives an interruption
            arguments.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    show(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
