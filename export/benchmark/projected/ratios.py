"""Published ratios (one thread to four, one board to another, one percentile to the median), and one thread instead of four.

The fit reads T4 = S + b with S = a * Minsn. The instructions were counted with one thread, so all work that one thread
does is in S; b is time without counted instructions. It grows with the number of operators (`per_operator`), as handing
work to threads and waiting for them does. One thread hands nothing over, but part of b can be something else
(cold caches, the benchmark's own call), so what it pays of b is unknown: c in [0, b].

* central:  T1 = r * S + b / 2, r the median of the published T1 / T4
* low end:  T1 = r_min * S * (1 - e), and never below Minsn / (decode width * clock)
* high end: T1 = r_max * (S + b) * (1 + e): b is taken for work that four threads share, so that one pays all of it
  r_max times. e is the relative error of the fit.

The published ratios are of models of 60 ms and more with four threads, where b is nothing: they are ratios of S.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np

from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.data import published
from export.benchmark.projected.fit import Line, calibration_points

THREADS: Final = (1, 4)
# The clock of the published Raspberry Pi 4; the fit is of it.
PI4_CLOCK_HZ: Final = 1.5e9
PI5_CLOCK_HZ: Final = 2.4e9
# The Zero 2 W has the cores of the 3B+ at another clock; 3B+ figures are the nearest that were published by threads.
PI3BPLUS_CLOCK_HZ: Final = 1.4e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, median and largest of what was published."""

    low: float
    central: float
    high: float
    models: int

    def to_dict(self) -> dict[str, float]:
        """Return the spread for JSON."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """Return smallest, median and largest of some values."""
    if not values:
        raise BenchmarkError("found no published value, expected at least one")
    return Spread(low=min(values), central=statistics.median(values), high=max(values), models=len(values))


def one_thread_to_four(precision: str) -> Spread:
    """Return T1 / T4 on a Raspberry Pi 4, models of 40 to 5500 ms.

    The centre is of TFLite 2.18 with XNNPACK (EfficientDet-lite); the ends also cover TFLite 2.5 with other models.
    """
    newer: list[float] = []
    older: list[float] = []
    for ratios, table in ((newer, "pi4_pi5_threads"), (older, "pi3bplus_pi4")):
        one, four = (
            {row["model"]: row["pi4_ms"] for row in published()[table].where(precision=precision, threads=threads)}
            for threads in THREADS
        )
        ratios += [one[model] / four[model] for model in one]
    return _covering(spread(newer), older)


def pi4_to_pi5(precision: str, *, threads: int) -> Spread:
    """Return T(Raspberry Pi 4) / T(Raspberry Pi 5) of the same model and thread count.

    The centre is of TFLite 2.18 (EfficientDet-lite). With four threads the ends also cover MobileNet v2, XNNPACK on the
    Raspberry Pi 4 over ExecuTorch on the Raspberry Pi 5.
    """
    rows = published()["pi4_pi5_threads"].where(precision=precision, threads=threads)
    same_model = spread([row["pi4_ms"] / row["pi5_ms"] for row in rows])
    return _covering(same_model, [pi4_to_pi5_check(precision)] if threads == 4 else [])


def pi4_to_pi5_check(precision: str) -> float:
    """Return T(Raspberry Pi 4, XNNPACK) / T(Raspberry Pi 5, ExecuTorch) of MobileNet v2: other model, other runtimes."""
    wanted = {"model": "mobilenet-v2-1.0-224", "precision": precision}
    pi4 = published()["xnnpack_pi4"].one(**wanted)["pi4_ms"]
    return float(pi4 / published()["pi5_executorch"].one(**wanted)["pi5_ms"])


def pi3bplus_to_pi4(precision: str, *, threads: int) -> Spread:
    """Return T(Raspberry Pi 3B+) / T(Raspberry Pi 4), both 64-bit, of the same model and thread count."""
    rows = published()["pi3bplus_pi4"].where(precision=precision, threads=threads)
    return spread([row["pi3bplus_ms"] / row["pi4_ms"] for row in rows])


def pi3plus_to_pi4_check() -> Spread:
    """Return T(Raspberry Pi 3+) / T(Raspberry Pi 4) of INT8 MobileNets, both 32-bit, many threads (XNNPACK)."""
    rows = published()["xnnpack_pi3plus_pi4_32bit"].where(precision="int8")
    return spread([row["pi3plus_ms"] / row["pi4_ms"] for row in rows])


def jitter(percentile: str) -> Spread:
    """Return a percentile over the median (`p90` or `p99`), all models that were published for a Raspberry Pi 4.

    It is what the operating system did to those runs, with four threads. It is no property of another model.
    """
    rows = published()["pi4_percentiles"].rows
    return spread([row[f"{percentile}_ms"] / row["p50_ms"] for row in rows])


def decode_width() -> int:
    """Return how many instructions a Cortex-A72 decodes a cycle; it can retire no more."""
    return int(published()["a72_decode"].one(core="cortex-a72")["width"])


def largest_weights(precision: str) -> int:
    """Return the weights of the largest calibration model."""
    return max(point.weights for point in calibration_points(precision))


def _covering(centre: Spread, others: Sequence[float]) -> Spread:
    """Return the spread with its ends moved out as far as the others; its centre stays."""
    return (
        replace(
            centre, low=min(centre.low, *others), high=max(centre.high, *others), models=centre.models + len(others)
        )
        if others
        else centre
    )


# ---- one thread -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A central value with its range, in one unit."""

    value: float
    low: float
    high: float

    def scaled(self, factor: Spread | float) -> Span:
        """Return the span times a factor, or times a spread of factors end by end."""
        if isinstance(factor, Spread):
            return Span(value=self.value * factor.central, low=self.low * factor.low, high=self.high * factor.high)
        return Span(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def widened(self, relative: float) -> Span:
        """Return the span with its ends moved out by a relative error."""
        return Span(value=self.value, low=self.low * (1 - relative), high=self.high * (1 + relative))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the fit says of one model on a Raspberry Pi 4 at `clock_hz`.

    Attributes
    ----------
    compute_ms
        S: the part that follows the instructions and the clock.
    constant_ms
        b: the rest, taken as it is at any clock.
    error
        Relative error that the range carries.
    """

    compute_ms: float
    constant_ms: float
    error: float
    minsn: float
    clock_hz: float

    def floor_ms(self, *, threads: int) -> float:
        """Return the least time in which so many cores can decode the instructions."""
        return self.minsn * 1e6 / (threads * decode_width() * self.clock_hz) * 1e3


def pi4_parts(line: Line, *, minsn: float, error: float, clock_hz: float = PI4_CLOCK_HZ) -> Parts:
    """Return both parts of the fit at a clock; at another clock than the fit's the compute part alone is scaled."""
    compute = line.slope_ms * minsn * PI4_CLOCK_HZ / clock_hz
    return Parts(compute_ms=compute, constant_ms=line.constant_ms, error=error, minsn=minsn, clock_hz=clock_hz)


def four_threads(parts: Parts) -> Span:
    """Return T4 in ms."""
    value = parts.compute_ms + parts.constant_ms
    floor = parts.floor_ms(threads=4)
    return Span(value=value, low=max(floor, value * (1 - parts.error)), high=value * (1 + parts.error))


def one_thread(parts: Parts, *, ratio: Spread) -> Span:
    """Return T1 in ms by the rule above."""
    return Span(
        value=ratio.central * parts.compute_ms + parts.constant_ms / 2,
        low=max(parts.floor_ms(threads=1), ratio.low * parts.compute_ms * (1 - parts.error)),
        high=ratio.high * (parts.compute_ms + parts.constant_ms) * (1 + parts.error),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PerOperator:
    """T4[ms] = a * Minsn + d * operators: the same published figures with a cost for each operator, no constant."""

    slope_ms: float
    operator_ms: float
    loo_rms: float
    loo_worst: float


def per_operator(precision: str) -> PerOperator:
    """Return that fit and its leave-one-out errors.

    It beats the constant (INT8: 4.7 % against 6.4 %), so b is paid operator by operator. It is evidence on what b is and
    makes no projection: what a delegate makes of a graph's operators differs from runtime to runtime.
    """
    points = calibration_points(precision)
    y = np.array([point.published_ms for point in points])
    x = np.array([[point.instructions / 1e6, point.operators] for point in points]) / y[:, None]
    ones = np.ones(len(points))
    slope, operator = np.linalg.lstsq(x, ones, rcond=None)[0]
    keep = ~np.eye(len(points), dtype=bool)
    errors = np.array([x[i] @ np.linalg.lstsq(x[k], ones[k], rcond=None)[0] - 1 for i, k in enumerate(keep)])
    return PerOperator(
        slope_ms=float(slope),
        operator_ms=float(operator),
        loo_rms=float(np.sqrt(np.mean(errors**2))),
        loo_worst=float(np.abs(errors).max()),
    )
