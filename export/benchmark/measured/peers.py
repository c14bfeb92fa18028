"""MEASURED in one run: our files on their runtimes, the student in torch, and the re-created published path.

Latency: all peers in one process, one thread each, in turns. In a turn each peer runs a burst of inferences; ratios are taken turn
by turn, so that other load falls on both sides alike. The first inference of a burst is kept apart: the other peers have
just filled the caches with their own data, as a clinic's other programs do between two recordings.
Import, load and memory: each peer alone in fresh processes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from export.benchmark.basis import Basis, BenchmarkSection, Figure
from export.benchmark.errors import BenchmarkError
from export.benchmark.measured.figures import busy_flags, measured, memory_figures, start_figures
from export.benchmark.measured.host import cpu_name
from export.benchmark.measured.process import Plan, parse_object, run_child, run_here
from export.benchmark.measured.runner import busy_s, others_cores, own_s

if TYPE_CHECKING:
    from export.benchmark.measured.torch_peer import Call

REFERENCE: Final = "published 6-lead path, torch fp32"
TURNS: Final = 30
# A burst is long enough for a median and short enough that the machine's speed is the same for all peers of a turn.
_BURST_S: Final = 0.02
_BURST_CALLS: Final = (4, 60)
# Fresh processes per peer for import, load and memory.
_ALONE: Final = 3
_PACKAGES: Final = {"litert": "ai_edge_litert", "onnx": "onnxruntime", "torch": "torch"}
_TITLE: Final = "peers in one run, one thread each"
_NOTES: Final = (
    "random weights stand in for the published ones, which are not at hand: speed and memory do not depend on their values; its load "
    "time is not given",
    "first_in_turn: the first inference after the other peers have filled the caches; the other latencies leave it out",
)
Kind = Literal["litert", "onnx", "torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A candidate.

    Attributes
    ----------
    kind
        `litert` and `onnx` run the file `path`; `torch` runs what `factory` makes (`export.benchmark.measured.torch_peer.FACTORIES`).
    path
        Model file, or for the student in torch its run folder.
    fp32
        Name of the peer that is the same network in float32 on the same runtime: the ratio to it is given.
    """

    name: str
    kind: Kind
    path: Path | None = None
    factory: str = ""
    fp32: str = ""

    def missing(self) -> str:
        """Return why this peer cannot be measured here, or nothing."""
        package = _PACKAGES[self.kind]
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
        if self.path is None:
            return "" if self.factory == "reference" else "no file was named"
        return "" if self.path.exists() else f"{self.path.name} is not there"


def default_peers(
    *,
    int8_tflite: Path | None,
    int8_onnx: Path | None,
    fp32_tflite: Path | None = None,
    fp32_onnx: Path | None = None,
    student_run: Path | None = None,
    with_reference: bool = True,
) -> tuple[Peer, ...]:
    """Return the candidates of the comparison; those without a file will be listed as not measured."""
    ours = (
        Peer(name="student, torch fp32", kind="torch", factory="student", path=student_run),
        Peer(name="student, LiteRT fp32", kind="litert", path=fp32_tflite),
        Peer(name="student, LiteRT INT8", kind="litert", path=int8_tflite, fp32="student, LiteRT fp32"),
        Peer(name="student, ONNX Runtime fp32", kind="onnx", path=fp32_onnx),
        Peer(name="student, ONNX Runtime INT8", kind="onnx", path=int8_onnx, fp32="student, ONNX Runtime fp32"),
    )
    return (Peer(name=REFERENCE, kind="torch", factory="reference"), *ours) if with_reference else ours


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """Milliseconds of one peer: first inference of each turn `[turn]`, and the others `[turn, call]`."""

    first_ms: np.ndarray
    burst_ms: np.ndarray

    @property
    def turn_ms(self) -> np.ndarray:
        return np.asarray(np.median(self.burst_ms, axis=1))


def compare_peers(
    peers: Sequence[Peer], *, inputs: Path, turns: int = TURNS, progress: Callable[[str], None] | None = None
) -> BenchmarkSection:
    """Measure all peers that can be measured here.

    Parameters
    ----------
    inputs
        `.npz` with `ecg` float32 `[n, lead, time]` in mV: a bundle's `golden.npz`.
    turns
        Rounds in which every peer runs once; ratios are medians over the turns, their ranges the extremes.

    Returns
    -------
    BenchmarkSection
        One row a peer. `speedup_over_reference` is the published path's time over this peer's.

    Raises
    ------
    BenchmarkError
        If no peer can be measured, or one that is there fails.
    """
    say = progress or (lambda _: None)
    reasons = {peer.name: peer.missing() for peer in peers}
    ready = [peer for peer in peers if not reasons[peer.name]]
    if not ready or turns < 1:
        raise BenchmarkError(
            f"found {len(ready)} measurable peers and {turns} turns ({reasons}), expected at least one each"
        )
    alone = {}
    for peer in ready:
        say(f"{peer.name}: alone in fresh processes")
        alone[peer.name] = _alone(peer, inputs)
    say(f"{len(ready)} peers in {turns} turns")
    timed, sizes, others = _in_turns(ready, inputs, turns)
    rows = [(peer.name, (*_latency(timed, peer), *alone[peer.name], *sizes[peer.name])) for peer in ready]
    left_out = [f"{name}: not measured: {reason}" for name, reason in reasons.items() if reason]
    notes = (*(_NOTES if REFERENCE in timed else _NOTES[1:]), f"{turns} turns", *left_out)
    return BenchmarkSection(
        title=f"{_TITLE} ({cpu_name()})",
        basis=Basis.MEASURED,
        rows=rows,
        notes=notes,
        flags=busy_flags(others, during="the turns"),
    )


