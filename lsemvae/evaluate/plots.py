"""The pictures of the report: curves of one row, intervals of many, size and speed, the latent plane, the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lsemvae.evaluate.extras import DecoderRow, Latent, ParetoRow
from lsemvae.evaluate.metrics import Estimate, auprc, auroc, sensitivity, specificity
from lsemvae.evaluate.operating import npv, ppv
from lsemvae.evaluate.resampling import mean_draws, over_seeds
from lsemvae.formats.whole import whole_file
from lsemvae.report.blocks import Plot
from lsemvae.report.pictures import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

# `(y [record], p [seed, record])`, both finite throughout.
Scored = tuple[np.ndarray, np.ndarray]
# Name of a row and its figure; an empty estimate is drawn as a dash.
ForestRow = tuple[str, Estimate]

_STYLES: Final = ("-", "--", "-.", ":")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_GRID: Final = np.linspace(0, 1, 401)
_BINS: Final = 10
# The card's picture is small.
_CARD_BINS: Final = 8
_Z95: Final = 1.96


def mean_roc(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the false positive rate and the seeds' mean true positive rate at it (vertical averaging, Fawcett 2006)."""
    from sklearn.metrics import roc_curve

    rates = []
    for one in np.atleast_2d(p):
        fpr, tpr, _ = roc_curve(y, one)
        rates.append(np.interp(_GRID, fpr, tpr))
    return np.append(0.0, _GRID), np.append(0.0, np.mean(rates, axis=0))


def mean_precision(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and the seeds' mean precision at the first threshold that reaches it."""
    wanted = _GRID[1:]
    found = []
    for one in np.atleast_2d(p):
        order = np.argsort(-one, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(one[order])), len(one) - 1)
        hits = np.cumsum(y[order])[ends]
        found.append((hits / (ends + 1))[np.searchsorted(hits / hits[-1], wanted - 1e-12)])
    return wanted, np.mean(found, axis=0)


