"""The audit of a `.tflite` file, read from its flatbuffer without running it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from export.convert import tflite_file
from export.gates.audit import (
    BORDER,
    CUSTOM,
    FLOAT,
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
from export.int8.recipe import ALL, ENCODER

_BORDER_OPS: Final = ("QUANTIZE", "DEQUANTIZE")


def audit_tflite(
    data: bytes, *, int8: bool, n_leads: int, n_samples: int, n_labels: int, region: str = ENCODER
) -> AuditReport:
    """Audit a `.tflite` file that should be INT8 in the recipe's `region` (`int8`) or float throughout."""
    model = tflite_file.parse(data)
    rows = operator_rows(model)
    graph, signature = model.subgraphs[0], (model.signatureDefs or [None])[0]
    sides = (signature.inputs, signature.outputs) if signature is not None else ((), ())
    inputs, outputs = (
        tuple(_io(entry.name.decode(), graph.tensors[entry.tensorIndex]) for entry in side) for side in sides
    )
    region = region if int8 else ENCODER
    problems = op_problems(rows, int8=int8, region=region)
    problems += io_problems(inputs, outputs, n_leads=n_leads, n_samples=n_samples, n_labels=n_labels, region=region)
    for tensor in graph.tensors:
        scale = None if tensor.quantization is None else tensor.quantization.scale
        if scale is not None and not (np.isfinite(scale).all() and (np.asarray(scale) > 0).all()):
            problems.append(f"{tflite_file.tensor_name(tensor)} has a scale that is not a positive number")
    # Float tensors count where there should be none, used by an operator or not.
    floats = [tflite_file.tensor_name(t) for t in graph.tensors if _type(t).startswith(("FLOAT", "BFLOAT"))]
    if region == ALL and floats:
        problems.append(f"{len(floats)} float tensors in a strict-integer model, first {floats[0]!r}")
    if len(model.subgraphs) != 1:
        problems.append(f"{len(model.subgraphs)} subgraphs, expected 1")
    return AuditReport("tflite", len(data), inputs, outputs, count_ops(rows), tuple(problems))


def operator_rows(model: Any) -> list[OpRow]:
    """Return the operators of the first subgraph in the order of execution."""
    graph = model.subgraphs[0]
    readers: dict[int, list[int]] = {}
    for position, operator in enumerate(graph.operators):
        for tensor in operator.inputs:
            readers.setdefault(int(tensor), []).append(position)
    rows = []
    for operator in graph.operators:
        name, version = tflite_file.operator_name(model, operator)
        feeds = tuple(sorted({reader for tensor in operator.outputs for reader in readers.get(int(tensor), ())}))
        # The region of an operator is that of its output, or of its inputs where the output is the model's own.
        found = [
            {tflite_file.region_of(tflite_file.tensor_name(graph.tensors[int(i)])) for i in tensors if i >= 0}
            for tensors in (operator.outputs, operator.inputs)
        ]
        region = next((name for names in found for name in ("head", "encoder") if name in names), "other")
        rows.append(OpRow(name, region, _kind(model, graph, operator, name), feeds, version))
    return rows


def _kind(model: Any, graph: Any, operator: Any, name: str) -> str:
    """Return in which type an operator runs."""
    inputs = [graph.tensors[int(i)] for i in operator.inputs if i >= 0]
    constants = [tensor for tensor in inputs if _is_constant(model, tensor)]
    moving = [tensor for tensor in inputs if not _is_constant(model, tensor)]
    if name == "CUSTOM" or name.startswith("STABLEHLO"):
        return CUSTOM
    if name == "DEQUANTIZE" and constants:
        return HYBRID
    if name in _BORDER_OPS:
        return BORDER
    types = {_type(t) for t in [*moving, *(graph.tensors[int(i)] for i in operator.outputs)]} - {
        "INT32",
        "INT64",
        "BOOL",
    }
    if "FLOAT32" in types and any(_type(t) in ("INT8", "INT4", "UINT8") for t in constants):
        return HYBRID
    if not types:
        return INTEGER
    return {frozenset({"INT8"}): INT8, frozenset({"FLOAT32"}): FLOAT}.get(frozenset(types), HYBRID)


def _io(name: str, tensor: Any) -> IoSpec:
    """Return an input or output with the shape that it declares; a size left open shows as -1."""
    declared = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return IoSpec(name, _type(tensor).lower(), tuple(int(size) for size in declared))


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _type(tensor: Any) -> str:
    return tflite_file.TENSOR_TYPES[tensor.type]
