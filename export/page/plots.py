"""The four pictures of the export report, binned, so that their size does not grow with the number of recordings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from export.page.facts import PageFacts, change, gated
from lsemvae.report.blocks import Plot
from lsemvae.report.pictures import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

# Classes of the density: one recording, a few, and a step for every half decade after that.
DENSITY_FROM: Final = (1, 2, 4, 10, 30, 100)
# One colour, ever less transparent, so that few are faint on a light and on a dark page.
_DENSITY: Final = np.array([(0.18, 0.48, 0.78, alpha) for alpha in (0, 0.22, 0.36, 0.5, 0.65, 0.82, 1)])
_P_TICKS: Final = (0.0001, 0.01, 0.1, 0.5, 0.9, 0.99)
# Calibrated probabilities below and above these are drawn at the edge: nobody decides there.
_P_EDGE: Final = (1e-4, 1 - 1e-4)
_DP_RANGE: Final = (1e-4, 1.0)
_DP_STEPS: Final = 90
# The bar on |dp| is one on the 99th percentile, so one pair in a hundred may exceed it.
BAR_SHARE: Final = 0.01
# A label longer than this would leave its picture; the tables carry it whole.
_LONGEST_LABEL: Final = 22
_COLUMNS: Final = 4
_WIDE_IN: Final = 8.6
_BAR: Final[dict[str, Any]] = {"color": "#c0392b", "ls": (0, (3, 3)), "lw": 1.0}
_GRID: Final[dict[str, Any]] = {"color": "0.5", "alpha": 0.25, "lw": 0.8}


def probability_panels(facts: PageFacts, name: str, shown: Sequence[int], *, bins: int) -> Plot:
    """Return a plot of calibrated probabilities of a file over those of the trained model, a panel for each output `shown`.

    All panels share one logit scale. `bins` is the number of cells along a side.
    """
    everything = np.concatenate([p.ravel() for p in (facts.p_fp32, *facts.drawn.values())])
    low, high = np.quantile(everything, [0.0005, 0.9995])
    limits = float(np.clip(low, _P_EDGE[0], 0.4)), float(np.clip(high, 0.6, _P_EDGE[1]))
    edges = _logit(np.array(limits))
    n_rows, n_columns = math.ceil(len(shown) / _COLUMNS), min(len(shown), _COLUMNS)

    def draw(figure: FigureBase) -> None:
        from matplotlib.patches import Patch

        panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
        ticks = [p for p in _P_TICKS if limits[0] <= p <= limits[1]]
        for axes, k in zip(panels, shown, strict=False):
            reference, candidate = facts.p_fp32[:, k], facts.drawn[name][:, k]
            axes.imshow(
                _DENSITY[density(reference, candidate, bins=bins, limits=limits)],
                extent=(*edges, *edges),
                origin="lower",
                interpolation="none",
            )
            lines = np.array([((at, edges[0]), (at, edges[1]), (math.nan, math.nan)) for at in _logit(np.array(ticks))])
            axes.plot(
                np.append(lines[..., 0], lines[..., 1]), np.append(lines[..., 1], lines[..., 0]), clip_on=False, **_GRID
            )
            axes.plot(edges, edges, color="0.5", lw=0.8, clip_on=False)
            axes.set_title(_short(facts.labels[k]), loc="left", fontsize=8.5, fontweight="bold")
            threshold = facts.thresholds.get(facts.labels[k])
            if threshold is not None:
                crossed = crossings(reference, candidate, threshold=threshold)
                axes.set_title(f"{crossed:,} cross", loc="right", fontsize=8)
                at = np.clip(_logit(threshold), *edges)
                axes.plot([at, at, math.nan, *edges], [*edges, math.nan, at, at], clip_on=False, **_BAR)
            words = [f"{p:g}" if p != 0.0001 else "10⁻⁴" for p in ticks]
            axes.set_xticks(_logit(np.array(ticks)), words, fontsize=7)
            axes.set_yticks(_logit(np.array(ticks)), words, fontsize=7)
            axes.set(xlim=edges, ylim=edges)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.patch.set(edgecolor="0.5", lw=0.6)
        for axes in panels[max(0, len(shown) - n_columns) : len(shown)]:
            axes.tick_params(labelbottom=True)
        for axes in panels[len(shown) :]:
            axes.remove()
        ends = [f"–{after - 1}" if after - 1 > start else "" for start, after in itertools.pairwise(DENSITY_FROM)]
        classes = [f"{start}{end}" for start, end in zip(DENSITY_FROM, [*ends, "+"], strict=True)]
        handles = [Patch(color=colour, label=words) for colour, words in zip(_DENSITY[1:], classes, strict=True)]
        figure.legend(
            handles=handles,
            title="recordings per cell",
            ncols=len(handles),
            loc="outside upper left",
            frameon=False,
            fontsize=8,
            title_fontsize=8,
            alignment="left",
        )

    names = ", ".join(facts.labels[k] for k in shown)
    alt = f"{name}: calibrated probability of the file over that of the trained model, a panel for each of {names}"
    return Plot(name, draw, alt=alt, size_in=(2.6 * n_columns + 0.3, 2.75 * n_rows + 0.6))


def density(reference: np.ndarray, candidate: np.ndarray, *, bins: int, limits: tuple[float, float]) -> np.ndarray:
    """Return colour classes `[candidate, reference]`, 0 for none, of the counts on a square grid in logits."""
    low, high = _logit(np.array(limits))
    edges = np.linspace(low - 1e-9, high + 1e-9, bins + 1)
    rows, columns = (_logit(np.clip(p, *limits)) for p in (candidate, reference))
    counts, _, _ = np.histogram2d(rows, columns, bins=[edges, edges])
    classes: np.ndarray = np.digitize(counts, DENSITY_FROM)
    return classes


def crossings(reference: np.ndarray, candidate: np.ndarray, *, threshold: float) -> int:
    """Return how many recordings lie on the other side of the threshold after conversion."""
    return int(((reference >= threshold) != (candidate >= threshold)).sum())


def exceedance(dp: Mapping[str, np.ndarray], *, bar: float) -> Plot:
    """Return a plot of how many of a file's (recording, output) pairs `dp` `[n, K]` lie above a |dp|."""
    least = 1.0 / max((one.size for one in dp.values()), default=1)
    floor = 10.0 ** math.floor(math.log10(least))

    def draw(figure: FigureBase) -> None:
        axes = figure.subplots()
        axes.fill_between([bar, 1.0], BAR_SHARE, 1.0, color=_BAR["color"], alpha=0.13, lw=0)
        axes.plot([bar, bar, 1.0], [1.0, BAR_SHARE, BAR_SHARE], **_BAR)
        axes.text(0.9, 0.75, f"p99 above {bar:g}: refused", ha="right", va="top", fontsize=9)
        grid = np.geomspace(*_DP_RANGE, _DP_STEPS)
        for (name, one), colour in zip(dp.items(), PALETTE, strict=False):
            ordered = np.sort(np.abs(one), axis=None)
            above = 1.0 - np.searchsorted(ordered, grid, side="right") / ordered.size
            drawn = above > 0
            largest = np.clip(ordered[-1], *_DP_RANGE)
            x, y = np.append(grid[drawn], largest), np.append(above[drawn], floor)
            axes.plot(x, y, color=colour, lw=2, label=_short(name))
        axes.set(xscale="log", yscale="log", xlim=_DP_RANGE, ylim=(floor, 1.0))
        axes.set(xlabel="|Δp| of a recording and an output", ylabel="share of pairs that differ by more")
        axes.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1.0], ["0.0001", "0.001", "0.01", "0.1", "1"])
        shares = [10.0**k for k in range(round(math.log10(floor)), 1)]
        axes.set_yticks(shares, [f"{100 * one:g} %" for one in shares])
        _plain_frame(axes, both=True)
        axes.legend(loc="lower left", frameon=False, fontsize=9)

    return Plot(
        "",
        draw,
        alt="share of pairs above a difference of probability",
        note="How many (recording, output) pairs differ by more than a given probability. A curve that enters the shaded corner has "
        f"a 99th percentile above {bar:g}. Files that are not drawn here compute in floats and differ by rounding only.",
        size_in=(_WIDE_IN, 4.0),
    )


