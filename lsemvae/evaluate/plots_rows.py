"""Figures over rows and parts: forests of intervals, size and speed against AUROC, the latent plane, the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.plots_curves import PALETTE
from lsemvae.report.blocks import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

    from lsemvae.evaluate.report_extras import DecoderRow, Latent, ParetoRow

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ForestRow = tuple[str, Estimate]


def forest(
    panels: Mapping[str, Sequence[ForestRow]],
    *,
    title: str,
    xlabel: str,
    alt: str,
    note: str = "",
    zero: float | None = None,
) -> Plot:
    """Points with intervals, a panel per label, rows named once; an empty estimate is drawn as a dash."""
    longest = max(len(rows) for rows in panels.values())

    def draw(figure: FigureBase) -> None:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, rows) in zip(grid, panels.items(), strict=True):
            _forest_panel(axes, rows, zero)
            axes.set(title=name, xlabel=xlabel)
        names = [name for name, _ in next(iter(panels.values()))]
        grid[0].set_yticks(range(len(names)), names)
        grid[0].set_ylim(len(names) - 0.4, -0.6)

    return Plot(title, draw, alt=alt, note=note, size_in=(11.0, 1.5 + 0.3 * longest))


def _forest_panel(axes: Axes, rows: Sequence[ForestRow], zero: float | None) -> None:
    if zero is not None:
        axes.axvline(zero, color="0.5", lw=0.9, ls=":")
    some = [e for _, e in rows if np.isfinite(e.value)]
    if not some:
        axes.text(0.5, 0.5, "too few positives in every part", transform=axes.transAxes, ha="center", fontsize=9)
        return
    middle = float(np.median([e.value for e in some]))
    for k, (_, e) in enumerate(rows):
        if not np.isfinite(e.value):
            axes.text(middle, k, "-", ha="center", va="center", color="0.4")
            continue
        clear = zero is not None and not e.low <= zero <= e.high
        axes.errorbar(
            e.value, k, xerr=[[max(0.0, e.value - e.low)], [max(0.0, e.high - e.value)]], marker="o", ms=5, lw=1.5, capsize=2.5,
            color=PALETTE[1] if clear else PALETTE[0], mfc=PALETTE[1] if clear else PALETTE[0],
        )  # fmt: skip
    axes.grid(axis="x", color="0.9", lw=0.7)
    axes.set_axisbelow(True)


def pareto(rows: Sequence[ParetoRow], labels: Sequence[str]) -> Plot:
    """AUROC against INT8 size and against latency, a line of panels per label; a line joins what nothing beats in both."""

    def draw(figure: FigureBase) -> None:
        grid = figure.subplots(len(labels), 2, squeeze=False, sharey="row")
        colours = {row.name: (PALETTE[k % len(PALETTE)], _MARKERS[k % len(_MARKERS)]) for k, row in enumerate(rows)}
        for line, label in enumerate(labels):
            size = [(r.name, r.int8_kib, r.auroc[label]) for r in rows if label in r.auroc and r.int8_kib]
            speed = [(r.name, r.latency_ms, r.auroc[label]) for r in rows if label in r.auroc and r.latency_ms]
            _pareto_panel(grid[line, 0], size, colours)
            _pareto_panel(grid[line, 1], speed, colours)
            grid[line, 0].set_ylabel(f"AUROC, {label}")
        grid[-1, 0].set_xlabel("INT8 model (KiB, log scale)")
        grid[-1, 1].set_xlabel("latency of one recording (ms, log scale)")
        grid[0, 1].legend(
            handles=_handles(colours), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False
        )

    return Plot(
        "AUROC against size and latency",
        draw,
        alt="Each model as a point with its interval; the line joins models that no other beats in both.",
        note="From pareto.json. Points inside one another's intervals are not told apart by these recordings.",
        size_in=(10.5, 1.2 + 2.9 * len(labels)),
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of points `(cost, value)` that no other point beats in both, by cost."""
    order = sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1]))
    best, kept = -np.inf, []
    for k in order:
        if points[k][1] > best:
            best = points[k][1]
            kept.append(k)
    return kept


