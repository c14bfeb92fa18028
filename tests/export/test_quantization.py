"""INT8 in numbers: true ranges against moving averages, broken scales, hybrids; from the shared conversion's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.convert import tflite_file
from export.convert.noise import noise_to
from export.errors import ExportAuditError, ExportGateError
from export.gates.audit import require_clean
from export.gates.audit_tflite import audit_tflite
from export.gates.gates import GateThresholds
from export.gates.golden import CASES, RAW_FS_HZ, limb_leads_mv
from export.gates.outputs import run_all
from export.gates.parity import REFERENCE, compare_all, require_parity
from export.int8.quantize_tflite import collect_ranges, quantize_tflite, ranges_sha256
from export.int8.recipe import load_recipe
from lsemvae.ecg.frontend import apply_array
from lsemvae.ecg.rule import Calibration, DecisionRule
from tests.export.asking import tflite_run

pytestmark = pytest.mark.slow
SHAPE = {"n_leads": 2, "n_samples": 2500, "n_labels": 3}
LABELS = ("RHS", "RBBB_any", "NORM")
INPUT = "serving_default_ecg"
# The recipe that also makes the recording itself INT8: there a cut range is a cut QRS.
WHOLE_ENCODER = "static_wi8_ai8_encoder"


@pytest.fixture(scope="module")
def named(exported) -> Path:
    return exported.work / "model.named.tflite"


@pytest.fixture(scope="module")
def with_tall(exported) -> tuple[np.ndarray, np.ndarray]:
    """One tall-QRS recording first, then 64 of common height: what a moving average forgets."""
    tall = apply_array(limb_leads_mv(next(c for c in CASES if c.name == "tall QRS"))[:2], fs_hz=RAW_FS_HZ)
    common = exported.data.calibration
    common = common[np.argsort(np.abs(common).max(axis=(1, 2)))[:64]]
    return tall, np.concatenate([tall[None], common])


def moving_average_ranges(named: Path, ecg: np.ndarray, log: Path) -> dict:
    """What the quantizer's own calibration makes of the same recordings."""
    from litert_quantizer import quantizer

    from export.int8.quantize_tflite import SIGNATURE, quantizer_rules

    with noise_to(log):
        tool = quantizer.Quantizer(str(named))
        tool.load_quantization_recipe(quantizer_rules(load_recipe(WHOLE_ENCODER)).get_quantization_recipe())
        qsvs = tool.calibrate({SIGNATURE: [{"ecg": record[None]} for record in ecg]})
    return {
        k: (np.asarray(v["min"]), np.asarray(v["max"])) if v else (np.zeros(0), np.zeros(0)) for k, v in qsvs.items()
    }


def representable_mv(model: Path) -> tuple[float, float]:
    """Smallest and largest input voltage that the INT8 file can tell apart."""
    graph = tflite_file.parse(model.read_bytes()).subgraphs[0]
    quantized = next(t for t in graph.tensors if tflite_file.tensor_name(t) == f"{INPUT}_quantized")
    scale, zero = float(quantized.quantization.scale[0]), int(quantized.quantization.zeroPoint[0])
    return scale * (-128 - zero), scale * (127 - zero)


def test_minmax_keeps_a_tall_qrs_that_the_moving_average_cuts_off(named: Path, with_tall, tmp_path: Path) -> None:
    tall, ecg = with_tall
    log, recipe = tmp_path / "log", load_recipe(WHOLE_ENCODER)
    full = collect_ranges(named, ecg, recipe=recipe, log=log)
    average = moving_average_ranges(named, ecg, log)
    paths = [
        quantize_tflite(named, tmp_path / f"{name}.tflite", recipe=recipe, ranges=ranges, log=log)
        for name, ranges in (("full", full), ("average", average))
    ]
    (low, high), (cut_low, cut_high) = map(representable_mv, paths)
    step = (high - low) / 255
    assert low - step <= tall.min()
    assert tall.max() <= high + step
    assert cut_high < 0.7 * tall.max() or cut_low > 0.7 * tall.min()
    reference = run_all(tflite_run(named), tall[None]).logits
    errors = [float(np.abs(run_all(tflite_run(path), tall[None]).logits - reference).max()) for path in paths]
    assert errors[0] < 0.5 * errors[1]


def test_ranges_are_the_true_extremes_and_do_not_depend_on_the_order(named: Path, with_tall, tmp_path: Path) -> None:
    _, ecg = with_tall
    forward = collect_ranges(named, ecg[:16], recipe=load_recipe(WHOLE_ENCODER), log=tmp_path / "log")
    backward = collect_ranges(named, ecg[:16][::-1], recipe=load_recipe(WHOLE_ENCODER), log=tmp_path / "log")
    assert ranges_sha256(forward) == ranges_sha256(backward)
    low, high = forward[INPUT]
    assert float(low.min()) == pytest.approx(float(ecg[:16].min()))
    assert float(high.max()) == pytest.approx(float(ecg[:16].max()))


def with_broken_scale(model: bytes, factor: float) -> bytes:
    """Multiply the scales of an INT8 convolution's weights, as a bad conversion would."""
    parsed = tflite_file.parse(model)
    graph = parsed.subgraphs[0]
    for operator in graph.operators:
        if tflite_file.operator_name(parsed, operator)[0] == "CONV_2D":
            tensor = graph.tensors[int(operator.inputs[1])]
            if tensor.quantization is None or tensor.quantization.scale is None:
                continue  # the first convolution is float
            tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(factor)
            return tflite_file.pack(parsed)
    raise AssertionError("no convolution found")


