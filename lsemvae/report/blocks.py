"""What a report is made of: a document of sections with prose, tables and plots, the same for HTML, PDF and Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lsemvae.ecg.errors import FormatError

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

MISSING: Final = "-"


class WithInterval(Protocol):
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


class Said(str):
    """A text with a tone, which a page shows by colour or type: `good`, `bad`, `note` or `code`."""

    __slots__ = ("tone",)
    tone: str

    def __new__(cls, words: str, tone: str) -> Said:
        """Return the text with its tone."""
        said = super().__new__(cls, words)
        said.tone = tone
        return said


@dataclass(frozen=True)
class TextTable:
    """A table of finished text, of which the first column names the row.

    Attributes
    ----------
    headers
        Names of the columns; empty for a table without a head.
    rows
        Cells; a line break inside a cell is kept where the medium can.
    note
        Sentences below the table; also what is said where there are no rows.
    figures_from
        The first column that holds figures and stands right; None where all stand left.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    figures_from: int | None = None

    def __post_init__(self) -> None:
        expected = len(self.headers or (self.rows or ((),))[0])
        for row in self.rows:
            if len(row) != expected:
                raise FormatError(f"{self.title}: found a row of {len(row)} cells, expected {expected}")

    def markdown(self) -> str:
        """Return a pipe table with its title above and its note below."""
        lines = [self.headers, ("---",) * len(self.headers), *self.rows]
        piped = [
            "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in line) + " |" for line in lines
        ]
        return "\n".join([f"**{self.title}**", "", *piped, *(["", self.note] if self.note else [])])


@dataclass(frozen=True)
class Plot:
    """A picture: `draw` fills an empty figure or part of one; `alt` says in words what it shows to whoever cannot see it."""

    title: str
    draw: Callable[[FigureBase], None]
    alt: str
    note: str = ""
    size_in: tuple[float, float] = (10.0, 5.4)


@dataclass(frozen=True)
class Folded:
    """Tables that a page shows only when its reader unfolds them."""

    title: str
    tables: tuple[TextTable, ...]


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and what stands under them; `beside`: its tables are small enough to stand side by side."""

    title: str
    prose: tuple[str, ...] = ()
    blocks: tuple[TextTable | Plot | Folded, ...] = ()
    beside: bool = False

    def flat(self) -> Iterator[TextTable | Plot]:
        """Yield every table and plot, unfolded: paper cannot unfold."""
        for block in self.blocks:
            yield from block.tables if isinstance(block, Folded) else (block,)


@dataclass(frozen=True)
class Document:
    """A whole report. `statement` is its first line and, on paper, the first line of every page; `lead` follows the title."""

    title: str
    statement: str
    sections: tuple[Section, ...]
    lead: tuple[str, ...] = ()


def number(value: float, digits: int = 3) -> str:
    """Return a number, or a dash where there is none."""
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def estimate(e: WithInterval, digits: int = 3, *, signed: bool = False) -> str:
    """Return a value, and on the next line its interval: `0.943` / `(0.893-0.979)`; a dash where there is none.

    `signed` is for differences: `+0.012` / `(-0.003 to 0.027)`.
    """
    if math.isnan(e.value):
        return MISSING
    if signed:
        return f"{e.value:+.{digits}f}\n({e.low:.{digits}f} to {e.high:.{digits}f})"
    return f"{e.value:.{digits}f}\n({e.low:.{digits}f}-{e.high:.{digits}f})"


def percent(e: WithInterval) -> str:
    """Return a share in per cent with its interval, or a dash."""
    if math.isnan(e.value):
        return MISSING
    return f"{100 * e.value:.1f} %\n({100 * e.low:.1f} to {100 * e.high:.1f})"


def columns(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return rows as tuples."""
    return tuple(tuple(row) for row in rows)
