"""The sections of the export report that compare: bars, agreement, AUROC, probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import numpy as np

from export.page.facts import PageFacts
from export.page.gates import GateRow, change, gate_rows, gated, is_float
from export.page.plots import (
    auroc_changes,
    crossings,
    density_legend,
    exceedance,
    panel_axes,
    probability_limits,
    probability_panel,
)
from lsemvae.report.page_html import Cell, Html, figure, mark, number, paragraph, section, share, table, text, tiny

# The primary output and the first of the others; the tables have all of them.
MAX_PANELS: Final = 16


def gates_section(facts: PageFacts) -> Html:
    """Every bar of the export: found, expected, verdict; the missed ones also in the exporter's own words."""
    failures = "".join(paragraph(failure, "bad said") for failure in facts.report["parity"]["failures"])
    groups = groupby(gate_rows(facts.report), key=lambda row: row.group)
    return section("Bars", failures, '<div class="bars">', *(_group(name, rows) for name, rows in groups), "</div>\n")


def _group(name: str, rows: Iterable[GateRow]) -> str:
    body = [(row.what, row.found, row.bar, mark(passed=row.passed)) for row in rows]
    return f"<div><h3>{text(name)}</h3>{table((), body)}</div>\n"


def agreement_section(facts: PageFacts) -> Html:
    """Every comparison of the report in one table, and how |dp| is spread."""
    head = (
        "file", "against", "recordings", "same outcome", "same side", "p99 |Δp|", "max |Δp|",
        "max |Δ logit|", "p99 |Δ unc.|", "max |Δ unc.|",
    )  # fmt: skip
    rows = [_agreement_row(one) for one in facts.report["parity"]["comparisons"]]
    words = (
        "“Same outcome” is the share of recordings with the same one of the four outcomes, decided by the clinic's own code "
        f"for the primary output ({facts.primary}); “same side” the share of (recording, output) pairs on the same side of the "
        "output's operating point. Unc. is the model's uncertainty, the log of a standard deviation."
    )
    return section(
        "Agreement with the trained model",
        paragraph(words, "note"),
        table(head, rows, left=2),
        _exceedance_figure(facts),
    )


def _agreement_row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    sizes = ("p99_dp", "max_dp", "max_dlogit", "p99_duncertainty", "max_duncertainty")
    shown = [tiny(one[key]) if is_float(one["candidate"]) else number(one[key], 4) for key in sizes]
    shares = (share(one["decision_agreement"]), share(one["label_agreement"]))
    return (one["candidate"], one["reference"], one["n"], *shares, *shown)


def _exceedance_figure(facts: PageFacts) -> str:
    if not facts.drawn:
        return ""
    bar = facts.report["parity"]["thresholds"]["max_p99_dp"]
    return figure(
        exceedance(facts.differences(), bar=bar),
        "How many (recording, output) pairs differ by more than a given probability. A curve that enters the shaded corner has "
        f"a 99th percentile above {bar:g}. Files that are not drawn here compute in floats and differ by rounding only.",
    )


def auroc_section(facts: PageFacts) -> Html:
    """AUROC of each output before and after, with the band that is allowed."""
    found = facts.against_trained()
    broken = "".join(paragraph(f"{name}: NaN or infinity, nothing is drawn.", "bad") for name in facts.broken)
    if not found:
        none = paragraph("No file of this bundle is quantized; nothing is to be compared.")
        return section("AUROC by output", broken or none)
    bars = facts.report["parity"]["thresholds"]
    words = (
        "Both columns are computed on the same validation recordings, and the model may have seen some of them in training: "
        "the change is what this page is about. How well the model does on people it has not seen stands in the model card, with intervals."
    )
    picture = ""
    if any(one["auroc"] for one in found.values()):
        picture = figure(
            auroc_changes({name: one["auroc"] for name, one in found.items()}, bars=bars),
            f"Change of the AUROC by output (positives beside the name). The band is the allowed ±{bars['max_auroc_change']:g}; "
            f"open marks rest on fewer than {bars['min_positives']} positives and are held against no bar.",
        )
    tables = "".join(
        f"<h3>{text(name)} against the trained model</h3>\n" + _output_table(facts, name, one)
        for name, one in found.items()
    )
    return section("AUROC by output", broken, paragraph(words, "note"), picture, tables)


def _output_table(facts: PageFacts, name: str, one: Mapping[str, Any]) -> str:
    head = (
        "output", "positives", "AUROC trained", "AUROC file", "change", "bar", "p99 |Δp|", "max |Δp|", "mean Δp",
        "operating point", "cross it",
    )  # fmt: skip
    return table(head, _output_rows(facts, name, one))


def _output_rows(facts: PageFacts, name: str, one: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    bars, by_label = facts.report["parity"]["thresholds"], {pair["label"]: pair for pair in one["auroc"]}
    for k, label in enumerate(facts.labels):
        reference, candidate = facts.p_fp32[:, k], facts.drawn[name][:, k]
        dp = candidate - reference
        threshold = facts.thresholds.get(label)
        yield (
            f"{label} (primary)" if label == facts.primary else label,
            *_auroc_cells(by_label.get(label), bars),
            number(float(np.quantile(np.abs(dp), 0.99)), 4),
            number(float(np.abs(dp).max()), 4),
            number(float(dp.mean()), 4, signed=True),
            number(threshold, 3),
            None if threshold is None else crossings(reference, candidate, threshold=threshold),
        )


def _auroc_cells(pair: Mapping[str, Any] | None, bars: Mapping[str, Any]) -> tuple[Cell, ...]:
    if pair is None:
        return "one answer only", None, None, None, mark(passed=None)
    passed = abs(change(pair)) <= bars["max_auroc_change"] if gated(pair, bars) else None
    verdict = Html('<span class="note">too few</span>') if passed is None else mark(passed=passed)
    sizes = (number(pair["reference"], 4), number(pair["candidate"], 4), number(change(pair), 4, signed=True))
    return (pair["positives"], *sizes, verdict)


def probability_section(facts: PageFacts, *, bins: int) -> Html:
    """Calibrated probability of each file over that of the trained model, a panel per output."""
    if not facts.drawn:
        return Html("")
    limits = probability_limits([facts.p_fp32, *facts.drawn.values()])
    first = [k for k, label in enumerate(facts.labels) if label == facts.primary]
    shown = [*first, *(k for k in range(len(facts.labels)) if k not in first)][:MAX_PANELS]
    hidden = len(facts.labels) - len(shown)
    words = (
        "Across: calibrated probability of the trained model; upwards: of the file; both on a logit scale. On the line both say "
        "the same. Dashed: the output's operating point; recordings in the upper left and lower right quarter cross it."
        + (f" {hidden} more outputs are in the tables above." if hidden else "")
    )
    grids = [
        f'<h3>{text(name)}</h3>\n<div class="grid">'
        + "".join(
            probability_panel(
                facts.labels[k], facts.p_fp32[:, k], p[:, k],
                bins=bins, limits=limits, threshold=facts.thresholds.get(facts.labels[k]),
            )
            for k in shown
        )
        + "</div>\n"
        for name, p in facts.drawn.items()
    ]  # fmt: skip
    return section(
        "Probabilities, file against trained model",
        paragraph(words, "note"),
        density_legend(),
        panel_axes(limits),
        *grids,
    )
