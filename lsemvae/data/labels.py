"""Which reader statements are learned, and where a missing statement is not a negative.

None of these labels is pulmonary hypertension: each is a statement that a reader made from the same ECG.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lsemvae.data.cells import number, refused

PRIMARY_LABEL = "RHS"
"""RVH or RAE or right axis deviation, stated by a reader: the output `right_heart_strain`."""
PRIMARY_NAME = "right_heart_strain"

LABELS: tuple[str, ...] = (
    "RHS",
    "RVH",
    "RAE",
    "RAD",
    "CRBBB",
    "IRBBB",
    "RBBB_any",
    "LVH",
    "LAE",
    "CLBBB",
    "MI",
    "AFIB",
    "NORM",
)

DESCRIPTIONS: Mapping[str, str] = {
    "RHS": "right-heart-strain statement of an ECG reader: RVH, or right atrial enlargement, or right axis deviation",
    "RVH": "right ventricular hypertrophy statement",
    "RAE": "right atrial enlargement or overload statement",
    "RAD": "right or extreme right axis statement",
    "CRBBB": "complete right bundle branch block statement",
    "IRBBB": "incomplete right bundle branch block statement",
    "RBBB_any": "complete or incomplete right bundle branch block statement",
    "LVH": "left ventricular hypertrophy statement",
    "LAE": "left atrial enlargement statement",
    "CLBBB": "complete left bundle branch block statement",
    "MI": "myocardial infarction statement",
    "AFIB": "atrial fibrillation or flutter statement",
    "NORM": "normal ECG statement",
}

NEEDS_STATED_AXIS = frozenset({"RHS"})
"""A right-heart negative counts only where the reader stated an axis: elsewhere nobody looked (the data's README)."""


def metadata_column(label: str) -> str:
    """The column of a label in a folder's metadata: `RHS` -> `y_RHS`."""
    return "y_" + label


def prediction_column(label: str) -> str:
    """The column of a label's probability in a table of predictions: `RHS` -> `p_RHS`."""
    return "p_" + label


def label_values(row: Mapping[str, str], labels: tuple[str, ...] = LABELS) -> np.ndarray:
    """One metadata row as float32 `[label]`: 1, 0, or NaN where the statement is missing or was never looked for."""
    axis_stated = bool(row.get("heart_axis"))
    values = [stated(row, label) for label in labels]
    unread = [
        not axis_stated and label in NEEDS_STATED_AXIS and y == 0.0 for label, y in zip(labels, values, strict=True)
    ]
    return np.where(unread, np.nan, values).astype(np.float32)


def stated(row: Mapping[str, str], label: str) -> float:
    """What the column of a label says: 1, 0, or NaN where it is empty; anything else is a FormatError."""
    value = number(row, metadata_column(label))
    if not math.isnan(value) and value not in (0.0, 1.0):
        raise refused(row, metadata_column(label), "1, 0 or nothing")
    return value
