"""A benchmark for a terminal: the answer in one line and one table, then each table in full with its basis before its figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from export.benchmark.basis import Basis, BenchmarkSection, Figure, show
from export.benchmark.devices import BOARDS
from export.benchmark.job import NOT_COVERED, BenchmarkReport

LATENCY: Final = "latency_1t_p50"
_MEANING: Final = {
    Basis.MEASURED: "read off the machine named",
    Basis.PROJECTED: "computed from published figures of other models; no such board was there",
    Basis.EMULATED: "seen under an emulator; counts and outputs, no times",
}
# What a deployment is planned with, in the order of the first table.
_PLANNED: Final = {
    LATENCY: "one thread, median",
    "latency_1t_p99": "one thread, 99 of 100",
    "latency_4t_p50": "four threads, median",
    "latency_4t_p99": "four threads, 99 of 100",
    "cold_start": "start of a process to its first result",
    "memory_peak": "memory of the process at its peak",
    "energy_gross_per_inference": "energy of one inference, at the wall",
}
_RANGE: Final = "  from - to"
_WIDTH: Final = 118
_COLUMN: Final = 24
_ANSWER_COLUMN: Final = 28


def report_lines(report: BenchmarkReport) -> list[str]:
    """Return the whole report as lines of at most 118 characters: the answer first, then the details."""
    lines = [*headline(report), "", "DETAILS", ""]
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


def headline(report: BenchmarkReport) -> list[str]:
    """Return one line and one table, all of one basis: measured where it was measured, else projected."""
    main = [s for s in report.sections if s.measured_on is not None] or [
        s for s in report.sections if s.basis is Basis.PROJECTED
    ]
    rows = {
        name: {f.name: f for s in main for n, row in s.rows if n == name for f in row}
        for s in main
        for name, _ in s.rows
    }
    rows = {name: row for name, row in rows.items() if LATENCY in row}
    if not rows:
        return _wrapped(f"{report.title}: no latency. {'; '.join(report.refused)}", indent="")
    # Without chip and clock, so that it is one line.
    long = BOARDS[report.device].title if report.device in BOARDS else ""
    latency = next(iter(rows.values()))[LATENCY]
    within = f" ({_range(latency)})" if _range(latency) else ""
    answer = report.title.replace(long, long.split(" (")[0])
    answer += f": {main[0].basis.value} {_cell(latency)}{within} an inference, one thread"
    if main[0].basis is Basis.PROJECTED:
        answer += "; no board was there"
    elif not report.measured_on_device:
        answer += f"; measured on another machine than the {report.device} that was asked for"
    if any(section.flags for section in main):
        answer += "; FLAGGED, see below"
    wide = max(map(len, _PLANNED.values()))
    lines = [
        *_wrapped(f"{answer}.", indent=""),
        "",
        f"  {'':{wide}}  " + "".join(f"{n:{_ANSWER_COLUMN}}" for n in rows),
    ]
    for name, words in _PLANNED.items():
        known = [row.get(name) for row in rows.values()]
        if any(known):
            cells = (f"{_cell(figure)}{f' ({_range(figure)})' if _range(figure) else ''}" for figure in known)
            lines.append(f"  {words:{wide}}  " + "".join(f"{cell:{_ANSWER_COLUMN}}" for cell in cells))
    return [line.rstrip() for line in lines]


def section_lines(section: BenchmarkSection) -> list[str]:
    """Return one table: figures down, candidates across; each flag stands above the figures that it is about."""
    lines = _wrapped(f"{section.title.upper()}   basis: {section.basis.value} - {_MEANING[section.basis]}", indent="")
    for flag in section.flags:
        lines += _wrapped(f"FLAGGED: {flag}", indent="  ")
    if len(section.rows) == 1:
        name, figures = section.rows[0]
        wide = max((len(figure.name) for figure in figures), default=0)
        lines += [f"  {name}", *(f"    {figure.name.ljust(wide)}  {figure.text()}" for figure in figures)]
    else:
        names = list(dict.fromkeys(figure.name for _, figures in section.rows for figure in figures))
        wide = max(map(len, names), default=0)
        column = max(14, min(_COLUMN, (_WIDTH - 30) // max(1, len(section.rows))))
        by_row = [{figure.name: figure for figure in figures} for _, figures in section.rows]
        heads = [textwrap.wrap(name, 13) for name, _ in section.rows]
        table = [
            ("", [head[k] if k < len(head) else "" for head in heads]) for k in range(max(map(len, heads), default=0))
        ]
        for name in names:
            table.append((name, [_cell(row.get(name)) for row in by_row]))
            ranges = [_range(row.get(name)) for row in by_row]
            if any(ranges):
                table.append((_RANGE, ranges))
        lines += [f"  {name:{wide}}  {''.join(f'{cell:{column}}' for cell in cells)}".rstrip() for name, cells in table]
    return lines + _listed(section.notes)


def _cell(figure: Figure | None) -> str:
    # What counts instructions says so by its name.
    return "-" if figure is None else f"{show(figure.value)} {figure.unit.removeprefix('instructions')}".rstrip()


def _range(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{show(figure.low)} - {show(figure.high)}"


def _listed(sentences: Sequence[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(f"- {sentence}")]


def _wrapped(text: str, *, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)
