"""Read cells of `metadata.csv` as numbers and truth values; a cell that cannot be read is refused by name, never guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from lsemvae.ecg.errors import FormatError

_MISSING: Final = frozenset({"", "nan", "na", "none", "null"})
_TRUTHS: Final = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def refused(row: Mapping[str, str], column: str, expected: str) -> FormatError:
    """Return the error of one cell: which recording, what stands there, what should."""
    return FormatError(
        f"{row.get('uid', '?')}: found {column} {row.get(column)!r}, expected {expected}",
        advice=f"Correct the column {column} of metadata.csv.",
    )


def is_missing(row: Mapping[str, str], column: str) -> bool:
    """Return whether a cell is empty, absent, or holds one of the usual words for nothing (nan, NA, none, null)."""
    return (row.get(column) or "").strip().lower() in _MISSING


def number(row: Mapping[str, str], column: str) -> float:
    """Return a finite number, or NaN where the cell is empty or absent; anything else is a FormatError."""
    text = (row.get(column) or "").strip()
    if is_missing(row, column):
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise refused(row, column, "a number or nothing") from error
    if not math.isfinite(value):
        raise refused(row, column, "a finite number or nothing")
    return value


def whole(row: Mapping[str, str], column: str, *, missing: int | None = None) -> int:
    """Return a whole number from 0 (`3` or `3.0`), or `missing` where the cell is empty and that is allowed."""
    value = number(row, column)
    if math.isnan(value) and missing is not None:
        return missing
    if math.isnan(value) or value < 0 or value != int(value):
        raise refused(row, column, "a whole number from 0")
    return int(value)


def gain_is_known(row: Mapping[str, str]) -> bool:
    """Return whether `gain_known` is 1 or true; a folder that does not say has known gains."""
    text = (row.get("gain_known") or "1").strip().lower()
    if text not in _TRUTHS:
        raise refused(row, "gain_known", "1 or 0")
    return _TRUTHS[text]
