"""Small functions that write SVG: scales, axes, marks. Colours are classes of the page, so that light and dark both work."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# A label longer than this would leave its picture; the tables carry it whole.
_LONGEST_LABEL = 22
# Width of a digit of the 11 px labels, with room between two labels.
_CHARACTER = 7.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `[low, high]` of the data, after `transform`, to `[start, stop]` in pixels."""

    low: float
    high: float
    start: float
    stop: float
    transform: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; a value outside is drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        low, high, x = (self.transform(v) for v in (self.low, self.high, inside))
        return self.start + (self.stop - self.start) * (x - low) / (high - low)


def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p / (1.0 - p))


def svg(width: float, height: float, title: str, *parts: str) -> str:
    """Return a picture with a text for those who do not see it."""
    words = html.escape(title)
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg {size} role="img" aria-label="{words}">{"".join(parts)}</svg>\n'


def label(words: str, x: float, y: float, *, anchor: str = "start", kind: str = "") -> str:
    """Return a text; `anchor` is start, middle or end."""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{side}{_kind(kind)}>{html.escape(short(words))}</text>'


def sentence(words: str, x: float, y: float, *, anchor: str = "start") -> str:
    """Return a text of the page's own words, at any length."""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{side}>{html.escape(words)}</text>'


def short(words: str) -> str:
    """Return a name cut to what a picture has room for."""
    return words if len(words) <= _LONGEST_LABEL else words[: _LONGEST_LABEL - 1] + "…"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    return f'<path d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"{_kind(kind)}/>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Return a line through points."""
    return f'<path d="M{"L".join(f"{_n(x)} {_n(y)}" for x, y in points)}"{_kind(kind)}/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a rectangle."""
    return f'<path d="M{_n(x)} {_n(y)}h{_n(width)}v{_n(height)}h{_n(-width)}z"{_kind(kind)}/>'


def dot(x: float, y: float, kind: str, *, radius: float = 3.5) -> str:
    """Return a circle."""
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{radius:g}"{_kind(kind)}/>'


def cells(classes: np.ndarray, *, x: float, y: float, side: float) -> str:
    """Return a grid of coloured cells, one path per colour.

    Parameters
    ----------
    classes
        Colour class of each cell `[row, column]`, 0 for none; row 0 is drawn at the bottom.
    x, y, side
        Upper left corner and side length in pixels.
    """
    rows = len(classes)
    drawn = []
    for colour in range(1, int(classes.max(initial=0)) + 1):
        runs = "".join(
            f"M{start} {rows - 1 - row}h{length}v1h-{length}z"
            for row in range(rows)
            for start, length in _runs(classes[row] == colour)
        )
        if runs:
            drawn.append(f'<path class="d{colour}" d="{runs}"/>')
    place = f"translate({_n(x)} {_n(y)}) scale({side / rows:.4f})"
    return f'<g transform="{place}" shape-rendering="crispEdges">{"".join(drawn)}</g>'


def _runs(row: np.ndarray) -> list[tuple[int, int]]:
    """Return start and length of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def x_axis(scale: Scale, ticks: Sequence[float], *, y: float, top: float, words: Callable[[float], str]) -> str:
    """Return a lower axis with grid lines up to `top`; a label that would touch the one before it is left out."""
    parts, free = [_grid(f"M{_n(scale(t))} {_n(y)}V{_n(top)}" for t in ticks)], -math.inf
    for t in ticks:
        name = words(t)
        half = _CHARACTER * len(name) / 2
        if scale(t) - half > free:
            parts.append(label(name, scale(t), y + 15, anchor="middle"))
            free = scale(t) + half
    return "".join(parts)


def y_axis(scale: Scale, ticks: Sequence[float], *, x: float, right: float, words: Callable[[float], str]) -> str:
    """Return a left axis with grid lines to `right`."""
    lines = _grid(f"M{_n(x)} {_n(scale(t))}H{_n(right)}" for t in ticks)
    return lines + "".join(label(words(t), x - 5, scale(t) + 4, anchor="end") for t in ticks)


def define(name: str, content: str) -> str:
    """Return an invisible picture that keeps `content` for `use`: what several pictures share stands in the page once."""
    return f'<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs><g id="{name}">{content}</g></defs></svg>\n'


def use(name: str) -> str:
    """Return a reference to what `define` keeps under the name."""
    return f'<use href="#{name}"/>'


def _grid(strokes: Iterable[str]) -> str:
    return f'<path class="a" d="{"".join(strokes)}"/>'


def _n(value: float) -> str:
    """Return a coordinate to a tenth of a pixel; more digits would be bytes without a picture."""
    return f"{value + 0.0:.1f}".removesuffix(".0")


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