def auroc_changes(found: Mapping[str, Sequence[Mapping[str, Any]]], *, bars: Mapping[str, Any]) -> Plot:
    """Return a plot of candidate minus reference of every output's AUROC around the allowed band; `found` by candidate."""
    bar = float(bars["max_auroc_change"])
    labels = list(dict.fromkeys(pair["label"] for pairs in found.values() for pair in pairs))
    positives = {pair["label"]: pair["positives"] for pairs in found.values() for pair in pairs}
    reach = max([abs(change(pair)) for pairs in found.values() for pair in pairs] + [1.2 * bar]) * 1.08
    ticks = [-bar, 0.0, bar]
    if reach >= 4 * bar:  # the band is a sliver of the picture
        step = next(unit for k in range(-4, 1) for unit in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if reach / unit < 4)
        ticks = [n * step for n in range(-3, 4) if abs(n * step) <= reach]

    def draw(figure: FigureBase) -> None:
        axes = figure.subplots()
        axes.axvspan(-bar, bar, color=PALETTE[0], alpha=0.16, lw=0)
        for edge in (-bar, bar):
            axes.axvline(edge, **_BAR)
        axes.axvline(0, color="0.5", lw=1)
        for k, ((name, pairs), colour) in enumerate(zip(found.items(), PALETTE, strict=False)):
            offset = (k - (len(found) - 1) / 2) * 0.3
            for judged in (True, False):
                x = [change(pair) for pair in pairs if gated(pair, bars) is judged]
                y = [labels.index(pair["label"]) + offset for pair in pairs if gated(pair, bars) is judged]
                axes.plot(x, y, "o", ms=6, color=colour, mfc=colour if judged else "none")
            axes.plot([], [], "o", ms=6, color=colour, label=_short(name))
        axes.set_yticks(range(len(labels)), [f"{_short(label)} ({positives[label]:,})" for label in labels], fontsize=9)
        axes.set_xticks(ticks, [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks])
        axes.set(xlim=(-reach, reach), ylim=(len(labels) - 0.5, -0.5))
        axes.set_xlabel("AUROC of the file minus AUROC of the trained model")
        _plain_frame(axes)
        figure.legend(loc="outside lower center", ncols=len(found), frameon=False, fontsize=9)

    return Plot(
        "",
        draw,
        alt="change of the AUROC of each output",
        note=f"Change of the AUROC by output (positives beside the name). The band is the allowed ±{bars['max_auroc_change']:g}; "
        f"open marks rest on fewer than {bars['min_positives']} positives and are held against no bar.",
        size_in=(_WIDE_IN, 1.1 + 0.27 * len(labels)),
    )


