"""The audit of an `.onnx` file in QDQ form, read from its protobuf without running it.

In QDQ form every operator is written as float; it *runs* in INT8 where quantize and dequantize nodes stand around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from export.gates.audit import (
    BORDER,
    CUSTOM,
    FLOAT,
    HEAVY,
    HYBRID,
    INT8,
    INTEGER,
    AuditReport,
    IoSpec,
    OpRow,
    count_ops,
    io_problems,
    op_problems,
)
from export.int8.recipe import ENCODER

_DYNAMIC: Final = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"})
_REGIONS: Final = ("encoder", "head")
_FOLLOWERS: Final = ("Relu", "Clip")  # fused into the operator before them
WEIGHTED: Final = frozenset({"CONV", "GEMM", "MATMUL"})
_SHAPE_OPS: Final = frozenset({"Shape", "Constant", "ConstantOfShape"})


@dataclass(frozen=True, slots=True)
class _Wiring:
    """Who makes and who reads each tensor, and which tensors are stored."""

    makers: dict[str, Any]
    readers: dict[str, list[Any]]
    stored: frozenset[str]

    def maker(self, name: str) -> str:
        node = self.makers.get(name)
        return "" if node is None else str(node.op_type)


def audit_onnx(
    data: bytes, *, int8: bool, n_leads: int, n_samples: int, n_labels: int, region: str = ENCODER
) -> AuditReport:
    """Audit an `.onnx` file that should be INT8 in the recipe's `region` (`int8`) or float throughout."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    rows = operator_rows(graph)
    inputs, outputs = _specs(graph.input), _specs(graph.output)
    problems = op_problems(rows, int8=int8, region=region)
    problems += io_problems(inputs, outputs, n_leads=n_leads, n_samples=n_samples, n_labels=n_labels)
    stored = {entry.name: entry for entry in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] in stored:
            scale = np.asarray(numpy_helper.to_array(stored[node.input[1]]))
            if not (np.isfinite(scale).all() and (scale > 0).all()):
                problems.append(f"{node.name} has a scale that is not a positive number")
    extra = {entry.domain for entry in model.opset_import} & {node.domain for node in graph.node} - {"", "ai.onnx"}
    problems += [f"operators of domain {domain}" for domain in sorted(extra)]
    if external := [entry.name for entry in graph.initializer if entry.external_data]:
        problems.append(f"{len(external)} tensors stored outside the file")
    return AuditReport("onnx", len(data), inputs, outputs, count_ops(rows), tuple(problems))


def operator_rows(graph: Any) -> list[OpRow]:
    """Return the operators of a graph in the order of execution."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {out: node for node in graph.node for out in node.output}
    wiring = _Wiring(makers, readers, frozenset(entry.name for entry in graph.initializer))
    positions = {node.name: position for position, node in enumerate(graph.node)}
    rows = []
    for node in graph.node:
        region = node.name.split("/")[0]
        feeds = sorted({positions[r.name] for out in node.output for r in readers.get(out, ())})
        rows.append(OpRow(node.op_type, region if region in _REGIONS else "other", _kind(node, wiring), tuple(feeds)))
    return rows


def _kind(node: Any, wiring: _Wiring) -> str:
    """Return in which type a node runs."""
    if node.domain not in ("", "ai.onnx"):
        return CUSTOM
    if node.op_type in _DYNAMIC:
        return HYBRID
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return BORDER
    if node.op_type in _SHAPE_OPS:
        return INTEGER
    fed = _fed(node, wiring)
    if fed and _read_quantized(node, wiring):
        return INT8
    weights = [name for name in node.input[1:2] if wiring.maker(name) == "DequantizeLinear"]
    stored = [name for name in weights if wiring.makers[name].input[0] in wiring.stored]
    return HYBRID if node.op_type.upper() in HEAVY and stored and not fed else FLOAT


def _fed(node: Any, wiring: _Wiring) -> bool:
    """Return whether every moving input arrives dequantized (through a fused Relu or Clip at most)."""
    moving = [name for name in node.input if name and name not in wiring.stored]
    if node.op_type.upper() in WEIGHTED and any(name in wiring.stored for name in node.input[:2]):
        return False  # float weights: the runtime computes in float, whatever stands around it
    if node.op_type in _FOLLOWERS and wiring.maker(node.input[0]) not in ("", "DequantizeLinear"):
        return _fed(wiring.makers[node.input[0]], wiring)
    return bool(moving) and all(wiring.maker(name) == "DequantizeLinear" for name in moving)


def _read_quantized(node: Any, wiring: _Wiring) -> bool:
    """Return whether every reader of the node's output quantizes it first (after a fused Relu or Clip at most)."""
    readers = [reader for out in node.output for reader in wiring.readers.get(out, ())]
    return bool(readers) and all(
        reader.op_type == "QuantizeLinear" or (reader.op_type in _FOLLOWERS and _read_quantized(reader, wiring))
        for reader in readers
    )


def _specs(entries: Any) -> tuple[IoSpec, ...]:
    """Return the inputs or outputs of a graph; a named or missing dimension is a dynamic one and shows as -1."""
    import onnx

    return tuple(
        IoSpec(
            entry.name,
            str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)),
            tuple(int(d.dim_value) if d.HasField("dim_value") else -1 for d in entry.type.tensor_type.shape.dim),
        )
        for entry in entries
    )
