"""Zeros that stand where nobody measured: refuse them, and count what a mask takes out.

EchoNext is the pattern: `pasp_gte_45_flag` is 0 in 43,424 of 100,000 rows because no pressure was measured. Taken at
their word these zeros more than halve the prevalence (0.190 instead of 0.336) and teach that an unmeasured heart is healthy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from lsemvae.data.labels import Label
from lsemvae.data.table import CsvTable
from lsemvae.data.task_toml import TRAP, ParsedTasks
from lsemvae.data.tasks import TaskSet
from lsemvae.ecg.errors import FormatError

# Rows without a measurement hold no positive: where chance alone would do that less often than this, it is no chance.
CHANCE: Final = 1e-6
_TRUTHS: Final = frozenset({"0", "1", "0.0", "1.0", "true", "false"})


def check_masks(parsed: ParsedTasks, table: CsvTable, *, rows_only: Sequence[str]) -> None:
    """Refuse a mask column that masks nothing, and a trusted flag whose zeros follow the gaps of a measurement."""
    for label in parsed.tasks.labels:
        place = parsed.places.get(label.name)
        if place is None:
            continue
        for key in ("measured", "negative_needs"):
            column = getattr(label, key)
            cells = {row[column].lower() for row in table.rows} if column else set()
            if column and table.filled[column].all() and cells <= _TRUTHS and len(cells) > 1:
                raise place.error(
                    key,
                    f"the column {column}, which holds 1 and 0 and is nowhere empty",
                    "a column that is empty where nothing was measured",
                    f"Name the measurement itself; or write the 0 of {column} as a missing text: missing = [...].",
                )
        if label.name in parsed.trusted:
            known = {*label.columns, *rows_only, *parsed.trusted[label.name]}
            if error := _trap(label, table, [column for column in table.filled if column not in known]):
                raise place.error("complete", *error)


def _trap(label: Label, table: CsvTable, columns: Sequence[str]) -> tuple[str, str, str] | None:
    """Return an error's parts (found, expected, advice) where a column is empty exactly where the label has no positive.

    The column must be filled for positives and negatives alike: one that is filled for positives only describes the
    finding (a date, a grade), it does not measure it.
    """
    y = np.array([label.own_value(row) for row in table.rows])
    suspects: list[tuple[float, str]] = []
    for column in columns:
        filled = table.filled[column]
        if column not in table.numeric or filled.all() or not filled.any():
            continue
        share = float(np.mean(y[filled & ~np.isnan(y)] == 1.0)) if (filled & ~np.isnan(y)).any() else 0.0
        without = y[~filled & ~np.isnan(y)]
        if 0.0 < share < 1.0 and not (without == 1.0).any():
            suspects.append((len(without) * math.log1p(-share), column))
    if not suspects or min(suspects)[0] > math.log(CHANCE):
        return None
    column = min(suspects)[1]
    filled = table.filled[column]
    found = (
        f"no positive in the {int((~filled).sum())} rows where {column} is empty, "
        f"but {float(np.nanmean(y[filled])):.1%} positive in the {int(filled.sum())} where it is filled"
    )
    return found, "positives in both", f'{TRAP} If {column} has nothing to do with the task: unrelated = ["{column}"].'


def mask_notes(tasks: TaskSet, table: CsvTable) -> tuple[str, ...]:
    """Return what the masks take out: a sentence for each flag that holds values in rows where nothing was measured."""
    notes = []
    for label in tasks.labels:
        if not label.measured:
            continue
        at_its_word = np.full(len(table.rows), math.nan)  # the flag as if there were no mask
        for k, row in enumerate(table.rows):
            with suppress(FormatError):  # a cell that cannot be read may be what the mask hides
                at_its_word[k] = label.rule.value(row, label.quantity)
        filled = table.filled[label.measured]
        zeros, ones = (int((at_its_word[~filled] == y).sum()) for y in (0.0, 1.0))
        if zeros or ones:
            notes.append(
                f"{label.name}: {zeros} rows hold a 0 and {ones} a 1 where {label.measured} is empty; they are left out as "
                f"unknown. Prevalence {float(np.nanmean(at_its_word)):.3f} with them, "
                f"{float(np.nanmean(at_its_word[filled])):.3f} without."
            )
    return tuple(notes)
