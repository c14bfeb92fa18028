"""How the cells of one row become a number (a quantity) or a class: the rules that give 1, 0 or NaN.

A cell that is empty is NaN in every rule. No rule turns what is missing into a negative.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from lsemvae.data.cells import is_missing, number, refused
from lsemvae.ecg.errors import FormatError

Row = Mapping[str, str]
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)
_BOUND: Final = re.compile(r"\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*")
_TRUTHS: Final[Mapping[str, float]] = MappingProxyType(
    {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}
)
# In place of a list of negatives: every text that is not among the positives.
OTHERS: Final = "others"


@dataclass(frozen=True, slots=True)
class Quantity:
    """`intercept` plus the sum of columns times their factors; NaN where one of the columns is empty.

    One column with factor 1 is that column itself; `PASP = TR gradient + right atrial pressure` has two.
    """

    terms: tuple[tuple[str, float], ...]
    intercept: float = 0.0

    @classmethod
    def of(cls, column: str) -> Quantity:
        """Return the quantity that is one column as it stands."""
        return cls(((column, 1.0),))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return tuple(column for column, _ in self.terms)

    @property
    def text(self) -> str:
        """As a person would write it."""
        if self.is_column:
            return self.columns[0]
        parts = [f"{self.intercept:g}"] if self.intercept else []
        return " + ".join([*parts, *(f"{factor:g} * {column}" for column, factor in self.terms)])

    @property
    def is_column(self) -> bool:
        """Whether it is one column as it stands."""
        return len(self.terms) == 1 and self.intercept == 0.0 and self.terms[0][1] == 1.0

    def value(self, row: Row) -> float:
        """Return the value in a row, or NaN."""
        if self.is_column:
            return number(row, self.columns[0])
        return self.intercept + math.fsum(factor * number(row, column) for column, factor in self.terms)

    def to_json(self) -> dict[str, Any]:
        """Return the quantity as JSON-able data."""
        return {"terms": [list(term) for term in self.terms], "intercept": self.intercept}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quantity:
        """Return the quantity that `to_json` wrote."""
        return cls(tuple((str(column), float(factor)) for column, factor in data["terms"]), float(data["intercept"]))


@dataclass(frozen=True, slots=True)
class Range:
    """Lowest and highest plausible value, both allowed: outside lies a wrong unit or a wrong cell, not a patient."""

    low: float
    high: float
    unit: str = ""

    def check(self, row: Row, quantity: Quantity, value: float) -> float:
        """Return the value itself (NaN passes); FormatError where it is not plausible."""
        if math.isnan(value) or self.low <= value <= self.high:
            return value
        expected = f"{self.low:g} to {self.high:g} {self.unit}".rstrip()
        if quantity.is_column:
            raise refused(row, quantity.columns[0], expected)
        raise FormatError(f"{row.get('uid', '?')}: found {quantity.text} = {value:g}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Flag:
    """A column of 1 and 0 (or true and false)."""

    text = "1"

    def value(self, row: Row, quantity: Quantity) -> float:
        """Return 1, 0, or NaN where the cell is empty; anything else is refused."""
        column = quantity.columns[0]
        if is_missing(row, column):
            return math.nan
        found = _TRUTHS.get((row.get(column) or "").strip().lower())
        if found is None:
            raise refused(row, column, "1, 0 or nothing")
        return found


@dataclass(frozen=True, slots=True)
class Bound:
    """A comparison with a number: `> 20`."""

    sign: str
    limit: float

    @property
    def text(self) -> str:
        """The comparison as it is written in a cohort file."""
        return f"{self.sign}{self.limit:.15g}"

    def value(self, row: Row, quantity: Quantity) -> float:
        """Return 1 where the comparison holds, 0 where not, NaN where there is nothing to compare."""
        found = quantity.value(row)
        return math.nan if math.isnan(found) else float(_COMPARE[self.sign](found, self.limit))


@dataclass(frozen=True, slots=True)
class Words:
    """Texts that are positive and texts that are negative; empty `negative`: every other text."""

    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Both lists in words."""
        return f"{', '.join(self.positive)} against {', '.join(self.negative) or 'every other value'}"

    def value(self, row: Row, quantity: Quantity) -> float:
        """Return 1, 0, or NaN where the cell is empty; a text in neither list is refused."""
        column = quantity.columns[0]
        cell = (row.get(column) or "").strip()
        if cell in self.positive:
            return 1.0
        if cell in self.negative:
            return 0.0
        if is_missing(row, column):
            return math.nan
        if self.negative:
            raise refused(row, column, f"one of {', '.join(self.positive + self.negative)} or nothing")
        return 0.0


Rule = Flag | Bound | Words


def bound(text: str) -> Bound:
    """Read `>20`, `>= 45`, `<15` or `<=15`."""
    match = _BOUND.fullmatch(text)
    if match is None:
        raise FormatError(
            f"found the rule {text!r}, expected a comparison with a number such as >20 or <=15",
            advice='Write positive = ">20", a list of the texts that are positive, or nothing for a column of 1 and 0.',
        )
    return Bound(match[1], float(match[2]))


def rule_to_json(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON-able data."""
    if isinstance(rule, Flag):
        return {"kind": "flag"}
    if isinstance(rule, Bound):
        return {"kind": "bound", "positive": rule.text}
    return {"kind": "words", "positive": list(rule.positive), "negative": list(rule.negative)}


def rule_from_json(data: Mapping[str, Any]) -> Rule:
    """Return the rule that `rule_to_json` wrote."""
    if data["kind"] == "flag":
        return Flag()
    if data["kind"] == "bound":
        return bound(str(data["positive"]))
    return Words(tuple(map(str, data["positive"])), tuple(map(str, data["negative"])))
