"""The report from front to back as sections; how they look is left to `report_html` and `report_pdf`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lsemvae.data.labels import DESCRIPTIONS
from lsemvae.evaluate.evidence import Evidence
from lsemvae.evaluate.plots_rows import decoder, forest, latent, pareto
from lsemvae.evaluate.report_detail import PART_LABELS, Detail, detail_sections
from lsemvae.evaluate.report_extras import KNOWN, Extras, Latent
from lsemvae.evaluate.tables import ExpectedRow, evidence_tables, row_order
from lsemvae.evaluate.truth import Truth
from lsemvae.report.blocks import Plot, Section, TextTable, columns

LATENT_NAMES = ("RHS", "RBBB", "NORM", "other")


def report_sections(detail: Detail, extras: Extras, *, command: str) -> list[Section]:
    """Front page, evidence table, one row in depth, what the extras hold, limits."""
    evidence = detail.evidence
    rows = row_order(evidence, extras.expected or ())
    return [
        _front(detail, extras, rows, command),
        Section("Evidence table", (), tuple(evidence_tables(evidence, extras.expected or ()))),
        *_differences(evidence, rows, detail.lead_set),
        *detail_sections(detail),
        _size_and_speed(extras),
        _latent(extras, evidence.truth),
        _decoder(extras),
        _limits(evidence.truth),
    ]


def _front(detail: Detail, extras: Extras, rows: Sequence[ExpectedRow], command: str) -> Section:
    truth, tables = detail.evidence.truth, detail.evidence.tables
    absent = [row.name for row in rows if row.name not in tables]
    missing = [f"{name} ({KNOWN[name]})" for name in extras.missing()]
    prose = [
        f"{len(truth.uid):,} recordings of known gain from {len(np.unique(truth.patient)):,} patients, {len(tables)} rows of recorded "
        f"predictions; every recording is scored by a model that has not seen its fold. Reference row: {detail.evidence.reference}. "
        f"In depth: {detail.row} on leads {detail.lead_set}.",
        "Not run: "
        + (
            ", ".join(absent) + "."
            if absent
            else "no row of those expected."
            if extras.expected
            else "not known, as no expected.json is there."
        ),
        "Not there: " + ("; ".join(missing) + "." if missing else "nothing."),
        f"Made from recorded predictions with: {command}",
    ]
    if extras.unused:
        prose.insert(3, f"Not used by this report: {', '.join(extras.unused)}.")
    return Section("What this is", tuple(prose), (_labels(truth),))


def _labels(truth: Truth) -> TextTable:
    rows = []
    for label in truth.labels:
        y = truth.of(label)
        rows.append((label, DESCRIPTIONS.get(label, "-"), f"{int(np.isfinite(y).sum()):,}", str(int((y == 1).sum()))))
    return TextTable("Labels: what readers stated", ("label", "statement", "recordings", "positive"), columns(rows))


def _differences(evidence: Evidence, rows: Sequence[ExpectedRow], lead_set: str) -> list[Section]:
    names = [row.name for row in rows if row.name in evidence.tables and row.name != evidence.reference]
    if not names:
        return []
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
    return [Section("Differences between rows", (), (plot,))]


def _size_and_speed(extras: Extras) -> Section:
    title = "Size and speed"
    if extras.pareto is None:
        return _not_there(title, "pareto.json")
    labels = [label for label in PART_LABELS if any(label in row.auroc for row in extras.pareto)]
    rows = [
        (
            row.name,
            f"{row.n_parameters:,}" if row.n_parameters else "-",
            f"{row.int8_kib:,.0f}" if row.int8_kib else "-",
            f"{row.latency_ms:.2f}" if row.latency_ms else "-",
            *(
                f"{row.auroc[k].value:.3f}\n({row.auroc[k].low:.3f} to {row.auroc[k].high:.3f})"
                if k in row.auroc
                else "-"
                for k in labels
            ),
        )
        for row in extras.pareto
    ]
    headers = ("model", "parameters", "INT8 KiB", "latency ms", *(f"AUROC {label}" for label in labels))
    table = TextTable("Models by size", headers, columns(rows))
    plots: tuple[Plot, ...] = (pareto(extras.pareto, labels),) if labels else ()
    return Section(title, (), (*plots, table))


def latent_categories(found: Latent, truth: Truth) -> tuple[Latent, np.ndarray]:
    """The summaries whose recordings are in `truth`, and the category of each: RHS, else RBBB, else NORM, else other."""
    at = {str(uid): k for k, uid in enumerate(truth.uid)}
    keep = np.array([str(uid) in at for uid in found.uid], dtype=bool)
    rows = np.array([at[str(uid)] for uid in found.uid[keep]], dtype=int)
    category = np.full(len(rows), len(LATENT_NAMES) - 1)
    for k, label in reversed(list(enumerate(("RHS", "RBBB_any", "NORM")))):
        category[truth.of(label)[rows] == 1] = k
    return Latent(found.uid[keep], found.twelve[keep], found.six[keep]), category


def _latent(extras: Extras, truth: Truth) -> Section:
    title = "Shared latent"
    if extras.latent is None:
        return _not_there(title, "latent.npz")
    found, category = latent_categories(extras.latent, truth)
    if len(found.uid) < 3:
        return Section(
            title, (f"latent.npz: {len(found.uid)} of its recordings are among these; too few for a figure.",)
        )
    return Section(title, (), (latent(found, category, LATENT_NAMES),))


def _decoder(extras: Extras) -> Section:
    title = "Decoder"
    return Section(title, (), (decoder(extras.decoder),)) if extras.decoder else _not_there(title, "decoder.json")


def _not_there(title: str, name: str) -> Section:
    return Section(title, (f"Not there: {name} ({KNOWN[name]}).",))


def _limits(truth: Truth) -> Section:
    few = [label for label in truth.labels if 0 < int((truth.of(label) == 1).sum()) < 30]
    return Section(
        "Limits",
        (
            "Labels are statements that readers made from the same ECG: a high figure shows that a model reads ECGs as readers do, "
            "not that it screens for pulmonary hypertension.",
            "Intervals are over patients of one collection; they say nothing of other devices, clinics or populations.",
            "Pooled AUROC ranks recordings scored by different fold models against each other, which can only blur it.",
            (f"Fewer than 30 positives: {', '.join(few)}. Their intervals are wide, and a difference inside them is none." if few
             else "Every label has at least 30 positives."),
        ),
    )  # fmt: skip
