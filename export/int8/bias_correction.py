"""Bias correction: what INT8 shifts the logits by on average is added back to the float head.

Rounding shifts each map a little, and the shifts of all channels add up to a constant part in the logits (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2). The head is float, so
the constant can be taken back exactly, in the bias of its last layer. Nothing else of the file changes.
"""

from __future__ import annotations

import numpy as np

from export.convert import tflite_file
from export.errors import ExportConversionError

_LOGITS = "logits"


def logit_shift(*, fp32: np.ndarray, int8: np.ndarray) -> np.ndarray:
    """Return the mean `[K]` of fp32 minus INT8 logits `[n, K]` over the calibration recordings, float32."""
    shift: np.ndarray = (fp32.astype(np.float64) - int8).mean(axis=0).astype(np.float32)
    return shift


def shifted_tflite(data: bytes, shift: np.ndarray) -> bytes:
    """Return a `.tflite` file whose logits are `shift` `[K]` higher: the bias of the layer that makes them is changed."""
    model = tflite_file.parse(data)
    graph = model.subgraphs[0]
    outputs = {int(i) for i in graph.outputs if _LOGITS in tflite_file.tensor_name(graph.tensors[i])}
    biases = [
        int(operator.inputs[2])
        for operator in graph.operators
        if tflite_file.operator_name(model, operator)[0] == "FULLY_CONNECTED" and int(operator.outputs[0]) in outputs
    ]
    floats = [i for i in biases if i >= 0 and tflite_file.TENSOR_TYPES[graph.tensors[i].type] == "FLOAT32"]
    if not floats:
        raise ExportConversionError("found no float layer with a bias that makes the logits; expected the head's")
    bias = floats[0]
    buffer = model.buffers[graph.tensors[bias].buffer]
    values = np.asarray(buffer.data, np.uint8).tobytes()
    before = np.frombuffer(values, "<f4")
    if before.shape != shift.shape:
        raise ExportConversionError(
            f"the head's bias has {before.shape[0]} values; expected {shift.shape[0]}, one for each output"
        )
    if sum(tensor.buffer == graph.tensors[bias].buffer for tensor in graph.tensors) != 1:
        raise ExportConversionError("the head's bias is stored together with another tensor's; expected its own values")
    buffer.data = np.frombuffer((before + shift).astype("<f4").tobytes(), np.uint8)
    return tflite_file.pack(model)


def shifted_onnx(data: bytes, shift: np.ndarray) -> bytes:
    """Return an `.onnx` file whose logits are `shift` `[K]` higher: the bias of the layer that makes them is changed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(data)
    layer = next(
        (n for n in model.graph.node if n.op_type == "Gemm" and n.output[0] == _LOGITS and len(n.input) == 3), None
    )
    stored = next((t for t in model.graph.initializer if layer is not None and t.name == layer.input[2]), None)
    if layer is None or stored is None:
        raise ExportConversionError("found no float layer with a bias that makes the logits; expected the head's")
    if sum(stored.name in n.input for n in model.graph.node) != 1:
        raise ExportConversionError("the head's bias is read by another operator too; expected its own values")
    before = numpy_helper.to_array(stored)
    if before.shape != shift.shape:
        raise ExportConversionError(
            f"the head's bias has shape {before.shape}; expected {shift.shape}, one for each output"
        )
    stored.CopyFrom(numpy_helper.from_array((before + shift).astype(np.float32), stored.name))
    content: bytes = model.SerializeToString(deterministic=True)
    return content
