"""What speaks against a measurement: sentences, from what the runner said of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from export.benchmark.devices import Device

MIN_RUNS: Final = 300
"""Below this the 99th percentile rests on fewer than three runs."""
MAX_TEMPERATURE_C: Final = 80.0
"""Raspberry Pi documentation, frequency management: from 80 C on the firmware lowers the clock."""
THROTTLE_MASK: Final = 0xF000F
MIN_CLOCK_SHARE: Final = 0.95
"""Clocks are read in steps and lag by one reading; 5 % lets that pass and no real step down (100 MHz of 1,500 is 7 %)."""
MAX_OTHERS_CORES: Final = 0.2
"""Processor time of other programs, in cores: a fifth of one is more than a clinic's idle board uses and shifts percentiles."""
MAX_LOAD: Final = 0.5
"""One-minute load average before the first process starts."""
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
_PI: Final = "Raspberry Pi"


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
    return (*_other_board(run, device), *_throttled(run), *_clock(run), *_governor(run), *_hot(run),
            *_busy(run, judge_load=judge_load), *_few_runs(run))  # fmt: skip


def busy_flags(others_cores: float | None, *, during: str) -> tuple[str, ...]:
    """Return a sentence where other programs used the machine; none where that is not known."""
    if others_cores is None or others_cores <= MAX_OTHERS_CORES:
        return ()
    return (f"busy machine: other programs used {others_cores:.1f} cores during {during}",)


def throttle_words(bits: int) -> str:
    """Return the meaning of the set bits of `vcgencmd get_throttled`."""
    said = [words for bit, words in _THROTTLE_BITS.items() if bits >> bit & 1]
    return f"{', '.join(said) or 'unknown bits'} (0x{bits:x})"


def _other_board(run: Mapping[str, Any], device: Device | None) -> Iterator[str]:
    found = run["machine"]["board"]
    if device is not None and not (found or "").startswith(device.model_prefix):
        name = repr(found) if found else f"no board name ({run['machine']['architecture']})"
        yield f"other board than asked for: found {name}, expected {device.model_prefix!r}"


def _throttled(run: Mapping[str, Any]) -> Iterator[str]:
    readings = {when: run["state"][when]["throttled"] for when in ("before", "after")}
    for when, bits in readings.items():
        if bits is not None and bits & THROTTLE_MASK:
            yield f"throttling {when} the runs: {throttle_words(bits & THROTTLE_MASK)}"
    if None in readings.values() and _is_pi(run):
        yield "throttling is not known: vcgencmd gave no answer on this Raspberry Pi"


def _clock(run: Mapping[str, Any]) -> Iterator[str]:
    """Under load the clock neither falls during the runs nor, on a Raspberry Pi, stays below the highest that is allowed.

    Elsewhere the highest clock is a turbo that holds for one core and a short time, so staying below it says nothing.
    """
    allowed = run["state"]["before"]["frequency_max_khz"] if _is_pi(run) else None
    for threads, taken in run["latency"].items():
        start, end = taken["frequency_khz"]
        known = [khz for khz in (start, end) if khz is not None]
        if start is not None and end is not None and end < MIN_CLOCK_SHARE * start:
            yield f"clock fell during the runs with {_count(threads)}: {start // 1000} to {end // 1000} MHz"
        elif known and allowed is not None and min(known) < MIN_CLOCK_SHARE * allowed:
            yield f"clock below its maximum with {_count(threads)}: {min(known) // 1000} of {allowed // 1000} MHz"


def _governor(run: Mapping[str, Any]) -> Iterator[str]:
    governors: Sequence[str] = run["state"]["before"]["governors"]
    if any(name != "performance" for name in governors):
        yield f"governor is {', '.join(governors)}, not performance: the clock may follow the load"


def _hot(run: Mapping[str, Any]) -> Iterator[str]:
    readings = [run["state"][when]["temperature_c"] for when in ("before", "after")]
    hottest = max((degrees for degrees in readings if degrees is not None), default=None)
    if hottest is not None and hottest > MAX_TEMPERATURE_C:
        yield f"temperature reached {hottest:.1f} C, above {MAX_TEMPERATURE_C:g} C"


def _busy(run: Mapping[str, Any], *, judge_load: bool) -> Iterator[str]:
    for threads, taken in run["latency"].items():
        yield from busy_flags(taken["others_cores"], during=f"the runs with {_count(threads)}")
    load = run["state"]["loadavg_at_start"][0]
    if judge_load and load > MAX_LOAD:
        yield f"busy machine: load average {load:.2f} at the start, above {MAX_LOAD:g}"


def _few_runs(run: Mapping[str, Any]) -> Iterator[str]:
    for threads, taken in run["latency"].items():
        if taken["runs"] < MIN_RUNS:
            yield f"only {taken['runs']} runs with {_count(threads)}, expected at least {MIN_RUNS}"


def _is_pi(run: Mapping[str, Any]) -> bool:
    return (run["machine"]["board"] or "").startswith(_PI)


def _count(threads: str) -> str:
    return "1 thread" if threads == "1" else f"{threads} threads"
