"""The two pictures: one recording on ECG paper with its map under the trace, and where the maps of many recordings lie."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.explain.attribution import Attribution
from lsemvae.explain.statement import MAP_STATEMENT
from lsemvae.explain.summary import Summary
from lsemvae.explain.waves import WAVES, Wave
from lsemvae.formats.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER_MM_PER_S: Final = 25.0
PAPER_MM_PER_MV: Final = 10.0
MM_PER_INCH: Final = 25.4
DPI: Final = 130
# A strip keeps at least 15 mm, so that a small lead is not squeezed between its neighbours.
LEAST_STRIP_MV: Final = 1.5
# The network's first layer steps by 16 ms and leaves its comb in the gradient; 40 ms are wider than the comb and than no wave.
SHOWN_AVERAGE_S: Final = 0.04
# A few samples hold extreme values; the colours end at this percentile and say so.
COLOUR_PERCENTILE: Final = 99.0
COLOURS: Final = "RdBu_r"
WAVE_COLOURS: Final = {"P": "#1b7837", "QRS": "#111111", "T": "#8c510a"}
GROUP_COLOURS: Final = ("#35608d", "#b0b7bf", "#7a9cc6")


def draw_record(
    path: Path,
    x_mv: npt.NDArray[np.float32],
    *,
    attribution: Attribution,
    waves: Sequence[Wave],
    fs_hz: float,
    title: str,
    statement: str,
    notes: Sequence[str] = (),
) -> None:
    """Write a PNG: each channel at 25 mm/s and 10 mm/mV, its attribution as colour under the trace, waves below.

    Parameters
    ----------
    x_mv
        Front-end output `[channel, time]` in mV, rows as `attribution.channels`.
    title, notes, statement
        First line, lines of findings below it, and what the label is.
    """
    # whole 5 mm boxes, with room for the marks below
    lowest = np.floor((x_mv.min(axis=1).astype(float) - 0.25) * 2) / 2
    highest = np.maximum(np.ceil((x_mv.max(axis=1).astype(float) + 0.1) * 2) / 2, lowest + LEAST_STRIP_MV)
    limits = list(zip(lowest.tolist(), highest.tolist(), strict=True))
    heights = [(high - low) * PAPER_MM_PER_MV for low, high in limits]
    duration_s = x_mv.shape[1] / fs_hz
    left, right, top, bottom, gap = 13.0, 22.0, 13.0 + 4.6 * len(notes), 23.0, 2.0
    width = left + duration_s * PAPER_MM_PER_S + right
    height = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = _figure(width, height)
    taps = np.hanning((round(SHOWN_AVERAGE_S * fs_hz) | 1) + 2)[1:-1]
    shown = np.stack([np.convolve(row, taps / taps.sum(), mode="same") for row in attribution.values]) * fs_hz
    scale = float(np.percentile(np.abs(shown), COLOUR_PERCENTILE)) or 1.0
    y = height - top
    for k, (channel, (low, high)) in enumerate(zip(attribution.channels, limits, strict=True)):
        y -= heights[k]
        box = (left / width, y / height, duration_s * PAPER_MM_PER_S / width, heights[k] / height)
        axes = figure.add_axes(box)
        y -= gap
        mesh = _strip(axes, x_mv[k], shown[k], fs_hz=fs_hz, low=low, high=high, scale=scale)
        for wave in waves:
            span = [wave.onset / fs_hz, (wave.offset + 1) / fs_hz]
            axes.plot(span, [low + 0.045] * 2, color=WAVE_COLOURS[wave.kind], lw=2.6, solid_capstyle="butt", zorder=4)
        figure.text(
            (left - 2) / width, box[1] + box[3] / 2, channel, ha="right", va="center", fontsize=11, weight="bold"
        )
    axes.set_xticks(range(int(duration_s) + 1), [f"{t} s" for t in range(int(duration_s) + 1)], fontsize=7)
    axes.tick_params(axis="x", length=2, pad=2)
    bar = figure.colorbar(
        mesh, cax=figure.add_axes(((width - right + 3) / width, 0.32, 3.5 / width, 0.42)), extend="both"
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label("logits per second", fontsize=7.5)
    _words(figure, width, height, left=left, title=title, notes=notes, statement=statement, bottom=bottom)
    _save(figure, path)


def _strip(
    axes: Axes,
    row: npt.NDArray[np.float32],
    shown: npt.NDArray[Any],
    *,
    fs_hz: float,
    low: float,
    high: float,
    scale: float,
) -> Any:
    """Draw one channel: colour, paper, trace; return the colours."""
    edges = (np.arange(row.size + 1) - 0.5) / fs_hz
    mesh = axes.pcolormesh(
        edges, [low, high], shown[None], cmap=COLOURS, vmin=-scale, vmax=scale, alpha=0.85, rasterized=True
    )
    for step, line_width, colour in ((1.0, 0.25, "0.80"), (5.0, 0.5, "0.66")):
        seconds = np.arange(0, row.size / fs_hz + 1e-9, step / PAPER_MM_PER_S)
        axes.vlines(seconds, low, high, colors=colour, lw=line_width, zorder=1)
        volts = np.arange(low, high + 1e-9, step / PAPER_MM_PER_MV)
        axes.hlines(volts, 0, row.size / fs_hz, colors=colour, lw=line_width, zorder=1)
    axes.plot(np.arange(row.size) / fs_hz, row, color="black", lw=0.9, zorder=3)
    axes.set(xlim=(0, row.size / fs_hz), ylim=(low, high), xticks=[], yticks=[])
    return mesh


def _words(
    figure: Figure,
    width: float,
    height: float,
    *,
    left: float,
    title: str,
    notes: Sequence[str],
    statement: str,
    bottom: float,
) -> None:
    """Write title, findings, scale, and what label and map are."""
    figure.text(left / width, 1 - 4.0 / height, title, fontsize=12, weight="bold", va="top")
    for k, note in enumerate(notes):
        figure.text(left / width, 1 - (10.2 + 4.6 * k) / height, note, fontsize=8.5, va="top")
    average = f"averaged over {SHOWN_AVERAGE_S * 1e3:.0f} ms, ends at its {COLOUR_PERCENTILE:.0f}th percentile"
    colour_words = f"Colour: red raises the output, blue lowers it; {average}."
    scale = f"25 mm/s, 10 mm/mV, 0.5-40 Hz. {colour_words} Bars, found by rule, for summing only:"
    place, y = left / width, (bottom - 7.5) / height
    for text, colour in ((scale, "0.25"), *WAVE_COLOURS.items()):
        written = figure.text(place, y, text, fontsize=7.5, va="top", color=colour)
        place = figure.transFigure.inverted().transform(written.get_window_extent())[1, 0] + 1.2 / width
    words = textwrap.fill(statement, 150) + "\n" + MAP_STATEMENT
    figure.text(left / width, (bottom - 11.5) / height, words, fontsize=8.5, va="top", weight="bold", color="#7a1f1f")


def draw_summary(
    path: Path, groups: Mapping[str, Summary], *, title: str, statement: str, notes: Sequence[str] = ()
) -> None:
    """Write a PNG: shares per wave and per channel of each group with intervals, and channel by wave for the first group."""
    first = next(iter(groups.values()))
    rows = len(first.channels)
    figure = _figure(265.0, 124.0 + 4.2 * len(notes))
    from matplotlib.gridspec import GridSpec

    top = 1 - (19.0 + 4.2 * len(notes)) / (124.0 + 4.2 * len(notes))
    grid = GridSpec(
        1, 3, figure, left=0.055, right=0.985, top=top, bottom=0.29, wspace=0.28, width_ratios=(1.25, 1.2, 1.0)
    )
    _bars(figure.add_subplot(grid[0]), groups, WAVES, "by_wave", "amplitude_by_wave", times=first.time_by_wave)
    figure.axes[0].set_title("by wave", fontsize=9.5)
    _bars(figure.add_subplot(grid[1]), groups, first.channels, "by_channel", "amplitude_by_channel")
    figure.axes[1].set_title("by measured channel", fontsize=9.5)
    table = np.array([[first.by_both[c][w].value for w in WAVES] for c in first.channels]) * 100
    axes = figure.add_subplot(grid[2])
    axes.imshow(table, cmap="Blues", vmin=0, vmax=max(float(table.max()) * 1.25, 1e-9), aspect="auto")
    for (r, c), value in np.ndenumerate(table):
        colour = "white" if value > 0.75 * table.max() else "black"
        axes.text(c, r, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(WAVES)), WAVES, fontsize=8.5)
    axes.set_yticks(range(len(first.channels)), first.channels, fontsize=8.5)
    figure.axes[2].set_title(f"by both, % ({next(iter(groups))})", fontsize=9.5)
    figure.axes[0].legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=2)
    figure.text(0.02, 0.975, title, fontsize=12, weight="bold", va="top")
    for k, note in enumerate(notes):
        figure.text(0.02, 1 - (10.0 + 4.2 * k) / (124.0 + 4.2 * len(notes)), note, fontsize=8.5, va="top")
    words = textwrap.fill(statement, 150) + "\n" + MAP_STATEMENT
    if rows == 2:
        words += "\nThe split between I and II belongs to this choice of two limb leads; the sum over both does not."
    figure.text(0.02, 0.022, words, fontsize=8.5, va="bottom", weight="bold", color="#7a1f1f")
    _save(figure, path)


def _bars(
    axes: Axes,
    groups: Mapping[str, Summary],
    names: Sequence[str],
    table: str,
    reference: str,
    *,
    times: Mapping[str, float] | None = None,
) -> None:
    """Draw shares in % as bars with 95 % intervals; a line where the share of |voltage| lies, a cross at that of the time."""
    wide = 0.8 / len(groups)
    for g, (group, summary) in enumerate(groups.items()):
        estimates = [getattr(summary, table)[name] for name in names]
        at = np.arange(len(names)) + (g - (len(groups) - 1) / 2) * wide
        value = np.array([e.value for e in estimates]) * 100
        spread = np.abs(np.array([[e.low, e.high] for e in estimates]).T * 100 - value)
        text = f"{group} (n = {summary.n_records})"
        axes.bar(at, value, wide * 0.92, color=GROUP_COLOURS[g], label=text)
        axes.errorbar(at, value, spread, fmt="none", color="0.15", lw=1.0, capsize=2.5)
        level = [getattr(summary, reference)[name].value * 100 for name in names]
        axes.hlines(
            level,
            at - wide * 0.46,
            at + wide * 0.46,
            color="#c2571a",
            lw=2.0,
            label="share of |voltage|" if g == 0 else "_",
        )
    if times is not None:
        where = [times[name] * 100 for name in names]
        axes.plot(range(len(names)), where, "x", color="0.15", ms=6, label="share of the time")
    axes.set_xticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylabel("share of |attribution|, %", fontsize=8.5)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(bottom=0)


def _figure(width_mm: float, height_mm: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
