"""A benchmark for a terminal: each table says its basis before its first figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from export.benchmark.basis import Basis, Figure, Section, show
from export.benchmark.job import NOT_COVERED, BenchmarkReport

_MEANING: Final = {
    Basis.MEASURED: "read off the machine named",
    Basis.PROJECTED: "computed from published figures of other models; no such board was there",
    Basis.EMULATED: "seen under an emulator; counts and outputs, no times",
}
_WIDTH: Final = 118
_COLUMN: Final = 24


def report_lines(report: BenchmarkReport) -> list[str]:
    """Return the whole report as lines of at most 118 characters."""
    lines = [report.title, ""]
    for section in report.sections:
        lines += [*section_lines(section), ""]
    if report.refused:
        lines += ["NOT GIVEN", *_listed(report.refused), ""]
    return [
        *lines,
        "NOT COVERED BY ANY FIGURE",
        *_listed(NOT_COVERED),
        "",
        *_wrapped(str(report.bundle["label_statement"])),
    ]


def section_lines(section: Section) -> list[str]:
    """Return one table: figures down, candidates across; each flag stands above the figures that it is about."""
    lines = _wrapped(f"{section.title.upper()}   basis: {section.basis.value} - {_MEANING[section.basis]}", indent="")
    for flag in section.flags:
        lines += _wrapped(f"FLAGGED: {flag}", indent="  ")
    if len(section.rows) == 1:
        lines += _one_candidate(*section.rows[0])
    else:
        lines += _table(section)
    return lines + _listed(section.notes)


def _one_candidate(name: str, figures: Sequence[Figure]) -> list[str]:
    wide = max((len(figure.name) for figure in figures), default=0)
    return [f"  {name}", *(f"    {figure.name.ljust(wide)}  {figure.text()}" for figure in figures)]


def _table(section: Section) -> list[str]:
    names = list(dict.fromkeys(figure.name for _, figures in section.rows for figure in figures))
    wide = max(map(len, names), default=0)
    by_row = [{figure.name: figure for figure in figures} for _, figures in section.rows]
    heads = [_column(name) for name, _ in section.rows]
    depth = max(map(len, heads))
    lines = [
        "  "
        + " " * wide
        + "  "
        + "".join((head[k] if k < len(head) else "").ljust(_column_width(section)) for head in heads)
        for k in range(depth)
    ]
    for name in names:
        cells = [_cell(row.get(name)) for row in by_row]
        lines.append(f"  {name.ljust(wide)}  " + "".join(cell.ljust(_column_width(section)) for cell in cells))
        ranges = [_range(row.get(name)) for row in by_row]
        if any(ranges):
            lines.append(f"  {_RANGE.ljust(wide)}  " + "".join(text.ljust(_column_width(section)) for text in ranges))
    return [line.rstrip() for line in lines]


def _column_width(section: Section) -> int:
    return max(14, min(_COLUMN, (_WIDTH - 30) // max(1, len(section.rows))))


def _column(name: str) -> list[str]:
    return textwrap.wrap(name, 13)


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else f"{show(figure.value)} {_SHORT.get(figure.unit, figure.unit)}".rstrip()


def _range(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{show(figure.low)} - {show(figure.high)}"


_RANGE: Final = "  from - to"
_SHORT: Final = {"instructions": ""}
"""Units that the row's name says already."""


def _listed(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(f"- {sentence}")]


def _wrapped(text: str, *, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)
