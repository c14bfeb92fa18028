"""Model files taken apart: their INT8 layers, files with one scale wrong, files cut short behind a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from export.convert.tflite_file import TENSOR_TYPES, operator_name, pack, parse

BROKEN_BY: Final = 1.1
"""A scale that is 10 % off."""
_WITH_WEIGHTS: Final = ("CONV_2D", "FULLY_CONNECTED")


def broken_tflite(content: bytes) -> Iterator[bytes]:
    """Yield the file once for each INT8 layer, with the scales of that layer's weights off by 10 %.

    The scale of the bias moves along, as it would if the exporter had got the weights wrong: the runtimes check that it
    is the product of the scales of input and weights.
    """
    for position in _quantized_layers(parse(content)):
        model = parse(content)
        graph = model.subgraphs[0]
        for tensor in [int(i) for i in graph.operators[position].inputs[1:] if i >= 0]:
            quantization = graph.tensors[tensor].quantization
            quantization.scale = np.asarray(quantization.scale, np.float32) * np.float32(BROKEN_BY)
        yield pack(model)


def _quantized_layers(model: Any) -> list[int]:
    """Return the positions of the operators with INT8 weights."""
    graph = model.subgraphs[0]
    return [
        position
        for position, operator in enumerate(graph.operators)
        if operator_name(model, operator)[0] in _WITH_WEIGHTS
        and TENSOR_TYPES[graph.tensors[int(operator.inputs[1])].type] == "INT8"
    ]


def _layers_onnx(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, dict[str, onnx.NodeProto]]]:
    """Return the nodes with INT8 weights, each with the nodes that bring its weights and bias back to float."""
    dequantize = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and node.input[1] in dequantize]
    return [(node, {name: dequantize[name] for name in node.input[1:]}) for node in nodes]


def broken_onnx(content: bytes) -> Iterator[bytes]:
    """Yield the file once for each INT8 layer, with the scales of that layer's weights and bias off by 10 %."""
    for _, stored in _layers_onnx(onnx.load_from_string(content)):
        broken = onnx.load_from_string(content)
        wrong = {node.input[1] for node in stored.values()}
        for initializer in broken.graph.initializer:
            if initializer.name in wrong:
                scale = numpy_helper.to_array(initializer) * np.float32(BROKEN_BY)
                initializer.CopyFrom(numpy_helper.from_array(scale, initializer.name))
        yield broken.SerializeToString()


def weights_tflite(content: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return INT8 weights `[out, in, tap]` and float32 scales `[out]` of each convolution and dense layer."""
    model = parse(content)
    graph = model.subgraphs[0]
    found = []
    for position in _quantized_layers(model):
        tensor = graph.tensors[int(graph.operators[position].inputs[1])]
        stored = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).reshape(tensor.shape)
        # A convolution in time is stored as one over an image of height 1, [out, 1, tap, in].
        weights = stored[:, 0].transpose(0, 2, 1) if stored.ndim == 4 else stored[:, :, None]
        found.append((weights, np.asarray(tensor.quantization.scale, np.float32)))
    return found


def weights_onnx(content: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the same of an `.onnx` file."""
    model = onnx.load_from_string(content)
    arrays = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    found = []
    for node, stored in _layers_onnx(model):
        weights, scales = (arrays[name] for name in stored[node.input[1]].input[:2])
        found.append((weights if weights.ndim == 3 else weights[:, :, None], scales))
    return found


def quantized_convolutions(content: bytes) -> list[int]:
    """Return the positions of the INT8 convolutions."""
    model = parse(content)
    return [
        i for i in _quantized_layers(model) if operator_name(model, model.subgraphs[0].operators[i])[0] == "CONV_2D"
    ]


def cut_after(content: bytes, position: int) -> bytes:
    """Return a `.tflite` that ends behind the operator at `position`; what that computes is the only output."""
    model = parse(content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[: position + 1]
    graph.outputs = [int(graph.operators[-1].outputs[0])]
    model.signatureDefs = None
    return pack(model)
