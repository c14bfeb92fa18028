"""Latency of a Raspberry Pi 4 with four threads from executed instructions: fit, its errors, and how far it reaches.

T4[ms] = a * Minsn + b by least squares of the relative error, over MobileNets whose median latency on a Raspberry Pi 4 was
published (MLPerf Inference v1.0, Krai) and whose instructions were counted on the same kernels (ruy). Minsn is the
number of instructions of one inference by 10^6. `docs/explanation/benchmark.md` says what this covers and what it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

import numpy as np

from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.data import calibration, published

PRECISIONS: Final = ("int8", "fp32")
# The downward check drops all models below these multiples of the smallest and predicts them from the rest.
LEAVE_OUT_FACTORS: Final = (2.0, 3.0)
# A downward check that went less far below its own smallest model than this says nothing.
DOWNWARD_REACH: Final = 2.0
# The check carries nothing beyond this relative error: the range would be wider than the answer is useful.
DOWNWARD_WORST_ERROR: Final = 0.25
# Two coefficients from fewer models follow single models.
DOWNWARD_MIN_MODELS: Final = 5


class Predictor(StrEnum):
    """What the latency is predicted from. Only instructions are used for projections; the others are compared."""

    INSTRUCTIONS = "instructions"
    CYCLES = "model_cycles"
    MACS = "macs"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPoint:
    """One model with what it costs and how long it took on a Raspberry Pi 4.

    Attributes
    ----------
    instructions, model_cycles, macs
        Of one inference with one thread; `model_cycles` are core cycles by a pipeline model.
    published_ms
        Median latency of the published run.
    """

    model: str
    precision: str
    instructions: int
    model_cycles: int
    macs: int
    weights: int
    operators: int
    published_ms: float

    def x(self, predictor: Predictor) -> float:
        """Return the predictor in millions."""
        return float(getattr(self, predictor.value)) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """T4[ms] = slope * x + constant, x in millions."""

    slope_ms: float
    constant_ms: float

    def at(self, x: float) -> float:
        """Return the latency in ms at `x` millions."""
        return self.slope_ms * x + self.constant_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class DownwardCheck:
    """The small models predicted from the larger ones alone.

    Attributes
    ----------
    factor
        Models with less than this multiple of the smallest were left out of the fit.
    reach
        Smallest instructions inside the fit over the smallest predicted: how far down the prediction went.
    errors
        Model and (predicted / published - 1), smallest model first.
    """

    factor: float
    models_used: int
    reach: float
    errors: tuple[tuple[str, float], ...]

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(abs(error) for _, error in self.errors)

    @property
    def holds(self) -> bool:
        """Whether this check carries a projection below the smallest model, as far as it went itself (`reach`)."""
        enough = self.models_used >= DOWNWARD_MIN_MODELS and self.reach >= DOWNWARD_REACH
        return enough and self.worst <= DOWNWARD_WORST_ERROR

    def to_dict(self) -> dict[str, Any]:
        """Return the check for JSON."""
        return {**asdict(self), "errors": dict(self.errors), "worst": self.worst, "holds": self.holds}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFit:
    """The fit of one precision with everything that says how good it is.

    Attributes
    ----------
    points
        Smallest model first.
    residuals, left_out
        predicted / published - 1 for each point: with all points in the fit, and with that point left out of it.
    """

    precision: str
    predictor: Predictor
    line: Line
    points: tuple[CalibrationPoint, ...]
    residuals: tuple[float, ...]
    left_out: tuple[float, ...]
    downward: tuple[DownwardCheck, ...]

    @property
    def loo_rms(self) -> float:
        """Root mean square of the leave-one-out errors."""
        return _rms(self.left_out)

    @property
    def loo_worst(self) -> float:
        """Largest leave-one-out error."""
        return max(abs(error) for error in self.left_out)

    @property
    def calibrated_minsn(self) -> tuple[float, float]:
        """Smallest and largest calibration model in millions of the predictor."""
        return self.points[0].x(self.predictor), self.points[-1].x(self.predictor)

    @property
    def reaches_down(self) -> bool:
        """Whether every downward check carries a projection below the smallest model."""
        return all(check.holds for check in self.downward)

    @property
    def domain_minsn(self) -> tuple[float, float]:
        """Smallest and largest model that a projection is made for."""
        low, high = self.calibrated_minsn
        return (low / self.reach if self.reaches_down else low), high

    @property
    def reach(self) -> float:
        """How far below its smallest model every downward check went: a projection goes no further."""
        return min(check.reach for check in self.downward)

    @property
    def downward_worst(self) -> float:
        """Largest error of the downward checks: what a projection below the smallest model is widened by."""
        return max(check.worst for check in self.downward)

    def to_dict(self) -> dict[str, Any]:
        """Return coefficients, errors and domain for JSON."""
        return {
            "formula": "T4[ms] = slope_ms * Minsn + constant_ms",
            "precision": self.precision,
            "predictor": self.predictor.value,
            **asdict(self.line),
            "models": len(self.points),
            "rms": _rms(self.residuals),
            "leave_one_out_rms": self.loo_rms,
            "leave_one_out_worst": self.loo_worst,
            "calibrated_minsn": list(self.calibrated_minsn),
            "domain_minsn": list(self.domain_minsn),
            "downward_checks": [check.to_dict() for check in self.downward],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A published figure of another source and other kernels, none of which went into the fit."""

    model: str
    precision: str
    predictor: Predictor
    predicted_ms: float
    published_ms: float

    @property
    def error(self) -> float:
        """predicted / published - 1."""
        return self.predicted_ms / self.published_ms - 1

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {**asdict(self), "predictor": self.predictor.value, "error": self.error}


