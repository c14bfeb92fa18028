"""The picture in the card: ROC and calibration curves from recorded predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lsemvae.formats.whole import whole_file

_SHOWN_BINS = 8


def draw_curves(path: Path, curves: dict[str, tuple[np.ndarray, np.ndarray]], *, title: str) -> None:
    """Write a PNG with a ROC panel and a reliability panel; `curves` maps a name to `(y, p)` of held-out recordings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(9, 4.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    roc, reliability = figure.subplots(1, 2)
    for name, (y, p) in curves.items():
        fpr, tpr, _ = roc_curve(y, p)
        roc.plot(fpr, tpr, lw=1.6, label=f"{name} (n+ = {int(y.sum())})")
        mean, rate, low, high = _reliability(y, p)
        reliability.errorbar(mean, rate, [rate - low, high - rate], marker="o", ms=3, lw=1.2, capsize=2, label=name)
    roc.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC", xlim=(0, 1), ylim=(0, 1.005))
    reliability.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    reliability.set(
        xlabel="mean predicted probability", ylabel="observed share (95 % Wilson)", title="Calibration",
        xlim=(0, 1), ylim=(0, 1),
    )  # fmt: skip
    roc.legend(loc="lower right", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    with whole_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _reliability(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean prediction, observed share and its Wilson interval per bin of equal count."""
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), _SHOWN_BINS) if len(part)]
    mean, rate = np.array([p[k].mean() for k in parts]), np.array([y[k].mean() for k in parts])
    n, z = np.array([len(k) for k in parts]), 1.96
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return mean, rate, np.minimum(centre - half, rate), np.maximum(centre + half, rate)