def reliability_bins(y: np.ndarray, p: np.ndarray, n_bins: int = _BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean probability `[bin]`, observed share `[bin]`, Wilson interval `[2, bin]` in bins of equal count.

    With several seeds every recording is in the bins once a seed; the interval counts recordings, not repetitions.
    """
    p = np.atleast_2d(p)
    flat, truth = p.ravel(), np.tile(y, len(p))
    parts = [part for part in np.array_split(np.argsort(flat, kind="stable"), n_bins) if len(part)]
    mean, rate = np.array([flat[k].mean() for k in parts]), np.array([truth[k].mean() for k in parts])
    n = np.array([len(k) for k in parts]) / len(p)
    centre = (rate + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * np.sqrt(rate * (1 - rate) / n + _Z95**2 / (4 * n**2))
    return mean, rate, np.stack([np.minimum(centre - half, rate), np.maximum(centre + half, rate)])


def net_benefit(y: np.ndarray, p: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the net benefit `[threshold]` of calling `p >= threshold` (Vickers and Elkin, Med Decis Making 26:565, 2006)."""

    def one(scores: np.ndarray) -> np.ndarray:
        called = scores[None, :] >= thresholds[:, None]
        hits, false = (called & (y == 1)).mean(1), (called & (y == 0)).mean(1)
        return hits - false * thresholds / (1 - thresholds)

    return over_seeds(one, p)


def finite(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return which recordings have a label and every seed's score, bool `[record]`."""
    return np.isfinite(y) & np.isfinite(p).all(0)


def roc_and_precision(by_label: Mapping[str, Mapping[str, Scored]], *, row: str) -> Plot:
    """Return a plot of ROC above precision-recall, a column per label, a line per lead set."""

    def draw(figure: FigureBase) -> None:
        panels = figure.subplots(2, len(by_label), squeeze=False)
        for column, (label, by_leads) in enumerate(by_label.items()):
            for k, (leads, (y, p)) in enumerate(by_leads.items()):
                style = {"color": PALETTE[k], "ls": _STYLES[k % 4], "lw": 1.4}
                area = np.mean([auroc(y, one) for one in np.atleast_2d(p)])
                precise = np.mean([auprc(y, one) for one in np.atleast_2d(p)])
                panels[0, column].plot(*mean_roc(y, p), label=f"{leads}: {area:.3f}", **style)
                panels[1, column].plot(*mean_precision(y, p), label=f"{leads}: {precise:.3f}", **style)
            above, below = panels[:, column]
            above.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
            above.set(xlabel="1 - specificity", title=label, xlim=(-0.01, 1), ylim=(0, 1.01))
            y = next(iter(by_leads.values()))[0]
            below.axhline(float(y.mean()), color="0.6", lw=0.8, ls=":")
            below.set(xlabel=f"recall (n+ = {int(y.sum())} of {len(y)})", xlim=(0, 1), ylim=(0, 1.02))
            for axes, place, area_name in ((above, "lower right", "AUROC"), (below, "best", "AUPRC")):
                axes.legend(loc=place, fontsize=7.5, frameon=False, title=f"leads: {area_name}", title_fontsize=7.5)
        panels[0, 0].set_ylabel("sensitivity")
        panels[1, 0].set_ylabel("precision")

    return Plot(
        f"ROC and precision-recall of {row}, by lead set",
        draw,
        alt=f"Curves of {row} for {', '.join(by_label)} with twelve leads, six, two and one.",
        note="Lines are means over seeds; figures in the legend are AUROC above and AUPRC below. Dotted: chance.",
        size_in=(11.0, 6.2),
    )


def reliability(by_label: Mapping[str, Scored], *, row: str, lead_set: str) -> Plot:
    """Return a plot of the observed share against cross-fitted calibrated probability, a panel per label."""

    def draw(figure: FigureBase) -> None:
        panels = figure.subplots(1, len(by_label), squeeze=False)[0]
        for axes, (label, (y, p)) in zip(panels, by_label.items(), strict=True):
            mean, rate, (low, high) = reliability_bins(y, p)
            top = min(1.0, 1.08 * float(max(mean.max(), high.max())))
            axes.plot([0, top], [0, top], color="0.6", lw=0.8, ls=":")
            axes.errorbar(
                mean, rate, [rate - low, high - rate], marker="o", ms=3.5, lw=1.2, capsize=2, color=PALETTE[0]
            )
            axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top), title=label, xlabel="mean probability")
            axes.set_box_aspect(1)
        panels[0].set_ylabel("observed share (95 % Wilson)")

    return Plot(
        f"Reliability of {row} on leads {lead_set}",
        draw,
        alt=f"Observed share against calibrated probability for {', '.join(by_label)}; the diagonal is perfect.",
        note="Platt scaling fitted on the other fold groups' held-out logits; ten bins of equal count. Axes differ: rare "
        "findings have small probabilities.",
        size_in=(11.0, 3.6),
    )


def decision(label: str, scored: Scored, called: np.ndarray, *, weights: np.ndarray, row: str, lead_set: str) -> Plot:
    """Return a plot of net benefit by threshold, and of predictive values by prevalence at the operating point.

    `scored` holds calibrated probabilities; `called` bool `[seed, record]` is the answer at the operating point.
    """
    y, p = scored
    positives = float(y.mean())
    thresholds = np.linspace(0.005, min(0.5, 6 * positives), 100)  # beyond, nobody would act on so rare a finding
    prevalences = np.linspace(0.01, 0.5, 100)

    def draw(figure: FigureBase) -> None:
        benefit, predictive = figure.subplots(1, 2)
        everyone = positives - (1 - positives) * thresholds / (1 - thresholds)
        benefit.plot(thresholds, net_benefit(y, p, thresholds), color=PALETTE[0], lw=1.6, label="by the model")
        benefit.plot(thresholds, everyone, color=PALETTE[1], lw=1.2, ls="--", label="review everyone")
        benefit.axhline(0, color="0.3", lw=1, ls=":", label="review no one")
        benefit.set(xlabel="threshold probability", ylabel="net benefit", title="Decision curve")
        benefit.set_ylim(-0.25 * positives, 1.1 * positives)
        benefit.legend(fontsize=8, frameon=False)

        answers = called.astype(float)
        hit = over_seeds(lambda c: mean_draws(c, weights, of=y == 1), answers)
        clear = 1 - over_seeds(lambda c: mean_draws(c, weights, of=y == 0), answers)
        at_hit = float(np.mean([sensitivity(y, c) for c in answers]))
        at_clear = float(np.mean([specificity(y, c) for c in answers]))
        for k, (name, value) in enumerate((("PPV", ppv), ("NPV", npv))):
            low, high = np.nanpercentile([value(hit, clear, s) for s in prevalences], [2.5, 97.5], axis=1)
            middle = [float(value(np.array(at_hit), np.array(at_clear), s)) for s in prevalences]
            predictive.plot(prevalences, middle, color=PALETTE[k], lw=1.6, ls=_STYLES[k], label=name)
            predictive.fill_between(prevalences, low, high, color=PALETTE[k], alpha=0.18, lw=0)
        predictive.set(
            xlabel="prevalence among those recorded", ylabel="predictive value", ylim=(0, 1.01), xlim=(0, 0.5)
        )
        predictive.set_title(f"At sensitivity {at_hit:.2f}, specificity {at_clear:.2f}")
        predictive.legend(fontsize=8, frameon=False, loc="center right")

    return Plot(
        f"{label}: decision curve and predictive values of {row} on leads {lead_set}",
        draw,
        alt=f"Left: net benefit of calling {label} by threshold. Right: predictive values by prevalence with intervals.",
        note="Net benefit after Vickers and Elkin 2006, in this sample's share of positives. Predictive values by Bayes' rule from "
        "sensitivity and specificity at the cross-fitted operating point; bands: 95 % of patient resamples.",
        size_in=(10.0, 4.2),
    )


