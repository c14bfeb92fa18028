"""One row in depth: curves, calibration, operating points, parts of the recordings, conformal sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lsemvae.data.labels import NEEDS_STATED_AXIS
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.calibrators import METHODS, SHIPPED, compare_calibrations, crossfit, crossfit_thresholds, sigmoid
from lsemvae.evaluate.conformal import ALPHA, conformal_figures
from lsemvae.evaluate.evidence import TABLE_LABELS, Evidence
from lsemvae.evaluate.metrics import Estimate, expected_calibration_error
from lsemvae.evaluate.operating import PREVALENCES, operating_figures
from lsemvae.evaluate.plots_curves import Scored, decision, finite, reliability, roc_and_precision
from lsemvae.evaluate.plots_rows import forest
from lsemvae.evaluate.predictions import LEAD_SETS
from lsemvae.evaluate.resampling import auprc_draws, enough, interval, mean_draws, over_seeds
from lsemvae.evaluate.subgroups import SubgroupRow, subgroup_rows
from lsemvae.report.blocks import Plot, Section, TextTable, columns, estimate, number, percent

CURVE_LABELS = ("RHS", "RBBB_any", "AFIB", "NORM")
PART_LABELS = ("RHS", "RBBB_any")


@dataclass(frozen=True)
class Detail:
    """Which row and lead set are looked at, over `evidence` (known gain) and `everything` (any gain)."""

    evidence: Evidence
    everything: Evidence
    row: str
    lead_set: str
    outcomes: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.row not in self.evidence.tables:
            raise FormatError(
                f"found the rows {', '.join(self.evidence.tables)}, expected among them {self.row}",
                advice="Name another row with --row.",
            )
        if self.lead_set not in LEAD_SETS:
            raise FormatError(
                f"found the lead set {self.lead_set}, expected one of {', '.join(LEAD_SETS)}",
                advice="Correct --lead-set.",
            )

    def labels(self, wanted: tuple[str, ...] = TABLE_LABELS) -> tuple[str, ...]:
        """Those of `wanted` with enough of both answers to draw or to count."""
        return tuple(label for label in wanted if enough(self.scored(label)[0]))

    def scored(self, label: str, lead_set: str | None = None) -> Scored:
        """Labels `[record]` and logits `[seed, record]` of the recordings that have both."""
        y, p = self.evidence.truth.of(label), self.evidence.scores(self.row, lead_set or self.lead_set, label)
        keep = finite(y, p) if len(p) else np.zeros(len(y), bool)
        return y[keep], p[:, keep]

    def calibrated(self, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`y`, cross-fitted Platt probabilities `[seed, record]`, and the weights of the recordings that have both."""
        y, logits = self.evidence.truth.of(label), self.evidence.scores(self.row, self.lead_set, label)
        group = self.evidence.groups(self.row)
        p = np.stack([crossfit(y, one, group, METHODS[SHIPPED]) for one in logits])
        keep = finite(y, p)
        return y[keep], p[:, keep], self.evidence.weights[:, keep]

    def operating(self, label: str, *, every_gain: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Uncalibrated probabilities and cross-fitted operating points, `[seed, record]` each, over all of the evidence."""
        evidence = self.everything if every_gain else self.evidence
        truth, p = evidence.truth, sigmoid(evidence.scores(self.row, self.lead_set, label))
        y = np.where(truth.gain_known, truth.of(label), np.nan)
        return p, np.stack([crossfit_thresholds(y, one, evidence.groups(self.row)) for one in p])


def detail_sections(detail: Detail) -> list[Section]:
    """Every section about one row; a row that was not run on the lead set says so and nothing else."""
    labels = detail.labels()
    name = f"{detail.row} on leads {detail.lead_set}"
    if not labels:
        return [Section(f"In depth: {name}", ("Not run on this lead set, or too few positives of every label.",))]
    return [
        _discrimination(detail, labels, name),
        _calibration(detail, labels, name),
        _operating(detail, labels, name),
        _parts(detail, name),
        _conformal(detail, labels, name),
    ]


def _discrimination(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    shown = tuple(label for label in CURVE_LABELS if label in labels)
    by_label = {
        label: {leads: detail.scored(label, leads) for leads in LEAD_SETS if enough(detail.scored(label, leads)[0])}
        for label in shown
    }
    blocks: list[TextTable | Plot] = [_summary(detail, labels, name)]
    if shown:
        blocks.insert(0, roc_and_precision(by_label, row=detail.row))
    return Section(f"Discrimination: {name}", (), tuple(blocks))


def _summary(detail: Detail, labels: tuple[str, ...], name: str) -> TextTable:
    rows = []
    for label in labels:
        found = detail.evidence.figure(detail.row, detail.lead_set, label)
        precise, square, gap = _probability_figures(*detail.calibrated(label))
        rows.append(
            (
                label, f"{found.n:,}", str(found.positives), estimate(found.auroc), estimate(precise), estimate(square, 4),
                number(gap, 4),
            )
        )  # fmt: skip
    return TextTable(
        f"Figures of {name}",
        ("label", "n", "positive", "AUROC", "AUPRC", "Brier", "ECE"),
        columns(rows),
        note="AUROC on pooled logits; AUPRC, Brier and ECE on cross-fitted Platt probabilities. AUPRC depends on the share of "
        "positives: a random score has that share.",
    )


def _probability_figures(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> tuple[Estimate, Estimate, float]:
    """AUPRC and Brier score of probabilities `[seed, record]` with intervals, and their calibration error."""
    once = np.ones((1, len(y)), np.float32)

    def one(draws: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Estimate:
        whole = over_seeds(lambda s: draws(y, s, once), p)
        return interval(float(whole[0]), over_seeds(lambda s: draws(y, s, weights), p))

    error = float(np.mean([expected_calibration_error(y, s) for s in p]))
    return one(auprc_draws), one(lambda y, s, w: mean_draws((s - y) ** 2, w)), error


def _calibration(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    rows, group = [], detail.evidence.groups(detail.row)
    for label in labels:
        y, logits = detail.evidence.truth.of(label), detail.evidence.scores(detail.row, detail.lead_set, label)
        for row in compare_calibrations(y, logits, group, weights=detail.evidence.weights):
            rows.append(
                (
                    label, row.method, estimate(row.brier, 4), number(row.ece, 4), estimate(row.log_loss, 4),
                    estimate(row.brier_difference, 4, signed=True) if row.method != SHIPPED else "-",
                    estimate(row.log_loss_difference, 4, signed=True) if row.method != SHIPPED else "-", row.verdict,
                )
            )  # fmt: skip
    table = TextTable(
        f"Calibration of {name}, cross-fitted over fold groups",
        ("label", "method", "Brier", "ECE", "log loss", "Brier minus Platt", "log loss minus Platt", "against Platt"),
        columns(rows),
        note="Each group's probabilities come from a calibrator fitted on the other groups' held-out logits. Platt scaling is the "
        "shipped method, chosen beforehand; another is called better only where the interval of the paired Brier difference lies "
        "below zero.",
    )
    shown = {label: detail.calibrated(label)[:2] for label in CURVE_LABELS if label in labels}
    plots = (reliability(shown, row=detail.row, lead_set=detail.lead_set),) if shown else ()
    return Section(f"Calibration: {name}", (), (*plots, table))


def _operating(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    rows, truth = [], detail.evidence.truth
    for label in labels:
        p, at = detail.operating(label)
        keep = finite(truth.of(label), p) & np.isfinite(at).all(0)
        f = operating_figures(truth.of(label)[keep], p[:, keep], at[:, keep], weights=detail.evidence.weights[:, keep])
        values = [estimate(f.sensitivity), estimate(f.specificity)]
        rows.append(
            (label, *values, *(percent(f.ppv[s]) for s in PREVALENCES), *(percent(f.npv[s]) for s in PREVALENCES))
        )
    shares = [f"{100 * share:.0f} %" for share in PREVALENCES]
    table = TextTable(
        f"Operating point of {name}: 90 % specificity in the other fold groups",
        ("label", "sensitivity", "specificity", *(f"PPV at {s}" for s in shares), *(f"NPV at {s}" for s in shares)),
        columns(rows),
        note="Predictive values at stated prevalences of the reader's statement, by Bayes' rule in every bootstrap draw. "
        "A predictive value for a reader's statement is none for pulmonary hypertension.",
    )
    return Section(
        f"Decisions: {name}", (), (*(_decision(detail, label) for label in PART_LABELS if label in labels), table)
    )


def _decision(detail: Detail, label: str) -> Plot:
    y, p, w = detail.calibrated(label)
    raw, at = detail.operating(label)
    keep = finite(detail.evidence.truth.of(label), raw)
    return decision(label, (y, p), raw[:, keep] >= at[:, keep], weights=w, row=detail.row, lead_set=detail.lead_set)


def _parts(detail: Detail, name: str) -> Section:
    abstained = _abstained(detail.evidence, detail.outcomes)
    by_label: dict[str, list[SubgroupRow]] = {}
    for label in (label for label in PART_LABELS if label in detail.labels()):
        p, at = detail.operating(label)
        known = subgroup_rows(detail.evidence.truth, label, p, at, weights=detail.evidence.weights, abstained=abstained)
        p, at = detail.operating(label, every_gain=True)
        everything = subgroup_rows(
            detail.everything.truth, label, p, at, weights=detail.everything.weights,
            abstained=_abstained(detail.everything, detail.outcomes),
        )  # fmt: skip
        by_gain = [row for row in everything if row.kind == "gain"]
        by_label[label] = [row for row in known if row.kind != "gain"] + (by_gain if len(by_gain) > 1 else [])
    if not by_label:
        return Section(f"Parts: {name}", (f"Too few positives of {', '.join(PART_LABELS)}.",))
    panels = {label: [(row.name, row.auroc) for row in rows] for label, rows in by_label.items()}
    plot = forest(
        panels,
        title=f"AUROC of {name} by part of the recordings",
        xlabel="AUROC (95 % interval)",
        alt="Points with intervals for all, women, men, age bands and, where scored, gain.",
        note="A dash: fewer than five positives or negatives. No correction for looking at several parts.",
    )
    return Section(
        f"Parts: {name}", (), (plot, *(_part_table(label, rows, name, detail) for label, rows in by_label.items()))
    )


def _part_table(label: str, rows: list[SubgroupRow], name: str, detail: Detail) -> TextTable:
    gains = "" if any(r.kind == "gain" for r in rows) else " No recording of unknown gain was scored."
    told = (
        "Abstention: share of ABSTAIN among outcomes of the exported bundles (cv-predictions.csv), not of this row."
        if detail.outcomes is not None
        else "Abstention: not there (cv-predictions.csv)."
    )
    axis = " Negatives with a stated axis only." if label in NEEDS_STATED_AXIS else ""
    return TextTable(
        f"{label} by part: {name}",
        ("part", "n", "positive", "AUROC", "sensitivity", "specificity", "abstained"),
        columns(
            [
                (r.name, f"{r.n:,}", str(r.positives), estimate(r.auroc), estimate(r.sensitivity), estimate(r.specificity),
                 percent(r.abstained))
                for r in rows
            ]
        ),
        note=told + axis + gains,
    )  # fmt: skip


def _abstained(evidence: Evidence, outcomes: Mapping[str, str] | None) -> np.ndarray | None:
    """1 where ABSTAIN, 0 where answered, NaN where there is no outcome or an ERROR, float `[record]`."""
    if outcomes is None:
        return None
    value = {"ABSTAIN": 1.0, "DETECTED": 0.0, "NOT DETECTED": 0.0}
    return np.array([value.get(outcomes.get(str(uid), ""), np.nan) for uid in evidence.truth.uid])


def _conformal(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    rows, group = [], detail.evidence.groups(detail.row)
    for label in labels:
        y, p = detail.evidence.truth.of(label), detail.evidence.scores(detail.row, detail.lead_set, label)
        f = conformal_figures(y, p, group, weights=detail.evidence.weights)
        coverage = [percent(e) for e in (f.coverage, f.coverage_positive, f.coverage_negative)]
        kinds = [f"{number(100 * e.value, 1)} %" for e in (f.empty, f.only_negative, f.only_positive, f.both)]
        rows.append((label, *coverage, estimate(f.mean_size, 2), *kinds))
    table = TextTable(
        f"Conformal sets of {name}, alpha = {ALPHA:g} for either answer",
        ("label", "true answer kept", "of positives", "of negatives", "mean size", "{ }", "{no}", "{yes}", "{no, yes}"),
        columns(rows),
        note="Class-conditional split conformal prediction (Vovk 2003), each group held against the other groups' held-out logits. "
        f"Meant: at least {100 * (1 - ALPHA):.0f} % of either answer. Where positives are few, their coverage is uncertain, as its "
        "interval shows.",
    )
    return Section(f"Sets instead of calls: {name}", (), (table,))
