"""The evidence table: AUROC of every row by lead set, differences to the reference, what the chest leads add."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.delong import holm
from lsemvae.evaluate.evidence import TABLE_LABELS, Evidence
from lsemvae.evaluate.predictions import LEAD_SETS
from lsemvae.report.blocks import MISSING, TextTable, columns, estimate, number

NOT_RUN = "not run"
SIGNIFICANT = 0.05
LEAD_SET_NAMES = {
    "12": "twelve leads",
    "6": "six limb leads",
    "I+II": "leads I and II",
    "I": "lead I",
}


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """A row that the table should have."""

    name: str
    group: str = ""
    title: str = ""


def rules(evidence: Evidence) -> str:
    """Return how to read the figures."""
    return (
        f"AUROC: mean over seeds; 95 % interval from {len(evidence.weights):,} bootstrap samples of patients (of the seeds' mean, "
        "so it says nothing of other seeds). A dash: fewer than five positives or negatives, or not run for this lead set. "
        "Recordings of known gain; RHS negatives only where an axis was stated."
    )


def expected_rows(values: Any) -> tuple[ExpectedRow, ...]:
    """Return rows from JSON: a list of names, or of objects with `name` and, if there, `group` and `title`."""
    if not isinstance(values, list):
        raise FormatError(f"found {type(values).__name__}, expected a list of row names", advice="Correct the list.")
    rows = []
    for value in values:
        entry = {"name": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise FormatError(
                f"found {value!r}, expected a row name or an object with name", advice="Correct the list."
            )
        rows.append(ExpectedRow(entry["name"], str(entry.get("group", "")), str(entry.get("title", ""))))
    return tuple(rows)


def row_order(evidence: Evidence, expected: Sequence[ExpectedRow] = ()) -> tuple[ExpectedRow, ...]:
    """Return the reference, then expected rows in their order, then the others by group and name."""
    known = {row.name: row for row in expected}
    for name, table in evidence.tables.items():
        stated = known.get(name, ExpectedRow(name))
        known[name] = ExpectedRow(
            name, stated.group or str(table.about.get("group", "")), stated.title or str(table.about.get("title", ""))
        )
    named = [row.name for row in expected]
    others = sorted((row.group, row.name) for row in known.values() if row.name not in named)
    order = [evidence.reference, *named, *(name for _, name in others)]
    return tuple(known[name] for name in dict.fromkeys(order))


def row_table(evidence: Evidence, rows: Sequence[ExpectedRow]) -> TextTable:
    """Return what each row is: group, title, parameters, budget, seeds, recordings, time, code."""
    cells, notes = [], []
    for row in rows:
        table = evidence.tables.get(row.name)
        if table is None:
            cells.append((row.name, row.group or MISSING, row.title or MISSING, *[NOT_RUN] * 6))
            continue
        about, known = table.about, int(np.isin(table.uid, evidence.truth.uid).sum())
        count, budget = about.get("n_parameters"), about.get("budget")
        if isinstance(budget, Mapping):
            budget = ", ".join(f"{k} {v}" for k, v in budget.items())
        cells.append(
            (
                row.name,
                row.group or MISSING,
                row.title or MISSING,
                f"{count:,}" if isinstance(count, int) else MISSING,
                MISSING if budget in (None, "") else str(budget),
                ", ".join(map(str, table.seeds)),
                f"{known:,}",
                _minutes(about),
                str(about.get("git_revision") or MISSING)[:12],
            )
        )
        if note := about.get("note"):
            notes.append(f"{row.name}: {note}" if str(note).endswith(".") else f"{row.name}: {note}.")
    headers = ("row", "group", "what it is", "parameters", "budget", "seeds", "recordings", "minutes a fold", "code")
    return TextTable("Rows", headers, columns(cells), note=" ".join(notes))


def auroc_table(
    evidence: Evidence, rows: Sequence[ExpectedRow], lead_set: str, labels: Sequence[str] = TABLE_LABELS
) -> TextTable:
    """Return AUROC with interval of every row under one lead set; positives stand under the label."""
    cells: list[tuple[str, ...]] = []
    for row in rows:
        if row.name not in evidence.tables:
            cells.append((row.name, *[NOT_RUN] * len(labels)))
            continue
        cells.append((row.name, *(estimate(evidence.figure(row.name, lead_set, label).auroc) for label in labels)))
    counted = [evidence.figure(evidence.reference, lead_set, label).positives for label in labels]
    headers = ("row", *(f"{label}\n(n+ = {n})" for label, n in zip(labels, counted, strict=True)))
    return TextTable(f"AUROC, {LEAD_SET_NAMES.get(lead_set, lead_set)}", headers, columns(cells), note=rules(evidence))


def difference_table(
    evidence: Evidence, rows: Sequence[ExpectedRow], lead_set: str, labels: Sequence[str] = TABLE_LABELS
) -> TextTable:
    """Return the paired difference of every row to the reference with its verdict, Holm-corrected over the whole table."""
    run = [row.name for row in rows if row.name in evidence.tables and row.name != evidence.reference]
    found = {(name, label): evidence.against_reference(name, lead_set, label) for name in run for label in labels}
    adjusted = dict(zip(found, holm(np.array([c.p_value for c in found.values()])), strict=True))
    cells: list[tuple[str, ...]] = []
    for row in rows:
        if row.name == evidence.reference:
            continue
        if row.name not in evidence.tables:
            cells.append((row.name, *[NOT_RUN] * len(labels)))
            continue
        texts = []
        for label in labels:
            comparison, p = found[row.name, label], adjusted[row.name, label]
            text = estimate(comparison.difference, signed=True)
            mark = "*" if comparison.verdict != "none" and p < SIGNIFICANT else ""
            texts.append(text if text == MISSING else f"{text}\n{comparison.verdict}{mark}")
        cells.append((row.name, *texts))
    members = sum(math.isfinite(p) for p in adjusted.values())
    return TextTable(
        f"AUROC minus {evidence.reference}, {LEAD_SET_NAMES.get(lead_set, lead_set)}",
        ("row", *labels),
        columns(cells),
        note="Paired on the same resampled patients; better or worse only where the 95 % interval excludes zero, else none. "
        f"An asterisk: DeLong's p value stays below {SIGNIFICANT} after Holm's correction over the {members} comparisons here.",
    )


def gap_table(evidence: Evidence, rows: Sequence[ExpectedRow], labels: Sequence[str] = TABLE_LABELS) -> TextTable:
    """Return twelve leads minus six, of every row that was run with both."""
    cells: list[tuple[str, ...]] = []
    for row in rows:
        if row.name not in evidence.tables:
            cells.append((row.name, *[NOT_RUN] * len(labels)))
            continue
        gaps = (evidence.twelve_minus_six(row.name, label).difference for label in labels)
        cells.append((row.name, *(estimate(gap, signed=True) for gap in gaps)))
    return TextTable(
        "AUROC with twelve leads minus AUROC with six",
        ("row", *labels),
        columns(cells),
        note="Paired on the same resampled patients. An interval that includes zero is no gap.",
    )


def seed_table(
    evidence: Evidence, rows: Sequence[ExpectedRow], lead_set: str, labels: Sequence[str] = TABLE_LABELS
) -> TextTable:
    """Return the standard deviation of the AUROC between seeds, of every row with at least two."""
    cells = [
        (row.name, *(number(evidence.figure(row.name, lead_set, label).seed_sd, 4) for label in labels))
        for row in rows
        if row.name in evidence.tables
    ]
    title = f"Standard deviation of the AUROC between seeds, {LEAD_SET_NAMES.get(lead_set, lead_set)}"
    return TextTable(title, ("row", *labels), columns(cells), note="A dash: one seed.")


def evidence_tables(evidence: Evidence, expected: Sequence[ExpectedRow] = ()) -> list[TextTable]:
    """Return every table of the evidence, in the order they are read."""
    rows = row_order(evidence, expected)
    return [
        row_table(evidence, rows),
        *(auroc_table(evidence, rows, lead_set) for lead_set in LEAD_SETS),
        *(difference_table(evidence, rows, lead_set) for lead_set in LEAD_SETS if len(rows) > 1),
        gap_table(evidence, rows),
        seed_table(evidence, rows, "12"),
        seed_table(evidence, rows, "6"),
    ]


def evidence_markdown(evidence: Evidence, expected: Sequence[ExpectedRow] = ()) -> str:
    """Return the evidence table as Markdown; its first line says what the labels are."""
    parts = [f"**{LABEL_STATEMENT}**", "# Evidence table", *(t.markdown() for t in evidence_tables(evidence, expected))]
    return "\n\n".join(parts) + "\n"


def _minutes(about: Mapping[str, Any]) -> str:
    """Return the mean minutes of training a fold group, from a number, a list or an object of seconds."""
    found = about.get("seconds_per_fold", about.get("seconds"))
    values = list(found.values()) if isinstance(found, Mapping) else found if isinstance(found, list) else [found]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return f"{np.mean(numbers) / 60:.1f}" if numbers else MISSING