# ---- latency, in turns -----------------------------------------------------------------------------------------------


def _in_turns(
    peers: Sequence[Peer], inputs: Path, turns: int
) -> tuple[dict[str, _Timed], dict[str, tuple[Figure, ...]], float | None]:
    with _one_torch_thread(peers):
        opened = {peer.name: _open(peer, inputs) for peer in peers}
        calls = {name: call for name, (call, _) in opened.items()}
        # As many calls as fill a burst; those made here warm up the peer.
        fastest_s = {name: min(_once_ms(call) for _ in range(10)) / 1e3 for name, call in calls.items()}
        lengths = {name: int(np.clip(_BURST_S / s, *_BURST_CALLS)) for name, s in fastest_s.items()}
        before = busy_s(), own_s(), time.monotonic()
        taken: dict[str, list[list[float]]] = {name: [] for name in calls}
        for _ in range(turns):
            for name, call in calls.items():
                taken[name].append([_once_ms(call) for _ in range(1 + lengths[name])])
        others = others_cores(*before)
    timed = {name: _Timed(np.array(ms)[:, 0], np.array(ms)[:, 1:]) for name, ms in taken.items()}
    return timed, {name: size for name, (_, size) in opened.items()}, others


def _open(peer: Peer, inputs: Path) -> tuple[Call, tuple[Figure, ...]]:
    if peer.kind == "torch":
        from export.benchmark.measured.torch_peer import FACTORIES

        model = FACTORIES[peer.factory](inputs, peer.path)
        weights = measured("weights", model.weights_bytes / 1024, "KiB", note="in memory, float32")
        return model.call, (measured("parameters", model.parameters, ""), weights)
    from export.gates.outputs import file_run
    from lsemvae.screen.runtime.contract import Signature

    assert peer.path is not None  # Peer.missing
    with np.load(inputs, allow_pickle=False) as archive:
        ecg = np.ascontiguousarray(archive["ecg"][:1], dtype=np.float32)
        signature = Signature(ecg.shape, archive["logits"][:1].shape)
    run = file_run(peer.path, signature)
    return lambda: run(ecg), (measured("model_file", peer.path.stat().st_size / 1024, "KiB"),)


def _once_ms(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


class _one_torch_thread:  # noqa: N801 - reads as a function where it is used
    """Run torch on one thread, then as before."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._used = any(peer.kind == "torch" for peer in peers)

    def __enter__(self) -> None:
        if self._used:
            import torch

            self._before = torch.get_num_threads()
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self._used:
            import torch

            torch.set_num_threads(self._before)


def _latency(timed: Mapping[str, _Timed], peer: Peer) -> tuple[Figure, ...]:
    own = timed[peer.name]
    p10, p50 = (float(np.percentile(own.burst_ms, q)) for q in (10, 50))
    note = f"{own.burst_ms.size} runs"
    figures = [
        measured("latency_1t_p10", p10, "ms", note=note),
        measured("latency_1t_p50", p50, "ms", note=note),
        measured("first_in_turn_p50", float(np.median(own.first_ms)), "ms", note=f"{len(own.first_ms)} turns"),
    ]
    if REFERENCE in timed and peer.name != REFERENCE:
        figures.append(_ratio("speedup_over_reference", timed[REFERENCE], own))
    if peer.fp32 in timed:
        figures.append(_ratio("time_over_fp32", own, timed[peer.fp32]))
    return tuple(figures)


def _ratio(name: str, upper: _Timed, lower: _Timed) -> Figure:
    ratios = upper.turn_ms / lower.turn_ms
    return measured(
        name,
        float(np.median(ratios)),
        "x",
        low=float(ratios.min()),
        high=float(ratios.max()),
        note="median over the turns; range: all turns",
    )


# ---- alone -----------------------------------------------------------------------------------------------------------


def _alone(peer: Peer, inputs: Path) -> tuple[Figure, ...]:
    """Return import, load, first inference and memory of one peer, each time in a process that has seen nothing else."""
    runs = []
    for _ in range(_ALONE):
        if peer.kind == "torch":
            script = Path(__file__).with_name("torch_peer.py")
            command = [
                sys.executable,
                "-P",
                str(script),
                peer.factory,
                str(inputs),
                *([str(peer.path)] if peer.path else []),
            ]
            root = str(Path(__file__).parents[3])
            paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
            env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
            runs.append(parse_object(run_child(command, env=env)))
        else:
            assert peer.path is not None  # Peer.missing
            runs.append(run_here(peer.path, inputs, Plan(threads=(1,)), cold_only=True))
    # Random weights are made, not loaded.
    kept = {"import", "load", "first_inference"} - ({"load"} if peer.factory == "reference" else set())
    steps = [figure for figure in start_figures(runs) if figure.name in kept]
    return (*steps, *memory_figures(runs))