def _pareto_panel(
    axes: Axes, points: Sequence[tuple[str, float, Estimate]], looks: Mapping[str, tuple[str, str]]
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not points:
        axes.text(0.5, 0.5, "not there", transform=axes.transAxes, ha="center", color="0.4")
        return
    kept = front([(cost, e.value) for _, cost, e in points])
    axes.plot(
        [points[k][1] for k in kept],
        [points[k][2].value for k in kept],
        color="0.65",
        lw=1,
        drawstyle="steps-post",
        zorder=1,
    )
    for name, cost, e in points:
        colour, marker = looks[name]
        below, above = max(0.0, e.value - e.low), max(0.0, e.high - e.value)
        axes.errorbar(cost, e.value, [[below], [above]], marker=marker, ms=6, lw=1, capsize=2, color=colour, ls="")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.92", lw=0.7)
    axes.set_axisbelow(True)


def _handles(looks: Mapping[str, tuple[str, str]]) -> list[object]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=c, marker=m, ls="", ms=6, label=name) for name, (c, m) in looks.items()]


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean `[d]`, first two principal axes `[d, 2]`, and their share of the variance `[2]`, of `x` `[record, d]`."""
    mean = x.mean(0)
    _, spread, axes = np.linalg.svd(x - mean, full_matrices=False)
    shares = spread**2 / np.sum(spread**2)
    turned = (
        axes[:2] * np.where(np.abs(axes[:2]).max(1) == axes[:2].max(1), 1, -1)[:, None]
    )  # one of two signs, always the same
    return mean, turned.T, shares[:2]


def latent(found: Latent, category: np.ndarray, names: Sequence[str]) -> Plot:
    """Summaries of twelve and of six leads in the plane of the twelve; `category` int `[record]` indexes `names`."""

    def draw(figure: FigureBase) -> None:
        mean, axes_2d, shares = principal_plane(found.twelve)
        planes = [(part - mean) @ axes_2d for part in (found.twelve, found.six)]
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for panel, plane, title in zip(panels, planes, ("twelve leads", "six limb leads"), strict=True):
            for k in range(len(names) - 1, -1, -1):
                here = category == k
                panel.scatter(
                    plane[here, 0], plane[here, 1], s=(14, 9, 5, 4)[min(k, 3)], alpha=(0.95, 0.75, 0.35, 0.45)[min(k, 3)],
                    color=(PALETTE[1], PALETTE[3], PALETTE[0], "0.6")[min(k, 3)], lw=0, label=f"{names[k]} ({int(here.sum())})",
                    zorder=len(names) - k,
                )  # fmt: skip
            panel.set(title=title, xlabel=f"component 1 ({100 * shares[0]:.0f} % of the twelve-lead variance)")
        panels[0].set_ylabel(f"component 2 ({100 * shares[1]:.0f} %)")
        handles, texts = panels[1].get_legend_handles_labels()
        panels[1].legend(
            handles[::-1],
            texts[::-1],
            fontsize=8,
            markerscale=1.8,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )

    return Plot(
        "Summaries of the shared latent",
        draw,
        alt="Two scatter plots in one plane: twelve-lead and six-lead summaries, coloured by reader statement.",
        note="Principal components fitted on the twelve-lead summaries and applied to both. RBBB and NORM without RHS.",
        size_in=(11.0, 4.8),
    )


def decoder(rows: Sequence[DecoderRow]) -> Plot:
    """R2 of reconstructed leads with intervals, a colour per row of decoder.json."""

    def draw(figure: FigureBase) -> None:
        axes = figure.subplots()
        leads = list(dict.fromkeys(lead for row in rows for lead in row.r2))
        width = 0.8 / len(rows)
        for k, row in enumerate(rows):
            for j, lead in enumerate(leads):
                if lead not in row.r2:
                    continue
                e, x = row.r2[lead], j + (k - (len(rows) - 1) / 2) * width
                error = [[max(0.0, e.value - e.low)], [max(0.0, e.high - e.value)]]
                axes.bar(
                    x,
                    e.value,
                    width * 0.9,
                    color=PALETTE[k % len(PALETTE)],
                    label=row.name if lead == next(iter(row.r2)) else None,
                )
                axes.errorbar(x, e.value, error, color="0.2", lw=1, capsize=1.5)
        axes.axhline(0, color="0.3", lw=0.8)
        axes.set_xticks(range(len(leads)), leads)
        axes.set(ylabel="R2 of the lead", ylim=(min(0.0, axes.get_ylim()[0]), 1.0))
        axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0))

    return Plot(
        "Decoder: R2 by lead",
        draw,
        alt="Bars of the share of variance of each lead that the decoder reproduces.",
        note="From decoder.json. A reconstructed chest lead is not a recording and is never shown as one.",
        size_in=(10.5, 4.2),
    )
