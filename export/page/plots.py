"""The four pictures of the export report, binned, so that their size does not grow with the number of recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from export.page.gates import change, gated
from lsemvae.report.svg import (
    Scale,
    box,
    cells,
    define,
    dot,
    label,
    line,
    logit,
    polyline,
    sentence,
    svg,
    use,
    x_axis,
    y_axis,
)

# Classes of the density: one recording, a few, and a step for every half decade after that.
DENSITY_FROM: Final = (1, 2, 4, 10, 30, 100)
_P_TICKS: Final = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
# Calibrated probabilities below and above these are drawn at the edge: nobody decides there.
_P_EDGE: Final = (1e-4, 1 - 1e-4)
_DP_RANGE: Final = (1e-4, 1.0)
_DP_STEPS: Final = 90
# The bar on |dp| is one on the 99th percentile, so one pair in a hundred may exceed it.
BAR_SHARE: Final = 0.01
_PANEL: Final = 184.0
_AXES: Final = "panel-axes"
_WIDE: Final = 620.0


def panel_axes(limits: tuple[float, float]) -> str:
    """Return what all panels share, to stand in the page once: grid, labels, the line on which both say the same."""
    ticks = [tick for tick in _P_TICKS if limits[0] <= tick <= limits[1]]
    x, y = _panel_scales(limits)
    axes = [
        x_axis(x, ticks, y=y.start, top=y.stop, words=_p_words),
        y_axis(y, ticks, x=x.start, right=x.stop, words=_p_words),
        line(x.start, y.start, x.stop, y.stop, "z"),
    ]
    return define(_AXES, "".join(axes))


def probability_panel(
    name: str,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    bins: int,
    limits: tuple[float, float],
    threshold: float | None,
) -> str:
    """Draw probabilities `[n]` of a candidate over those of the trained model, both on a logit scale, on `panel_axes`."""
    x, y = _panel_scales(limits)
    crossed = "" if threshold is None else f"{crossings(reference, candidate, threshold=threshold):,} cross"
    parts = [
        use(_AXES),
        label(name, x.start, 13, kind="b"),
        label(crossed, x.stop, 13, anchor="end") if crossed else "",
        cells(_density(reference, candidate, bins=bins, limits=limits), x=x.start, y=y.stop, side=x.stop - x.start),
    ]
    if threshold is not None:
        parts.append(line(x(threshold), y.start, x(threshold), y.stop, "u"))
        parts.append(line(x.start, y(threshold), x.stop, y(threshold), "u"))
    return svg(_PANEL, _PANEL, f"{name}: file over trained model", *parts)


def _panel_scales(limits: tuple[float, float]) -> tuple[Scale, Scale]:
    left, top, side = 38.0, 20.0, _PANEL - 42.0
    return Scale(*limits, left, left + side, logit), Scale(*limits, top + side, top, logit)


def crossings(reference: np.ndarray, candidate: np.ndarray, *, threshold: float) -> int:
    """Return how many recordings lie on the other side of the threshold after conversion."""
    return int(((reference >= threshold) != (candidate >= threshold)).sum())


def probability_limits(p: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the range that all panels share: nearly all probabilities, between the edges."""
    everything = np.concatenate([one.ravel() for one in p])
    low, high = np.quantile(everything, [0.0005, 0.9995])
    return float(np.clip(low, _P_EDGE[0], 0.4)), float(np.clip(high, 0.6, _P_EDGE[1]))


def density_legend() -> str:
    """Draw the colours of the density with the number of recordings from which each is used."""
    parts = [sentence("recordings per cell:", 0, 12)]
    for k, start in enumerate(DENSITY_FROM):
        parts += [box(122 + 58 * k, 2, 12, 12, f"d{k + 1}"), sentence(_from_to(k, start), 138 + 58 * k, 12)]
    return svg(122 + 58 * len(DENSITY_FROM), 18, "colours of the density", *parts)


def exceedance(dp: Mapping[str, np.ndarray], *, bar: float) -> str:
    """Draw for each candidate how many of its (recording, output) pairs `dp` `[n, K]` lie above a |dp|."""
    left, top, right, bottom = 62.0, 12.0, _WIDE - 20, 260.0
    least = 1.0 / max((one.size for one in dp.values()), default=1)
    floor = 10.0 ** math.floor(math.log10(least))
    x, y = Scale(*_DP_RANGE, left, right, math.log10), Scale(floor, 1.0, bottom, top, math.log10)
    shares = [10.0**k for k in range(round(math.log10(floor)), 1)]
    parts = [
        x_axis(x, (1e-4, 1e-3, 1e-2, 1e-1, 1.0), y=bottom, top=top, words="{:g}".format),
        y_axis(y, shares, x=left, right=right, words=_share_words),
        box(x(bar), top, right - x(bar), y(BAR_SHARE) - top, "w"),
        line(x(bar), top, x(bar), y(BAR_SHARE), "u"),
        line(x(bar), y(BAR_SHARE), right, y(BAR_SHARE), "u"),
        sentence("|Δp| of a recording and an output", (left + right) / 2, bottom + 32, anchor="middle"),
        sentence("share of pairs that differ by more", left + 8, bottom - 18 - 15 * len(dp)),
        sentence(f"p99 above {bar:g}: refused", right - 6, top + 14, anchor="end"),
    ]
    parts += [polyline(_exceedance_points(one, x, y), f"s{k} e") for k, one in enumerate(dp.values(), 1)]
    parts.append(_legend(list(dp), x=left + 10, y=bottom - 15 * len(dp) + 4))
    return svg(_WIDE, bottom + 40, "share of pairs above a difference of probability", *parts)


