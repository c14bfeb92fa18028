"""A benchmark as one picture: measured latencies and projected ranges side by side, on axes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from export.benchmark.basis import Basis
from export.benchmark.errors import BenchmarkError
from export.benchmark.job import BenchmarkReport
from export.benchmark.present import LATENCY

_COLOURS: Final = {Basis.MEASURED: "#2f6595", Basis.PROJECTED: "#b26a00"}
_DPI: Final = 130


def draw(report: BenchmarkReport, out: Path) -> Path:
    """Draw the one-thread latencies of a report to a PNG file; each basis has a panel of its own.

    Raises
    ------
    BenchmarkError
        If the report holds no latency, or matplotlib is not installed.
    """
    latencies = [
        (section, [(name, figure) for name, row in section.rows for figure in row if figure.name == LATENCY])
        for section in report.sections
    ]
    panels = [(section, rows) for section, rows in latencies if rows]
    if not panels:
        raise BenchmarkError("found no latency of one thread to draw, expected a measured or a projected one")
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise BenchmarkError(
            "found no matplotlib, expected it for a picture", advice="pip install 'lsemvae[bench]'"
        ) from error
    heights = [1 + len(rows) for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(9, 0.55 * sum(heights) + 1.2),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for (section, rows), axis in zip(panels, axes[:, 0], strict=True):
        values = [latency.value for _, latency in rows]
        place = range(len(rows))
        axis.plot(
            values, place, "o", color=_COLOURS[section.basis], markersize=7
        )  # a bar has no foot on a logarithmic axis
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.grid(axis="x", color="#dddddd", lw=0.6)
        axis.set_axisbelow(True)
        for k, (_, latency) in enumerate(rows):
            if latency.low is not None and latency.high is not None:
                axis.plot(
                    [latency.low, latency.high], [k, k], color=_COLOURS[section.basis], lw=2, solid_capstyle="butt"
                )
            axis.annotate(
                latency.text(),
                (max(latency.value, latency.high or 0.0), k),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.set_yticks(place, [name for name, _ in rows], fontsize=8)
        axis.invert_yaxis()
        if max(values) > 10 * min(values):
            axis.set_xscale("log")
        axis.margins(x=0.35 if axis.get_xscale() == "linear" else 0.25)
        axis.set_xlabel("ms, one inference, one thread, median", fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_title(f"{section.basis.value} - {section.title}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report.title, fontsize=11)
    figure.savefig(out, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)
    return out
