"""What can go wrong in a benchmark: each with a code and advice."""

from __future__ import annotations

from typing import ClassVar

from export.errors import ExportError


class BenchmarkError(ExportError):
    """The benchmark cannot be done as asked."""

    code: ClassVar[str] = "E_BENCHMARK"
    default_advice: ClassVar[str] = "Check the bundle and the arguments, then run the benchmark again."


class BenchmarkToolError(BenchmarkError):
    """A program that the benchmark needs is not installed here."""

    code: ClassVar[str] = "E_BENCHMARK_TOOL"
    default_advice: ClassVar[str] = (
        "On Debian or Ubuntu (x86_64): sudo apt install qemu-user mmdebstrap gcc libc6-dev. Elsewhere, measure on "
        "the board itself: lsemvae benchmark --ssh user@pi."
    )


class EmulationError(BenchmarkError):
    """The emulated run failed, or does not say what the host says."""

    code: ClassVar[str] = "E_BENCHMARK_EMULATION"
    default_advice: ClassVar[str] = "Nothing was projected. Read the emulator's words in the message."


class OutsideCalibrationError(BenchmarkError):
    """The model lies outside what the published figures cover: no projection is made."""

    code: ClassVar[str] = "E_BENCHMARK_RANGE"
    default_advice: ClassVar[str] = "No projection is made. Measure on the board: lsemvae benchmark --ssh user@pi."


class BoardError(BenchmarkError):
    """The board cannot be reached, or the measurement on it failed."""

    code: ClassVar[str] = "E_BENCHMARK_BOARD"
    default_advice: ClassVar[str] = "Check that `ssh USER@HOST true` works without a password, then try again."
