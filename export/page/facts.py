"""What the page of an export says, checked before it is written: facts, bars, and numbers in words.

The bars are read from `report.json` alone, so the page cannot show a bar that the report does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from export.errors import ExportError
from export.gates.parity import REFERENCE

# A colour and a row of panels each; more files than this would be neither told apart nor small.
MAX_DRAWN: Final = 4
NOTHING: Final = "–"
_REPORT_KEYS: Final = ("recipe", "sizes", "audit", "parity", "latency", "golden_tolerance", "data", "versions")
_ADVICE: Final = "Build the page from the arrays and the report of one and the same export."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageFacts:
    """Everything that the page says; no recording id and no path is among it.

    Attributes
    ----------
    report
        What `export.report.report_dict` returns.
    id, version, label_statement, intended_use, not_for
        Texts of the manifest.
    labels
        Names of the outputs, in the order of the columns of the arrays.
    p_fp32
        Calibrated probabilities `[n, K]` of the trained model on the validation recordings.
    p_files
        File name as in the report (`tflite_int8`) to its calibrated probabilities `[n, K]` on the same recordings.
    thresholds
        Operating point of each output as calibrated probability; may leave outputs out.
    recipe
        What `export.report.recipe_dict` returns; None for a float bundle.
    notes
        Sentences about the decision rule and the data, each a paragraph.
    """

    report: Mapping[str, Any]
    id: str
    version: str
    label_statement: str
    intended_use: str
    labels: tuple[str, ...]
    p_fp32: np.ndarray
    p_files: Mapping[str, np.ndarray]
    not_for: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together, and a report that lacks a part."""
        missing = [key for key in _REPORT_KEYS if key not in self.report]
        if missing:
            raise ExportError(
                f"found a report without {', '.join(missing)}; expected all of {', '.join(_REPORT_KEYS)}",
                advice=_ADVICE,
            )
        compared = self._compared()
        missing = [name for name in self.p_files if name not in compared]
        if missing:
            raise ExportError(
                f"found probabilities of {', '.join(missing)}; expected files that the report compares with {REFERENCE} "
                f"({', '.join(compared) or 'none'})",
                advice=_ADVICE,
            )
        shape = (len(self.p_fp32), len(self.labels))
        finite = {"fp32": all(one["finite"] for one in compared.values())}
        finite |= {name: compared[name]["finite"] for name in self.p_files}
        for name, p in {"fp32": self.p_fp32, **self.p_files}.items():
            if p.shape != shape or not len(p):
                raise ExportError(
                    f"found probabilities of {name} with shape {list(p.shape)}; expected {list(shape)}, one recording at least",
                    advice=_ADVICE,
                )
            # only the report itself may say that some are not finite
            known = p[np.isfinite(p)]
            if (finite[name] and known.size < p.size) or (known.size and not (known.min() >= 0 and known.max() <= 1)):
                raise ExportError(
                    f"found probabilities of {name} that are no numbers from 0 to 1; expected calibrated probabilities",
                    advice=_ADVICE,
                )
        if len(self.drawn) > MAX_DRAWN:
            raise ExportError(f"found {len(self.drawn)} files to draw; expected at most {MAX_DRAWN}", advice=_ADVICE)

    @property
    def primary(self) -> str:
        """Name of the output that decides."""
        return str(self.report["parity"]["primary"])

    @property
    def drawn(self) -> dict[str, np.ndarray]:
        """Files that have pictures: quantized, and finite. A float file differs by rounding only, which no picture shows."""
        compared = self._compared()
        return {name: p for name, p in self.p_files.items() if not is_float(name) and compared[name]["finite"]}

    @property
    def broken(self) -> tuple[str, ...]:
        """Quantized files that cannot be drawn, because they or the trained model gave NaN or infinity."""
        return tuple(name for name in self.p_files if not is_float(name) and name not in self.drawn)

    def differences(self) -> dict[str, np.ndarray]:
        """Return drawn file minus trained model, `[n, K]` by file."""
        return {name: p - self.p_fp32 for name, p in self.drawn.items()}

    def against_trained(self) -> dict[str, Mapping[str, Any]]:
        """Return the report's comparisons of the drawn files with the trained model, by file."""
        found = self._compared()
        return {name: found[name] for name in self.drawn}

    def _compared(self) -> dict[str, Mapping[str, Any]]:
        return {one["candidate"]: one for one in self.report["parity"]["comparisons"] if one["reference"] == REFERENCE}


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
    return tuple(_gate_rows(report, report["parity"]["thresholds"]))