def latency_bars(basis: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Return a plot of the tenth percentile of one inference as bars, the median as a tick; rows of `report.json`, one basis."""
    timed = [(row, kind) for row in rows for kind in ("fp32", "int8")]
    at = [k + 0.3 * (k // 2) for k in range(len(timed))]

    def draw(figure: FigureBase) -> None:
        axes = figure.subplots()
        for y, (row, kind) in zip(at, timed, strict=True):
            p10, p50 = row[f"{kind}_p10_ms"], row[f"{kind}_p50_ms"]
            axes.barh(y, p10, 0.7, color=PALETTE[0] if kind == "int8" else "0.6")
            axes.plot([p50, p50], [y - 0.45, y + 0.45], color="#000000", lw=1)
            axes.annotate(
                f"{p10:.3f} ms", (max(p10, p50), y), (6, 0), textcoords="offset points", va="center", fontsize=9
            )
        longest = max(max(row["fp32_p50_ms"], row["int8_p50_ms"]) for row in rows)
        axes.set_yticks(at, [_short(f"{row['runtime']} {kind.upper()}") for row, kind in timed], fontsize=9)
        axes.set(xlim=(0, 1.15 * longest), ylim=(at[-1] + 0.6, -0.6), xticks=[])
        _plain_frame(axes)

    return Plot(
        "",
        draw,
        alt="latency of fp32 and INT8",
        note=f"{basis}. One inference, fp32 and INT8 in turns. Bars: tenth percentile, which other programs of the machine disturb "
        "least; ticks: median.",
        size_in=(_WIDE_IN, 0.5 + 0.3 * len(timed)),
    )


def _plain_frame(axes: Any, *, both: bool = False) -> None:
    """Leave no box around a picture and no ticks on its axes, only grid lines; `both`: also across."""
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, pad=6)
    axes.minorticks_off()
    axes.grid(axis="both" if both else "x", **_GRID)
    axes.set_axisbelow(True)


def _logit(p: Any) -> Any:
    return np.log(p / (1.0 - p))


def _short(words: str) -> str:
    """Return a name cut to what a picture has room for."""
    return words if len(words) <= _LONGEST_LABEL else words[: _LONGEST_LABEL - 1] + "…"
