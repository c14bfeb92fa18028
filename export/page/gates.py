"""The bars of an export as rows of its page: what was found, what was expected, passed or missed.

The rows are read from `report.json` alone, so the page cannot show a bar that the report does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsemvae.report.page_html import Html, number, share


@dataclass(frozen=True, slots=True)
class GateRow:
    """One bar: `group` is what it was held against, `passed` is None where no bar is set."""

    group: str
    what: str
    found: str
    bar: str
    passed: bool | None


def gate_rows(report: Mapping[str, Any]) -> tuple[GateRow, ...]:
    """Return every bar of a `report.json` in the order of the export."""
    bars = report["parity"]["thresholds"]
    return (
        *_audit_rows(report["audit"]),
        *(row for comparison in report["parity"]["comparisons"] for row in _parity_rows(comparison, bars)),
        *_size_rows(report, bars),
        *_latency_rows(report["latency"], bars),
        *_host_rows(report, bars),
    )


def gated(pair: Mapping[str, Any], bars: Mapping[str, Any]) -> bool:
    """Whether an AUROC rests on enough positives to be held against the bar."""
    return bool(pair["positives"] >= bars["min_positives"])


def change(pair: Mapping[str, Any]) -> float:
    """Return candidate minus reference of one AUROC."""
    return float(pair["candidate"] - pair["reference"])


def is_float(candidate: str) -> bool:
    """Whether a file computes in floats."""
    return candidate.endswith("fp32")


def _audit_rows(audit: Mapping[str, Any]) -> Iterator[GateRow]:
    for name, found in audit.items():
        problems = found["problems"]
        yield GateRow("Operators and types", name, "; ".join(problems) or "clean", "no problem", not problems)


def _parity_rows(found: Mapping[str, Any], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    group = f"{found['candidate']} against {found['reference']}, {found['n']:,} recordings"
    yield GateRow(group, "finite outputs", "all" if found["finite"] else "NaN or infinity", "all", found["finite"])
    if not found["finite"]:
        return
    if is_float(found["candidate"]):
        bar = bars["max_fp32_dlogit"]
        for what, value in (("logit", found["max_dlogit"]), ("uncertainty", found["max_duncertainty"])):
            yield GateRow(group, f"largest |Δ {what}|", f"{value:.1e}", f"≤ {bar:g}", value <= bar)
        return
    least = bars["min_decision_agreement"]
    for what, value in (
        ("same outcome of the primary output", found["decision_agreement"]),
        ("same side of the threshold, all outputs", found["label_agreement"]),
    ):
        # three decimals, so that a share just below its bar is not shown as equal to it
        yield GateRow(group, what, share(value, digits=3), f"≥ {100 * least:g} %", value >= least)
    for what, value, bar in (
        ("99th percentile of |Δp|", found["p99_dp"], bars["max_p99_dp"]),
        ("99th percentile of |Δ uncertainty|", found["p99_duncertainty"], bars["max_p99_duncertainty"]),
    ):
        yield GateRow(group, what, number(value, 4), f"≤ {bar:g}", value <= bar)
    yield _auroc_row(group, found["auroc"], bars)


def _auroc_row(group: str, found: Sequence[Mapping[str, Any]], bars: Mapping[str, Any]) -> GateRow:
    bar, what = bars["max_auroc_change"], "largest |ΔAUROC|"
    judged = [pair for pair in found if gated(pair, bars)]
    if not judged:
        return GateRow(group, what, f"no output has {bars['min_positives']} positives", f"≤ {bar:g}", None)
    worst = max(judged, key=lambda pair: abs(change(pair)))
    size = abs(change(worst))
    return GateRow(
        group, f"{what} of {len(judged)} outputs", f"{number(size, 4)} ({worst['label']})", f"≤ {bar:g}", size <= bar
    )


def _size_rows(report: Mapping[str, Any], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    bar = bars.get("max_int8_bytes")
    for name, size in report["sizes"].items():
        if not is_float(name):
            words = "–" if bar is None else f"≤ {kib(bar)}"
            yield GateRow("Size", name, kib(size), words, None if bar is None else size <= bar)


def _latency_rows(measured: Sequence[Mapping[str, Any]], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    bar = bars["max_latency_ratio"]
    for found in measured:
        ratio = found["ratio"]
        group = f"Latency, {found['basis']}"
        words = "–" if bar is None else f"≤ {bar:g}"
        yield GateRow(
            group, f"{found['runtime']}: INT8 over fp32", number(ratio, 2), words, None if bar is None else ratio <= bar
        )


def _host_rows(report: Mapping[str, Any], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    tolerance, bar = report["golden_tolerance"], bars["max_golden_tolerance"]
    what = "allowed |Δ logit| of another kernel"
    if tolerance is None:  # a refused export ends before its golden recordings are made
        yield GateRow("Golden recordings", what, "not reached", f"≤ {bar:g}", None)
    else:
        yield GateRow("Golden recordings", what, number(tolerance, 3), f"≤ {bar:g}", tolerance <= bar)
    records, least = report["data"]["validation_records"], bars["min_validation_records"]
    yield GateRow("Data", "validation recordings", f"{records:,}", f"≥ {least:,}", records >= least)


def kib(size: int) -> Html:
    """Return a size in KiB."""
    return Html(f"{size / 1024:.1f} KiB")
