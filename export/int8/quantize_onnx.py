"""A float `.onnx` file to INT8 inside, float32 outside, as QDQ (quantize and dequantize nodes around float operators).

The recipe's choice is U8S8 (unsigned activations, signed weights). Measured with ONNX Runtime 1.32 on an x86 core with
VNNI, one inference of a 0.27 M-parameter encoder: U8S8 0.26 ms, S8S8 1.05 ms, fp32 1.25 ms, with equal results; in a
browser S8S8 is slower than fp32; on a Cortex-A72 both take the same number of instructions. Known cost: on x86 without
VNNI a sum of two U8S8 products may saturate 16 bits; the runtime is asked for kernels that do not (`lsemvae.screen.runtime.onnx_options`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from export.convert.environment import require
from export.convert.noise import noise_to
from export.convert.to_onnx import INPUT_NAME, strip_metadata
from export.int8.recipe import TRUNK, QuantRecipe

# ONNX Runtime's own mark for "folded and shape-inferred already"; without it the quantizer warns on every run.
_PREPARED_KEY: Final = "onnx.quant.pre_process"
_PREPARED_VALUE: Final = "onnxruntime.quant"


def quantize_onnx(model: Path, out: Path, *, recipe: QuantRecipe, ecg: np.ndarray, log: Path) -> Path:
    """Write the INT8 form of the float `model`, calibrated on `ecg` `[n, lead, time]` mV, and return its path.

    Only nodes of the recipe's region are touched (`to_onnx` names them). Ranges are the minimum and maximum over all
    recordings; "Relu" is listed so that it sits inside its convolution's quantize/dequantize pair.
    """
    require("onnxruntime")
    import onnx
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._records: Iterator[np.ndarray] = iter(ecg)

        def get_next(self) -> dict[str, np.ndarray] | None:
            record = next(self._records, None)
            return None if record is None else {INPUT_NAME: record[None]}

    prepared = onnx.load(model)
    entry = prepared.metadata_props.add()
    entry.key, entry.value = _PREPARED_KEY, _PREPARED_VALUE
    nodes = prepared.graph.node
    outside: set[str] = set()
    if recipe.region == TRUNK:  # the first convolutions, those that read the recording itself, and what rectifies them
        first = [n for n in nodes if n.op_type == "Conv" and n.input[0] == INPUT_NAME]
        made = {name for n in first for name in n.output}
        outside = {n.name for n in first} | {n.name for n in nodes if n.op_type == "Relu" and n.input[0] in made}
    types = {"uint8": ort.QuantType.QUInt8, "int8": ort.QuantType.QInt8}
    with noise_to(log):
        ort.quantize_static(
            prepared,
            str(out),
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.onnx_ops),
            nodes_to_quantize=[
                n.name
                for n in nodes
                if n.name.startswith("encoder/") and n.op_type in recipe.onnx_ops and n.name not in outside
            ],
            per_channel=True,
            reduce_range=recipe.onnx_reduce_range,
            activation_type=types[recipe.onnx_activation],
            weight_type=types[recipe.onnx_weight],
            calibrate_method=ort.CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True, "CalibMovingAverage": False},
        )
    quantized = onnx.load(out)
    strip_metadata(quantized)
    onnx.checker.check_model(quantized)
    out.write_bytes(quantized.SerializeToString(deterministic=True))
    return out
