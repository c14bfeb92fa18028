"""Latency that a board would need, projected from an instruction count and published measurements of other models.

Nothing here reads a clock and nothing here ran on a board: every figure is PROJECTED. A model outside what the published
figures cover gets no projection at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from export.benchmark.basis import Basis, BenchmarkSection, Figure
from export.benchmark.errors import OutsideCalibrationError
from export.benchmark.projected.data import calibration, percent, published
from export.benchmark.projected.fit import PRECISIONS, LatencyFit, fit_latency, held_out
from export.benchmark.projected.ratios import (
    PI3BPLUS_CLOCK_HZ,
    PI4_CLOCK_HZ,
    PI5_CLOCK_HZ,
    Parts,
    Span,
    decode_width,
    four_threads,
    jitter,
    largest_weights,
    one_thread,
    one_thread_to_four,
    pi3bplus_to_pi4,
    pi4_parts,
    pi4_to_pi5,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from export.benchmark.devices import Device

# The published figures are of TFLite and of XNNPACK, its kernels. Nothing comparable was published for ONNX Runtime.
RUNTIMES: Final = ("litert", "tflite")
# Beyond this the weights stream from memory at each inference, which no calibration model does (the largest has 4.2 M).
MAX_WEIGHTS: Final = 20_000_000
# Transformers, recurrent nets and custom code: the calibration models are convolutional nets.
UNCOVERED_OPERATORS: Final = frozenset(
    {"BATCH_MATMUL", "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "WHILE", "CUSTOM"}
)
# Later boards (C0 stepping, Raspberry Pi OS 11 and on) run at 1.8 GHz.
PI4_FAST_CLOCK_HZ: Final = 1.8e9
# The Zero 2 W has no published figure here: 3B+ figures at another clock and with slower memory stand for it.
ZERO2W_ERROR: Final = 0.35

_JITTER_NOTE: Final = (
    "median times what the operating system of a published Raspberry Pi 4 made of {models} other models with four "
    "threads; no property of this model, and the smallest of those models have the largest factors"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What one model would need on one board.

    Attributes
    ----------
    a72_instructions
        Of one inference with one thread, counted under a Cortex-A72, whatever the board.
    figures
        Latencies in ms by threads and percentile, all PROJECTED, each with its range.
    notes
        Sentences for the reader of the figures.
    extrapolated
        Whether the model is smaller than every calibration model.
    """

    device: Device
    a72_instructions: int
    precision: str
    runtime: str
    weights: int
    fit: LatencyFit
    error: float
    extrapolated: bool
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    def figure(self, name: str) -> Figure:
        """Return a figure by its name, such as `latency_1t_p50`."""
        return next(figure for figure in self.figures if figure.name == name)

    def section(self, row: str) -> BenchmarkSection:
        """Return the projection as a table of one row."""
        title = f"Projected for {self.device.title}"
        return BenchmarkSection(title=title, basis=Basis.PROJECTED, rows=[(row, self.figures)], notes=self.notes)

    def evidence(self) -> dict[str, Any]:
        """Return what the projection rests on, for JSON: inputs, fit, checks, ratios, sources."""
        board, precision = self.device.name, self.precision
        ratios = {"one_thread_to_four": one_thread_to_four(precision)}
        tables = ["pi4_percentiles", "pi4_pi5_threads", "pi3bplus_pi4", "xnnpack_pi4"]
        if board == "pi4":
            ratios |= {f"{percentile}_to_p50": jitter(percentile) for percentile in ("p90", "p99")}
            tables.append("a72_decode")
        if board == "pi5":
            ratios |= {f"pi4_to_pi5_{threads}t": pi4_to_pi5(precision, threads=threads) for threads in (1, 4)}
            tables.append("pi5_executorch")
        if board == "zero2w":
            ratios |= {f"pi3bplus_to_pi4_{threads}t": pi3bplus_to_pi4(precision, threads=threads) for threads in (1, 4)}
        sources = {**published().sources_of(tables), **calibration().sources_of(["counts"])}
        return {
            "basis": Basis.PROJECTED.value,
            "device": board,
            "a72_instructions": self.a72_instructions,
            "precision": precision,
            "runtime": self.runtime,
            "weights": self.weights,
            "extrapolated": self.extrapolated,
            "relative_error_of_range": self.error,
            "max_weights": MAX_WEIGHTS,
            "fit": self.fit.to_dict(),
            "held_out": [check.to_dict() for check in held_out(precision)],
            "ratios": {name: value.to_dict() for name, value in ratios.items()},
            "sources": {name: source.to_dict() for name, source in sources.items()},
        }


