"""One thread instead of four: what of the four-thread fit remains.

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

from dataclasses import dataclass

import numpy as np

from export.benchmark.projected.fit import Line, calibration_points
from export.benchmark.projected.ratios import PI4_CLOCK_HZ, Spread, decode_width


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
        slope_ms=float(slope), operator_ms=float(operator),
        loo_rms=float(np.sqrt(np.mean(errors**2))), loo_worst=float(np.abs(errors).max()),
    )  # fmt: skip
