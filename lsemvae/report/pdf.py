"""Documents as PDF: A4 landscape, tables as readable pages, one figure a page, drawn by matplotlib."""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lsemvae.formats.whole import whole_file
from lsemvae.report.blocks import Document, Plot, Section, TextTable
from lsemvae.report.pictures import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A4 landscape; all lengths here are points.
_WIDE: Final = 842.0
_HIGH: Final = 595.0
_MARGIN: Final = 36.0
# Below the statement and its rule.
_TOP: Final = 62.0
_ROOM: Final = _WIDE - 2 * _MARGIN
_LINE: Final = 1.28
# Type of a table: the largest that fits; what does not fit at the smallest is cut into tables side by side.
_SIZES: Final = (8.5, 8.0, 7.5, 7.0)
_WRAPS: Final = (80, 40, 28)
_GAP: Final = 10.0
_BODY, _NOTE, _H1, _H2 = 10.0, 8.0, 16.0, 11.0
_INK, _GREY, _RUST = "#1a1a1a", "#555555", "#7a3000"


@dataclass
class _Pages:
    """A cursor that flows text down pages: `y` is the top of the next line, `drawn` whether this page has a figure."""

    statement: str
    done: list[Figure] = field(default_factory=list)
    y: float = 0.0
    drawn: bool = False

    def open(self) -> None:
        """Begin a page with the statement as its first line."""
        from matplotlib.figure import Figure

        self.done.append(Figure(figsize=(_WIDE / 72, _HIGH / 72)))
        self.drawn = False
        self.y = _HIGH - _MARGIN
        for line in textwrap.wrap(self.statement, 150):
            self.text(_MARGIN, self.y - 8.0, line, 8.0, weight="bold", color=_RUST)
            self.y -= 8.0 * _LINE
        self.rule(_HIGH - _TOP + 4, _WIDE - _MARGIN, color=_RUST, lw=1)
        self.text(_WIDE - _MARGIN, _MARGIN - 12, str(len(self.done)), 8.0, color=_GREY, ha="right")
        self.y = _HIGH - _TOP - 4

    def text(
        self, x: float, y: float, text: str, size: float, *, weight: str = "normal", color: str = _INK, ha: str = "left"
    ) -> None:
        """Write one line with its baseline at `y`."""
        self.done[-1].text(x / _WIDE, y / _HIGH, text, fontsize=size, weight=weight, color=color, va="baseline", ha=ha)

    def rule(self, y: float, right: float, *, color: str, lw: float) -> None:
        """Draw a line across the page from the left margin."""
        from matplotlib.lines import Line2D

        page = self.done[-1]
        edges = [_MARGIN / _WIDE, right / _WIDE]
        page.add_artist(Line2D(edges, [y / _HIGH] * 2, color=color, lw=lw, transform=page.transFigure))

    def room(self, height: float) -> None:
        """Turn the page if less than `height` is left."""
        if not self.done or self.y - height < _MARGIN:
            self.open()

    def paragraph(
        self, text: str, size: float, *, weight: str = "normal", color: str = _INK, after: float = 5.0
    ) -> None:
        """Write wrapped text."""
        for line in textwrap.wrap(text, int(_ROOM / (size * 0.53))):
            self.room(size * _LINE)
            self.text(_MARGIN, self.y - size, line, size, weight=weight, color=color)
            self.y -= size * _LINE
        self.y -= after

    def section(self, section: Section) -> None:
        """Write a heading and what stands under it; a heading stays with its figure."""
        blocks = list(section.flat())
        figure_first = not section.prose and bool(blocks) and isinstance(blocks[0], Plot)
        self.room(_HIGH if figure_first else 110)
        self.y -= 8
        self.paragraph(section.title, _H1, weight="bold", after=6)
        for text in section.prose:
            self.paragraph(text, _BODY)
        for block in blocks:
            if isinstance(block, Plot):
                self.plot(block)
            else:
                for part in fitting(block):
                    self.table(*part)

    def plot(self, plot: Plot) -> None:
        """Draw a figure under its title, on this page if it fits and is the first there, else on the next.

        The layout engine of a page knows one rectangle, so a page has one figure.
        """
        from matplotlib import rc_context
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        width, height = (72 * inches for inches in plot.size_in)
        scale = min(_ROOM / width, (_HIGH - _TOP - _MARGIN - 100) / height)
        width, height = scale * width, scale * height
        if self.drawn or self.y - height - 60 < _MARGIN:
            self.open()
        self.paragraph(plot.title, _H2, weight="bold", after=4)
        rectangle = (_MARGIN / _WIDE, (self.y - height) / _HIGH, width / _WIDE, height / _HIGH)
        self.done[-1].set_layout_engine(ConstrainedLayoutEngine(rect=rectangle))
        with rc_context({"font.size": 8.5}):
            plot.draw(self.done[-1])
        self.drawn = True
        self.y -= height + 6
        self.paragraph(plot.note, _NOTE, color=_GREY, after=10 if plot.note else 0)

    def table(self, table: TextTable, size: float, widths: Sequence[float]) -> None:
        """Write a table whose columns have `widths`; on every further page its head stands again."""
        first = table.rows[0] if table.rows else ("",)
        self.room(_H2 + _height(table.headers, size) + 3 * _height(first, size) + 30)
        self.paragraph(table.title, _H2, weight="bold", after=4)
        self.row(table.headers, widths, size, head=True)
        for row in table.rows:
            if self.y - _height(row, size) < _MARGIN:
                self.open()
                self.row(table.headers, widths, size, head=True)
            self.row(row, widths, size)
        self.y -= 4
        self.paragraph(table.note, _NOTE, color=_GREY, after=14)

    def row(self, cells: Sequence[str], widths: Sequence[float], size: float, *, head: bool = False) -> None:
        """Write the cells of one row and the rule below them."""
        if not cells:
            return
        x = _MARGIN
        for cell, width in zip(cells, widths, strict=True):
            for k, line in enumerate(cell.split("\n")):
                self.text(x, self.y - k * size * _LINE - size, line, size, weight="bold" if head else "normal")
            x += width
        self.y -= _height(cells, size)
        self.rule(self.y + size * 0.1, x, color="0.35" if head else "0.85", lw=0.9 if head else 0.5)


