"""A float `.tflite` file to INT8 in the recipe's region: static quantization with the true range of each tensor.

litert-quantizer's own `calibrate()` follows the ranges with a moving average (weight 0.95 on the past). ECG amplitudes
differ several-fold between people, so such ranges shrink to the common case and cut the tall QRS complexes, the ones
that matter. Here every range is the minimum and maximum over all calibration recordings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.convert.environment import require
from export.convert.noise import noise_to
from export.convert.tflite_file import ENCODER_SCOPE
from export.errors import ExportCalibrationError
from export.int8.recipe import ALL, ENCODER, TRUNK, QuantRecipe

SIGNATURE: Final = "serving_default"
# The first convolution of the encoder's body, with what feeds it. A stage with residual blocks nests it once more, and the
# fused name of a block's addition names both the block and the convolution before it.
_STEM: Final = r"(?!.*Residual_).*_body/[^/;]*_0/(?:[^/;]*Sequential_0/)?[^/;]*Conv1d_0"
_SCOPES: Final = {ENCODER: ENCODER_SCOPE, TRUNK: rf"(?!{_STEM}){ENCODER_SCOPE}", ALL: ".*"}
Ranges = Mapping[str, tuple[np.ndarray, np.ndarray]]


def collect_ranges(model: Path, ecg: np.ndarray, *, recipe: QuantRecipe, log: Path) -> Ranges:
    """Run the float model on `ecg` `[n, lead, time]` mV and return `{tensor: (minimum, maximum)}` over all of it.

    Constants have no range; they stand in the result with empty arrays, as the quantizer wants them.
    """
    require("litert_quantizer")
    from litert_quantizer import calibrator
    from litert_quantizer.utils import qsv_utils

    with noise_to(log):
        run = calibrator.Calibrator(str(model), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        run.calibrate({SIGNATURE: [{"ecg": record[None]} for record in ecg]}, quantizer_rules(recipe))
        found = run.get_model_qsvs()
    none = np.zeros(0, np.float32)
    ranges = {
        name: (np.asarray(qsv["min"], np.float32), np.asarray(qsv["max"], np.float32)) if qsv else (none, none)
        for name, qsv in sorted(found.items())
    }
    bad = [name for name, (low, high) in ranges.items() if not (np.isfinite(low).all() and np.isfinite(high).all())]
    if bad:
        raise ExportCalibrationError(f"{len(bad)} tensors took NaN or infinite values during calibration: {bad[:3]}")
    return ranges


def ranges_sha256(ranges: Ranges) -> str:
    """Return the SHA-256 of the ranges, for the record of what the file was made from."""
    rows = {name: [low.ravel().tolist(), high.ravel().tolist()] for name, (low, high) in ranges.items()}
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def quantize_tflite(model: Path, out: Path, *, recipe: QuantRecipe, ranges: Ranges, log: Path) -> Path:
    """Write the INT8 form of the float `model` and return its path."""
    require("litert_quantizer")
    from litert_quantizer import quantizer

    qsvs = {name: {"min": low, "max": high} if low.size else {} for name, (low, high) in ranges.items()}
    with noise_to(log):
        tool = quantizer.Quantizer(str(model))
        tool.load_quantization_recipe(quantizer_rules(recipe).get_quantization_recipe())
        result = tool.quantize(qsvs, enable_progress_report=False)
        result.export_model(str(out), overwrite=True)
    return out


def quantizer_rules(recipe: QuantRecipe) -> Any:
    """Return the recipe in litert-quantizer's terms: scope of its region times the operators of the allow-list."""
    from litert_quantizer import qtyping, recipe_manager

    granularity = qtyping.QuantGranularity

    manager = recipe_manager.RecipeManager()
    for operator in recipe.tflite_ops:
        manager.add_static_config(
            regex=_SCOPES[recipe.region],
            operation_name=qtyping.TFLOperationName(operator),
            activation_num_bits=recipe.activation_bits,
            weight_num_bits=recipe.weight_bits,
            weight_granularity=granularity.TENSORWISE
            if operator in recipe.tflite_tensorwise
            else granularity.CHANNELWISE,
        )
    return manager
