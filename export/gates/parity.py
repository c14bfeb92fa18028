"""Does the converted model say what the trained one says? Measured on real validation recordings, then gated.

Every file is compared with the fp32 torch model, and the INT8 files of the two runtimes with each other, as the clinic
would run them: one recording at a time, calibrated probabilities, outcomes by the bundle's own decision rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from export.errors import ExportGateError
from export.gates.gates import GateThresholds
from export.gates.outputs import Outputs
from lsemvae.ecg.decision import decide
from lsemvae.ecg.quality import QualityReport
from lsemvae.ecg.rule import DecisionRule
from lsemvae.evaluate.metrics import auroc

REFERENCE: Final = "torch_fp32"
# The student after quantization-aware fine-tuning: what its float files must equal, and itself held against nothing.
TUNED: Final = "torch_qat"
# The parity of numbers is judged on recordings that the quality gate let pass; here each counts as such.
_GOOD_QUALITY: Final = QualityReport(acceptable=True, reasons=(), leads=(), details={})


@dataclass(frozen=True, slots=True)
class AurocPair:
    """AUROC of one output by the reference and by the candidate, on the recordings whose label is known."""

    label: str
    positives: int
    reference: float
    candidate: float

    @property
    def change(self) -> float:
        """Candidate minus reference."""
        return self.candidate - self.reference


@dataclass(frozen=True, slots=True)
class ParityComparison:
    """One file against a reference, over `n` validation recordings."""

    candidate: str
    reference: str
    n: int
    finite: bool
    max_dlogit: float
    mean_dlogit: float
    p99_dp: float
    max_dp: float
    p99_duncertainty: float
    max_duncertainty: float
    decision_agreement: float
    label_agreement: float
    auroc: tuple[AurocPair, ...]

    @property
    def is_float(self) -> bool:
        """Whether the candidate is a float file."""
        return self.candidate.endswith("fp32")

    def max_auroc_change(self, *, min_positives: int) -> float | None:
        """Return the largest |change| of an AUROC that rests on enough positives, or None where none does."""
        changes = [abs(pair.change) for pair in self.auroc if pair.positives >= min_positives]
        return max(changes, default=None)

    def not_gated(self, *, min_positives: int) -> tuple[str, ...]:
        """Return the outputs whose AUROC rests on too few positives to be held against a bar, with their number."""
        return tuple(f"{pair.label} ({pair.positives})" for pair in self.auroc if pair.positives < min_positives)

    def text(self, *, min_positives: int) -> str:
        """Return the comparison as one line."""
        change = self.max_auroc_change(min_positives=min_positives)
        auroc = f"max |dAUROC| {change:.4f}" if change is not None else f"no AUROC ({min_positives} positives needed)"
        few = self.not_gated(min_positives=min_positives)
        if few and change is not None:
            auroc += f", too few positives for {', '.join(few)}"
        return (
            f"{self.candidate} against {self.reference}, {self.n} recordings: "
            f"outcomes agree {self.decision_agreement:.2%}, "
            f"p99 |dp| {self.p99_dp:.4f}, max |dlogit| {self.max_dlogit:.3f}, {auroc}"
        )


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All comparisons, the thresholds they were held against, and what failed (empty when the export may go on)."""

    comparisons: tuple[ParityComparison, ...]
    thresholds: GateThresholds
    primary: str
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)

    def lines(self) -> tuple[str, ...]:
        """Return one line for each comparison."""
        return tuple(one.text(min_positives=self.thresholds.min_positives) for one in self.comparisons)

    def comparison(self, candidate: str) -> ParityComparison:
        """Return the comparison of a file with the fp32 torch model."""
        return next(c for c in self.comparisons if (c.candidate, c.reference) == (candidate, REFERENCE))


def compare_all(
    outputs: Mapping[str, Outputs],
    *,
    labels: Sequence[str],
    truth: np.ndarray,
    rule: DecisionRule,
    gates: GateThresholds,
) -> ParityReport:
    """Compare every entry of `outputs` with `outputs["torch_fp32"]`, and TFLite with ONNX where both are INT8.

    Where `outputs["torch_qat"]` is there, float files are compared with that: they are files of the fine-tuned student.

    Parameters
    ----------
    outputs
        What each model says about the same `n` recordings.
    labels
        Names of the outputs, in the order of the logits.
    truth
        Known labels `[n, K]`: 0, 1, or NaN where nobody looked.
    """
    of_float = TUNED if TUNED in outputs else REFERENCE
    files = [name for name in outputs if name not in (REFERENCE, TUNED)]
    pairs = [(name, of_float if name.endswith("fp32") else REFERENCE) for name in files]
    if {"tflite_int8", "onnx_int8"} <= set(outputs):
        pairs.append(("onnx_int8", "tflite_int8"))
    comparisons = tuple(
        compare(name, outputs[name], reference, outputs[reference], labels=labels, truth=truth, rule=rule)
        for name, reference in pairs
    )
    failures = tuple(failure for c in comparisons for failure in gate_failures(c, gates))
    return ParityReport(comparisons, gates, rule.primary, failures)


