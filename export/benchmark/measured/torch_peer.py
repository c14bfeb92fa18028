"""The peers that run in torch: how each is made, and what one costs alone in a fresh process.

As a program it measures one of them and says so as one JSON object:

    python torch_peer.py reference|student INPUTS [RUN_FOLDER]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from export.benchmark.measured.runner import memory_kib

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class TorchPeer:
    """A model in torch with its input: `call` is one inference of one recording."""

    call: Call
    parameters: int
    weights_bytes: int
    random_weights: bool


def open_reference(inputs: Path, source: Path | None) -> TorchPeer:
    """Return the re-created published path; it has an input of its own shape, so `inputs` and `source` are not read."""
    from export.benchmark.measured.reference import build_reference, reference_input

    return _peer(build_reference(), reference_input(), random_weights=True)


def open_student(inputs: Path, source: Path | None) -> TorchPeer:
    """Return the student of the run folder `source`, folded as for export, on the first recording of `inputs`."""
    import numpy as np
    import torch

    from export.student_run.graph import build_graph
    from export.student_run.source import load_run

    assert source is not None  # the caller checks that the folder is there
    run = load_run(source)
    graph = build_graph(run.student, n_leads=len(run.leads), n_samples=run.n_samples)
    with np.load(inputs, allow_pickle=False) as archive:
        ecg = torch.from_numpy(np.ascontiguousarray(archive["ecg"][:1], dtype=np.float32))
    return _peer(graph, ecg, random_weights=False)


FACTORIES: Final[dict[str, Callable[[Path, Path | None], TorchPeer]]] = {
    "reference": open_reference,
    "student": open_student,
}


def _peer(model: Any, ecg: Any, *, random_weights: bool) -> TorchPeer:
    import torch

    def call() -> object:
        with torch.inference_mode():
            return model(ecg)

    weights = list(model.parameters())
    return TorchPeer(
        call=call,
        parameters=sum(w.numel() for w in weights),
        weights_bytes=sum(w.numel() * w.element_size() for w in weights),
        random_weights=random_weights,
    )


def measure_alone(factory: str, inputs: Path, source: Path | None) -> dict[str, Any]:
    """Measure import, load, first inference and memory in this process, which must be fresh; one thread."""
    steps_ms: dict[str, float] = {}
    import_module("numpy")
    empty = memory_kib()
    torch = _timed(steps_ms, "import", lambda: import_module("torch"))
    torch.set_num_threads(1)
    peer = _timed(steps_ms, "load", lambda: FACTORIES[factory](inputs, source))
    _timed(steps_ms, "first_inference", peer.call)
    return {
        "steps_ms": steps_ms,
        "memory_kib": {"empty": empty, "used": memory_kib()},
        "version": str(torch.__version__),
    }


def _timed(steps_ms: dict[str, float], name: str, step: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = step()
    steps_ms[name] = 1e3 * (time.perf_counter() - start)
    return result


def main(arguments: list[str]) -> int:
    """Measure the peer that the arguments name and write the object."""
    factory, inputs, *source = arguments
    said = measure_alone(factory, Path(inputs), Path(source[0]) if source else None)
    sys.stdout.write(json.dumps(said, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
