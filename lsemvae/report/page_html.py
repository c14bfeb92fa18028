"""The document around the export report: one HTML file without script, without anything from outside, for light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

# `default-src 'none'` makes a browser refuse whatever a text might smuggle in; the style stands in the page itself.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
# Colours of the density classes run from few to many; in the dark the many are the bright ones.
_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--head:#f3f5f7;--good:#116329;--bad:#a40e26;
--bar:#a40e26;--one:#0b5394;--two:#b45309;--three:#0f766e;--four:#86198f;--plain:#8c959f;
--d1:#d6e6f5;--d2:#b0cfea;--d3:#7fb0dc;--d4:#4a8bc7;--d5:#1f63a6;--d6:#083b73}
@media(prefers-color-scheme:dark){:root{--bg:#12161b;--ink:#e6e9ed;--soft:#a0a9b3;--line:#343c45;--head:#1d232a;--good:#6fdd8b;--bad:#ff8f86;
--bar:#ff8f86;--one:#7ab8f5;--two:#f2b266;--three:#5fd0c2;--four:#e39bf0;--plain:#7c8792;
--d1:#1c3147;--d2:#24486b;--d3:#2f6595;--d4:#4687bf;--d5:#74afe3;--d6:#c2e0fb}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"Segoe UI","DejaVu Sans",sans-serif;background:var(--bg);color:var(--ink);
max-width:1080px;margin:0 auto;padding:20px}
h1{font-size:25px;margin:0 0 6px}h2{font-size:19px;margin:34px 0 8px;padding-top:10px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:20px 0 6px}
p{margin:6px 0;max-width:52em}.statement{border-left:4px solid var(--two);padding:6px 12px;font-weight:600}
.verdict{font-size:17px;font-weight:600}.note{color:var(--soft);font-size:13px}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}p.said{font-size:13px;margin:2px 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;line-height:1.35;font-variant-numeric:tabular-nums;margin:6px 0}
th,td{padding:3px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}
thead th{background:var(--head)}td.l{overflow-wrap:anywhere;min-width:14em}
.bars table{width:100%;margin:0}.bars td{padding:2px 6px}.bars td:first-child{padding-left:0}.bars h3{font-size:13px;margin:10px 0 2px}
code{font:12px ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}summary{cursor:pointer;font-size:14px;margin:8px 0}
figure{margin:12px 0}figcaption{color:var(--soft);font-size:13px;max-width:62em}
svg{display:block;max-width:100%;height:auto;overflow:visible}
.grid,.bars{display:grid;grid-template-columns:repeat(auto-fill,minmax(184px,1fr));gap:10px 14px}
.bars{grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:6px 36px}
text{font:11px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}text.b{fill:var(--ink);font-weight:600}text.k{fill:var(--ink)}
.a{stroke:var(--line);fill:none}.z{stroke:var(--soft);fill:none}.u{stroke:var(--bar);stroke-dasharray:3 3;fill:none}
.w{fill:var(--bar);opacity:.13}.s1{stroke:var(--one);fill:var(--one)}.s2{stroke:var(--two);fill:var(--two)}
.s3{stroke:var(--three);fill:var(--three)}.s4{stroke:var(--four);fill:var(--four)}.s0{stroke:var(--plain);fill:var(--plain)}
.o{fill:var(--bg)}.e{fill:none;stroke-width:2}.g{stroke:none;opacity:.16}
.d1{fill:var(--d1)}.d2{fill:var(--d2)}.d3{fill:var(--d3)}.d4{fill:var(--d4)}.d5{fill:var(--d5)}.d6{fill:var(--d6)}
@media print{body{max-width:none;padding:0}figure,tr,.grid svg,.bars>div{break-inside:avoid}h2,h3{break-after:avoid}}
"""


class Html(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


Cell = str | int | float | None


def text(value: Cell) -> Html:
    """Return a cell's content as markup: numbers with thousands, nothing as a dash, text escaped."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("–")
    if isinstance(value, bool):
        return Html("yes" if value else "no")
    if isinstance(value, int):
        return Html(f"{value:,}")
    if isinstance(value, float):
        return number(value, 4)
    return Html(html.escape(value))


def number(value: float | None, digits: int, *, signed: bool = False) -> Html:
    """Return a number with `digits` decimals, with its sign where `signed`; a number that is none says so."""
    if value is None:
        return Html("–")
    if not math.isfinite(value):
        return Html("not finite")
    shown = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not any(digit in "123456789" for digit in shown):
        shown = shown.lstrip("+-")  # a rounded nothing has no sign
    return Html(shown.replace("-", "−"))


def tiny(value: float) -> Html:
    """Return a number that may be far below one, with two digits that count."""
    return Html(f"{value:.1e}" if math.isfinite(value) else "not finite")


def share(value: float, *, digits: int = 2) -> Html:
    """Return a share as a percentage."""
    return Html(f"{100 * value:.{digits}f} %" if math.isfinite(value) else "not finite")


def mark(*, passed: bool | None) -> Html:
    """Return the verdict on one bar, in words and colour; None where no bar is set."""
    if passed is None:
        return Html('<span class="note">no bar</span>')
    return Html('<span class="good">✓ passed</span>' if passed else '<span class="bad">✗ missed</span>')


def code(value: str) -> Html:
    """Return a hash or a name in the type of code."""
    return Html(f"<code>{html.escape(value)}</code>")


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, left: int = 1) -> Html:
    """Return a table; columns from the position `left` on hold figures and stand right. No headers: no head."""
    names = "".join(f'<th scope="col"{_side(k, left)}>{html.escape(name)}</th>' for k, name in enumerate(headers))
    head = f"<thead><tr>{names}</tr></thead>" if headers else ""
    body = "".join(_row(row, left=left) for row in rows)
    return Html(f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>\n')


def pairs(rows: Iterable[tuple[str, Cell]]) -> Html:
    """Return names and what belongs to them, as a table without a head."""
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td class="l">{text(value)}</td></tr>' for name, value in rows
    )
    return Html(f'<div class="wide"><table><tbody>{body}</tbody></table></div>\n')


def _row(row: Sequence[Cell], *, left: int) -> str:
    return "<tr>" + "".join(f"<td{_side(k, left)}>{text(cell)}</td>" for k, cell in enumerate(row)) + "</tr>"


def _side(column: int, left: int) -> str:
    return ' class="n"' if column >= left else ""


def paragraph(words: str, kind: str = "") -> Html:
    """Return a paragraph of escaped words."""
    return Html(f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{text(words)}</p>\n")


def details(summary: str, content: str) -> Html:
    """Return content that unfolds without a script."""
    return Html(f"<details><summary>{html.escape(summary)}</summary>{content}</details>\n")


def figure(picture: str, caption: str) -> Html:
    """Return a picture with what it shows."""
    return Html(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>\n")


def section(title: str, *parts: str) -> Html:
    """Return a section of the page."""
    return Html(f"<section><h2>{html.escape(title)}</h2>\n{''.join(parts)}</section>\n")


def document(title: str, *parts: str) -> bytes:
    """Return the page as UTF-8."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n{''.join(parts)}</body></html>\n"
    ).encode()