def forest(
    panels: Mapping[str, Sequence[ForestRow]],
    *,
    title: str,
    xlabel: str,
    alt: str,
    note: str = "",
    zero: float | None = None,
) -> Plot:
    """Return a plot of points with intervals, a panel per label, rows named once; `zero` is where a difference is none."""
    longest = max(len(rows) for rows in panels.values())

    def draw(figure: FigureBase) -> None:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, rows) in zip(grid, panels.items(), strict=True):
            axes.set(title=name, xlabel=xlabel)
            if zero is not None:
                axes.axvline(zero, color="0.5", lw=0.9, ls=":")
            some = [e.value for _, e in rows if np.isfinite(e.value)]
            if not some:
                axes.text(
                    0.5, 0.5, "too few positives in every part", transform=axes.transAxes, ha="center", fontsize=9
                )
                continue
            for k, (_, e) in enumerate(rows):
                if np.isfinite(e.value):
                    clear = zero is not None and not e.low <= zero <= e.high
                    axes.errorbar(
                        e.value,
                        k,
                        xerr=_error(e),
                        marker="o",
                        ms=5,
                        lw=1.5,
                        capsize=2.5,
                        color=PALETTE[1 if clear else 0],
                    )
                else:
                    axes.text(float(np.median(some)), k, "-", ha="center", va="center", color="0.4")
            axes.grid(axis="x", color="0.9", lw=0.7)
            axes.set_axisbelow(True)
        names = [name for name, _ in next(iter(panels.values()))]
        grid[0].set_yticks(range(len(names)), names)
        grid[0].set_ylim(len(names) - 0.4, -0.6)

    return Plot(title, draw, alt=alt, note=note, size_in=(11.0, 1.5 + 0.3 * longest))


def _error(e: Estimate) -> list[list[float]]:
    """Return how far an interval reaches below and above its value, as matplotlib's error bars want it."""
    return [[max(0.0, e.value - e.low)], [max(0.0, e.high - e.value)]]


