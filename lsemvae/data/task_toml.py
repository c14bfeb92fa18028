"""Read the `[[task]]` tables of a cohort file as labels and measures. docs/how-to/cohorts.md describes each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lsemvae.data.labels import LABELS, PRIMARY_NAME, Label
from lsemvae.data.measures import TRANSFORMS, Measure
from lsemvae.data.rules import OTHERS, Bound, Flag, Quantity, Range, Rule, Words, bound
from lsemvae.data.tasks import TaskSet, check_names, ordered
from lsemvae.data.tomlfile import TomlTable
from lsemvae.ecg.errors import FormatError

_BOTH: Final = ("name", "kind", "description", "column", "linear", "measured", "range", "unit")
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": (
        *_BOTH, "positive", "negative", "negative_needs", "among", "threshold_of", "complete", "unrelated", "primary",
    ),
    "regression": (*_BOTH, "transform", "amplitude"),
}  # fmt: skip
TRAP: Final = (
    'A 0 that stands where nobody measured is no negative. Name the column that is empty there (measured = "..."), '
    'derive the task from the measurement (threshold_of = "..."), or, if each row was looked at, write complete = true.'
)


@dataclass(frozen=True, slots=True)
class ParsedTasks:
    """The task set, and for labels whose 0 is taken at its word the columns that have nothing to do with them."""

    tasks: TaskSet
    trusted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: Mapping[str, TomlTable] = field(default_factory=dict)


def parse_tasks(tables: Sequence[TomlTable], *, name: str, statement: str, licence: str) -> ParsedTasks:
    """Read the task set of a cohort from `tables`, its `[[task]]` entries."""
    places: dict[str, TomlTable] = {}
    for table in tables:
        kind, task = table.text_of("kind"), table.text_of("name")
        if kind not in _KEYS:
            raise table.error("kind", repr(kind), f"one of {', '.join(_KEYS)}")
        table.check_keys(_KEYS[kind])
        if task in places:
            raise table.error("name", f"{task!r} a second time (first in line {places[task].line()})", "each name once")
        if task in (*LABELS, PRIMARY_NAME):
            raise table.error(
                "name",
                f"{task!r}, the name of a built-in reader statement",
                "another name",
                "A label of that name would be described as what ECG readers stated. To use the built-in ones: "
                'tasks = "built-in".',
            )
        try:
            check_names([task])
        except FormatError as error:
            expected = "letters, digits and underscores, a letter first"
            raise table.error("name", repr(task), expected, error.advice) from None
        places[task] = table

    measures: dict[str, Measure] = {}
    for task, table in places.items():
        if table.values["kind"] != "regression":
            continue
        transform = table.text_of("transform", "") if "transform" in table.values else ""
        if transform not in TRANSFORMS:
            raise table.error("transform", repr(transform), f"one of {', '.join(filter(None, TRANSFORMS))}")
        measures[task] = Measure(
            name=task,
            quantity=_quantity(table),
            unit=table.text_of("unit"),
            transform=transform,
            amplitude=table.truth("amplitude", default=False),
            limits=_range(table),
            measured=table.text_of("measured", ""),
            description=table.text_of("description"),
        )
    binary = {task: table for task, table in places.items() if table.values["kind"] == "binary"}
    labels = [_label(table, task, measures) for task, table in binary.items()]

    # Each `among` names a binary task, and no chain of them closes.
    for task, table in binary.items():
        chain = [task]
        while (among := binary[chain[-1]].values.get("among")) is not None:
            if among not in binary:
                raise binary[chain[-1]].error("among", repr(among), f"a binary task of this file ({', '.join(binary)})")
            chain.append(among)
            if among in chain[:-1]:
                raise table.error("among", f"a circle ({' -> '.join(chain)})", "it to end at a task without among")

    # The primary task is the one that is marked, or the only one.
    marked = [task for task, table in binary.items() if table.truth("primary", default=False)]
    if len(marked) != 1 and len(binary) > 1:
        table = binary[marked[1]] if marked else next(iter(binary.values()))
        found = f"{len(marked)} of {len(binary)} binary tasks marked"
        raise table.error("primary", found, "primary = true on exactly one")
    tasks = TaskSet(
        name=name,
        statement=statement,
        licence=licence,
        labels=ordered(labels, next(iter(marked or binary), "")),
        measures=tuple(measures.values()),
    )
    trusted = {task: t.texts("unrelated") for task, t in binary.items() if t.values.get("complete") is True}
    return ParsedTasks(tasks, trusted, places)


def _quantity(table: TomlTable) -> Quantity:
    given = [key for key in ("column", "linear", "threshold_of") if key in table.values]
    if len(given) != 1:
        raise table.error("", " and ".join(given) or "no column", "exactly one of column, linear and threshold_of")
    if given == ["column"]:
        return Quantity.of(table.text_of("column"))
    factors = table.factors("linear")
    intercept = factors.pop("intercept", 0.0)
    if not factors:
        raise table.error("linear", "an intercept alone", "at least one column with its factor")
    return Quantity(tuple(factors.items()), intercept)


def _range(table: TomlTable) -> Range:
    low, high = table.numbers("range", count=2)
    if not low < high:
        raise table.error("range", f"[{low:g}, {high:g}]", "[lowest, highest plausible value]")
    return Range(low, high, table.text_of("unit"))


def _label(table: TomlTable, name: str, measures: Mapping[str, Measure]) -> Label:
    texts = {key: table.text_of(key, "") for key in ("measured", "negative_needs", "among", "threshold_of")}
    limits: Range | None
    if of := texts["threshold_of"]:
        # Quantity, range and mask are those of the regression that the label is a threshold of.
        for key in ("column", "linear", "measured", "range", "unit"):
            if key in table.values:
                raise table.error(key, f"{key} beside threshold_of", f"neither: {key} is that of the regression {of}")
        if of not in measures:
            expected = f"a regression of this file ({', '.join(measures) or 'there is none'})"
            raise table.error("threshold_of", repr(of), expected)
        measure = measures[of]
        if measure.transform:
            found = f"{of!r}, which is transformed ({measure.transform})"
            raise table.error("threshold_of", found, "one without transform")
        quantity, limits, texts["measured"] = measure.quantity, measure.limits, measure.measured
    else:
        if "unit" in table.values and "range" not in table.values:
            raise table.error("unit", "unit without range", "both, or neither")
        quantity, limits = _quantity(table), _range(table) if "range" in table.values else None
    rule = _rule(table)
    if not isinstance(rule, Bound) and (not quantity.is_column or texts["threshold_of"]):
        raise table.error("positive", f"the rule {rule.text!r}", 'a comparison such as ">20" for a computed quantity')
    if not isinstance(rule, Bound) and limits is not None:
        raise table.error("range", "a range", "one only where positive is a comparison")

    # A column whose 0 may mean "nobody looked" has to say where somebody did.
    measured, complete, open_zero = texts["measured"], table.truth("complete", default=False), zero_is_open(rule)
    if not open_zero and (complete or "unrelated" in table.values):
        key = "complete" if complete else "unrelated"
        raise table.error(key, key, 'it only beside a column of 1 and 0 or negative = "others"')
    if open_zero and not (measured or complete or "negative_needs" in table.values):
        raise table.error(
            "", "neither measured nor complete for a column whose 0 may be unmeasured", "one of them", TRAP
        )
    if complete and measured:
        raise table.error("complete", "both measured and complete", "one of them", TRAP)
    if "unrelated" in table.values and not complete:
        raise table.error("unrelated", "unrelated without complete", "complete = true beside it")
    return Label(
        name=name, quantity=quantity, rule=rule, limits=limits, description=table.text_of("description"), **texts
    )


def _rule(table: TomlTable) -> Rule:
    positive = table.values.get("positive")
    if not isinstance(positive, list) and "negative" in table.values:
        raise table.error("negative", "a list of negatives", "one only beside a list of positives")
    if positive is None:
        return Flag()
    if isinstance(positive, str):
        try:
            return bound(positive)
        except FormatError as error:
            raise table.error("positive", repr(positive), 'a comparison such as ">20"', error.advice) from None
    words, others = table.texts("positive"), table.values.get("negative") == OTHERS
    negative = () if others else table.texts("negative")
    if not words or not (negative or others):
        raise table.error("negative", "none", f'a list of the texts that are negative, or "{OTHERS}"')
    if both := sorted(set(words) & set(negative)):
        raise table.error("negative", f"{both[0]!r} in both lists", "each text in one")
    return Words(words, negative)


def zero_is_open(rule: Rule) -> bool:
    """Return whether a 0 may mean that nobody looked: a column of 1 and 0, or every text outside a list."""
    return isinstance(rule, Flag) or (isinstance(rule, Words) and not rule.negative)