def project(
    *,
    device: Device,
    a72_instructions: int,
    precision: str,
    runtime: str,
    weights: int,
    batch: int = 1,
    operators: Collection[str] = (),
) -> Projection:
    """Return the projected latencies of a model on a board.

    Parameters
    ----------
    a72_instructions
        Instructions of one inference with one thread, counted under a Cortex-A72. Also for the Raspberry Pi 5 and the
        Zero 2 W: the fit is of the A72, and published ratios lead from there to the other boards.
    precision
        `int8` or `fp32`: of the convolutions.
    runtime
        `litert` or `tflite`.
    weights
        Number of weights.
    operators
        Names of the model's operators, where they are known: those no calibration model holds are refused.

    Raises
    ------
    OutsideCalibrationError
        Board, runtime, precision, batch, weights, operators or instructions lie outside what was published.
    """
    boards: Mapping[str, Callable[..., list[Figure]]] = _BOARDS
    _refuse_foreign("board", device.name, tuple(boards))
    _refuse_foreign("runtime", runtime, RUNTIMES, advice=_ADVICE_RUNTIME)
    _refuse_foreign("precision", precision, PRECISIONS)
    if batch != 1:
        raise OutsideCalibrationError(f"no projection: found a batch of {batch}, expected 1")
    if not 0 < weights <= MAX_WEIGHTS:
        raise OutsideCalibrationError(f"no projection: found {weights:,} weights, expected 1 to {MAX_WEIGHTS:,}")
    if foreign := sorted(UNCOVERED_OPERATORS.intersection(operators)):
        raise OutsideCalibrationError(
            f"no projection: found the operators {', '.join(foreign)}, expected those of a convolutional net"
        )
    fit, minsn = fit_latency(precision), a72_instructions / 1e6
    low, high = fit.domain_minsn
    if not low <= minsn <= high:
        raise OutsideCalibrationError(
            f"no projection: found {minsn:.2f} million instructions an inference, expected {low:.2f} to {high:.0f} million "
            f"({fit.precision}: the {len(fit.points)} calibration models and what they carry)"
        )
    extrapolated = minsn < fit.calibrated_minsn[0]
    error = fit.loo_worst + (fit.downward_worst if extrapolated else 0.0)
    figures = boards[device.name](fit, minsn=minsn, error=error, clock_hz=device.clock_hz)
    return Projection(
        device=device,
        a72_instructions=a72_instructions,
        precision=precision,
        runtime=runtime,
        weights=weights,
        fit=fit,
        error=error,
        extrapolated=extrapolated,
        figures=tuple(figures),
        notes=tuple(_notes(device, fit, extrapolated=extrapolated, weights=weights)),
    )


_ADVICE_RUNTIME: Final = (
    "Project the bundle's .tflite file, or measure this runtime on the board: lsemvae benchmark --ssh user@pi."
)


def _refuse_foreign(what: str, found: str, expected: tuple[str, ...], *, advice: str | None = None) -> None:
    if found not in expected:
        raise OutsideCalibrationError(
            f"no projection: found the {what} {found!r}, expected one of {', '.join(expected)}", advice=advice
        )


def _notes(device: Device, fit: LatencyFit, *, extrapolated: bool, weights: int) -> list[str]:
    """Return the notes of a projection.

    Parameters
    ----------
    extrapolated
        Whether the model is smaller than every calibration model.
    weights
        Number of weights of the model.
    """
    notes = [
        f"No {device.title.split(' (')[0]} was used. Instructions were counted under an emulated Cortex-A72; no time of the "
        "emulator goes in.",
        f"T4[ms] = {fit.line.slope_ms:.3f} * Minsn + {fit.line.constant_ms:.2f} from {len(fit.points)} published "
        f"{fit.precision} models on a Raspberry Pi 4; leave-one-out rms {percent(fit.loo_rms)}, worst {percent(fit.loo_worst)}.",
        "One thread is derived from published ratios of one thread to four; no time is below what decoding "
        f"{decode_width()} instructions a cycle allows."
        if device.name == "pi4"
        else "Two steps, from the Raspberry Pi 4 and from there to this board: read the range, not the value.",
        "Not covered: thermal throttling, SD card, Bluetooth and screen at the same time, front-end and program around "
        "the model.",
    ]
    if extrapolated:
        furthest = max(fit.downward, key=lambda check: check.reach)
        notes.insert(
            2,
            f"Extrapolated: the smallest calibration model has {fit.calibrated_minsn[0]:.2f} million instructions. Fits without "
            f"the small models miss those by {percent(fit.downward_worst)} at most, {furthest.reach:.1f} times below their own "
            "smallest; the range is wider by that.",
        )
    if weights > largest_weights(fit.precision):
        notes.append(
            f"The model has {weights:,} weights, the largest calibration model {largest_weights(fit.precision):,}: "
            "reading them from memory may cost more than the fit knows."
        )
    return notes


