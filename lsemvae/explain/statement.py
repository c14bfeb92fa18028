"""What a label is and what a map is, in the words that stand on every figure and in every report."""

from __future__ import annotations

from typing import Final

from lsemvae.data.tasks import BUILT_IN, TaskSet

MAP_STATEMENT: Final = "The map shows what moved this model, not what is wrong with the heart."
UNKNOWN: Final = (
    "an output that neither this record store nor this toolkit knows: ask who trained the model what it was taught"
)


def label_statement(label: str, *, tasks: TaskSet) -> str:
    """Return what an output was taught, by the task set of the store or else the built-in one, and what all its labels are."""
    for known in (tasks, BUILT_IN):
        for task in known.labels:
            if task.name == label:
                return f"{label}: {task.description}. {known.statement}"
    return f"{label}: {UNKNOWN}."