def auroc_changes(found: Mapping[str, Sequence[Mapping[str, Any]]], *, bars: Mapping[str, Any]) -> str:
    """Draw candidate minus reference of every output's AUROC around the allowed band; found by candidate."""
    bar = float(bars["max_auroc_change"])
    labels = list(dict.fromkeys(pair["label"] for rows in found.values() for pair in rows))
    reach = max([abs(change(pair)) for rows in found.values() for pair in rows] + [1.2 * bar]) * 1.08
    left, top, right, step = 190.0, 14.0, _WIDE - 20, 19.0
    bottom = top + step * len(labels)
    x = Scale(-reach, reach, left, right)
    parts = [
        box(x(-bar), top, x(bar) - x(-bar), bottom - top, "s1 g"),
        *(line(x(edge), top, x(edge), bottom, "u") for edge in (-bar, bar)),
        x_axis(x, _change_ticks(reach, bar=bar), y=bottom, top=bottom - 4, words=_signed),
        line(x(0), top, x(0), bottom, "z"),
        sentence("AUROC of the file minus AUROC of the trained model", x(0), bottom + 30, anchor="middle"),
    ]  # fmt: skip
    positives = {pair["label"]: pair["positives"] for rows in found.values() for pair in rows}
    for row, name in enumerate(labels):
        middle = top + step * (row + 0.5)
        parts.append(label(name, left - 52, middle + 4, anchor="end", kind="k"))
        parts.append(label(f"{positives[name]:,}", left - 10, middle + 4, anchor="end"))
    for k, rows in enumerate(found.values(), 1):
        for pair in rows:
            middle = top + step * (labels.index(pair["label"]) + 0.5) + (k - 1 - (len(found) - 1) / 2) * 6
            parts.append(dot(x(change(pair)), middle, f"s{k}" if gated(pair, bars) else f"s{k} o"))
    parts.append(_legend(list(found), x=left, y=bottom + 48))
    return svg(_WIDE, bottom + 48 + 16 * len(found), "change of the AUROC of each output", *parts)


def latency_bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the tenth percentile of one inference as bars, the median as a tick; rows of `report.json`, one basis."""
    left, top, right, step = 130.0, 6.0, _WIDE - 90, 22.0
    longest = max(max(row["fp32_p50_ms"], row["int8_p50_ms"]) for row in rows)
    x = Scale(0.0, 1.05 * longest, left, right)
    parts = []
    for k, (row, kind) in enumerate((row, kind) for row in rows for kind in ("fp32", "int8")):
        y, p10, p50 = top + step * k + 6 * (k // 2), row[f"{kind}_p10_ms"], row[f"{kind}_p50_ms"]
        parts += [
            label(f"{row['runtime']} {kind.upper()}", left - 8, y + 13, anchor="end", kind="k"),
            box(left, y + 2, x(p10) - left, 15, "s1" if kind == "int8" else "s0"),
            line(x(p50), y - 1, x(p50), y + 20, "z"),
            sentence(f"{p10:.3f} ms", max(x(p50), x(p10)) + 6, y + 14),
        ]
    return svg(_WIDE, top + step * 2 * len(rows) + 6 * len(rows), "latency of fp32 and INT8", *parts)


def _density(reference: np.ndarray, candidate: np.ndarray, *, bins: int, limits: tuple[float, float]) -> np.ndarray:
    """Return colour classes `[candidate, reference]` of the counts on a square grid in logits."""
    low, high = map(logit, limits)
    rows, columns = (np.clip(p, *limits) for p in (candidate, reference))
    edges = np.linspace(low - 1e-9, high + 1e-9, bins + 1)
    counts, _, _ = np.histogram2d(np.log(rows / (1 - rows)), np.log(columns / (1 - columns)), bins=[edges, edges])
    classes: np.ndarray = np.digitize(counts, DENSITY_FROM)
    return classes


def _exceedance_points(dp: np.ndarray, x: Scale, y: Scale) -> list[tuple[float, float]]:
    ordered = np.sort(np.abs(dp), axis=None)
    grid = np.geomspace(*_DP_RANGE, _DP_STEPS)
    above = 1.0 - np.searchsorted(ordered, grid, side="right") / ordered.size
    drawn = [(x(float(at)), y(float(share))) for at, share in zip(grid, above, strict=True) if share > 0]
    return [*drawn, (x(float(ordered[-1])), y(y.low))]


def _change_ticks(reach: float, *, bar: float) -> list[float]:
    """Return the edges of the band and zero, or round steps where the band is a sliver of the picture."""
    if reach < 4 * bar:
        return [-bar, 0.0, bar]
    step = next(unit for k in range(-4, 1) for unit in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if reach / unit < 4)
    return [n * step for n in range(-3, 4) if abs(n * step) <= reach]


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"


def _legend(names: Sequence[str], *, x: float, y: float) -> str:
    return "".join(
        dot(x + 4, y + 15 * k - 4, f"s{k + 1}") + label(name, x + 14, y + 15 * k, kind="k")
        for k, name in enumerate(names)
    )


def _from_to(position: int, start: int) -> str:
    if position + 1 == len(DENSITY_FROM):
        return f"{start}+"
    stop = DENSITY_FROM[position + 1] - 1
    return f"{start}" if stop == start else f"{start}–{stop}"


def _p_words(p: float) -> str:
    return f"{p:g}" if p != 0.0001 else "10⁻⁴"


def _share_words(share: float) -> str:
    percent = 100 * share
    return f"{percent:g} %"