def _pi4_spans(fit: LatencyFit, parts: Parts) -> dict[str, Span]:
    ratio = one_thread_to_four(fit.precision)
    return {"1t": one_thread(parts, ratio=ratio), "4t": four_threads(parts)}


def _pi4(fit: LatencyFit, *, minsn: float, error: float, clock_hz: float) -> list[Figure]:
    spans = _pi4_spans(fit, pi4_parts(fit.line, minsn=minsn, error=error, clock_hz=clock_hz))
    figures = [_figure(f"latency_{threads}_p50", span, _P50_NOTES[threads]) for threads, span in spans.items()]
    for threads, span in spans.items():
        for percentile in ("p90", "p99"):
            factor = jitter(percentile)
            note = _JITTER_NOTE.format(models=factor.models)
            figures.append(_figure(f"latency_{threads}_{percentile}", span.scaled(factor), note))
    if clock_hz < PI4_FAST_CLOCK_HZ:
        fast = _pi4_spans(fit, pi4_parts(fit.line, minsn=minsn, error=error, clock_hz=PI4_FAST_CLOCK_HZ))
        note = (
            "boards that run at 1.8 GHz: the part that follows the instructions shrinks with the clock, the rest stays"
        )
        figures += [_figure(f"latency_{threads}_p50_1800mhz", span, note) for threads, span in fast.items()]
    return figures


def _pi5(fit: LatencyFit, *, minsn: float, error: float, clock_hz: float) -> list[Figure]:
    parts = pi4_parts(fit.line, minsn=minsn, error=error)
    threads_1 = one_thread_to_four(fit.precision)
    slower = PI5_CLOCK_HZ / clock_hz
    figures = []
    for threads, span in _pi4_spans(fit, parts).items():
        faster = pi4_to_pi5(fit.precision, threads=int(threads[0]))
        # The pessimistic end lets the constant gain by the clock alone.
        pays = threads_1.high if threads == "1t" else 1.0
        high = pays * (parts.compute_ms / faster.low + parts.constant_ms * PI4_CLOCK_HZ / PI5_CLOCK_HZ) * (1 + error)
        moved = Span(value=span.value / faster.central, low=span.low / faster.high, high=high)
        figures.append(_figure(f"latency_{threads}_p50", moved.scaled(slower), _PI5_NOTE))
    return figures


def _zero2w(fit: LatencyFit, *, minsn: float, error: float, clock_hz: float) -> list[Figure]:
    spans = _pi4_spans(fit, pi4_parts(fit.line, minsn=minsn, error=error))
    figures = []
    for threads, span in spans.items():
        ratio = pi3bplus_to_pi4(fit.precision, threads=int(threads[0])).central
        moved = span.scaled(ratio * PI3BPLUS_CLOCK_HZ / clock_hz).widened(ZERO2W_ERROR)
        figures.append(_figure(f"latency_{threads}_p50", moved, _ZERO2W_NOTE))
    return figures


_BOARDS: Final = MappingProxyType({"pi4": _pi4, "pi5": _pi5, "zero2w": _zero2w})
_P50_NOTES: Final = MappingProxyType(
    {
        "4t": "fit to published Raspberry Pi 4 figures of other models",
        "1t": "the fit's part that follows the instructions, times the published ratio of one thread to four, plus half of "
        "its constant; the high end pays all of the constant, times the largest ratio",
    }
)
_PI5_NOTE: Final = (
    "the Raspberry Pi 4's projection divided by the published Raspberry Pi 4 / Raspberry Pi 5 ratio of other models at the "
    "same thread count; at the high end the fit's constant gains by the clock alone"
)
_ZERO2W_NOTE: Final = (
    "the Raspberry Pi 4's projection times the published Raspberry Pi 3B+ / Raspberry Pi 4 ratio of other models and the "
    "ratio of the clocks; no figure of a Zero 2 W was published"
)


def _figure(name: str, span: Span, note: str) -> Figure:
    return Figure(
        name=name, value=span.value, unit="ms", basis=Basis.PROJECTED, low=span.low, high=span.high, note=note
    )
