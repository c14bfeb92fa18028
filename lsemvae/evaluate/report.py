"""`lsemvae report`: HTML, PDF, Markdown and JSON from recorded predictions; what stands in them, from front to back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lsemvae.data.folder import EcgFolder
from lsemvae.data.labels import DESCRIPTIONS, NEEDS_STATED_AXIS
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.calibrate import METHODS, SHIPPED, compare_calibrations, crossfit, crossfit_thresholds, sigmoid
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.conformal import ALPHA, conformal_figures
from lsemvae.evaluate.evidence import TABLE_LABELS, Evidence, gather
from lsemvae.evaluate.extras import KNOWN, Extras, Latent, read_extras
from lsemvae.evaluate.metrics import N_BOOTSTRAP, Estimate, expected_calibration_error
from lsemvae.evaluate.operating import PREVALENCES, operating_figures
from lsemvae.evaluate.plots import (
    Scored,
    decision,
    decoder,
    finite,
    forest,
    latent,
    pareto,
    reliability,
    roc_and_precision,
)
from lsemvae.evaluate.predictions import LEAD_SETS, load_all
from lsemvae.evaluate.resampling import auprc_draws, enough, interval, mean_draws, over_seeds
from lsemvae.evaluate.subgroups import SubgroupRow, subgroup_rows
from lsemvae.evaluate.tables import evidence_markdown, evidence_tables, row_order
from lsemvae.evaluate.truth import Truth
from lsemvae.formats.whole import write_whole
from lsemvae.report.blocks import Document, Section, TextTable, columns, estimate, number, percent
from lsemvae.report.html import html_page
from lsemvae.report.pdf import write_pdf
from lsemvae.train.run import write_json

TITLE: Final = "LS-EMVAE: evidence from held-out recordings"
HTML, PDF, MARKDOWN, FIGURES = "report.html", "report.pdf", "evidence-table.md", "figures.json"
CURVE_LABELS: Final[tuple[str, ...]] = ("RHS", "RBBB_any", "AFIB", "NORM")
PART_LABELS: Final[tuple[str, ...]] = ("RHS", "RBBB_any")
LATENT_NAMES: Final[tuple[str, ...]] = ("RHS", "RBBB", "NORM", "other")


@dataclass(frozen=True)
class ReportJob:
    """What to read and what to look at in depth.

    Attributes
    ----------
    data
        Folder with metadata.csv.
    predictions
        Folder of recorded predictions.
    extras
        Files, folders or patterns that `lsemvae.evaluate.extras` reads.
    reference, row, lead_set
        The row that others are compared with; the row and lead set shown in depth (`row` empty: the reference).
    """

    data: Path
    predictions: Path
    extras: tuple[Path, ...] = ()
    reference: str = "ls_emvae"
    row: str = ""
    lead_set: str = "6"
    n_bootstrap: int = N_BOOTSTRAP

    def command(self) -> str:
        """Return the command that makes the same report again."""
        words = ["lsemvae report --data DIR", f"--predictions {self.predictions}"]
        words += [f"--extras {place}" for place in self.extras]
        words += [f"--reference {self.reference}", *([f"--row {self.row}"] if self.row else [])]
        return " ".join([*words, f"--lead-set {self.lead_set}", "--out OUT"])


def write_report(job: ReportJob, out: Path) -> dict[str, Path]:
    """Write report.html, report.pdf, evidence-table.md and figures.json into `out`; return their paths by name."""
    extras = read_extras(job.extras)
    tables, folder = load_all(job.predictions), EcgFolder(job.data)
    evidence = gather(tables, folder, reference=job.reference, n_bootstrap=job.n_bootstrap)
    everything = gather(tables, folder, reference=job.reference, n_bootstrap=job.n_bootstrap, known_gain=False)
    row = job.row or job.reference
    detail = Detail(evidence, everything, row, job.lead_set, extras.outcomes)
    document = Document(TITLE, LABEL_STATEMENT, tuple(report_sections(detail, extras, command=job.command())))
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / name for name in (HTML, PDF, MARKDOWN, FIGURES)}
    write_whole(paths[HTML], html_page(document))
    write_pdf(paths[PDF], document)
    write_whole(paths[MARKDOWN], evidence_markdown(evidence, extras.expected or ()))
    write_json(paths[FIGURES], figures(evidence))
    return paths


def figures(evidence: Evidence, labels: Sequence[str] = TABLE_LABELS) -> dict[str, Any]:
    """Return AUROC, difference to the reference and twelve-minus-six gap of every row, as numbers for other programs."""

    def three(e: Estimate) -> list[float] | None:
        return None if np.isnan(e.value) else [round(v, 5) for v in (e.value, e.low, e.high)]

    rows: dict[str, Any] = {}
    for name in evidence.tables:
        found = {leads: {label: evidence.figure(name, leads, label) for label in labels} for leads in LEAD_SETS}
        rows[name] = {
            "auroc": {
                leads: {
                    label: {"n": f.n, "positives": f.positives, "value_low_high": three(f.auroc)}
                    for label, f in by_label.items()
                }
                for leads, by_label in found.items()
            },
            "minus_reference": {
                leads: {label: three(evidence.against_reference(name, leads, label).difference) for label in labels}
                for leads in LEAD_SETS
            },
            "twelve_minus_six": {label: three(evidence.twelve_minus_six(name, label).difference) for label in labels},
        }
    return {"label_statement": LABEL_STATEMENT, "reference": evidence.reference, "rows": rows}


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
        """Return those of `wanted` with enough of both answers to draw or to count."""
        return tuple(label for label in wanted if enough(self.scored(label)[0]))

    def scored(self, label: str, lead_set: str | None = None) -> Scored:
        """Return labels `[record]` and logits `[seed, record]` of the recordings that have both."""
        y, p = self.evidence.truth.of(label), self.evidence.scores(self.row, lead_set or self.lead_set, label)
        keep = finite(y, p) if len(p) else np.zeros(len(y), bool)
        return y[keep], p[:, keep]

    def calibrated(self, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `y`, cross-fitted Platt probabilities `[seed, record]`, and the weights of the recordings that have both."""
        y, logits = self.evidence.truth.of(label), self.evidence.scores(self.row, self.lead_set, label)
        group = self.evidence.groups(self.row)
        p = np.stack([crossfit(y, one, group, METHODS[SHIPPED]) for one in logits])
        keep = finite(y, p)
        return y[keep], p[:, keep], self.evidence.weights[:, keep]

    def operating(self, label: str, *, every_gain: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return uncalibrated probabilities and cross-fitted operating points, `[seed, record]` each, over all of the evidence."""
        evidence = self.everything if every_gain else self.evidence
        truth, p = evidence.truth, sigmoid(evidence.scores(self.row, self.lead_set, label))
        y = np.where(truth.gain_known, truth.of(label), np.nan)
        return p, np.stack([crossfit_thresholds(y, one, evidence.groups(self.row)) for one in p])

    def abstained(self, *, every_gain: bool = False) -> np.ndarray | None:
        """Return 1 where ABSTAIN, 0 where answered, NaN without an outcome or with ERROR, float `[record]`; None without outcomes."""
        if self.outcomes is None:
            return None
        value = {"ABSTAIN": 1.0, "DETECTED": 0.0, "NOT DETECTED": 0.0}
        uids = (self.everything if every_gain else self.evidence).truth.uid
        return np.array([value.get(self.outcomes.get(str(uid), ""), np.nan) for uid in uids])


def report_sections(detail: Detail, extras: Extras, *, command: str) -> list[Section]:
    """Return front page, evidence table, one row in depth, what the extras hold, limits."""
    evidence, truth = detail.evidence, detail.evidence.truth
    rows = row_order(evidence, extras.expected or ())
    absent = [row.name for row in rows if row.name not in evidence.tables]
    missing = [f"{name} ({KNOWN[name]})" for name in extras.missing()]
    not_run = (
        ", ".join(absent) + "."
        if absent
        else "no row of those expected."
        if extras.expected
        else "not known, as no expected.json is there."
    )
    front = [
        f"{len(truth.uid):,} recordings of known gain from {len(np.unique(truth.patient)):,} patients, {len(evidence.tables)} rows of "
        "recorded predictions; every recording is scored by a model that has not seen its fold. Reference row: "
        f"{evidence.reference}. In depth: {detail.row} on leads {detail.lead_set}.",
        f"Not run: {not_run}",
        "Not there: " + ("; ".join(missing) + "." if missing else "nothing."),
        *([f"Not used by this report: {', '.join(extras.unused)}."] if extras.unused else []),
        f"Made from recorded predictions with: {command}",
    ]
    stated = {label: truth.of(label) for label in truth.labels}
    readers = TextTable(
        "Labels: what readers stated",
        ("label", "statement", "recordings", "positive"),
        columns(
            [
                (label, DESCRIPTIONS.get(label, "-"), f"{int(np.isfinite(y).sum()):,}", str(int((y == 1).sum())))
                for label, y in stated.items()
            ]
        ),
    )
    few = [label for label, y in stated.items() if 0 < int((y == 1).sum()) < 30]
    limits = (
        "Labels are statements that readers made from the same ECG: a high figure shows that a model reads ECGs as readers do, "
        "not that it screens for pulmonary hypertension.",
        "Intervals are over patients of one collection; they say nothing of other devices, clinics or populations.",
        "Pooled AUROC ranks recordings scored by different fold models against each other, which can only blur it.",
        f"Fewer than 30 positives: {', '.join(few)}. Their intervals are wide, and a difference inside them is none."
        if few
        else "Every label has at least 30 positives.",
    )
    names = [row.name for row in rows if row.name in evidence.tables and row.name != evidence.reference]
    return [
        Section("What this is", tuple(front), (readers,)),
        Section("Evidence table", (), tuple(evidence_tables(evidence, extras.expected or ()))),
        *([_differences(evidence, names, detail.lead_set)] if names else []),
        *detail_sections(detail),
        *extra_sections(extras, truth),
        Section("Limits", limits),
    ]


def _differences(evidence: Evidence, names: Sequence[str], lead_set: str) -> Section:
    panels = {
        label: [(name, evidence.against_reference(name, lead_set, label).difference) for name in names]
        for label in (*PART_LABELS, "NORM")
    }
    plot = forest(
        panels,
        title=f"AUROC minus {evidence.reference} on leads {lead_set}",
        xlabel="difference (95 % interval)",
        alt=f"Points with intervals of every row's paired difference to {evidence.reference}; zero is no difference.",
        note="Orange: the interval excludes zero. Before correction for the number of comparisons.",
        zero=0.0,
    )
    return Section("Differences between rows", (), (plot,))


def detail_sections(detail: Detail) -> list[Section]:
    """Return every section about one row; a row that was not run on the lead set says so and nothing else."""
    labels = detail.labels()
    name = f"{detail.row} on leads {detail.lead_set}"
    if not labels:
        return [Section(f"In depth: {name}", ("Not run on this lead set, or too few positives of every label.",))]
    return [
        _discrimination(detail, labels, name),
        _calibration(detail, labels, name),
        _operating(detail, labels, name),
        _parts(detail, labels, name),
        _conformal(detail, labels, name),
    ]


def _discrimination(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    rows = []
    for label in labels:
        found = detail.evidence.figure(detail.row, detail.lead_set, label)
        precise, square, gap = _probability_figures(*detail.calibrated(label))
        counts = (f"{found.n:,}", str(found.positives))
        rows.append((label, *counts, estimate(found.auroc), estimate(precise), estimate(square, 4), number(gap, 4)))
    table = TextTable(
        f"Figures of {name}",
        ("label", "n", "positive", "AUROC", "AUPRC", "Brier", "ECE"),
        columns(rows),
        note="AUROC on pooled logits; AUPRC, Brier and ECE on cross-fitted Platt probabilities. AUPRC depends on the share of "
        "positives: a random score has that share.",
    )
    by_label: dict[str, dict[str, Scored]] = {}
    for label in (label for label in CURVE_LABELS if label in labels):
        by_leads = {leads: detail.scored(label, leads) for leads in LEAD_SETS}
        by_label[label] = {leads: scored for leads, scored in by_leads.items() if enough(scored[0])}
    plots = (roc_and_precision(by_label, row=detail.row),) if by_label else ()
    return Section(f"Discrimination: {name}", (), (*plots, table))


def _probability_figures(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> tuple[Estimate, Estimate, float]:
    """Return AUPRC and Brier score of probabilities `[seed, record]` with intervals, and their calibration error."""
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
            differences = (row.brier_difference, row.log_loss_difference)
            against = [estimate(e, 4, signed=True) if row.method != SHIPPED else "-" for e in differences]
            own = (estimate(row.brier, 4), number(row.ece, 4), estimate(row.log_loss, 4))
            rows.append((label, row.method, *own, *against, row.verdict))
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
    plots = []
    for label in (label for label in PART_LABELS if label in labels):
        y, p, w = detail.calibrated(label)
        raw, at = detail.operating(label)
        keep = finite(truth.of(label), raw)
        called = raw[:, keep] >= at[:, keep]
        plots.append(decision(label, (y, p), called, weights=w, row=detail.row, lead_set=detail.lead_set))
    return Section(f"Decisions: {name}", (), (*plots, table))


def _parts(detail: Detail, labels: tuple[str, ...], name: str) -> Section:
    by_label: dict[str, list[SubgroupRow]] = {}
    for label in (label for label in PART_LABELS if label in labels):
        known, everything = (
            subgroup_rows(
                evidence.truth,
                label,
                *detail.operating(label, every_gain=every_gain),
                weights=evidence.weights,
                abstained=detail.abstained(every_gain=every_gain),
            )
            for evidence, every_gain in ((detail.evidence, False), (detail.everything, True))
        )
        by_gain = [row for row in everything if row.kind == "gain"]
        by_label[label] = [row for row in known if row.kind != "gain"] + (by_gain if len(by_gain) > 1 else [])
    if not by_label:
        return Section(f"Parts: {name}", (f"Too few positives of {', '.join(PART_LABELS)}.",))
    plot = forest(
        {label: [(row.name, row.auroc) for row in rows] for label, rows in by_label.items()},
        title=f"AUROC of {name} by part of the recordings",
        xlabel="AUROC (95 % interval)",
        alt="Points with intervals for all, women, men, age bands and, where scored, gain.",
        note="A dash: fewer than five positives or negatives. No correction for looking at several parts.",
    )
    told = (
        "Abstention: share of ABSTAIN among outcomes of the exported bundles (cv-predictions.csv), not of this row."
        if detail.outcomes is not None
        else "Abstention: not there (cv-predictions.csv)."
    )
    tables = []
    for label, rows in by_label.items():
        axis = " Negatives with a stated axis only." if label in NEEDS_STATED_AXIS else ""
        gains = "" if any(r.kind == "gain" for r in rows) else " No recording of unknown gain was scored."
        cells = [
            (
                r.name,
                f"{r.n:,}",
                str(r.positives),
                *map(estimate, (r.auroc, r.sensitivity, r.specificity)),
                percent(r.abstained),
            )
            for r in rows
        ]
        headers = ("part", "n", "positive", "AUROC", "sensitivity", "specificity", "abstained")
        tables.append(TextTable(f"{label} by part: {name}", headers, columns(cells), note=told + axis + gains))
    return Section(f"Parts: {name}", (), (plot, *tables))


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


def extra_sections(extras: Extras, truth: Truth) -> list[Section]:
    """Return a section for each extra that another command records; where it is not there, the section says so."""
    size, shared, reproduced = "Size and speed", "Shared latent", "Decoder"

    def not_there(title: str, name: str) -> Section:
        return Section(title, (f"Not there: {name} ({KNOWN[name]}).",))

    sections = [not_there(size, "pareto.json"), not_there(shared, "latent.npz"), not_there(reproduced, "decoder.json")]
    if extras.pareto is not None:
        labels = [label for label in PART_LABELS if any(label in row.auroc for row in extras.pareto)]
        rows = []
        for row in extras.pareto:
            aurocs = [row.auroc.get(label) for label in labels]
            rows.append(
                (
                    row.name,
                    f"{row.n_parameters:,}" if row.n_parameters else "-",
                    f"{row.int8_kib:,.0f}" if row.int8_kib else "-",
                    f"{row.latency_ms:.2f}" if row.latency_ms else "-",
                    *("-" if e is None else f"{e.value:.3f}\n({e.low:.3f} to {e.high:.3f})" for e in aurocs),
                )
            )
        headers = ("model", "parameters", "INT8 KiB", "latency ms", *(f"AUROC {label}" for label in labels))
        plots = (pareto(extras.pareto, labels),) if labels else ()
        sections[0] = Section(size, (), (*plots, TextTable("Models by size", headers, columns(rows))))
    if extras.latent is not None:
        found, category = latent_categories(extras.latent, truth)
        few = f"latent.npz: {len(found.uid)} of its recordings are among these; too few for a figure."
        enough_points = len(found.uid) >= 3
        sections[1] = (
            Section(shared, (), (latent(found, category, LATENT_NAMES),)) if enough_points else Section(shared, (few,))
        )
    if extras.decoder:
        sections[2] = Section(reproduced, (), (decoder(extras.decoder),))
    return sections


def latent_categories(found: Latent, truth: Truth) -> tuple[Latent, np.ndarray]:
    """Return the summaries whose recordings are in `truth`, and the category of each: RHS, else RBBB, else NORM, else other."""
    at = {str(uid): k for k, uid in enumerate(truth.uid)}
    keep = np.array([str(uid) in at for uid in found.uid], dtype=bool)
    rows = np.array([at[str(uid)] for uid in found.uid[keep]], dtype=int)
    category = np.full(len(rows), len(LATENT_NAMES) - 1)
    for k, label in reversed(list(enumerate(("RHS", "RBBB_any", "NORM")))):
        category[truth.of(label)[rows] == 1] = k
    return Latent(found.uid[keep], found.twelve[keep], found.six[keep]), category
