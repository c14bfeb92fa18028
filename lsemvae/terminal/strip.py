"""Draw an ECG strip in a terminal: braille dots where the terminal can, plain ASCII elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A braille cell has 2 x 4 dots; bit of each dot by row and column (Unicode 15, block "Braille Patterns").
_BRAILLE_BASE = 0x2800
_BRAILLE_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])

#: Fewer dots a second than this and a QRS complex (0.1 s) is a single stroke; then several rows are drawn.
_MIN_DOTS_PER_S = 25

_AXIS_WIDTH = 8
_MIN_SPAN_MV = 0.5


@dataclass(frozen=True, slots=True)
class StripStyle:
    """How to draw: width and height of one row in characters, braille or ASCII, colour or none."""

    width: int = 80
    height: int = 8
    unicode: bool = True
    colour: bool = False


def render_strip(x_mv: NDArray[np.floating], *, fs_hz: float, lead: str, style: StripStyle = StripStyle()) -> str:
    """Draw one lead.

    Parameters
    ----------
    x_mv
        Samples ``[time]`` in mV.
    fs_hz
        Rate of the samples.
    lead
        Name to print.
    style
        Size and character set.

    Returns
    -------
    str
        Lines of at most `style.width` characters: rows of the strip with a scale in mV and seconds.
    """
    low, high = _range_mv(x_mv)
    columns = _columns(style)
    rows = _split(x_mv, fs_hz=fs_hz, dots=columns * (2 if style.unicode else 1))
    seconds = len(rows[0]) / fs_hz
    lines = [f"lead {lead}, {len(x_mv) / fs_hz:.1f} s, {seconds:.1f} s a row, {low:+.1f} to {high:+.1f} mV"]
    for number, row in enumerate(rows):
        width = max(1, round(columns * len(row) / len(rows[0])))
        lines += _row(row, low=low, high=high, columns=width, style=style)
        lines.append(_time_axis(number * seconds, len(row) / fs_hz, columns=width, style=style))
    return "\n".join(lines)


def seconds_per_row(style: StripStyle) -> float:
    """Return how much signal one row holds at the least number of dots a second."""
    return _columns(style) * (2 if style.unicode else 1) / _MIN_DOTS_PER_S


def _columns(style: StripStyle) -> int:
    return max(10, style.width - _AXIS_WIDTH - 1)


def _range_mv(x_mv: NDArray[np.floating]) -> tuple[float, float]:
    """Return the limits of the drawing: tenths of a millivolt, never so narrow that noise looks like an ECG."""
    finite = x_mv[np.isfinite(x_mv)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    missing = max(0.0, _MIN_SPAN_MV - (high - low)) / 2
    return math.floor((low - missing) * 10) / 10, math.ceil((high + missing) * 10) / 10


def _split(x_mv: NDArray[np.floating], *, fs_hz: float, dots: int) -> list[NDArray[np.floating]]:
    """Cut the signal into rows of equal length (the last may be shorter) that are fine enough to read."""
    count = max(1, math.ceil(len(x_mv) / fs_hz * _MIN_DOTS_PER_S / dots))
    size = math.ceil(len(x_mv) / count)
    return [x_mv[start : start + size] for start in range(0, len(x_mv), size)]


def _row(x_mv: NDArray[np.floating], *, low: float, high: float, columns: int, style: StripStyle) -> list[str]:
    across, down = (2, 4) if style.unicode else (1, 1)
    dots = _dots(x_mv, low=low, high=high, width=columns * across, height=style.height * down)
    cell: Callable[[NDArray[np.bool_]], str] = _braille_cell if style.unicode else _ascii_cell
    bar = "\u2502" if style.unicode else "|"
    lines = []
    for r in range(style.height):
        cells = "".join(
            cell(dots[r * down : (r + 1) * down, c * across : (c + 1) * across]) for c in range(columns)
        ).rstrip()
        lines.append(f"{_label(r, low=low, high=high, height=style.height)}{bar}{_paint(cells, style)}")
    return lines


def _dots(x_mv: NDArray[np.floating], *, low: float, high: float, width: int, height: int) -> NDArray[np.bool_]:
    """Return the dots ``[height, width]``: each column spans its samples and joins its neighbour."""
    dots = np.zeros((height, width), dtype=bool)
    edges = np.linspace(0, len(x_mv), width + 1).round().astype(int)
    previous = x_mv[0]
    for column, (start, stop) in enumerate(zip(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1), strict=True)):
        span = np.append(x_mv[start:stop], previous)
        span = span[np.isfinite(span)]
        if span.size:
            top, bottom = ((high - value) / (high - low) * (height - 1) for value in (span.max(), span.min()))
            dots[round(top) : round(bottom) + 1, column] = True
        previous = x_mv[min(stop, len(x_mv)) - 1]
    return dots


def _braille_cell(dots: NDArray[np.bool_]) -> str:
    code = int((_BRAILLE_BITS * dots).sum())
    return chr(_BRAILLE_BASE + code) if code else " "


def _ascii_cell(dots: NDArray[np.bool_]) -> str:
    return "*" if dots.any() else " "


def _label(row: int, *, low: float, high: float, height: int) -> str:
    """Return the scale in front of a row: the upper and lower limit, and zero where it falls."""
    zero = round(high / (high - low) * (height - 1))
    if row == 0:
        return f"{high:+.1f} mV "[:_AXIS_WIDTH].rjust(_AXIS_WIDTH)
    if row == height - 1:
        return f"{low:+.1f} mV "[:_AXIS_WIDTH].rjust(_AXIS_WIDTH)
    return "0 mV ".rjust(_AXIS_WIDTH) if row == zero else " " * _AXIS_WIDTH


def _time_axis(start_s: float, seconds: float, *, columns: int, style: StripStyle) -> str:
    corner, line, tick = ("\u2514", "\u2500", "\u2534") if style.unicode else ("+", "-", "+")
    axis = [line] * columns
    for second in range(math.ceil(start_s), math.floor(start_s + seconds) + 1):
        axis[min(columns - 1, int((second - start_s) / seconds * columns))] = tick
    end = f"{start_s + seconds:.1f} s"
    body = "".join(axis)[: columns - len(end) - 1] + " " + end if columns > len(end) + 1 else "".join(axis)
    return f"{' ' * _AXIS_WIDTH}{corner}{body}"


def _paint(cells: str, style: StripStyle) -> str:
    return f"\x1b[32m{cells}\x1b[0m" if style.colour and cells else cells
