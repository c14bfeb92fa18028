"""The audit of a converted model: which operators run in which type, and what of that must not ship.

Both formats are brought to one list of operators; the rules below read only that list. What may stay float depends on the
recipe's region:

- `encoder`: only its very end (the clamp of the log-variance), nothing that something INT8 still depends on;
- `trunk`: besides, one convolution and the shape operators before anything INT8, and linear layers after everything INT8;
- `all`: nothing, and no operator converts between float and INT8 either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from export.errors import ExportAuditError
from export.int8.recipe import ALL, ENCODER, TRUNK

INT8: Final = "int8"
FLOAT: Final = "float"
BORDER: Final = "border"  # quantize and dequantize
HYBRID: Final = "hybrid"  # float activations on stored integer weights: dynamic range or weight-only
INTEGER: Final = "integer"  # shape arithmetic
CUSTOM: Final = "custom"

# Division by an INT8 zero aborts LiteRT 1.4-2.3, tflite-runtime 2.14 refuses it; the others lose all precision.
NEVER_INT8: Final = frozenset(
    {"DIV", "EXP", "LOG", "RSQRT", "SQRT", "POW", "RECIPROCAL", "SOFTMAX", "LOGISTIC", "TANH"}
)
# Where the multiplications are: none of these may be float in the INT8 region, not even at its end.
HEAVY: Final = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "CONV", "GEMM", "MATMUL", "MEAN", "REDUCEMEAN"}
)
LINEAR: Final = frozenset({"FULLY_CONNECTED", "GEMM", "MATMUL", "BATCH_MATMUL"})


@dataclass(frozen=True, slots=True)
class OpRow:
    """One operator: `feeds` holds the positions of the operators that read its outputs."""

    op: str
    region: str
    kind: str
    feeds: tuple[int, ...] = ()
    version: int = 1


@dataclass(frozen=True, slots=True)
class IoSpec:
    """One input or output of a model."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpCount:
    """How often an operator occurs in a region in one type."""

    region: str
    op: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What is in one model file, and what of it breaks a rule (`problems`, empty when it may ship)."""

    format: str
    n_bytes: int
    inputs: tuple[IoSpec, ...]
    outputs: tuple[IoSpec, ...]
    ops: tuple[OpCount, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)

    def count(self, kind: str) -> int:
        """Return how many operators are of `kind`."""
        return sum(row.count for row in self.ops if row.kind == kind)


def count_ops(rows: Iterable[OpRow]) -> tuple[OpCount, ...]:
    """Return the operators counted by region, name and type."""
    counted = Counter((row.region, row.op, row.kind) for row in rows)
    return tuple(OpCount(region, op, kind, count) for (region, op, kind), count in sorted(counted.items()))


def op_problems(rows: Sequence[OpRow], *, int8: bool, region: str = ENCODER) -> list[str]:
    """Return what is wrong with the operators of an INT8 (or, if not `int8`, float) model.

    `region` is the recipe's: the part that must be INT8.
    """
    problems = [
        _say(row, "runs float activations on integer weights (dynamic range)") for row in rows if row.kind == HYBRID
    ]
    problems += [_say(row, "is not a standard operator") for row in rows if row.kind == CUSTOM]
    problems += [_say(row, "must not run in INT8") for row in rows if row.kind == INT8 and row.op.upper() in NEVER_INT8]
    if not int8:
        return problems + [_say(row, "is INT8 in a float model") for row in rows if row.kind in (INT8, BORDER)]
    if region == ALL:
        words = {FLOAT: "is float in a strict-integer model", BORDER: "converts types inside a strict-integer model"}
        problems += [_say(row, words[row.kind]) for row in rows if row.kind in words]
    else:
        problems += _region_problems(rows, region)
    if not any(row.kind == INT8 and row.op.upper() in HEAVY for row in rows):
        problems.append("no convolution or linear layer runs in INT8")
    return problems


def _region_problems(rows: Sequence[OpRow], region: str) -> list[str]:
    """Return what of a model with a float head and an INT8 region stands in the wrong type; `rows` in the order of execution."""
    problems = [
        _say(row, "is INT8 outside the encoder") for row in rows if row.kind == INT8 and row.region != "encoder"
    ]
    after, before = [False] * len(rows), [False] * len(rows)  # depends on an INT8 operator; an INT8 one depends on it
    for position, row in enumerate(rows):
        for reader in row.feeds:
            after[reader] = after[reader] or after[position] or row.kind == INT8
    for position in range(len(rows) - 1, -1, -1):
        before[position] = any(rows[reader].kind == INT8 or before[reader] for reader in rows[position].feeds)
    # The first convolution may be float in a trunk, if nothing INT8 stands before it.
    heavy = (k for k, row in enumerate(rows) if row.region == "encoder" and row.op.upper() in HEAVY)
    first = next(heavy, None) if region == TRUNK else None
    stem = None if first is None or rows[first].kind != FLOAT or after[first] else first
    for position, row in enumerate(rows):
        if row.region != "encoder" or row.kind != FLOAT or position == stem:
            continue
        at_end = not before[position]
        if row.op.upper() in HEAVY and not (region == TRUNK and at_end and row.op.upper() in LINEAR):
            problems.append(_say(row, "is float in the INT8 region"))
        elif not at_end and not (region == TRUNK and not after[position]):
            problems.append(_say(row, "is float between INT8 operators"))
    return problems


def _say(row: OpRow, what: str) -> str:
    return f"{row.region} {row.op} {what}"


def io_problems(
    inputs: Sequence[IoSpec],
    outputs: Sequence[IoSpec],
    *,
    n_leads: int,
    n_samples: int,
    n_labels: int,
    region: str = ENCODER,
) -> list[str]:
    """Return what differs from the fixed interface: float32 in a bundle's model, INT8 in a strict-integer one."""
    dtype = "int8" if region == ALL else "float32"
    expected = {
        "input": (IoSpec("ecg", dtype, (1, n_leads, n_samples)),),
        "output": (IoSpec("logits", dtype, (1, n_labels)), IoSpec("uncertainty", dtype, (1, 1))),
    }
    problems = []
    for side, found in (("input", tuple(inputs)), ("output", tuple(sorted(outputs, key=lambda io: io.name)))):
        if found != expected[side]:
            problems.append(f"{side}s are {_show(found)}; expected {_show(expected[side])}")
    return problems


def _show(specs: Iterable[IoSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs) or "none"


def require_clean(report: AuditReport) -> AuditReport:
    """Return the report, or raise ExportAuditError with every problem in it."""
    if report.problems:
        listed = "; ".join(sorted(set(report.problems)))
        raise ExportAuditError(f"{report.format} model: found {listed}; expected a model without these")
    return report
