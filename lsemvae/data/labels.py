"""Binary labels: the findings that a model learns to call, the rule behind each, and when an empty cell is no negative.

`LABELS` are the built-in ones, the reader statements of the development recordings. None of them is pulmonary
hypertension: each is a statement that a reader made from the same ECG. A cohort (`lsemvae.data.cohort`) brings its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lsemvae.data.cells import is_missing, number, refused
from lsemvae.data.rules import Flag, Quantity, Range, Row, Rule, rule_from_json, rule_to_json

# RVH or RAE or right axis deviation, stated by a reader: the output `right_heart_strain`.
PRIMARY_LABEL: Final = "RHS"
PRIMARY_NAME: Final = "right_heart_strain"

LABELS: Final[tuple[str, ...]] = (
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

DESCRIPTIONS: Final[Mapping[str, str]] = {
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

# A right-heart negative counts only where the reader stated an axis: elsewhere nobody looked (the data's README).
NEEDS_STATED_AXIS: Final = frozenset({"RHS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One binary task.

    Attributes
    ----------
    name, description
        What it is called, and what a 1 means, in words for a card.
    quantity, rule
        The columns it is made of, and what makes 1 or 0 of them.
    limits
        Plausible range of the quantity, for a rule that compares.
    measured
        A column: where it is empty nothing was measured, whatever `quantity` holds.
    negative_needs
        A column: where it is empty, nobody looked for the finding, and a 0 does not count.
    among
        Another label: the task is defined only where that one is 1.
    threshold_of
        The measure whose quantity, mask and range it took over; for the card.
    """

    name: str
    quantity: Quantity
    rule: Rule
    description: str
    limits: Range | None = None
    measured: str = ""
    negative_needs: str = ""
    among: str = ""
    threshold_of: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return (*self.quantity.columns, *filter(None, (self.measured, self.negative_needs)))

    def own_value(self, row: Row) -> float:
        """Return 1, 0 or NaN by its own columns; the task set applies `among`."""
        if self.measured and is_missing(row, self.measured):
            return math.nan
        if self.limits is not None:
            self.limits.check(row, self.quantity, self.quantity.value(row))
        found = self.rule.value(row, self.quantity)
        unread = self.negative_needs and found == 0.0 and is_missing(row, self.negative_needs)
        return math.nan if unread else found

    def to_json(self) -> dict[str, Any]:
        """Return the label as JSON-able data."""
        limits = None if self.limits is None else [self.limits.low, self.limits.high, self.limits.unit]
        texts = {key: getattr(self, key) for key in _TEXTS}
        return texts | {"quantity": self.quantity.to_json(), "rule": rule_to_json(self.rule), "range": limits}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Label:
        """Return the label that `to_json` wrote."""
        low_high_unit = data["range"]
        return cls(
            quantity=Quantity.from_json(data["quantity"]),
            rule=rule_from_json(data["rule"]),
            limits=None if low_high_unit is None else Range(*low_high_unit),
            **{key: str(data[key]) for key in _TEXTS},
        )


_TEXTS: Final = ("name", "description", "measured", "negative_needs", "among", "threshold_of")


def metadata_column(label: str) -> str:
    """Return the column of a label in a folder's metadata: `RHS` -> `y_RHS`."""
    return "y_" + label


def prediction_column(label: str) -> str:
    """Return the column of a label's probability in a table of predictions: `RHS` -> `p_RHS`."""
    return "p_" + label


def statement(name: str) -> Label:
    """Return a built-in reader statement as a task on a folder's metadata."""
    return Label(
        name=name,
        quantity=Quantity.of(metadata_column(name)),
        rule=Flag(),
        description=DESCRIPTIONS.get(name, name),
        negative_needs="heart_axis" if name in NEEDS_STATED_AXIS else "",
    )


def label_values(row: Mapping[str, str], labels: tuple[str, ...] = LABELS) -> np.ndarray:
    """Return one metadata row as float32 `[label]`: 1, 0, or NaN where nobody stated the finding or looked for it."""
    return np.array([statement(name).own_value(row) for name in labels], np.float32)


def stated(row: Mapping[str, str], label: str) -> float:
    """Return what the column of a label says: 1, 0, or NaN where it is empty; anything else is a FormatError."""
    value = number(row, metadata_column(label))
    if not math.isnan(value) and value not in (0.0, 1.0):
        raise refused(row, metadata_column(label), "1, 0 or nothing")
    return value
