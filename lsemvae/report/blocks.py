"""What a report is made of: sections with prose, tables and plots, the same for Markdown, HTML and PDF."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lsemvae.ecg.errors import FormatError

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

MISSING = "-"


class Estimate(Protocol):
    """A value with its 95 % interval, as `lsemvae.evaluate.metrics` makes it."""

    @property
    def value(self) -> float:
        """The value; NaN where there is none."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


@dataclass(frozen=True)
class TextTable:
    """A table of finished text; a line break inside a cell is kept where the medium can."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise FormatError(f"{self.title}: found a row of {len(row)} cells, expected {len(self.headers)}")

    def markdown(self) -> str:
        """A pipe table with its title above and its note below."""
        lines = [
            "| " + " | ".join(map(_one_line, self.headers)) + " |",
            "| " + " | ".join("---" for _ in self.headers) + " |",
        ]
        lines += ["| " + " | ".join(map(_one_line, row)) + " |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True)
class Plot:
    """A figure: `draw` fills an empty figure or part of one; `alt` says in words what it shows to whoever cannot see it."""

    title: str
    draw: Callable[[FigureBase], None]
    alt: str
    note: str = ""
    size_in: tuple[float, float] = (10.0, 5.4)


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and what stands under them."""

    title: str
    prose: tuple[str, ...] = ()
    blocks: tuple[TextTable | Plot, ...] = ()


def _one_line(cell: str) -> str:
    return cell.replace("\n", " ").replace("|", "\\|")


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def estimate(e: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Value, and on the next line its interval: `0.943` / `(0.893-0.979)`; a dash where there is none.

    `signed` is for differences: `+0.012` / `(-0.003 to 0.027)`.
    """
    if math.isnan(e.value):
        return MISSING
    if signed:
        return f"{e.value:+.{digits}f}\n({e.low:.{digits}f} to {e.high:.{digits}f})"
    return f"{e.value:.{digits}f}\n({e.low:.{digits}f}-{e.high:.{digits}f})"


def percent(e: Estimate) -> str:
    """A share in per cent with its interval, or a dash."""
    if math.isnan(e.value):
        return MISSING
    return f"{100 * e.value:.1f} %\n({100 * e.low:.1f} to {100 * e.high:.1f})"


def columns(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Rows as tuples."""
    return tuple(tuple(row) for row in rows)
