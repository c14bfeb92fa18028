"""How a figure is known. A table holds figures of one basis, so that nobody reads a projection as a measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from export.benchmark.errors import BenchmarkError

# A board over ssh that is not the device that the benchmark is about: measured, but nothing that the device was asked for.
ANOTHER_MACHINE: Final = "another machine"


class Basis(StrEnum):
    """The three ways to know a figure."""

    MEASURED = "MEASURED"
    """Read off the machine that the figure is about."""
    PROJECTED = "PROJECTED"
    """Computed by a fit to published measurements of other models; no such machine was there."""
    EMULATED = "EMULATED-FUNCTIONAL-ONLY"
    """Seen under an emulator: counts, opcodes and outputs, never a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with its unit and, where it is a projection, the range that it may lie in.

    Attributes
    ----------
    name
        What was counted, such as `latency_1t_p50`.
    low, high
        Ends of the plausible range, in `unit`; None where the figure has none.
    note
        What the reader must know to read the figure right.
    """

    name: str
    value: float
    unit: str
    basis: Basis
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.value, self.low, self.high) if v is not None):
            raise BenchmarkError(
                f"{self.name}: found {self.value} ({self.low} to {self.high}); expected finite numbers"
            )
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise BenchmarkError(f"{self.name}: found {self.value} outside its own range {self.low} to {self.high}")

    def text(self) -> str:
        """Return value, unit and range, for a terminal."""
        said = f"{show(self.value)} {self.unit}".rstrip()
        if self.low is None or self.high is None:
            return said
        return f"{said} (range {show(self.low)} - {show(self.high)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the figure for JSON; its basis always goes with it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "basis": self.basis.value,
            "low": self.low,
            "high": self.high,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSection:
    """A table of figures of one basis: rows by name, each with the same kinds of figure where they are known.

    Attributes
    ----------
    flags
        Reasons why the figures must not be trusted as they stand (a board that throttled, a busy host).
    measured_on
        What the figures were read off: the device as it was asked for (`host`, `pi4`), or `ANOTHER_MACHINE`; None for what
        is no measurement, and for peers.
    """

    title: str
    basis: Basis
    rows: Sequence[tuple[str, Sequence[Figure]]]
    notes: Sequence[str] = ()
    flags: Sequence[str] = ()
    measured_on: str | None = None

    def __post_init__(self) -> None:
        foreign = [f.name for _, figures in self.rows for f in figures if f.basis is not self.basis]
        if foreign:
            raise BenchmarkError(
                f"section {self.title!r} is {self.basis.value}; found figures of another basis: {', '.join(foreign)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the section for JSON."""
        return {
            "title": self.title,
            "basis": self.basis.value,
            "rows": [
                {"name": name, "figures": [figure.to_dict() for figure in figures]} for name, figures in self.rows
            ],
            "notes": list(self.notes),
            "flags": list(self.flags),
        }


def show(value: float) -> str:
    """Return a number with three significant digits, and counts with thousands separated."""
    if value == int(value) and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
