"""The trap in the libraries' calibration: a moving average forgets the tall recordings, and cuts their QRS.

Tall recordings come first and common ones after them, as a list sorted by device or ward may have it. The small student of
this room is quantized by both toolchains, once as they do by default or offer it, once with the true minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export.convert import tflite_file
from export.convert.noise import noise_to
from export.gates.golden import CASES, RAW_FS_HZ, limb_leads_mv
from export.gates.outputs import file_run, run_all
from export.int8.quantize_onnx import quantize_onnx
from export.int8.quantize_tflite import SIGNATURE, Ranges, collect_ranges, quantize_tflite, quantizer_rules
from export.int8.recipe import load_recipe
from lsemvae.ecg.frontend import apply_array
from tests.export.asking import PROMISED

pytestmark = pytest.mark.slow
ENCODER = "static_wi8_ai8_encoder"  # quantizes the input itself, where a QRS is cut
N_TALL, N_COMMON = 2, 64


@dataclass(frozen=True)
class Trap:
    """Calibration recordings `[n, 2, 2500]` mV, tall ones first, and one tall recording to judge by."""

    ecg: np.ndarray
    tall: np.ndarray


@pytest.fixture(scope="module")
def trap(exported) -> Trap:
    case = next(case for case in CASES if case.name == "tall QRS")
    tall = apply_array(limb_leads_mv(case)[:2], fs_hz=RAW_FS_HZ)
    common = exported.data.calibration
    common = common[np.argsort(np.abs(common).max(axis=(1, 2)))[:N_COMMON]]
    return Trap(np.concatenate([np.repeat(tall[None], N_TALL, axis=0), common]), tall)


def library_default(named: Path, ecg: np.ndarray, log: Path) -> Ranges:
    """Ranges by `Quantizer.calibrate`, which follows each with a moving average of weight 0.95 on the past."""
    from litert_quantizer import quantizer

    with noise_to(log):
        tool = quantizer.Quantizer(str(named))
        tool.load_quantization_recipe(quantizer_rules(load_recipe(ENCODER)).get_quantization_recipe())
        found = tool.calibrate({SIGNATURE: [{"ecg": record[None]} for record in ecg]})
    none = np.zeros(0, np.float32)
    return {k: (np.asarray(v["min"]), np.asarray(v["max"])) if v else (none, none) for k, v in found.items()}


def true_range(named: Path, ecg: np.ndarray, log: Path) -> Ranges:
    return collect_ranges(named, ecg, recipe=load_recipe(ENCODER), log=log)


def tflite_int8(exported, trap: Trap, calibrate: Callable[..., Ranges], folder: Path) -> Path:
    named, log = exported.work / "model.named.tflite", folder / "log"
    ranges = calibrate(named, trap.ecg, log)
    out = folder / f"{calibrate.__name__}.tflite"
    return quantize_tflite(named, out, recipe=load_recipe(ENCODER), ranges=ranges, log=log)


def onnx_int8(exported, trap: Trap, folder: Path, *, moving_average: bool) -> Path:
    """Through the exporter's own call; for the trap, with ONNX Runtime's moving average switched on."""
    from onnxruntime import quantization as ort

    real = ort.quantize_static

    def trapped(*args: object, extra_options: dict, **more: object) -> None:
        real(*args, extra_options=extra_options | {"CalibMovingAverage": True}, **more)

    model, out = exported.work / "model.fp32.onnx", folder / f"{moving_average}.onnx"
    with pytest.MonkeyPatch.context() as patch:
        if moving_average:
            patch.setattr(ort, "quantize_static", trapped)
        return quantize_onnx(model, out, recipe=load_recipe(ENCODER), ecg=trap.ecg, log=folder / "log")


def tflite_input_range_mv(model: Path) -> tuple[float, float]:
    graph = tflite_file.parse(model.read_bytes()).subgraphs[0]
    made = next(t for t in graph.tensors if tflite_file.tensor_name(t) == "serving_default_ecg_quantized")
    scale, zero = float(made.quantization.scale[0]), int(made.quantization.zeroPoint[0])
    return scale * (-128 - zero), scale * (127 - zero)


def onnx_input_range_mv(model: Path) -> tuple[float, float]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    node = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "ecg")
    stored = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    scale, zero = float(stored[node.input[1]]), int(stored[node.input[2]])
    return scale * (0 - zero), scale * (255 - zero)


def error_on_the_tall(model: Path, exported, trap: Trap) -> float:
    """Largest |logit - float logit| on the tall recording."""
    reference = exported.work / f"model.fp32{model.suffix}"
    said, expected = (run_all(file_run(path, PROMISED), trap.tall[None]).logits for path in (model, reference))
    return float(np.abs(said - expected).max())


@pytest.mark.promise(114)
def test_default_calibration_of_litert_cuts_a_tall_qrs_and_ours_does_not(exported, trap: Trap, tmp_path: Path) -> None:
    trapped = tflite_int8(exported, trap, library_default, tmp_path)
    ours = tflite_int8(exported, trap, true_range, tmp_path)
    judge_pair(trapped, ours, tflite_input_range_mv, exported, trap)


@pytest.mark.promise(114)
def test_moving_average_of_onnx_runtime_cuts_a_tall_qrs_and_ours_does_not(exported, trap: Trap, tmp_path: Path) -> None:
    trapped = onnx_int8(exported, trap, tmp_path, moving_average=True)
    ours = onnx_int8(exported, trap, tmp_path, moving_average=False)
    judge_pair(trapped, ours, onnx_input_range_mv, exported, trap)


def judge_pair(trapped: Path, ours: Path, input_range_mv: Callable[[Path], tuple[float, float]], exported, trap: Trap):
    """The range, what of the QRS lies outside it, and what that does to the output."""
    peak_mv = float(np.abs(trap.tall).max())
    (cut_low, cut_high), (low, high) = input_range_mv(trapped), input_range_mv(ours)
    step_mv = (high - low) / 255
    assert max(-cut_low, cut_high) < 0.7 * peak_mv
    assert low - step_mv <= trap.tall.min()
    assert trap.tall.max() <= high + step_mv
    lost = np.maximum(trap.tall - cut_high, cut_low - trap.tall)
    assert lost.max() > 0.3 * peak_mv
    assert (lost > 0).sum() >= 10  # samples: every beat loses its tip
    assert error_on_the_tall(trapped, exported, trap) > 2 * error_on_the_tall(ours, exported, trap)


@pytest.mark.promise(114)
def test_the_default_hangs_on_the_order_of_the_recordings_and_ours_does_not(
    exported, trap: Trap, tmp_path: Path
) -> None:
    named, log = exported.work / "model.named.tflite", tmp_path / "log"
    key = "serving_default_ecg"

    def span_mv(calibrate: Callable[..., Ranges], ecg: np.ndarray) -> float:
        low, high = calibrate(named, ecg, log)[key]
        return float(high.max() - low.min())

    tall_last, true_mv = np.roll(trap.ecg, -N_TALL, axis=0), float(trap.ecg.max() - trap.ecg.min())
    first, last = (span_mv(library_default, ecg) for ecg in (trap.ecg, tall_last))
    assert first < 0.95 * last < 0.5 * true_mv
    assert span_mv(true_range, trap.ecg) == span_mv(true_range, tall_last) == pytest.approx(true_mv)