def pareto(rows: Sequence[ParetoRow], labels: Sequence[str]) -> Plot:
    """Return a plot of AUROC against INT8 size and against latency, a line of panels per label; a line joins what nothing beats in both."""

    def draw(figure: FigureBase) -> None:
        from matplotlib.lines import Line2D

        grid = figure.subplots(len(labels), 2, squeeze=False, sharey="row")
        looks = {row.name: (PALETTE[k % len(PALETTE)], _MARKERS[k % len(_MARKERS)]) for k, row in enumerate(rows)}
        for line, label in enumerate(labels):
            size = [(r.name, r.int8_kib, r.auroc[label]) for r in rows if label in r.auroc and r.int8_kib]
            speed = [(r.name, r.latency_ms, r.auroc[label]) for r in rows if label in r.auroc and r.latency_ms]
            _pareto_panel(grid[line, 0], size, looks)
            _pareto_panel(grid[line, 1], speed, looks)
            grid[line, 0].set_ylabel(f"AUROC, {label}")
        grid[-1, 0].set_xlabel("INT8 model (KiB, log scale)")
        grid[-1, 1].set_xlabel("latency of one recording (ms, log scale)")
        names = [Line2D([], [], color=c, marker=m, ls="", ms=6, label=name) for name, (c, m) in looks.items()]
        grid[0, 1].legend(handles=names, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)

    return Plot(
        "AUROC against size and latency",
        draw,
        alt="Each model as a point with its interval; the line joins models that no other beats in both.",
        note="From pareto.json. Points inside one another's intervals are not told apart by these recordings.",
        size_in=(10.5, 1.2 + 2.9 * len(labels)),
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points `(cost, value)` that no other point beats in both, by cost."""
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
    best = [(points[k][1], points[k][2].value) for k in kept]
    axes.plot(*zip(*best, strict=True), color="0.65", lw=1, drawstyle="steps-post", zorder=1)
    for name, cost, e in points:
        colour, marker = looks[name]
        axes.errorbar(cost, e.value, _error(e), marker=marker, ms=6, lw=1, capsize=2, color=colour, ls="")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.92", lw=0.7)
    axes.set_axisbelow(True)


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean `[d]`, first two principal axes `[d, 2]`, and their share of the variance `[2]`, of `x` `[record, d]`."""
    mean = x.mean(0)
    _, spread, axes = np.linalg.svd(x - mean, full_matrices=False)
    shares = spread**2 / np.sum(spread**2)
    sign = np.where(np.abs(axes[:2]).max(1) == axes[:2].max(1), 1, -1)  # one of two, always the same
    return mean, (axes[:2] * sign[:, None]).T, shares[:2]


def latent(found: Latent, category: np.ndarray, names: Sequence[str]) -> Plot:
    """Return a plot of the summaries of twelve and of six leads in the plane of the twelve; `category` int `[record]` indexes `names`."""

    def draw(figure: FigureBase) -> None:
        mean, axes_2d, shares = principal_plane(found.twelve)
        planes = [(part - mean) @ axes_2d for part in (found.twelve, found.six)]
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        looks = ((14, 0.95, PALETTE[1]), (9, 0.75, PALETTE[3]), (5, 0.35, PALETTE[0]), (4, 0.45, "0.6"))
        for panel, plane, title in zip(panels, planes, ("twelve leads", "six limb leads"), strict=True):
            for k in range(len(names) - 1, -1, -1):
                here = category == k
                size, alpha, colour = looks[min(k, 3)]
                named = f"{names[k]} ({int(here.sum())})"
                panel.scatter(
                    *plane[here].T, s=size, alpha=alpha, color=colour, lw=0, label=named, zorder=len(names) - k
                )
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
    """Return a plot of R2 of reconstructed leads with intervals, a colour per row of decoder.json."""

    def draw(figure: FigureBase) -> None:
        axes = figure.subplots()
        leads = list(dict.fromkeys(lead for row in rows for lead in row.r2))
        width = 0.8 / len(rows)
        for k, row in enumerate(rows):
            for j, lead in enumerate(leads):
                if lead not in row.r2:
                    continue
                e, x = row.r2[lead], j + (k - (len(rows) - 1) / 2) * width
                named = row.name if lead == next(iter(row.r2)) else None
                axes.bar(x, e.value, width * 0.9, color=PALETTE[k % len(PALETTE)], label=named)
                axes.errorbar(x, e.value, _error(e), color="0.2", lw=1, capsize=1.5)
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


def draw_curves(path: Path, curves: Mapping[str, Scored], *, title: str) -> None:
    """Write the picture of the model card, a ROC panel and a reliability panel, as PNG.

    `curves` maps a name to `(y, p)`, both `[record]`, of held-out recordings.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(9, 4.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    roc, calibration = figure.subplots(1, 2)
    for name, (y, p) in curves.items():
        fpr, tpr, _ = roc_curve(y, p)
        roc.plot(fpr, tpr, lw=1.6, label=f"{name} (n+ = {int(y.sum())})")
        mean, rate, (low, high) = reliability_bins(y, p, _CARD_BINS)
        calibration.errorbar(mean, rate, [rate - low, high - rate], marker="o", ms=3, lw=1.2, capsize=2, label=name)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC", xlim=(0, 1), ylim=(0, 1.005))
    calibration.set(xlabel="mean predicted probability", ylabel="observed share (95 % Wilson)", title="Calibration")
    calibration.set(xlim=(0, 1), ylim=(0, 1))
    roc.legend(loc="lower right", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    with whole_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