def compare(
    name: str,
    candidate: Outputs,
    reference_name: str,
    reference: Outputs,
    *,
    labels: Sequence[str],
    truth: np.ndarray,
    rule: DecisionRule,
) -> ParityComparison:
    """Compare one model with a reference on the same recordings."""
    if not (candidate.finite() and reference.finite()):  # every measure is the worst there is
        return ParityComparison(
            candidate=name,
            reference=reference_name,
            n=len(candidate.logits),
            finite=False,
            max_dlogit=math.inf,
            mean_dlogit=math.inf,
            p99_dp=1.0,
            max_dp=1.0,
            p99_duncertainty=math.inf,
            max_duncertainty=math.inf,
            decision_agreement=0.0,
            label_agreement=0.0,
            auroc=(),
        )
    dlogit = np.abs(candidate.logits - reference.logits)
    p_candidate, p_reference = (probabilities(o.logits, labels=labels, rule=rule) for o in (candidate, reference))
    dp = np.abs(p_candidate - p_reference)
    duncertainty = np.abs(candidate.uncertainty - reference.uncertainty)
    same = outcomes(candidate, labels=labels, rule=rule) == outcomes(reference, labels=labels, rule=rule)
    columns = [k for k, label in enumerate(labels) if label in rule.thresholds]
    thresholds = np.array([rule.thresholds[labels[k]] for k in columns])
    sides = [p[:, columns] >= thresholds for p in (p_candidate, p_reference)]
    pairs = []
    for k, label in enumerate(labels):
        known = np.isfinite(truth[:, k])
        positive = truth[known, k] > 0.5
        if positive.any() and not positive.all():
            scores = [auroc(positive, said.logits[known, k]) for said in (reference, candidate)]
            pairs.append(AurocPair(label, int(positive.sum()), *scores))
    return ParityComparison(
        candidate=name,
        reference=reference_name,
        n=len(dlogit),
        finite=True,
        max_dlogit=float(dlogit.max()),
        mean_dlogit=float(dlogit.mean()),
        p99_dp=float(np.quantile(dp, 0.99)),
        max_dp=float(dp.max()),
        p99_duncertainty=float(np.quantile(duncertainty, 0.99)),
        max_duncertainty=float(duncertainty.max()),
        decision_agreement=float(same.mean()),
        label_agreement=float((sides[0] == sides[1]).mean()),
        auroc=tuple(pairs),
    )


def probabilities(logits: np.ndarray, *, labels: Sequence[str], rule: DecisionRule) -> np.ndarray:
    """Return calibrated probabilities `[n, K]`: sigmoid(slope * logit + intercept)."""
    slope = np.array([rule.calibrations[label].slope for label in labels])
    intercept = np.array([rule.calibrations[label].intercept for label in labels])
    p: np.ndarray = 0.5 * (
        1.0 + np.tanh(0.5 * (slope * logits.astype(np.float64) + intercept))
    )  # the sigmoid, no overflow
    return p


def outcomes(outputs: Outputs, *, labels: Sequence[str], rule: DecisionRule) -> np.ndarray:
    """Return the outcome of each recording, decided by the very code that the clinic runs."""
    decided = [
        decide(
            dict(zip(labels, map(float, logits), strict=True)),
            quality=_GOOD_QUALITY,
            uncertainty=float(uncertainty),
            rule=rule,
        ).outcome.value
        for logits, (uncertainty,) in zip(outputs.logits, outputs.uncertainty, strict=True)
    ]
    return np.array(decided)


def gate_failures(comparison: ParityComparison, gates: GateThresholds) -> list[str]:
    """Return every bar that one comparison misses, with what was found and what was expected."""
    who = f"{comparison.candidate} against {comparison.reference}"
    if not comparison.finite:
        return [f"{who}: found NaN or infinite outputs; expected finite numbers"]
    if comparison.is_float:
        changes = (("logit", comparison.max_dlogit), ("uncertainty", comparison.max_duncertainty))
        return [
            f"{who}: found a {what} change of {found:.3g}; expected at most {gates.max_fp32_dlogit:g}"
            for what, found in changes
            if not found <= gates.max_fp32_dlogit
        ]
    failures = [
        f"{who}: found {what} {found:.4f}; expected {side} {bar:g}"
        for what, found, side, bar, good in (
            ("agreement of outcomes", comparison.decision_agreement, "at least", gates.min_decision_agreement, 1),
            ("agreement of all outputs", comparison.label_agreement, "at least", gates.min_decision_agreement, 1),
            ("99th percentile of |dp|", comparison.p99_dp, "at most", gates.max_p99_dp, -1),
            (
                "99th percentile of |d uncertainty|",
                comparison.p99_duncertainty,
                "at most",
                gates.max_p99_duncertainty,
                -1,
            ),
        )
        if not good * found >= good * bar
    ]
    for pair in comparison.auroc:
        if pair.positives >= gates.min_positives and not abs(pair.change) <= gates.max_auroc_change:
            failures.append(
                f"{who}: found AUROC of {pair.label} {pair.candidate:.4f} against {pair.reference:.4f} "
                f"({pair.positives} positives); expected a change of at most {gates.max_auroc_change:g}"
            )
    return failures


def require_parity(report: ParityReport) -> ParityReport:
    """Return the report, or raise ExportGateError with every missed bar."""
    if report.failures:
        raise ExportGateError("; ".join(report.failures))
    return report
