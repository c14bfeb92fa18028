"""What a model must say on both machines: the copy of it that ends where its INT8 region ends, and the comparison of the answers.

Integer results are the same on every machine; the float head behind them adds its products in an order that depends on
the kernel, so its last bits are not. A copy of the model whose outputs are the INT8 tensors that feed the head can
therefore be compared byte by byte between two architectures, where the model itself cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.counts import RUNTIMES
from export.convert import tflite_file
from tools.arm64.programs import EmulationError


def border_model(content: bytes, *, runtime: str) -> bytes | None:
    """Return a copy of a model that ends where its INT8 region ends, or None for a model without such a region.

    `runtime` is `litert` for a `.tflite` file and `onnx` for an `.onnx` file.
    """
    if runtime not in RUNTIMES:
        raise BenchmarkError(f"found the runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    return _border_tflite(content) if runtime == "litert" else _border_onnx(content)


def _border_tflite(content: bytes) -> bytes | None:
    model = tflite_file.parse(content)
    if len(model.subgraphs) != 1:
        raise BenchmarkError(f"found {len(model.subgraphs)} subgraphs, expected 1")
    graph = model.subgraphs[0]
    makers = {int(tensor): operator for operator in graph.operators for tensor in operator.outputs}
    # The computed INT8 tensors that are met first on each way back from the outputs.
    found, seen, queue = set(), set(), [int(tensor) for tensor in graph.outputs]
    while queue:
        tensor = queue.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        if tflite_file.TENSOR_TYPES[graph.tensors[tensor].type] == "INT8":
            found.add(tensor)
        else:
            queue += [int(source) for source in makers[tensor].inputs if source >= 0]
    if not found:
        return None
    border = sorted(found)
    needed, queue = set(), list(border)
    while queue:
        operator = makers.get(queue.pop())
        if operator is not None and id(operator) not in needed:
            needed.add(id(operator))
            queue += [int(source) for source in operator.inputs if source >= 0]
    graph.operators = [operator for operator in graph.operators if id(operator) in needed]
    graph.outputs = np.asarray(border, dtype=np.int32)
    model.signatureDefs = None
    return tflite_file.pack(model)


def _border_onnx(content: bytes) -> bytes | None:
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    stored = {entry.name: int(entry.data_type) for entry in graph.initializer}
    border, seen, queue = {}, set(), [output.name for output in graph.output]
    while queue:
        name = queue.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        node = makers[name]
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            # A quantized tensor has the type of its zero point, which is uint8 where none is given.
            unsigned = int(onnx.TensorProto.UINT8)
            border[node.input[0]] = stored.get(node.input[2], unsigned) if len(node.input) > 2 else unsigned
        elif node.op_type != "DequantizeLinear":
            queue += [source for source in node.input if source]
    if not border:
        return None
    needed, queue = set(), list(border)
    while queue:
        name = queue.pop()
        if name in makers and name not in needed:
            needed.add(name)
            queue += list(makers[name].input)
    nodes = [node for node in graph.node if any(name in needed for name in node.output)]
    outputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in sorted(border.items())]
    for field, items in ((graph.node, nodes), (graph.output, outputs)):
        kept = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(kept)
    return bytes(model.SerializeToString())


# One unit in the last place of a float32 near 1. Behind equal INT8 results only the order of some dozen additions in the
# head differs between kernels (one or two units); in a float model that of all layers.
_ULP: Final = 2.0**-23
HEAD_TOLERANCE: Final = 16 * _ULP
FLOAT_TOLERANCE: Final = 128 * _ULP
"""Largest difference of a float output to this machine's, relative to the largest output or to 1 where that is smaller."""


def same_integers(host: Mapping[str, np.ndarray], emulated: Mapping[str, np.ndarray]) -> str:
    """Return the hash of the INT8 results, which must be the same bytes on both sides."""
    names = sorted(name for name in host if name.startswith("border/"))
    for name in names:
        if host[name].dtype != emulated[name].dtype or not np.array_equal(host[name], emulated[name]):
            steps = np.abs(host[name].astype(np.int64) - emulated[name].astype(np.int64))
            raise EmulationError(
                f"found {np.count_nonzero(steps):,} of {steps.size:,} INT8 results that differ from this machine's (by up to "
                f"{steps.max()} steps), expected the same bytes"
            )
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{emulated[name].dtype.str}{emulated[name].shape}".encode())
        digest.update(np.ascontiguousarray(emulated[name]).tobytes())
    return digest.hexdigest()


def float_difference_of(
    host: Mapping[str, np.ndarray], emulated: Mapping[str, np.ndarray], *, tolerance: float
) -> float:
    """Return the largest difference of an output, relative to the largest number of that output or to 1."""
    largest = 0.0
    for name in (name for name in host if name.startswith("out/")):
        here, there = host[name].astype(np.float64), emulated[name].astype(np.float64)
        if here.shape != there.shape or not np.isfinite(there).all():
            raise EmulationError(
                f"output {name[4:]!r}: found shape {list(there.shape)} or a number that is not finite, expected {list(here.shape)}"
            )
        largest = max(largest, float(np.abs(here - there).max() / max(1.0, np.abs(here).max())))
    if largest > tolerance:
        raise EmulationError(
            f"a float output differs from this machine's by {largest:.2g} of its size, expected at most {tolerance:g}"
        )
    return largest


def output_of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an output `[n, ...]` by its name."""
    if f"out/{name}" not in arrays:
        raise BenchmarkError(
            f"found the outputs {sorted(n[4:] for n in arrays if n.startswith('out/'))}, expected {name!r}"
        )
    return arrays[f"out/{name}"]
