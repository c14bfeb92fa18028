"""Curves of one row: ROC, precision-recall, reliability, net benefit, predictive values by prevalence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lsemvae.evaluate.metrics import auprc, auroc, sensitivity, specificity
from lsemvae.evaluate.operating import npv, ppv
from lsemvae.evaluate.resampling import mean_draws, over_seeds
from lsemvae.report.blocks import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

Scored = tuple[np.ndarray, np.ndarray]
"""`(y [record], p [seed, record])`, both finite throughout."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart with any common colour vision."""
STYLES = ("-", "--", "-.", ":")
_GRID = np.linspace(0, 1, 401)
_BINS = 10
_Z95 = 1.96


def mean_roc(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positive rate and the seeds' mean true positive rate at it (vertical averaging, Fawcett 2006)."""
    from sklearn.metrics import roc_curve

    rates = []
    for one in np.atleast_2d(p):
        fpr, tpr, _ = roc_curve(y, one)
        rates.append(np.interp(_GRID, fpr, tpr))
    return np.append(0.0, _GRID), np.append(0.0, np.mean(rates, axis=0))


def mean_precision(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and the seeds' mean precision at the first threshold that reaches it."""
    wanted = _GRID[1:]
    found = []
    for one in np.atleast_2d(p):
        order = np.argsort(-one, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(one[order])), len(one) - 1)
        hits = np.cumsum(y[order])[ends]
        found.append((hits / (ends + 1))[np.searchsorted(hits / hits[-1], wanted - 1e-12)])
    return wanted, np.mean(found, axis=0)


def reliability_bins(y: np.ndarray, p: np.ndarray, n_bins: int = _BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability `[bin]`, observed share `[bin]`, Wilson interval `[2, bin]` in bins of equal count.

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
    """Net benefit `[threshold]` of calling `p >= threshold` (Vickers and Elkin, Med Decis Making 26:565, 2006)."""

    def one(scores: np.ndarray) -> np.ndarray:
        called = scores[None, :] >= thresholds[:, None]
        hits, false = (called & (y == 1)).mean(1), (called & (y == 0)).mean(1)
        return hits - false * thresholds / (1 - thresholds)

    return over_seeds(one, p)


def roc_and_precision(by_label: Mapping[str, Mapping[str, Scored]], *, row: str) -> Plot:
    """ROC above precision-recall, a column per label, a line per lead set."""

    def draw(figure: FigureBase) -> None:
        panels = figure.subplots(2, len(by_label), squeeze=False)
        for column, (label, by_leads) in enumerate(by_label.items()):
            for k, (leads, (y, p)) in enumerate(by_leads.items()):
                style = {"color": PALETTE[k], "ls": STYLES[k % 4], "lw": 1.4}
                area = np.mean([auroc(y, one) for one in np.atleast_2d(p)])
                precise = np.mean([auprc(y, one) for one in np.atleast_2d(p)])
                panels[0, column].plot(*mean_roc(y, p), label=f"{leads}: {area:.3f}", **style)
                panels[1, column].plot(*mean_precision(y, p), label=f"{leads}: {precise:.3f}", **style)
            _frame_roc(panels[0, column], label)
            _frame_precision(panels[1, column], by_leads)
        panels[0, 0].set_ylabel("sensitivity")
        panels[1, 0].set_ylabel("precision")

    return Plot(
        f"ROC and precision-recall of {row}, by lead set",
        draw,
        alt=f"Curves of {row} for {', '.join(by_label)} with twelve leads, six, two and one.",
        note="Lines are means over seeds; figures in the legend are AUROC above and AUPRC below. Dotted: chance.",
        size_in=(11.0, 6.2),
    )


def _frame_roc(axes: Axes, label: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="1 - specificity", title=label, xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right", fontsize=7.5, frameon=False, title="leads: AUROC", title_fontsize=7.5)


def _frame_precision(axes: Axes, by_leads: Mapping[str, Scored]) -> None:
    y = next(iter(by_leads.values()))[0]
    axes.axhline(float(y.mean()), color="0.6", lw=0.8, ls=":")
    axes.set(xlabel=f"recall (n+ = {int(y.sum())} of {len(y)})", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="best", fontsize=7.5, frameon=False, title="leads: AUPRC", title_fontsize=7.5)


def reliability(by_label: Mapping[str, Scored], *, row: str, lead_set: str) -> Plot:
    """Observed share against cross-fitted calibrated probability, a panel per label."""

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
    """Net benefit by threshold, and predictive values by prevalence at the operating point.

    `scored` holds calibrated probabilities; `called` bool `[seed, record]` is the answer at the operating point.
    """
    y, p = scored
    thresholds = np.linspace(0.005, min(0.5, 6 * float(y.mean())), 100)  # beyond, nobody would act on so rare a finding
    share = np.linspace(0.01, 0.5, 100)

    def draw(figure: FigureBase) -> None:
        benefit, predictive = figure.subplots(1, 2)
        _benefit(benefit, y, p, thresholds)
        _predictive(predictive, y, called.astype(float), weights, share)

    return Plot(
        f"{label}: decision curve and predictive values of {row} on leads {lead_set}",
        draw,
        alt=f"Left: net benefit of calling {label} by threshold. Right: predictive values by prevalence with intervals.",
        note="Net benefit after Vickers and Elkin 2006, in this sample's share of positives. Predictive values by Bayes' rule from "
        "sensitivity and specificity at the cross-fitted operating point; bands: 95 % of patient resamples.",
        size_in=(10.0, 4.2),
    )


def _benefit(axes: Axes, y: np.ndarray, p: np.ndarray, thresholds: np.ndarray) -> None:
    share = float(y.mean())
    everyone = share - (1 - share) * thresholds / (1 - thresholds)
    axes.plot(thresholds, net_benefit(y, p, thresholds), color=PALETTE[0], lw=1.6, label="by the model")
    axes.plot(thresholds, everyone, color=PALETTE[1], lw=1.2, ls="--", label="review everyone")
    axes.axhline(0, color="0.3", lw=1, ls=":", label="review no one")
    axes.set(
        xlabel="threshold probability", ylabel="net benefit", title="Decision curve", ylim=(-0.25 * share, 1.1 * share)
    )
    axes.legend(fontsize=8, frameon=False)


def _predictive(axes: Axes, y: np.ndarray, called: np.ndarray, weights: np.ndarray, share: np.ndarray) -> None:
    hit = over_seeds(lambda c: mean_draws(c, weights, of=y == 1), called)
    clear = 1 - over_seeds(lambda c: mean_draws(c, weights, of=y == 0), called)
    at_hit = float(np.mean([sensitivity(y, c) for c in called]))
    at_clear = float(np.mean([specificity(y, c) for c in called]))
    for k, (name, value) in enumerate((("PPV", ppv), ("NPV", npv))):
        drawn = np.stack([value(hit, clear, s) for s in share])
        low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=1)
        middle = [float(value(np.array(at_hit), np.array(at_clear), s)) for s in share]
        axes.plot(share, middle, color=PALETTE[k], lw=1.6, ls=STYLES[k], label=name)
        axes.fill_between(share, low, high, color=PALETTE[k], alpha=0.18, lw=0)
    axes.set(xlabel="prevalence among those recorded", ylabel="predictive value", ylim=(0, 1.01), xlim=(0, 0.5))
    axes.set_title(f"At sensitivity {at_hit:.2f}, specificity {at_clear:.2f}")
    axes.legend(fontsize=8, frameon=False, loc="center right")


def finite(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Recordings with a label and every seed's score, bool `[record]`."""
    return np.isfinite(y) & np.isfinite(p).all(0)
