"""From what the runner said to figures: one row of a MEASURED table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from export.benchmark.basis import Basis, Figure

_STEPS: Final = {
    "import": "the runtime, numpy already loaded",
    "load": "files read, model ready",
    "first_inference": "the first call after loading",
}
_KIB_PER_MIB: Final = 1024


def measured(
    name: str, value: float, unit: str, *, low: float | None = None, high: float | None = None, note: str = ""
) -> Figure:
    """Return a figure of the basis MEASURED."""
    return Figure(name=name, value=value, unit=unit, basis=Basis.MEASURED, low=low, high=high, note=note)


def figures_of(run: Mapping[str, Any], *, cold: Sequence[Mapping[str, Any]] = ()) -> tuple[Figure, ...]:
    """Return latency, cold start, memory and size of one run of the runner.

    Parameters
    ----------
    run
        The runner's object.
    cold
        Objects of further fresh processes (`--cold-only`): cold start and its steps are then medians over all of them, with the
        fastest and the slowest as range.
    """
    return (*latency_figures(run), *start_figures([run, *cold]), *memory_figures([run, *cold]), _size(run))


def latency_figures(run: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return percentiles and mean of one inference in milliseconds, by thread count."""
    return tuple(
        measured(f"latency_{threads}t_{key}", taken[f"{key}_ms"], "ms", note=f"{taken['runs']} runs")
        for threads, taken in run["latency"].items()
        for key in ("p10", "p50", "p90", "p99", "mean")
    )


def start_figures(runs: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Return the cold start, from the start of the process to the first result, and its steps."""
    note = f"process start to first result, file cache warm, {len(runs)} fresh processes"
    figures = [_spread("cold_start", [run["steps_ms"].get("cold_start") for run in runs], "ms", note)]
    figures += [_spread(step, [run["steps_ms"][step] for run in runs], "ms", said) for step, said in _STEPS.items()]
    return tuple(figure for figure in figures if figure is not None)


def memory_figures(runs: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Return peak and proportional memory, and what the runtime with the model adds to an interpreter with numpy only."""
    pairs = [(run["memory_kib"]["used"], run["memory_kib"]["empty"]) for run in runs]
    figures = [
        _spread("memory_peak", [_mib(used["hwm"]) for used, _ in pairs], "MiB", "VmHWM of the process"),
        _spread(
            "memory_peak_over_numpy", [_difference_mib(used["hwm"], empty["hwm"]) for used, empty in pairs], "MiB",
            "VmHWM less that of the same interpreter with numpy only",
        ),
        _spread(
            "memory_pss_over_numpy", [_difference_mib(used["pss"], empty["pss"]) for used, empty in pairs], "MiB",
            "proportional share (PSS) less that of the same interpreter with numpy only",
        ),
    ]  # fmt: skip
    return tuple(figure for figure in figures if figure is not None)


def _size(run: Mapping[str, Any]) -> Figure:
    return measured("model_file", run["model"]["bytes"] / 1024, "KiB")


def _spread(name: str, values: Sequence[float | None], unit: str, note: str) -> Figure | None:
    """Return the median with its range, or None where a machine cannot tell (no /proc)."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == 1:
        return measured(name, known[0], unit, note=note)
    return measured(name, median(known), unit, low=min(known), high=max(known), note=note)


def _mib(kib: int | None) -> float | None:
    return None if kib is None else kib / _KIB_PER_MIB


def _difference_mib(used: int | None, empty: int | None) -> float | None:
    return None if used is None or empty is None else (used - empty) / _KIB_PER_MIB
