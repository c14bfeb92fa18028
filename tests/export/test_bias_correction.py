"""The constant part of the INT8 error is taken back in the float head, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from export.convert import tflite_file
from export.errors import ExportConversionError
from export.gates.outputs import run_all
from export.int8.bias_correction import logit_shift, shifted_onnx, shifted_tflite
from tests.export.asking import onnx_run, tflite_run

pytestmark = pytest.mark.slow
SHIFT = np.array([0.5, -0.25, 2.0], np.float32)
FORMS = {"tflite": (shifted_tflite, tflite_run), "onnx": (shifted_onnx, onnx_run)}


def test_the_shift_is_the_mean_of_what_int8_lacks() -> None:
    fp32 = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
    int8 = fp32 - np.array([[0.5, 0], [0.5, 0], [0, 0], [0, 4]], np.float32)
    np.testing.assert_allclose(logit_shift(fp32=fp32, int8=int8), [0.25, 1.0])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_logits_move_by_the_shift_and_the_uncertainty_not_at_all(exported, form: str) -> None:
    shifted, run = FORMS[form]
    data = (exported.out / f"model.{form}").read_bytes()
    ecg = exported.data.validation[:6]
    before, after = run_all(run(data), ecg), run_all(run(shifted(data, SHIFT)), ecg)
    np.testing.assert_allclose(after.logits - before.logits, np.tile(SHIFT, (6, 1)), atol=1e-5)
    np.testing.assert_array_equal(after.uncertainty, before.uncertainty)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_the_shipped_file_has_no_mean_shift_left_on_the_calibration_recordings(exported, form: str) -> None:
    ecg = exported.data.calibration
    said = {
        kind: run_all(FORMS[form][1](exported.work / f"model.{kind}.{form}"), ecg).logits.mean(axis=0)
        for kind in ("fp32", "int8")
    }
    np.testing.assert_allclose(said["int8"], said["fp32"], atol=1e-4)
    noted = exported.read("recipe.json")["calibration"][f"{form}_logit_shift"]
    assert len(noted) == 3
    assert any(noted)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_shift_of_another_length_is_refused(exported, form: str) -> None:
    with pytest.raises(ExportConversionError, match="one for each output"):
        FORMS[form][0]((exported.out / f"model.{form}").read_bytes(), SHIFT[:2])


def test_a_file_without_a_float_head_is_refused(exported) -> None:
    model = tflite_file.parse((exported.out / "model.tflite").read_bytes())
    head = model.subgraphs[0].operators[-3:]
    for operator in head:
        if tflite_file.operator_name(model, operator)[0] == "FULLY_CONNECTED":
            operator.inputs = np.array([*operator.inputs[:2], -1], np.int32)
    with pytest.raises(ExportConversionError, match="found no float layer with a bias"):
        shifted_tflite(tflite_file.pack(model), SHIFT)
