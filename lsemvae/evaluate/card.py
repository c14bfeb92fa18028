"""The model card: what the model is, what its labels are and are not, and figures that anyone can recompute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsemvae.data.labels import DESCRIPTIONS, PRIMARY_NAME

LABEL_STATEMENT = (
    "Labels are statements made by ECG readers about the same ECG (right-heart strain: RVH, right atrial enlargement "
    "or right axis deviation); they are not pulmonary hypertension and not an echo or catheter finding."
)
INTENDED_USE = (
    "Research use. Flags six-lead ECGs that show what readers call right-heart strain, for review by a clinician. "
    "Not a diagnosis; a negative result rules nothing out."
)
NOT_FOR = ("diagnosis", "paced rhythm", "persons under 18", "emergency decisions")
DATA_LICENCE = "Apache-2.0 (code and weights); trained on PTB-XL 1.0.3, CC BY 4.0"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything the card says that is not fixed text."""

    version: str
    n_parameters: int
    n_train: int
    n_patients: int
    rows: Sequence[Mapping[str, Any]]  # metrics.LabelReport.to_dict, held-out INT8 predictions
    floor: Mapping[str, Mapping[str, Any]]  # label -> {"auroc": [..], "difference": [..]}
    outcomes: Mapping[str, int]
    teacher_rows: Sequence[Mapping[str, Any]]
    command: str
    cv_folds: Sequence[Sequence[int]]
    data_sha256: str


def _three(values: Sequence[float | None] | None) -> str:
    if not values or values[0] is None:
        return "-"
    value, low, high = values
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _results(facts: CardFacts) -> list[str]:
    lines = [
        "| output | what a reader stated | n | positive | AUROC, INT8 (95 % CI) | logistic floor | INT8 minus floor |"
        " AUPRC | Brier | ECE | sensitivity | specificity |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in facts.rows:
        label = str(row["label"])
        floor = facts.floor.get(_floor_key(row), {})
        name = label + ("" if row.get("negatives") == "all" else ", negatives with a stated axis only")
        lines.append(
            f"| {name} | {DESCRIPTIONS[label]} | {row['n']} | {row['positives']} | {_three(row['auroc'])} |"
            f" {_three(floor.get('auroc'))} | {_three(floor.get('difference'))} | {_number(row['auprc'])} |"
            f" {_number(row['brier'], 4)} | {_number(row['ece'])} | {_three(row['sensitivity'])} | {_three(row['specificity'])} |"
        )
    return lines


def _floor_key(row: Mapping[str, Any]) -> str:
    return f"{row['label']}/{row.get('negatives', 'all')}"


def _teacher(facts: CardFacts) -> list[str]:
    lines = ["| label | leads | n | positive | AUROC (95 % CI) |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {r['label']} | {r['leads']} | {r['n']} | {r['positives']} | {_three(r['auroc'])} |"
        for r in facts.teacher_rows
    ]
    return lines


def _outcomes(facts: CardFacts) -> str:
    total = max(1, sum(facts.outcomes.values()))
    return ", ".join(f"{name} {count} ({100 * count / total:.1f} %)" for name, count in facts.outcomes.items())


def render_card(facts: CardFacts) -> str:
    """The card as Markdown; its first line of text is the label statement, before anything else can be read."""
    folds = ", ".join("{" + ", ".join(map(str, group)) + "}" for group in facts.cv_folds)
    head = [
        f"**{LABEL_STATEMENT}**",
        "",
        f"# lsemvae student {facts.version}: `{PRIMARY_NAME}` from leads I and II",
        "",
        f"- Intended use: {INTENDED_USE}",
        f"- Not for: {', '.join(NOT_FOR)}.",
        f"- Licence: {DATA_LICENCE}.",
        "- Input: I and II in mV, 250 Hz, 10 s, through the front-end in the manifest. III, aVR, aVL and aVF are sums of I and II"
        " and carry nothing more.",
        f"- Model: {facts.n_parameters:,} parameters, INT8 encoder, float head; distilled from a twelve-lead LS-EMVAE.",
        f"- Trained on {facts.n_train:,} recordings of {facts.n_patients:,} patients (PTB-XL folds 1-9, part of them limb leads with"
        f" unknown gain). Data SHA-256 `{facts.data_sha256[:16]}`.",
        "",
        "## Held-out results on reader statements (not pulmonary hypertension)",
        "",
        f"Cross-validation over patient-disjoint groups of folds {folds}: three INT8 models, each scoring the third it has not seen,"
        " with pooled predictions. The shipped model has the same recipe and all nine folds; no recording is left to score it on here.",
        "Calibration and operating points (90 % specificity) were fitted on the fp32 models' pooled held-out predictions, so Brier,"
        " ECE, sensitivity and specificity are slightly favourable; AUROC is untouched by them (up to the pooling of three models)."
        " One seed. Intervals: 1,000 bootstrap samples of patients.",
        "",
        *_results(facts),
        "",
        "The floor is a logistic regression on nine hand features of the limb leads plus age and sex, same folds. A difference whose"
        " interval includes zero is none.",
        "",
        f"Outcomes at the operating point: {_outcomes(facts)}.",
        "",
        "![ROC and calibration of held-out predictions](curves.png)",
        "",
        "## The teacher, by lead set (fp32, same folds)",
        "",
        *_teacher(facts),
        "",
        "## Limits",
        "",
        "- PTB-XL was recorded between 1989 and 1996 with one maker's devices (Wagner 2020), 10 s at rest.",
        "  A handheld recording in a clinic is seated and noisier: expect more abstentions and worse figures.",
        "- Right-heart positives are few: the intervals above are wide.",
        "- Readers saw twelve leads; V1-V3 look at the right ventricle, and limb leads cannot replace them.",
        "",
        "## How to recompute these numbers",
        "",
        "```",
        facts.command,
        "```",
        "",
    ]
    return "\n".join(head)
