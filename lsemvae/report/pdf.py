"""The report as a PDF: A4 landscape, tables as readable pages, one figure a page, drawn by matplotlib."""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lsemvae.formats.whole import whole_file
from lsemvae.report.blocks import Plot, Section, TextTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_PT = (842.0, 595.0)
"""A4 landscape in points; all lengths here are points."""
_MARGIN = 36.0
_TOP = 62.0
"""Below the statement and its rule."""
_WIDTH = PAGE_PT[0] - 2 * _MARGIN
_LINE = 1.28
_SIZES = (8.5, 8.0, 7.5, 7.0)
"""Table type: the largest that fits; what does not fit at the smallest is cut into tables side by side."""
_WRAPS = (80, 40, 28)
_GAP = 10.0
_BODY, _NOTE, _H1, _H2 = 10.0, 8.0, 16.0, 11.0
_INK, _GREY, _RUST = "#1a1a1a", "#555555", "#7a3000"


@dataclass
class _Pages:
    """A cursor that flows text down pages: `y` is the top of the next line, `drawn` whether this page has a figure."""

    statement: str
    done: list[Figure] = field(default_factory=list)
    y: float = 0.0
    drawn: bool = False

    def open(self) -> Figure:
        """A fresh page with the statement as its first line."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        figure = Figure(figsize=(PAGE_PT[0] / 72, PAGE_PT[1] / 72))
        FigureCanvasAgg(figure)
        self.done.append(figure)
        self.drawn = False
        self.y = PAGE_PT[1] - _MARGIN
        for line in textwrap.wrap(self.statement, 150):
            self.text(_MARGIN, line, 8.0, weight="bold", color=_RUST)
            self.y -= 8.0 * _LINE
        height = (PAGE_PT[1] - _TOP + 4) / PAGE_PT[1]
        edges = [_MARGIN / PAGE_PT[0], 1 - _MARGIN / PAGE_PT[0]]
        figure.add_artist(Line2D(edges, [height, height], color=_RUST, lw=1, transform=figure.transFigure))
        self.text(PAGE_PT[0] - _MARGIN, str(len(self.done)), 8.0, color=_GREY, at=_MARGIN - 12)
        self.y = PAGE_PT[1] - _TOP - 4
        return figure

    def text(
        self, x: float, text: str, size: float, *, weight: str = "normal", color: str = _INK, at: float | None = None
    ) -> None:
        """One line of text below the cursor, or right-aligned with its baseline at `at`."""
        y = self.y - size if at is None else at
        self.done[-1].text(
            x / PAGE_PT[0], y / PAGE_PT[1], _plain(text), fontsize=size, weight=weight, color=color, va="baseline",
            ha="right" if at is not None else "left",
        )  # fmt: skip

    def room(self, height: float) -> None:
        """Turn the page if less than `height` is left."""
        if not self.done or self.y - height < _MARGIN:
            self.open()

    def paragraph(
        self, text: str, size: float, *, weight: str = "normal", color: str = _INK, after: float = 5.0
    ) -> None:
        """Wrapped text."""
        for line in textwrap.wrap(text, int(_WIDTH / (size * 0.53))):
            self.room(size * _LINE)
            self.text(_MARGIN, line, size, weight=weight, color=color)
            self.y -= size * _LINE
        self.y -= after


def write_pdf(path: Path, title: str, statement: str, sections: Sequence[Section]) -> int:
    """Write the document; returns its number of pages. The first line of every page is `statement`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    with rc_context({"pdf.fonttype": 42}):  # TrueType, so that text can be searched and copied
        pages = _Pages(statement)
        pages.open()
        pages.paragraph(title, 20.0, weight="bold", after=12)
        for section in sections:
            _section(pages, section)
        with (
            whole_file(path) as part,
            PdfPages(part, metadata={"Title": title, "CreationDate": None, "Creator": "lsemvae report"}) as pdf,
        ):
            for figure in pages.done:
                pdf.savefig(figure)
    return len(pages.done)


def _section(pages: _Pages, section: Section) -> None:
    figure_first = not section.prose and bool(section.blocks) and isinstance(section.blocks[0], Plot)
    pages.room(PAGE_PT[1] if figure_first else 110)  # a heading stays with its figure
    pages.y -= 8
    pages.paragraph(section.title, _H1, weight="bold", after=6)
    for text in section.prose:
        pages.paragraph(text, _BODY)
    for block in section.blocks:
        if isinstance(block, Plot):
            _plot(pages, block)
        else:
            for part in _fitting(block):
                _table(pages, *part)


def _plot(pages: _Pages, plot: Plot) -> None:
    """A figure under its title, on this page if it fits and is the first there, else on the next."""
    scale = min(_WIDTH / (plot.size_in[0] * 72), (PAGE_PT[1] - _TOP - _MARGIN - 100) / (plot.size_in[1] * 72))
    width, height = plot.size_in[0] * 72 * scale, plot.size_in[1] * 72 * scale
    if pages.drawn or pages.y - height - 60 < _MARGIN:
        pages.open()
    pages.paragraph(plot.title, _H2, weight="bold", after=4)
    _place(pages, plot, width, height)
    pages.y -= height + 6
    if plot.note:
        pages.paragraph(plot.note, _NOTE, color=_GREY, after=10)


