"""MEASURED on this host: the runner in fresh processes, one after the other."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from export.benchmark.basis import Basis, BenchmarkSection
from export.benchmark.devices import HOST
from export.benchmark.errors import BenchmarkError
from export.benchmark.measured.figures import board_flags, figures_of
from export.benchmark.measured.process import Plan, run_here

HOST_PLAN: Final = Plan()
COLD_STARTS: Final = 5
Progress = Callable[[str], None]


def measure_host(
    models: Sequence[Path],
    *,
    inputs: Path,
    plan: Plan = HOST_PLAN,
    cold_starts: int = COLD_STARTS,
    device: str = HOST,
    progress: Progress | None = None,
) -> BenchmarkSection:
    """Measure model files on this host: one row a file.

    Parameters
    ----------
    models
        `.tflite` and `.onnx` files.
    inputs
        `.npz` with `ecg` float32 `[n, lead, time]` in mV, such as a bundle's `golden.npz`.
    plan
        Threads, runs and seconds; thread counts above the cores of this host are left out, and a note says so.
    cold_starts
        Fresh processes per file for cold start and memory.
    device
        What this machine is in the benchmark: `host`, or the name of the board that it is.
    """
    missing = [path.name for path in (*models, inputs) if not path.is_file()]
    if missing or not models:
        raise BenchmarkError(
            f"found no file {', '.join(missing) or '(no model was named)'}, expected models and inputs"
        )
    say = progress or (lambda _: None)
    measured: list[list[Mapping[str, Any]]] = []
    for model in models:
        say(f"measuring {model.name} on this host")
        first = run_here(model, inputs, plan)
        rest = [run_here(model, inputs, plan, cold_only=True) for _ in range(cold_starts - 1)]
        measured.append([first, *rest])
    rows = [(path.name, figures_of(runs[0], cold=runs[1:])) for path, runs in zip(models, measured, strict=True)]
    # Only the first process starts before any of our own: later ones would see the load that these made.
    flags = [
        f"{path.name}: {flag}"
        for k, (path, runs) in enumerate(zip(models, measured, strict=True))
        for flag in board_flags(runs[0], judge_load=k == 0)
    ]
    notes = dict.fromkeys((*(machine_note(runs[0]) for runs in measured), *left_out_note(measured[0][0])))
    return BenchmarkSection(
        title=f"this host: {cpu_name()}",
        basis=Basis.MEASURED,
        rows=rows,
        notes=tuple(notes),
        flags=tuple(flags),
        measured_on=device,
    )


def cpu_name() -> str:
    """Return what this host's kernel calls its processor."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def machine_note(run: Mapping[str, Any]) -> str:
    """Return one sentence on the machine and the software of a run."""
    machine, runtime = run["machine"], run["runtime"]
    return (
        f"{runtime['name']} {runtime['version']}, numpy {machine['numpy']}, Python {machine['python']}, kernel "
        f"{machine['kernel']} ({machine['architecture']}, {machine['cores']} cores, pages of {machine['page_bytes']} bytes)"
    )


def left_out_note(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which thread counts were not run for want of cores."""
    counts = run["threads_left_out"]
    if not counts:
        return ()
    cores = run["machine"]["cores"]
    return (f"{', '.join(map(str, counts))} threads not measured: this machine has {cores} cores",)