def _gate_rows(report: Mapping[str, Any], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    for name, found in report["audit"].items():
        problems = found["problems"]
        yield GateRow("Operators and types", name, "; ".join(problems) or "clean", "no problem", not problems)
    for comparison in report["parity"]["comparisons"]:
        yield from _parity_rows(comparison, bars)
    most = bars.get("max_int8_bytes")
    for name, size in report["sizes"].items():
        if not is_float(name):
            yield GateRow("Size", name, kib(size), *_at_most(size, most, kib))
    for timed in report["latency"]:
        ratio, what = timed["ratio"], f"{timed['runtime']}: INT8 over fp32"
        against = _at_most(ratio, bars["max_latency_ratio"], "{:g}".format)
        yield GateRow(f"Latency, {timed['basis']}", what, number(ratio, 2), *against)
    tolerance, what = report["golden_tolerance"], "allowed |Δ logit| of another kernel"
    reached = "not reached" if tolerance is None else number(tolerance, 3)  # a refused export ends before it is made
    words, passed = _at_most(tolerance or 0.0, bars["max_golden_tolerance"], "{:g}".format)
    yield GateRow("Golden recordings", what, reached, words, None if tolerance is None else passed)
    records, least = report["data"]["validation_records"], bars["min_validation_records"]
    yield GateRow("Data", "validation recordings", f"{records:,}", f"≥ {least:,}", records >= least)


def _parity_rows(found: Mapping[str, Any], bars: Mapping[str, Any]) -> Iterator[GateRow]:
    group = f"{found['candidate']} against {found['reference']}, {found['n']:,} recordings"
    yield GateRow(group, "finite outputs", "all" if found["finite"] else "NaN or infinity", "all", found["finite"])
    if not found["finite"]:
        return
    if is_float(found["candidate"]):
        for what, value in (("logit", found["max_dlogit"]), ("uncertainty", found["max_duncertainty"])):
            words = _at_most(value, bars["max_fp32_dlogit"], "{:g}".format)
            yield GateRow(group, f"largest |Δ {what}|", f"{value:.1e}", *words)
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
        yield GateRow(group, what, number(value, 4), *_at_most(value, bar, "{:g}".format))
    bar, what = bars["max_auroc_change"], "largest |ΔAUROC|"
    judged = [pair for pair in found["auroc"] if gated(pair, bars)]
    if not judged:
        yield GateRow(group, what, f"no output has {bars['min_positives']} positives", f"≤ {bar:g}", None)
        return
    worst = max(judged, key=lambda pair: abs(change(pair)))
    size = abs(change(worst))
    words = _at_most(size, bar, "{:g}".format)
    yield GateRow(group, f"{what} of {len(judged)} outputs", f"{number(size, 4)} ({worst['label']})", *words)


def _at_most(value: float, bar: float | None, words: Callable[[Any], str]) -> tuple[str, bool | None]:
    """Return a bar from above in words, and whether `value` passes it; a dash and None where no bar is set."""
    return (NOTHING, None) if bar is None else (f"≤ {words(bar)}", value <= bar)


def gated(pair: Mapping[str, Any], bars: Mapping[str, Any]) -> bool:
    """Return whether an AUROC rests on enough positives to be held against the bar."""
    return bool(pair["positives"] >= bars["min_positives"])


def change(pair: Mapping[str, Any]) -> float:
    """Return candidate minus reference of one AUROC."""
    return float(pair["candidate"] - pair["reference"])


def is_float(candidate: str) -> bool:
    """Return whether a file computes in floats."""
    return candidate.endswith("fp32")


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Return a number with `digits` decimals, with its sign where `signed`; a number that is none says so."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not finite"
    shown = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not any(digit in "123456789" for digit in shown):
        shown = shown.lstrip("+-")  # a rounded nothing has no sign
    return shown.replace("-", "−")


def share(value: float, *, digits: int = 2) -> str:
    """Return a share as a percentage."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "not finite"


def kib(size: int) -> str:
    """Return a size in KiB."""
    return f"{size / 1024:.1f} KiB"
