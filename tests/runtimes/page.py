"""The tables of docs/explanation/runtimes.md: how a pair is written there, and how it is read back."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import Final

from tests.runtimes.matrix import Difference, Pair

COLUMNS: Final = (
    "| runtime | against | max dp | mean dp | max d log odds | max d uncertainty | outcomes equal |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)
_CELL: Final = re.compile(r"^(\S+) <= (\S+)$")
_RECIPE: Final = re.compile(r"^#.*`(\w+)`")

Table = dict[tuple[str, str], tuple[Difference, Difference]]


def cells(found: Difference, allowed: Difference | None) -> list[str]:
    """Return each quantity as `found <= allowed`, to two digits; without a tolerance, what was found."""
    if allowed is None:
        return [f"{a:.2g}" for a in astuple(found)]
    return [f"{a:.2g} <= {b:.2g}" for a, b in zip(astuple(found), astuple(allowed), strict=True)]


def row(pair: Pair, quantities: list[str], *, equal: int, of: int) -> str:
    """Return the row of one pair."""
    return f"| {' | '.join([pair.candidate, pair.reference, *quantities, f'{equal} of {of}'])} |"


def read(text: str) -> dict[str, Table]:
    """Return found and allowed of each pair, by the recipe that the heading above the table names."""
    tables: dict[str, Table] = {}
    recipe = ""
    for line in text.splitlines():
        if heading := _RECIPE.match(line):
            recipe = heading[1]
        candidate, *rest = line.strip("| ").split(" | ")
        matches = [match for cell in rest[1:5] if (match := _CELL.match(cell))]
        if len(rest) == 6 and len(matches) == 4:
            found, allowed = (Difference(*(float(match[k]) for match in matches)) for k in (1, 2))
            tables.setdefault(recipe, {})[candidate, rest[0]] = (found, allowed)
    return tables
