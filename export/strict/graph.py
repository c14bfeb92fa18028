"""The float graph made ready for integers only: what has no INT8 form is taken out where that changes nothing, or refused.

The clamp of the log-variance is a MAXIMUM and a MINIMUM with constants. An INT8 tensor saturates at the ends of its own
range, so a tensor whose range lies inside the clamp is clamped by being stored: both operators go, and the bound is
handed to the quantizer as the widest range that the tensor may take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from export.convert import tflite_file
from export.errors import ExportModelError
from export.gates.audit import NEVER_INT8

CLAMPS: Final = ("MAXIMUM", "MINIMUM")
Bounds = Mapping[str, tuple[float, float]]
_NO_FUSION: Final = (
    "An exact product of experts has no INT8 form (its division aborts or loses all precision). Distil a student "
    "that mixes the leads in its first convolution, as `lsemvae distill` does, or export without strict integers."
)
_NO_OPERATOR: Final = (
    "Add the operator to a recipe of your own if every target has it in INT8, or export without strict integers."
)


@dataclass(frozen=True, slots=True)
class IntegerReady:
    """A float `.tflite` file without clamps, and the bounds `{tensor: (low, high)}` that its INT8 form must keep."""

    data: bytes
    bounds: Bounds


def integer_ready(data: bytes, *, operators: Sequence[str]) -> IntegerReady:
    """Return the float file with its clamps turned into bounds.

    Raises
    ------
    ExportModelError
        If an operator is left that is not in `operators`, the recipe's allow-list: an exact product of experts (EXP, DIV)
        has no INT8 form.
    """
    model = tflite_file.parse(data)
    if len(model.subgraphs) != 1:
        raise ExportModelError(f"the float model has {len(model.subgraphs)} subgraphs, expected 1")
    bounds = _without_clamps(model)
    found = {tflite_file.operator_name(model, operator)[0] for operator in model.subgraphs[0].operators}
    if foreign := sorted(found - set(operators)):
        fusion = set(foreign) & (NEVER_INT8 | {"SUM"})
        raise ExportModelError(
            f"the float model holds {', '.join(foreign)}; expected only {', '.join(sorted(operators))} and clamps by constants",
            advice=_NO_FUSION if fusion else _NO_OPERATOR,
        )
    _drop_unused_tensors(model)
    return IntegerReady(tflite_file.pack(model), bounds)


def _without_clamps(model: Any) -> dict[str, tuple[float, float]]:
    graph = model.subgraphs[0]
    bounds: dict[str, tuple[float, float]] = {}
    for operator in list(graph.operators):
        kind, _ = tflite_file.operator_name(model, operator)
        limit = _scalar_limit(model, operator) if kind in CLAMPS else None
        if limit is None:
            continue
        source, value = limit
        name = tflite_file.tensor_name(graph.tensors[source])
        readers = [o for o in graph.operators if source in map(int, o.inputs)]
        if len(readers) != 1 or readers[0] is not operator:
            raise ExportModelError(
                f"{len(readers)} operators read {name} beside its clamp, expected none: they would see it clamped",
                advice="Let the clamped value be read only behind its clamp, as the summary posterior does.",
            )
        low, high = bounds.get(name, (-np.inf, np.inf))
        bounds[name] = (max(low, value), high) if kind == "MAXIMUM" else (low, min(high, value))
        _bypass(model, operator, source)
    return bounds


def _scalar_limit(model: Any, operator: Any) -> tuple[int, float] | None:
    """Return `(moving input, constant)` of an operator that compares a tensor with one number."""
    graph = model.subgraphs[0]
    stored = {int(i): model.buffers[graph.tensors[int(i)].buffer].data for i in operator.inputs}
    moving = [i for i, content in stored.items() if content is None or not len(content)]
    values = [
        np.frombuffer(bytes(content), np.float32)
        for i, content in stored.items()
        if i not in moving and content is not None
    ]
    if len(moving) != 1 or len(values) != 1 or values[0].size != 1:
        return None
    return moving[0], float(values[0][0])


def _bypass(model: Any, operator: Any, source: int) -> None:
    """Remove an operator; whoever reads its output reads `source`."""
    graph = model.subgraphs[0]
    target = int(operator.outputs[0])
    for other in graph.operators:
        other.inputs = [source if int(i) == target else int(i) for i in other.inputs]
    graph.outputs = [source if int(i) == target else int(i) for i in graph.outputs]
    for signature in model.signatureDefs or ():
        for entry in signature.outputs:
            entry.tensorIndex = source if entry.tensorIndex == target else entry.tensorIndex
    graph.operators = [other for other in graph.operators if other is not operator]


def _drop_unused_tensors(model: Any) -> None:
    """Remove tensors that nothing reads or writes any more, and renumber the others."""
    graph = model.subgraphs[0]
    wired = [*graph.inputs, *graph.outputs, *(i for o in graph.operators for i in [*o.inputs, *o.outputs])]
    used = sorted({int(i) for i in wired if int(i) >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}  # -1: an optional input that is not there
    graph.tensors = [graph.tensors[old] for old in used]
    graph.inputs, graph.outputs = ([place[int(i)] for i in side] for side in (graph.inputs, graph.outputs))
    for operator in graph.operators:
        operator.inputs, operator.outputs = (
            [place[int(i)] for i in side] for side in (operator.inputs, operator.outputs)
        )
    for signature in model.signatureDefs or ():
        for entry in [*signature.inputs, *signature.outputs]:
            entry.tensorIndex = place[int(entry.tensorIndex)]
