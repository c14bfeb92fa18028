"""Where a model's INT8 region ends, and a copy of the model that ends there.

Integer results are the same on every machine; the float head behind them adds its products in an order that depends on
the kernel, so its last bits are not. A copy of the model whose outputs are the INT8 tensors that feed the head can
therefore be compared byte by byte between two architectures, where the model itself cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from export.benchmark.errors import BenchmarkError

RUNTIMES: Final = ("litert", "onnx")


def border_model(content: bytes, *, runtime: str) -> bytes | None:
    """Return a copy of a model that ends where its INT8 region ends, or None for a model without such a region."""
    return {"litert": _border_tflite, "onnx": _border_onnx}[_known(runtime)](content)


def count_weights(content: bytes, *, runtime: str) -> int:
    """Return how many numbers the kernels (constants of two or more dimensions) of a model hold."""
    return {"litert": _weights_tflite, "onnx": _weights_onnx}[_known(runtime)](content)


def _known(runtime: str) -> str:
    if runtime not in RUNTIMES:
        raise BenchmarkError(f"found the runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    return runtime


def _border_tflite(content: bytes) -> bytes | None:
    from export.convert import tflite_file

    model = tflite_file.parse(content)
    if len(model.subgraphs) != 1:
        raise BenchmarkError(f"found {len(model.subgraphs)} subgraphs, expected 1")
    graph = model.subgraphs[0]
    makers = {int(tensor): operator for operator in graph.operators for tensor in operator.outputs}
    border = _back_to_int8(graph, makers)
    if not border:
        return None
    needed = _behind(border, makers)
    graph.operators = [operator for operator in graph.operators if id(operator) in needed]
    graph.outputs = np.asarray(border, dtype=np.int32)
    model.signatureDefs = None
    return tflite_file.pack(model)


def _back_to_int8(graph: Any, makers: dict[int, Any]) -> list[int]:
    """Return the computed INT8 tensors that are met first on each way back from the outputs."""
    from export.convert import tflite_file

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
    return sorted(found)


def _behind(border: list[int], makers: dict[int, Any]) -> set[int]:
    """Return the ids of the operators that the border is computed by."""
    needed: set[int] = set()
    queue = list(border)
    while queue:
        operator = makers.get(queue.pop())
        if operator is not None and id(operator) not in needed:
            needed.add(id(operator))
            queue += [int(source) for source in operator.inputs if source >= 0]
    return needed


def _weights_tflite(content: bytes) -> int:
    from export.convert import tflite_file

    model = tflite_file.parse(content)
    total = 0
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        stored = data is not None and len(data) > 0 and tflite_file.TENSOR_TYPES[tensor.type] in ("INT8", "FLOAT32")
        total += _kernel_size(tensor.shape) if stored else 0
    return total


def _border_onnx(content: bytes) -> bytes | None:
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    border, seen, queue = {}, set(), [output.name for output in graph.output]
    while queue:
        name = queue.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        node = makers[name]
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            border[node.input[0]] = _zero_point_type(graph, node)
        elif node.op_type != "DequantizeLinear":
            queue += [source for source in node.input if source]
    if not border:
        return None
    needed = {name: node for name, node in makers.items() if name in _ancestors(border, makers)}
    nodes = [node for node in graph.node if any(name in needed for name in node.output)]
    outputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in sorted(border.items())]
    for field, items in ((graph.node, nodes), (graph.output, outputs)):
        kept = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(kept)
    return bytes(model.SerializeToString())


def _ancestors(border: Any, makers: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    queue = list(border)
    while queue:
        name = queue.pop()
        if name in makers and name not in found:
            found.add(name)
            queue += list(makers[name].input)
    return found


def _zero_point_type(graph: Any, node: Any) -> int:
    """Return the ONNX type of a quantized tensor: that of its zero point, which is uint8 where none is given."""
    import onnx

    stored = {entry.name: int(entry.data_type) for entry in graph.initializer}
    return stored.get(node.input[2], onnx.TensorProto.UINT8) if len(node.input) > 2 else int(onnx.TensorProto.UINT8)


def _weights_onnx(content: bytes) -> int:
    import onnx

    kernels = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    graph = onnx.load_from_string(content).graph
    return sum(_kernel_size(entry.dims) for entry in graph.initializer if entry.data_type in kernels)


def _kernel_size(shape: Sequence[int]) -> int:
    """Return how many numbers a constant holds, or 0 where it is a bias or a scalar."""
    size = int(np.prod(shape))
    return size if len(shape) > 1 and size > 1 else 0
