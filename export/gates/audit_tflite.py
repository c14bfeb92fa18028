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
    inputs, outputs = _interface(model)
    region = region if int8 else ENCODER
    problems = op_problems(rows, int8=int8, region=region)
    problems += io_problems(inputs, outputs, n_leads=n_leads, n_samples=n_samples, n_labels=n_labels, region=region)
    problems += _scale_problems(model)
    problems += _float_tensors(model) if region == ALL else []
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
    return [_row(model, graph, operator, readers) for operator in graph.operators]


def _row(model: Any, graph: Any, operator: Any, readers: dict[int, list[int]]) -> OpRow:
    name, version = tflite_file.operator_name(model, operator)
    outputs = [int(i) for i in operator.outputs]
    feeds = tuple(sorted({reader for tensor in outputs for reader in readers.get(tensor, ())}))
    return OpRow(name, _region(graph, operator), _kind(model, graph, operator, name), feeds, version)


def _region(graph: Any, operator: Any) -> str:
    """Return the region of an operator: that of its output, or of its inputs where the output is the model's own."""
    for tensors in (operator.outputs, operator.inputs):
        regions = {tflite_file.region_of(tflite_file.tensor_name(graph.tensors[int(i)])) for i in tensors if i >= 0}
        for region in ("head", "encoder"):
            if region in regions:
                return region
    return "other"


def _kind(model: Any, graph: Any, operator: Any, name: str) -> str:
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


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _type(tensor: Any) -> str:
    return tflite_file.TENSOR_TYPES[tensor.type]


def _interface(model: Any) -> tuple[tuple[IoSpec, ...], tuple[IoSpec, ...]]:
    graph = model.subgraphs[0]
    signature = (model.signatureDefs or [None])[0]

    def specs(maps: Any) -> tuple[IoSpec, ...]:
        return tuple(_io(entry.name.decode(), graph.tensors[entry.tensorIndex]) for entry in maps)

    return ((), ()) if signature is None else (specs(signature.inputs), specs(signature.outputs))


def _io(name: str, tensor: Any) -> IoSpec:
    declared = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return IoSpec(name, _type(tensor).lower(), tuple(int(size) for size in declared))


def _scale_problems(model: Any) -> list[str]:
    problems = []
    for tensor in model.subgraphs[0].tensors:
        scale = None if tensor.quantization is None else tensor.quantization.scale
        if scale is not None and not (np.isfinite(scale).all() and (np.asarray(scale) > 0).all()):
            problems.append(f"{tflite_file.tensor_name(tensor)} has a scale that is not a positive number")
    return problems


def _float_tensors(model: Any) -> list[str]:
    """Return the float tensors of a model that should hold none, used by an operator or not."""
    names = [tflite_file.tensor_name(t) for t in model.subgraphs[0].tensors if _type(t).startswith(("FLOAT", "BFLOAT"))]
    return [f"{len(names)} float tensors in a strict-integer model, first {names[0]!r}"] if names else []
