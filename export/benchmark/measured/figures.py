"""From what the runner said to one row of a MEASURED table, and to what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from export.benchmark.basis import Basis, Figure
from export.benchmark.devices import Device

# Below this the 99th percentile rests on fewer than three runs.
MIN_RUNS: Final = 300
# Raspberry Pi documentation, frequency management: from 80 C on the firmware lowers the clock.
MAX_TEMPERATURE_C: Final = 80.0
THROTTLE_MASK: Final = 0xF000F
# Clocks are read in steps and lag by one reading; 5 % lets that pass and no real step down (100 MHz of 1,500 is 7 %).
MIN_CLOCK_SHARE: Final = 0.95
# Processor time of other programs, in cores: a fifth of one is more than a clinic's idle board uses and shifts percentiles.
MAX_OTHERS_CORES: Final = 0.2
# One-minute load average before the first process starts.
MAX_LOAD: Final = 0.5
# Raspberry Pi documentation, `vcgencmd get_throttled`: bits 0-3 are now, bits 16-19 since the start of the board.
_THROTTLE_BITS: Final = {
    0: "under-voltage now",
    1: "clock capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since start",
    17: "clock capped since start",
    18: "throttled since start",
    19: "soft temperature limit since start",
}
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
    size = measured("model_file", run["model"]["bytes"] / 1024, "KiB")
    return (*latency_figures(run), *start_figures([run, *cold]), *memory_figures([run, *cold]), size)


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

    def over_numpy_mib(key: str) -> list[float | None]:
        return [
            None if used[key] is None or empty[key] is None else (used[key] - empty[key]) / _KIB_PER_MIB
            for used, empty in pairs
        ]

    peaks = [None if used["hwm"] is None else used["hwm"] / _KIB_PER_MIB for used, _ in pairs]
    less = "less that of the same interpreter with numpy only"
    figures = [
        _spread("memory_peak", peaks, "MiB", "VmHWM of the process"),
        _spread("memory_peak_over_numpy", over_numpy_mib("hwm"), "MiB", f"VmHWM {less}"),
        _spread("memory_pss_over_numpy", over_numpy_mib("pss"), "MiB", f"proportional share (PSS) {less}"),
    ]
    return tuple(figure for figure in figures if figure is not None)


def _spread(name: str, values: Sequence[float | None], unit: str, note: str) -> Figure | None:
    """Return the median with its range, or None where a machine cannot tell (no /proc)."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == 1:
        return measured(name, known[0], unit, note=note)
    return measured(name, median(known), unit, low=min(known), high=max(known), note=note)


# ---- what speaks against them ----------------------------------------------------------------------------------------


def board_flags(run: Mapping[str, Any], *, device: Device | None = None, judge_load: bool = True) -> tuple[str, ...]:
    """Return one sentence for each thing that makes the figures of a run doubtful; empty where there is none.

    Parameters
    ----------
    run
        The runner's object.
    device
        The board that was asked for; None takes whatever the figures come from.
    judge_load
        Whether the load average at the start counts. It does not where the caller's own runs came just before.
    """
    said: list[str] = []
    machine, before, after = run["machine"], run["state"]["before"], run["state"]["after"]
    is_pi = (machine["board"] or "").startswith("Raspberry Pi")
    if device is not None and not is_device(run, device):
        name = repr(machine["board"]) if machine["board"] else f"no board name ({machine['architecture']})"
        said.append(f"other board than asked for: found {name}, expected {device.model_prefix!r}")
    for when, bits in (("before", before["throttled"]), ("after", after["throttled"])):
        if bits is not None and bits & THROTTLE_MASK:
            said.append(f"throttling {when} the runs: {throttle_words(bits & THROTTLE_MASK)}")
    if None in (before["throttled"], after["throttled"]) and is_pi:
        said.append("throttling is not known: vcgencmd gave no answer on this Raspberry Pi")
    counts = [("1 thread" if n == "1" else f"{n} threads", taken) for n, taken in run["latency"].items()]
    # Elsewhere than on a Raspberry Pi the highest clock is a turbo that holds for one core and a short time.
    allowed = before["frequency_max_khz"] if is_pi else None
    for threads, taken in counts:
        start, end = taken["frequency_khz"]
        known = [khz for khz in (start, end) if khz is not None]
        if start is not None and end is not None and end < MIN_CLOCK_SHARE * start:
            said.append(f"clock fell during the runs with {threads}: {start // 1000} to {end // 1000} MHz")
        elif known and allowed is not None and min(known) < MIN_CLOCK_SHARE * allowed:
            said.append(f"clock below its maximum with {threads}: {min(known) // 1000} of {allowed // 1000} MHz")
    governors: Sequence[str] = before["governors"]
    if any(name != "performance" for name in governors):
        said.append(f"governor is {', '.join(governors)}, not performance: the clock may follow the load")
    hottest = max(
        (state["temperature_c"] for state in (before, after) if state["temperature_c"] is not None), default=0
    )
    if hottest > MAX_TEMPERATURE_C:
        said.append(f"temperature reached {hottest:.1f} C, above {MAX_TEMPERATURE_C:g} C")
    for threads, taken in counts:
        said += busy_flags(taken["others_cores"], during=f"the runs with {threads}")
    load = run["state"]["loadavg_at_start"][0]
    if judge_load and load > MAX_LOAD:
        said.append(f"busy machine: load average {load:.2f} at the start, above {MAX_LOAD:g}")
    for threads, taken in counts:
        if taken["runs"] < MIN_RUNS:
            said.append(f"only {taken['runs']} runs with {threads}, expected at least {MIN_RUNS}")
    return tuple(said)


def is_device(run: Mapping[str, Any], device: Device) -> bool:
    """Return whether the machine of a run calls itself the board that was asked for."""
    return (run["machine"]["board"] or "").startswith(device.model_prefix)


def busy_flags(others_cores: float | None, *, during: str) -> tuple[str, ...]:
    """Return a sentence where other programs used the machine; none where that is not known."""
    if others_cores is None or others_cores <= MAX_OTHERS_CORES:
        return ()
    return (f"busy machine: other programs used {others_cores:.1f} cores during {during}",)


def throttle_words(bits: int) -> str:
    """Return the meaning of the set bits of `vcgencmd get_throttled`."""
    said = [words for bit, words in _THROTTLE_BITS.items() if bits >> bit & 1]
    return f"{', '.join(said) or 'unknown bits'} (0x{bits:x})"