def _place(pages: _Pages, plot: Plot, width: float, height: float) -> None:
    """Draw into the rectangle below the cursor: the layout engine of a page knows one rectangle, so a page has one figure."""
    from matplotlib import rc_context
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rectangle = (
        _MARGIN / PAGE_PT[0], (pages.y - height) / PAGE_PT[1], width / PAGE_PT[0], height / PAGE_PT[1],
    )  # fmt: skip
    page = pages.done[-1]
    page.set_layout_engine(ConstrainedLayoutEngine(rect=rectangle))
    with rc_context({"font.size": 8.5}):
        plot.draw(page)
    pages.drawn = True


def _fitting(table: TextTable) -> Iterator[tuple[TextTable, float, list[float]]]:
    """The table, wrapped, with a type size and column widths that fit; cut into several where none does."""
    for size in _SIZES:
        for wrap in _WRAPS:
            wrapped = _wrapped(table, wrap)
            widths = _widths(wrapped, size)
            if sum(widths) <= _WIDTH:
                yield wrapped, size, widths
                return
    yield from _cut(_wrapped(table, _WRAPS[-1]), _SIZES[1])


def _wrapped(table: TextTable, width: int) -> TextTable:
    return TextTable(
        table.title,
        tuple(_wrap(cell, 16) for cell in table.headers),
        tuple(tuple(_wrap(cell, width) for cell in row) for row in table.rows),
        table.note,
    )


def _cut(table: TextTable, size: float) -> Iterator[tuple[TextTable, float, list[float]]]:
    """The table in parts that repeat the first column."""
    widths = _widths(table, size)
    n_columns, n_parts = len(table.headers) - 1, 1
    while n_parts < n_columns and max(_part_widths(widths, n_parts)) > _WIDTH:
        n_parts += 1
    parts = _even(n_columns, n_parts)
    for number, columns in enumerate(parts, 1):
        keep = [0, *columns]
        yield (
            TextTable(
                f"{table.title} ({number} of {len(parts)})",
                tuple(table.headers[k] for k in keep),
                tuple(tuple(row[k] for k in keep) for row in table.rows),
                table.note if number == len(parts) else "",
            ),
            size,
            [widths[k] for k in keep],
        )


def _even(n_columns: int, n_parts: int) -> list[list[int]]:
    """Columns 1 to `n_columns` in parts of nearly equal number."""
    edges = [1 + round(k * n_columns / n_parts) for k in range(n_parts + 1)]
    return [list(range(a, b)) for a, b in itertools.pairwise(edges)]


def _part_widths(widths: Sequence[float], n_parts: int) -> list[float]:
    return [widths[0] + sum(widths[k] for k in part) for part in _even(len(widths) - 1, n_parts)]


def _table(pages: _Pages, table: TextTable, size: float, widths: list[float]) -> None:
    head = _height(table.headers, size)
    pages.room(_H2 + head + 3 * _height(table.rows[0] if table.rows else ("",), size) + 30)
    pages.paragraph(table.title, _H2, weight="bold", after=4)
    _row(pages, table.headers, widths, size, weight="bold")
    for row in table.rows:
        if pages.y - _height(row, size) < _MARGIN:
            pages.open()
            _row(pages, table.headers, widths, size, weight="bold")
        _row(pages, row, widths, size)
    pages.y -= 4
    if table.note:
        pages.paragraph(table.note, _NOTE, color=_GREY, after=0)
    pages.y -= 14


def _row(pages: _Pages, cells: Sequence[str], widths: Sequence[float], size: float, *, weight: str = "normal") -> None:
    from matplotlib.lines import Line2D

    top, x = pages.y, _MARGIN
    for cell, width in zip(cells, widths, strict=True):
        for k, line in enumerate(cell.split("\n")):
            pages.y = top - k * size * _LINE
            pages.text(x, line, size, weight=weight)
        x += width
    pages.y = top - _height(cells, size)
    rule = (pages.y + size * 0.1) / PAGE_PT[1]
    page = pages.done[-1]
    edges = [_MARGIN / PAGE_PT[0], x / PAGE_PT[0]]
    colour, thickness = ("0.35", 0.9) if weight == "bold" else ("0.85", 0.5)
    page.add_artist(Line2D(edges, [rule, rule], color=colour, lw=thickness, transform=page.transFigure))


def _height(cells: Sequence[str], size: float) -> float:
    return max(cell.count("\n") + 1 for cell in cells) * size * _LINE + 0.5 * size


def _widths(table: TextTable, size: float) -> list[float]:
    """Width of each column: its longest line as drawn, plus a gap."""
    columns = zip(table.headers, *table.rows, strict=True)
    return [max(_measure(line, size) for cell in column for line in cell.split("\n")) + _GAP for column in columns]


@functools.lru_cache(maxsize=4096)
def _em(line: str) -> float:
    """Width per point of type size; measured as bold, which is the wider, so that headers fit too."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(weight="bold", size=10)
    return float(text_to_path.get_text_width_height_descent(_plain(line), font, ismath=False)[0]) / 10


def _measure(line: str, size: float) -> float:
    """Width in points."""
    return _em(line) * size if line else 0.0


def _wrap(cell: str, width: int) -> str:
    return "\n".join(part for line in cell.split("\n") for part in (textwrap.wrap(line, width) or [""]))


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")
