"""The model card: what the model is, what its labels are and are not, and figures that anyone can recompute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsemvae.data.labels import DESCRIPTIONS, PRIMARY_NAME
from lsemvae.report.html import markdown

LABEL_STATEMENT = (
    "Labels are statements made by ECG readers about the same ECG (right-heart strain: RVH, right atrial enlargement "
    "or right axis deviation); they are not pulmonary hypertension and not an echo or catheter finding."
)
INTENDED_USE = (
    "Research use. Flags six-lead ECGs that show what readers call right-heart strain, for review by a clinician. "
    "Not a diagnosis; a negative result rules nothing out."
)
# For a model of labels that this toolkit does not know.
OWN_USE = (
    "Research use. Puts out what the owner of the training data labelled, for review by a clinician. "
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


def render_card(facts: CardFacts) -> str:
    """Return the card as Markdown; its first line of text is the label statement, before anything else can be read."""
    return markdown(
        "card.md",
        facts=facts,
        statement=LABEL_STATEMENT,
        primary=PRIMARY_NAME,
        intended_use=INTENDED_USE,
        not_for=NOT_FOR,
        licence=DATA_LICENCE,
        descriptions=DESCRIPTIONS,
    )
