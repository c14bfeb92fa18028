"""The report as one HTML file: no script, no network, pictures inside, made to be printed as well."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from lsemvae.report.blocks import Plot, Section, TextTable

_DPI = 130
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff;
  margin: 0 auto; max-width: 1180px; padding: 0 20px 40px; }
.frame { border-collapse: collapse; width: 100%; table-layout: fixed; }
.frame > thead > tr > td { padding: 10px 0 6px; border-bottom: 2px solid #b34700; }
.statement { font-weight: 600; color: #7a3000; margin: 0; }
h1 { font-size: 26px; margin: 18px 0 4px; }
h2 { font-size: 20px; margin: 34px 0 8px; padding-top: 8px; border-top: 1px solid #ccc; }
h3 { font-size: 15px; margin: 22px 0 6px; }
nav ol { columns: 2; margin: 6px 0; }
a { color: #00558a; }
.wide { overflow-x: auto; }
.data { border-collapse: collapse; font-size: 12.5px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.data th, .data td { border-bottom: 1px solid #ddd; padding: 3px 9px; text-align: left; vertical-align: top; white-space: nowrap; }
.data td.prose { white-space: normal; min-width: 14em; max-width: 34em; }
.data th { border-bottom: 2px solid #888; background: #f4f4f4; }
.data td:first-child { font-weight: 600; }
.note { font-size: 12.5px; color: #555; max-width: 80em; }
figure { margin: 12px 0; } figure img { max-width: 100%; height: auto; }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  .frame > thead { display: table-header-group; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  figure, .data tr { break-inside: avoid; }
  .data { font-size: 7.5pt; } .data th, .data td { padding: 1.5px 4px; }
  .wide { overflow: visible; }
}
"""
_LONG = 40
"""A cell longer than this is a sentence and may wrap."""


def html_report(title: str, statement: str, sections: Sequence[Section]) -> str:
    """The document; `statement` is its first line and, in print, the first line of every page."""
    links = "".join(
        f'<li><a href="#s{k}">{html.escape(section.title)}</a></li>' for k, section in enumerate(sections, 1)
    )
    body = "".join(_section(k, section) for k, section in enumerate(sections, 1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f'<table class="frame" role="presentation"><thead><tr><td><p class="statement">{html.escape(statement)}</p></td></tr></thead>'
        f"<tbody><tr><td>\n<h1>{html.escape(title)}</h1>\n<nav><ol>{links}</ol></nav>\n{body}</td></tr></tbody></table>\n</body></html>\n"
    )


def png(plot: Plot) -> bytes:
    """The plot as a PNG that says what the labels are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=plot.size_in, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    plot.draw(figure)
    figure.suptitle("Labels: statements of ECG readers, not pulmonary hypertension", fontsize=8, color="0.35")
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _section(number: int, section: Section) -> str:
    prose = "".join(f"<p>{html.escape(text)}</p>\n" for text in section.prose)
    blocks = "".join(_plot(b) if isinstance(b, Plot) else _table(b) for b in section.blocks)
    return f'<section id="s{number}"><h2>{html.escape(section.title)}</h2>\n{prose}{blocks}</section>\n'


def _plot(plot: Plot) -> str:
    data = base64.b64encode(png(plot)).decode("ascii")
    return (
        f"<figure><h3>{html.escape(plot.title)}</h3>"
        f'<img alt="{html.escape(plot.alt)}" src="data:image/png;base64,{data}">'
        f'<figcaption class="note">{html.escape(plot.note)}</figcaption></figure>\n'
    )


def _table(table: TextTable) -> str:
    head = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in table.headers)
    rows = "".join("<tr>" + "".join(_data(cell) for cell in row) + "</tr>\n" for row in table.rows)
    note = f'<p class="note">{html.escape(table.note)}</p>\n' if table.note else ""
    return (
        f'<h3>{html.escape(table.title)}</h3>\n<div class="wide"><table class="data"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n{note}"
    )


def _data(cell: str) -> str:
    kind = ' class="prose"' if max(map(len, cell.split("\n"))) > _LONG else ""
    return f"<td{kind}>{_cell(cell)}</td>"


def _cell(cell: str) -> str:
    return html.escape(cell).replace("\n", "<br>")
