"""What can go wrong in a benchmark: each with a code and advice."""

from __future__ import annotations

from typing import ClassVar

from export.errors import ExportError


class BenchmarkError(ExportError):
    """The benchmark cannot be done as asked."""

    code: ClassVar[str] = "E_BENCHMARK"
    default_advice: ClassVar[str] = "Check the bundle and the arguments, then run the benchmark again."


class UncountedGraphError(BenchmarkError):
    """No instructions of the model's graph were ever counted: there is nothing to project from."""

    code: ClassVar[str] = "E_BENCHMARK_COUNT"
    default_advice: ClassVar[str] = "Measure on the board: lsemvae benchmark --ssh user@pi."


class OutsideCalibrationError(BenchmarkError):
    """The model lies outside what the published figures cover: no projection is made."""

    code: ClassVar[str] = "E_BENCHMARK_RANGE"
    default_advice: ClassVar[str] = "No projection is made. Measure on the board: lsemvae benchmark --ssh user@pi."


class BoardError(BenchmarkError):
    """The board cannot be reached, or the measurement on it failed."""

    code: ClassVar[str] = "E_BENCHMARK_BOARD"
    default_advice: ClassVar[str] = "Check that `ssh USER@HOST true` works without a password, then try again."
