"""Draw an ECG strip in a terminal: braille dots where the terminal can, plain ASCII elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# A braille cell has 2 x 4 dots; bit of each dot by row and column (Unicode 15, block "Braille Patterns").
_BRAILLE_BASE: Final = 0x2800
_BRAILLE_BITS: Final = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
# Fewer dots a second than this and a QRS complex (0.1 s) is a single stroke; then several rows are drawn.
_MIN_DOTS_PER_S: Final = 25
_AXIS_WIDTH: Final = 8
# A smaller range is not drawn larger, so that noise never looks like an ECG.
_MIN_SPAN_MV: Final = 0.5


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
    finite = x_mv[np.isfinite(x_mv)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    missing = max(0.0, _MIN_SPAN_MV - (high - low)) / 2
    low, high = math.floor((low - missing) * 10) / 10, math.ceil((high + missing) * 10) / 10
    columns = _columns(style)
    # Rows of equal length (the last may be shorter) that are fine enough to read.
    dots = columns * (2 if style.unicode else 1)
    count = max(1, math.ceil(len(x_mv) / fs_hz * _MIN_DOTS_PER_S / dots))
    size = math.ceil(len(x_mv) / count)
    rows = [x_mv[start : start + size] for start in range(0, len(x_mv), size)]
    seconds = len(rows[0]) / fs_hz
    lines = [f"lead {lead}, {len(x_mv) / fs_hz:.1f} s, {seconds:.1f} s a row, {low:+.1f} to {high:+.1f} mV"]
    for number, row in enumerate(rows):
        width = max(1, round(columns * len(row) / len(rows[0])))
        lines += _row(row, low=low, high=high, columns=width, style=style)
        # The time below each row: a tick a second, and when the row ends.
        start_s, row_s = number * seconds, len(row) / fs_hz
        corner, line, tick = ("\u2514", "\u2500", "\u2534") if style.unicode else ("+", "-", "+")
        axis = [line] * width
        for second in range(math.ceil(start_s), math.floor(start_s + row_s) + 1):
            axis[min(width - 1, int((second - start_s) / row_s * width))] = tick
        end = f"{start_s + row_s:.1f} s"
        body = "".join(axis)
        if width > len(end) + 1:
            body = f"{body[: width - len(end) - 1]} {end}"
        lines.append(f"{' ' * _AXIS_WIDTH}{corner}{body}")
    return "\n".join(lines)


def seconds_per_row(style: StripStyle) -> float:
    """Return how much signal one row holds at the least number of dots a second."""
    return _columns(style) * (2 if style.unicode else 1) / _MIN_DOTS_PER_S


def _columns(style: StripStyle) -> int:
    return max(10, style.width - _AXIS_WIDTH - 1)


def _row(x_mv: NDArray[np.floating], *, low: float, high: float, columns: int, style: StripStyle) -> list[str]:
    across, down = (2, 4) if style.unicode else (1, 1)
    width, height = columns * across, style.height * down
    # Dots `[height, width]`: each column spans its samples and joins its neighbour.
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

    zero = round(high / (high - low) * (style.height - 1))
    scale = {zero: "0 mV ", style.height - 1: f"{low:+.1f} mV ", 0: f"{high:+.1f} mV "}
    lines = []
    for r in range(style.height):
        text = ""
        for c in range(columns):
            cell = dots[r * down : (r + 1) * down, c * across : (c + 1) * across]
            code = int((_BRAILLE_BITS * cell).sum()) if style.unicode else 0
            mark = chr(_BRAILLE_BASE + code) if style.unicode else "*"
            text += mark if cell.any() else " "
        text = text.rstrip()
        painted = f"\x1b[32m{text}\x1b[0m" if style.colour and text else text
        label = scale.get(r, "")[:_AXIS_WIDTH].rjust(_AXIS_WIDTH)
        lines.append(f"{label}{chr(0x2502) if style.unicode else '|'}{painted}")
    return lines