@cache
def calibration_points(precision: str) -> tuple[CalibrationPoint, ...]:
    """Return the calibration models of a precision, fewest instructions first.

    Raises
    ------
    BenchmarkError
        No model of that precision was counted.
    """
    if precision not in PRECISIONS:
        raise BenchmarkError(f"found the precision {precision!r}, expected one of {', '.join(PRECISIONS)}")
    latency = published()["pi4_percentiles"]
    points = [
        CalibrationPoint(
            **{key: row[key] for key in ("model", "precision", "instructions", "model_cycles", "macs", "weights")},
            operators=row["operators"],
            published_ms=latency.one(model=row["model"], precision=precision)["p50_ms"],
        )
        for row in calibration()["counts"].where(precision=precision, kernels="ruy")
    ]
    return tuple(sorted(points, key=lambda point: point.instructions))


def fit_line(points: Sequence[CalibrationPoint], *, predictor: Predictor) -> Line:
    """Return the line with the least sum of squared relative errors over the points."""
    x = np.array([point.x(predictor) for point in points])
    y = np.array([point.published_ms for point in points])
    scaled = np.stack([x, np.ones_like(x)], axis=1) / y[:, None]
    (slope, constant), *_ = np.linalg.lstsq(scaled, np.ones_like(y), rcond=None)
    return Line(slope_ms=float(slope), constant_ms=float(constant))


@cache
def fit_latency(precision: str, *, predictor: Predictor = Predictor.INSTRUCTIONS) -> LatencyFit:
    """Return the fit of a precision with its leave-one-out errors and its downward checks."""
    points = tuple(sorted(calibration_points(precision), key=lambda point: point.x(predictor)))
    line = fit_line(points, predictor=predictor)
    others = [[q for q in points if q is not point] for point in points]
    left_out = (
        _error(fit_line(rest, predictor=predictor), point, predictor)
        for rest, point in zip(others, points, strict=True)
    )
    return LatencyFit(
        precision=precision,
        predictor=predictor,
        line=line,
        points=points,
        residuals=tuple(_error(line, point, predictor) for point in points),
        left_out=tuple(left_out),
        downward=tuple(downward_check(points, factor=factor, predictor=predictor) for factor in LEAVE_OUT_FACTORS),
    )


def downward_check(points: Sequence[CalibrationPoint], *, factor: float, predictor: Predictor) -> DownwardCheck:
    """Return how well the models below `factor` times the smallest are predicted by the fit of the others.

    Parameters
    ----------
    points
        Smallest model first.
    """
    limit = factor * points[0].x(predictor)
    small = [point for point in points if point.x(predictor) < limit]
    large = [point for point in points if point.x(predictor) >= limit]
    line = fit_line(large, predictor=predictor)
    errors = tuple((point.model, _error(line, point, predictor)) for point in small)
    reach = large[0].x(predictor) / small[0].x(predictor)
    return DownwardCheck(factor=factor, models_used=len(large), reach=reach, errors=errors)


def held_out(precision: str, *, predictor: Predictor = Predictor.INSTRUCTIONS) -> tuple[HeldOut, ...]:
    """Return XNNPACK's published MobileNets on a Raspberry Pi 4 against the fit of the ruy kernels.

    The counts are those of XNNPACK's kernels; source, runtime, kernels and year differ from the fit's.
    """
    line = fit_latency(precision, predictor=predictor).line
    counts = calibration()["counts"]
    return tuple(
        HeldOut(
            model=row["model"],
            precision=precision,
            predictor=predictor,
            published_ms=float(row["pi4_ms"]),
            predicted_ms=line.at(
                counts.one(model=row["model"], precision=precision, kernels="xnnpack")[predictor.value] / 1e6
            ),
        )
        for row in published()["xnnpack_pi4"].where(precision=precision)
    )


def _error(line: Line, point: CalibrationPoint, predictor: Predictor) -> float:
    return line.at(point.x(predictor)) / point.published_ms - 1


def _rms(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