@pytest.mark.promise(82)
def test_a_deliberately_broken_scale_is_rejected_by_the_gate(exported) -> None:
    good = (exported.out / "model.tflite").read_bytes()
    ecg = exported.data.validation
    rule = DecisionRule(
        primary="RHS",
        calibrations={label: Calibration(slope=1.0, intercept=0.0) for label in LABELS},
        thresholds=dict.fromkeys(LABELS, 0.5),
    )
    reference = run_all(tflite_run(exported.work / "model.fp32.tflite"), ecg)

    def judge(model: bytes):
        outputs = {REFERENCE: reference, "tflite_int8": run_all(tflite_run(model), ecg)}
        return compare_all(outputs, labels=LABELS, truth=exported.data.truth, rule=rule, gates=GateThresholds())

    require_parity(judge(tflite_file.pack(tflite_file.parse(good))))
    for factor in (4.0, 0.25):
        with pytest.raises(ExportGateError, match=r"found .* expected") as caught:
            require_parity(judge(with_broken_scale(good, factor)))
        assert "Calibrate" in caught.value.advice


@pytest.mark.promise(83)
def test_float_file_does_not_pass_as_int8(exported) -> None:
    data = (exported.work / "model.fp32.tflite").read_bytes()
    assert audit_tflite(data, int8=False, **SHAPE).problems == ()
    with pytest.raises(ExportAuditError, match="encoder CONV_2D is float in the INT8 region"):
        require_clean(audit_tflite(data, int8=True, **SHAPE))


def test_a_recipe_that_forgets_an_operator_leaves_a_float_island_that_is_found(
    named: Path, exported, tmp_path: Path
) -> None:
    from dataclasses import replace

    recipe = load_recipe()
    partial = replace(recipe, tflite_ops=tuple(op for op in recipe.tflite_ops if op != "MEAN"))
    ranges = collect_ranges(named, exported.data.calibration[:8], recipe=partial, log=tmp_path / "log")
    made = quantize_tflite(named, tmp_path / "m.tflite", recipe=partial, ranges=ranges, log=tmp_path / "log")
    problems = audit_tflite(made.read_bytes(), int8=True, **SHAPE).problems
    assert "encoder MEAN is float in the INT8 region" in problems


@pytest.mark.promise(83)
def test_dynamic_range_file_is_refused(named: Path, tmp_path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    with noise_to(tmp_path / "log"):
        tool = quantizer.Quantizer(str(named))
        tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        tool.quantize(enable_progress_report=False).export_model(str(tmp_path / "d.tflite"), overwrite=True)
    with pytest.raises(ExportAuditError, match=r"CONV_2D runs float activations on integer weights \(dynamic range\)"):
        require_clean(audit_tflite((tmp_path / "d.tflite").read_bytes(), int8=True, **SHAPE))


@pytest.mark.promise(83)
def test_weight_only_file_is_refused(named: Path, tmp_path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    with noise_to(tmp_path / "log"):
        tool = quantizer.Quantizer(str(named))
        tool.load_quantization_recipe(recipe.weight_only_wi8_afp32())
        tool.quantize(enable_progress_report=False).export_model(str(tmp_path / "w.tflite"), overwrite=True)
    with pytest.raises(ExportAuditError, match="dynamic range"):
        require_clean(audit_tflite((tmp_path / "w.tflite").read_bytes(), int8=True, **SHAPE))


@pytest.mark.promise(83)
def test_shipped_int8_file_is_int8_in_the_trunk_and_float_at_its_ends_and_in_the_head(exported) -> None:
    data = (exported.out / "model.tflite").read_bytes()
    report = require_clean(audit_tflite(data, int8=True, region="trunk", **SHAPE))
    kinds = {(row.region, row.op, row.kind): row.count for row in report.ops}
    assert kinds["encoder", "CONV_2D", "float"] == 1
    assert kinds["encoder", "CONV_2D", "int8"] == 1
    assert ("encoder", "MEAN", "int8") in kinds
    assert ("encoder", "FULLY_CONNECTED", "int8") not in kinds
    assert ("head", "FULLY_CONNECTED", "float") in kinds
    assert not {kind for region, _, kind in kinds if region == "head"} - {"float"}


def test_stripped_names_are_short_and_change_no_bit(exported) -> None:
    named = (exported.work / "model.named.int8.tflite").read_bytes()
    stripped = tflite_file.strip_names(named)
    assert len(stripped) < 0.8 * len(named)
    names = [tflite_file.tensor_name(t) for t in tflite_file.parse(stripped).subgraphs[0].tensors]
    assert max(map(len, names)) < 40
    ecg = exported.data.validation[:8]
    np.testing.assert_array_equal(run_all(tflite_run(named), ecg).logits, run_all(tflite_run(stripped), ecg).logits)
    assert tflite_file.strip_names(stripped) == stripped


def test_noise_of_libraries_goes_to_the_log_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import logging
    import os
    import warnings

    with noise_to(tmp_path / "log"):
        os.write(2, b"from C++\n")
        print("printed")
        logging.warning("logged")
        warnings.warn("warned", stacklevel=1)
    os.write(2, b"after\n")
    text = (tmp_path / "log").read_text()
    assert all(word in text for word in ("from C++", "printed", "logged"))
    assert capfd.readouterr().err == "after\n"
