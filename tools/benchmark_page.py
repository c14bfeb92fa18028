"""Make the tables of `docs/explanation/benchmark.md` again from the figures: `python -m tools.benchmark_page`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from export.benchmark.basis import Figure, show
from export.benchmark.devices import BOARDS, board
from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.counts import counted, read_graph
from export.benchmark.projected.data import Source, calibration, percent, published
from export.benchmark.projected.energy import estimate_energy
from export.benchmark.projected.fit import PRECISIONS, LatencyFit, Predictor, fit_latency, held_out
from export.benchmark.projected.project import Projection, project
from export.benchmark.projected.ratios import per_operator
from lsemvae.formats.whole import write_whole
from lsemvae.screen.bundle import SHIPPED_BUNDLE

PAGE: Final = Path(__file__).parents[1] / "docs/explanation/benchmark.md"
# The shipped INT8 model on an emulated Cortex-A72.
_SHIPPED: Final = read_graph((SHIPPED_BUNDLE / "model.tflite").read_bytes(), runtime="litert")
EXAMPLE_INSTRUCTIONS: Final = counted(_SHIPPED).boards["pi4"].instructions
EXAMPLE_WEIGHTS: Final = _SHIPPED.weights
_BLOCK: Final = re.compile(r"<!-- table: (?P<name>[a-z_0-9]+) -->\n.*?<!-- end -->", re.DOTALL)
_PREDICTORS: Final = {
    Predictor.INSTRUCTIONS: "instructions (used)",
    Predictor.CYCLES: "cycles by llvm-mca",
    Predictor.MACS: "multiply-accumulates",
}


def refreshed(page: str) -> str:
    """Return the page with each block `<!-- table: NAME -->` to `<!-- end -->` made again.

    Raises
    ------
    BenchmarkError
        The page asks for a table that is not made here.
    """
    tables = generated_tables()

    def made(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in tables:
            raise BenchmarkError(f"found the table {name!r}, expected one of {', '.join(tables)}")
        return f"<!-- table: {name} -->\n{tables[name]}\n<!-- end -->"

    return _BLOCK.sub(made, page)


def generated_tables() -> dict[str, str]:
    """Return all tables by name, in Markdown."""
    tables = {f"fit_{precision}": fit_table(fit_latency(precision)) for precision in PRECISIONS}
    examples = {name: _example(name) for name in BOARDS}
    return {
        **tables,
        "predictors": predictor_table(),
        "held_out": held_out_table(),
        "downward": downward_table(),
        "example": example_table(examples.values()),
        "energy": _figure_table(estimate_energy(examples["pi4"]).figures),
        "sources": source_table([*calibration().sources.values(), *published().sources.values()]),
    }


def fit_table(fit: LatencyFit) -> str:
    """Return the fit model by model: counted, published, fitted, both errors."""
    rows = [
        (
            point.model, f"{point.x(fit.predictor):.2f}", f"{point.published_ms:.2f}",
            f"{fit.line.at(point.x(fit.predictor)):.2f}", _signed(residual), _signed(left_out),
        )
        for point, residual, left_out in zip(fit.points, fit.residuals, fit.left_out, strict=True)
    ]  # fmt: skip
    head = ("model", "Minsn", "published p50 ms", "fitted ms", "error", "error when left out")
    return _table(head, rows)


def predictor_table() -> str:
    """Return how well each predictor does, INT8 and fp32."""
    rows = []
    for precision in PRECISIONS:
        for predictor, title in _PREDICTORS.items():
            fit = fit_latency(precision, predictor=predictor)
            formula = f"{fit.line.slope_ms:.4f} x + {fit.line.constant_ms:.3f}"
            rows.append((precision, title, formula, percent(fit.loo_rms), percent(fit.loo_worst)))
        each = per_operator(precision)
        formula = f"{each.slope_ms:.4f} x + {each.operator_ms:.3f} n"
        rows.append((precision, "instructions, n operators", formula, percent(each.loo_rms), percent(each.loo_worst)))
    return _table(("precision", "x, in millions", "T4 ms", "left out: rms", "worst"), rows)


def held_out_table() -> str:
    """Return XNNPACK's published figures against the fits."""
    rows = [
        (
            check.precision, check.model, _PREDICTORS[predictor], f"{check.predicted_ms:.1f}",
            f"{check.published_ms:.0f}", _signed(check.error),
        )
        for precision in PRECISIONS for predictor in (Predictor.INSTRUCTIONS, Predictor.CYCLES)
        for check in held_out(precision, predictor=predictor)
    ]  # fmt: skip
    return _table(("precision", "model", "fit by", "predicted ms", "published ms", "error"), rows)


def downward_table() -> str:
    """Return the downward checks, INT8 and fp32."""
    rows = [
        (
            precision, f"{check.factor:.0f} x the smallest", str(check.models_used), f"{check.reach:.1f} x",
            ", ".join(f"{model.removeprefix('mobilenet-')} {_signed(error)}" for model, error in check.errors),
            "yes" if check.holds else "no",
        )
        for precision in PRECISIONS for check in fit_latency(precision).downward
    ]  # fmt: skip
    head = ("precision", "fit on models from", "models in it", "reaching down", "errors of the others", "holds")
    return _table(head, rows)


def example_table(projections: Iterable[Projection]) -> str:
    """Return the example's projections by board."""
    rows = [(projection.device.name, *_cells(figure)) for projection in projections for figure in projection.figures]
    return _table(("board", "figure", "value", "range"), rows)


def source_table(sources: Iterable[Source]) -> str:
    """Return title, version and machine of each source."""
    rows = [
        (f"[{source.title}]({source.url})" if source.url else source.title, source.version or "-", source.machine)
        for source in sources
    ]
    return _table(("source", "version", "machine"), rows)


def _example(name: str) -> Projection:
    return project(
        device=board(name), a72_instructions=EXAMPLE_INSTRUCTIONS, precision="int8", runtime="litert",
        weights=EXAMPLE_WEIGHTS,
    )  # fmt: skip


def _figure_table(figures: Iterable[Figure]) -> str:
    return _table(("figure", "value", "range", "what"), [(*_cells(figure), figure.note) for figure in figures])


def _cells(figure: Figure) -> tuple[str, str, str]:
    low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
    return figure.name, f"{show(figure.value)} {figure.unit}", f"{show(low)} - {show(high)}"


def _signed(error: float) -> str:
    return percent(error, signed=True)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    write_whole(PAGE, refreshed(PAGE.read_text(encoding="utf-8")))