def write_pdf(path: Path, document: Document) -> int:
    """Write the document; return its number of pages."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    with rc_context(STYLE | {"pdf.fonttype": 42}):  # TrueType, so that text can be searched and copied
        pages = _Pages(document.statement)
        pages.open()
        pages.paragraph(document.title, 20.0, weight="bold", after=12)
        for text in document.lead:
            pages.paragraph(text, _BODY)
        for section in document.sections:
            pages.section(section)
        with (
            whole_file(path) as part,
            PdfPages(
                part, metadata={"Title": document.title, "CreationDate": None, "Creator": "lsemvae report"}
            ) as pdf,
        ):
            for figure in pages.done:
                pdf.savefig(figure)
    return len(pages.done)


def fitting(table: TextTable) -> Iterator[tuple[TextTable, float, list[float]]]:
    """Yield the table, wrapped, with a type size and the widths of its columns.

    Where no size fits, it comes in several parts, as few as possible and of nearly equal number of columns, that repeat the
    first column.
    """
    for size, wrap in itertools.product(_SIZES, _WRAPS):
        wrapped = TextTable(
            table.title,
            tuple(_wrap(cell, 16) for cell in table.headers),
            tuple(tuple(_wrap(cell, wrap) for cell in row) for row in table.rows),
            table.note,
        )
        widths = _widths(wrapped, size)
        if sum(widths) <= _ROOM:
            yield wrapped, size, widths
            return
    size = _SIZES[1]
    widths = _widths(wrapped, size)
    n_columns = len(widths) - 1
    for n_parts in range(1, n_columns + 1):
        edges = [1 + round(k * n_columns / n_parts) for k in range(n_parts + 1)]
        parts = [[0, *range(a, b)] for a, b in itertools.pairwise(edges)]
        if all(sum(widths[k] for k in keep) <= _ROOM for keep in parts):
            break
    for n, keep in enumerate(parts, 1):
        part = TextTable(
            f"{table.title} ({n} of {len(parts)})",
            tuple(wrapped.headers[k] for k in keep if wrapped.headers),
            tuple(tuple(row[k] for k in keep) for row in wrapped.rows),
            table.note if n == len(parts) else "",
        )
        yield part, size, [widths[k] for k in keep]


def _widths(table: TextTable, size: float) -> list[float]:
    """Return the width of each column: its longest line as drawn, plus a gap."""
    rows = (*([table.headers] if table.headers else []), *table.rows)
    return [
        max(_em(line) for cell in column for line in cell.split("\n")) * size + _GAP
        for column in zip(*rows, strict=True)
    ]


def _height(cells: Sequence[str], size: float) -> float:
    return max((cell.count("\n") + 1 for cell in cells), default=0) * size * _LINE + 0.5 * size


@functools.lru_cache(maxsize=4096)
def _em(line: str) -> float:
    """Return the width per point of type size; measured as bold, which is the wider, so that headers fit too."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if not line:
        return 0.0
    bold = FontProperties(weight="bold", size=10)
    return float(text_to_path.get_text_width_height_descent(line, bold, ismath=False)[0]) / 10


def _wrap(cell: str, width: int) -> str:
    return "\n".join(part for line in cell.split("\n") for part in (textwrap.wrap(line, width) or [""]))
