"""The strict-integer variant: no float anywhere, clamps by saturation, and an interface that firmware can rebuild from JSON."""

from __future__ import annotations

import copy
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.convert import tflite_file
from export.convert.noise import noise_to
from export.errors import ExportAuditError, ExportCalibrationError, ExportError, ExportModelError
from export.gates.audit import BORDER, FLOAT, INT8, OpRow, op_problems
from export.gates.audit_tflite import audit_tflite
from export.gates.outputs import run_all
from export.gates.parity import compare
from export.int8.quantize_tflite import collect_ranges, quantize_tflite
from export.int8.recipe import load_recipe
from export.strict.build import STRICT_RECIPE, StrictFiles, export_strict, within
from export.strict.graph import integer_ready
from export.strict.interface import (
    QuantizedIo,
    dequantize,
    quantize_ecg,
    quantize_nearest,
    signature_runner,
    strict_interface,
    strict_run,
)
from lsemvae.ecg.rule import Calibration, DecisionRule
from tests.export.asking import tflite_run

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

LEADS = ("I", "II")
LABELS = ("RHS", "RBBB_any", "NORM")
SHAPE = {"n_leads": 2, "n_samples": 2500, "n_labels": 3}
IO = QuantizedIo("ecg", (1, 2, 2500), scale=0.025, zero_point=-24)
RULE = DecisionRule(
    primary="RHS",
    calibrations={label: Calibration(slope=1.0, intercept=0.0) for label in LABELS},
    thresholds=dict.fromkeys(LABELS, 0.5),
)


def recipe_of(**changes: object):
    return replace(load_recipe(STRICT_RECIPE), **changes)


@pytest.fixture(scope="module")
def named(exported) -> Path:
    return exported.work / "model.named.tflite"


@pytest.fixture(scope="module")
def strict(exported, named: Path, tmp_path_factory: pytest.TempPathFactory) -> StrictFiles:
    out = tmp_path_factory.mktemp("strict")
    return export_strict(
        named, exported.data.calibration, recipe=recipe_of(), leads=LEADS, labels=LABELS, out=out, log=out / "log"
    )


# --- the border ---------------------------------------------------------------------------------------------------


def test_feedback_never_drifts_more_than_half_a_step_from_the_ecg() -> None:
    """The sum of all errors so far is the one remainder that is carried."""
    ecg = np.cumsum(np.random.default_rng(0).normal(0, 0.03, (1, 2, 2500)), axis=2).clip(-2.5, 3.5)
    error = dequantize(quantize_ecg(ecg, IO), IO).astype(np.float64) - ecg
    assert np.abs(np.cumsum(error, axis=2)).max() <= 0.5 * IO.scale + 1e-4
    assert np.abs(np.cumsum(dequantize(quantize_nearest(ecg, IO), IO) - ecg, axis=2)).max() > 2 * IO.scale


@pytest.mark.slow
def test_feedback_lowers_the_rounding_noise_below_40_hz(export_data) -> None:
    """The band of the front-end, at 250 Hz: a third of the spectrum, and far less of the noise."""
    ecg = export_data.validation[:8]
    band = np.fft.rfftfreq(ecg.shape[2], 1 / 250.0) < 40.0

    def noise(quantize) -> float:
        error = np.concatenate([dequantize(quantize(one[None], IO), IO) - one for one in ecg])
        return float((np.abs(np.fft.rfft(error, axis=2)) ** 2)[..., band].sum())

    assert noise(quantize_ecg) < 0.5 * noise(quantize_nearest)


def test_saturation_leaves_no_echo() -> None:
    ecg = np.zeros((1, 2, 40))
    ecg[:, 0, 10:13] = 9.0  # mV: far beyond what IO can hold
    ecg[:, 1, 10:13] = -9.0
    integers = quantize_ecg(ecg, IO)
    assert set(integers[0, 0, 10:13]) == {127}
    assert set(integers[0, 1, 10:13]) == {-128}
    assert set(np.delete(integers, slice(10, 13), axis=2).ravel()) == {IO.zero_point}


def test_every_integer_survives_the_way_out_and_in() -> None:
    integers = np.arange(-128, 128, dtype=np.int8)
    np.testing.assert_array_equal(quantize_nearest(dequantize(integers, IO), IO), integers)
    low, high = IO.real_range
    assert (low, high) == (pytest.approx(-104 * 0.025), pytest.approx(151 * 0.025))


# --- what the audit lets through ----------------------------------------------------------------------------------


def test_one_float_operator_or_one_border_is_refused_in_a_strict_model() -> None:
    good = [OpRow("CONV_2D", "encoder", INT8, (1,)), OpRow("MEAN", "head", INT8)]
    assert op_problems(good, int8=True, region="all") == []
    for row, words in (
        (OpRow("MEAN", "head", FLOAT), "head MEAN is float in a strict-integer model"),
        (OpRow("QUANTIZE", "other", BORDER), "other QUANTIZE converts types inside a strict-integer model"),
        (OpRow("DIV", "head", INT8), "head DIV must not run in INT8"),
    ):
        assert op_problems([*good, row], int8=True, region="all") == [words]


STEM = [OpRow("PAD", "encoder", FLOAT, (1,)), OpRow("CONV_2D", "encoder", FLOAT, (2,))]
TAIL = [
    OpRow("DEQUANTIZE", "encoder", BORDER, (5,)),
    OpRow("FULLY_CONNECTED", "encoder", FLOAT, (6,)),
    OpRow("MEAN", "head", FLOAT),
]
TRUNK = [*STEM, OpRow("QUANTIZE", "encoder", BORDER, (3,)), OpRow("CONV_2D", "encoder", INT8, (4,)), *TAIL]


def test_the_trunk_may_have_one_float_convolution_before_it_and_linear_layers_behind() -> None:
    assert op_problems(TRUNK, int8=True, region="trunk") == []
    assert "encoder CONV_2D is float in the INT8 region" in op_problems(TRUNK, int8=True)
    assert "encoder FULLY_CONNECTED is float in the INT8 region" in op_problems(TRUNK, int8=True)


def test_a_second_float_convolution_or_a_float_mean_is_refused_in_the_trunk() -> None:
    two = [OpRow("CONV_2D", "encoder", FLOAT, (1,)), OpRow("CONV_2D", "encoder", FLOAT, (2,)), *TRUNK[2:]]
    assert op_problems(two, int8=True, region="trunk") == ["encoder CONV_2D is float in the INT8 region"]
    mean = [*TRUNK[:5], OpRow("MEAN", "encoder", FLOAT, (6,)), TRUNK[6]]
    assert op_problems(mean, int8=True, region="trunk") == ["encoder MEAN is float in the INT8 region"]


def test_a_float_island_inside_the_trunk_is_refused() -> None:
    island = [
        *TRUNK[:4],
        OpRow("DEQUANTIZE", "encoder", BORDER, (5,)),
        OpRow("ADD", "encoder", FLOAT, (6,)),
        OpRow("QUANTIZE", "encoder", BORDER, (7,)),
        OpRow("MEAN", "encoder", INT8),
    ]
    assert op_problems(island, int8=True, region="trunk") == ["encoder ADD is float between INT8 operators"]


# --- the file -----------------------------------------------------------------------------------------------------


@pytest.mark.promise(115)
@pytest.mark.slow
def test_strict_file_holds_integers_only(strict: StrictFiles) -> None:
    assert strict.audit.problems == ()
    assert {row.kind for row in strict.audit.ops} == {INT8}
    assert not {"QUANTIZE", "DEQUANTIZE", "DIV", "EXP", "LOG"} & {row.op for row in strict.audit.ops}
    graph = tflite_file.parse(strict.model.read_bytes()).subgraphs[0]
    assert {tflite_file.TENSOR_TYPES[t.type] for t in graph.tensors} <= {"INT8", "INT32"}
    assert [io.dtype for io in (*strict.audit.inputs, *strict.audit.outputs)] == ["int8"] * 3


@pytest.mark.promise(115)
@pytest.mark.slow
def test_strict_file_says_what_the_float_file_says(strict: StrictFiles, exported) -> None:
    ecg = exported.data.validation[:120]
    reference = run_all(tflite_run(exported.work / "model.fp32.tflite"), ecg)
    found = compare(
        "tflite_strict", run_all(strict_run(strict.model), ecg), "fp32", reference,
        labels=LABELS, truth=exported.data.truth[:120], rule=RULE,
    )  # fmt: skip
    assert found.finite
    assert found.p99_dp <= 0.05
    assert found.label_agreement >= 0.98
    assert found.p99_duncertainty <= 0.1


@pytest.mark.promise(115)
@pytest.mark.slow
def test_firmware_rebuilds_the_interface_from_the_json_alone(strict: StrictFiles, exported) -> None:
    spec = json.loads(strict.spec.read_text(encoding="utf-8"))
    ecg = exported.data.validation[:1]
    entry = spec["input"]
    integers = np.empty(entry["shape"], np.int8)
    for lead in range(2):
        e = 0.0
        for t, mv in enumerate(ecg[0, lead].tolist()):
            v = mv / entry["scale"] + e
            q = min(max(round(v), -128 - entry["zero_point"]), 127 - entry["zero_point"])
            e = v - q if q == round(v) else 0.0
            integers[0, lead, t] = q + entry["zero_point"]
    raw = signature_runner(strict.model)(ecg=integers)
    said = strict_run(strict.model)(ecg)
    logits, uncertainty = said.logits[None], np.array([[said.uncertainty]], np.float32)
    for out, expected in zip(spec["outputs"], (logits, uncertainty), strict=True):
        real = out["scale"] * (raw[out["name"]].astype(np.float64) - out["zero_point"])
        np.testing.assert_allclose(real, expected, rtol=1e-6, atol=1e-6)
    assert spec["outputs"][0]["labels"] == list(LABELS)
    assert entry["leads"] == list(LEADS)
    assert spec["n_bytes"] == strict.model.stat().st_size
    assert "ECG readers" in spec["statement"]


@pytest.mark.slow
def test_a_port_can_check_itself_against_the_golden_recordings(strict: StrictFiles, exported) -> None:
    """With the bundle's golden.npz and the JSON; a file with one broken scale is told from the right one."""
    expected = json.loads(strict.spec.read_text(encoding="utf-8"))["self_test"]
    with np.load(exported.out / "golden.npz", allow_pickle=False) as golden:
        integers = [quantize_ecg(one[None], strict.input) for one in golden["ecg"]]
    assert [zlib.crc32(one.tobytes()) for one in integers] == expected["crc32"]

    def steps_off(model: bytes) -> int:
        runner = signature_runner(model)
        found = [[runner(ecg=one)[name][0] for one in integers] for name in ("logits", "uncertainty")]
        return max(
            int(np.abs(np.array(out, int) - np.array(expected[name])).max())
            for name, out in zip(("logits", "uncertainty"), found, strict=True)
        )

    good = strict.model.read_bytes()
    assert steps_off(good) <= expected["tolerance_steps"]
    broken = tflite_file.parse(good)
    conv = next(o for o in broken.subgraphs[0].operators if tflite_file.operator_name(broken, o)[0] == "CONV_2D")
    scaled = broken.subgraphs[0].tensors[int(conv.outputs[0])].quantization
    scaled.scale = np.asarray(scaled.scale) * np.float32(1.5)
    assert steps_off(tflite_file.pack(broken)) > expected["tolerance_steps"]


@pytest.mark.slow
def test_shipped_int8_file_does_not_pass_as_strict(exported) -> None:
    problems = audit_tflite((exported.out / "model.tflite").read_bytes(), int8=True, region="all", **SHAPE).problems
    assert any("converts types inside a strict-integer model" in problem for problem in problems)
    assert any("ecg float32" in problem for problem in problems)
    assert any("float tensors" in problem for problem in problems)


@pytest.mark.slow
def test_every_kernel_of_the_runtime_agrees_within_a_few_steps(strict: StrictFiles, exported) -> None:
    ecg = exported.data.validation[:16]
    xnnpack, reference = (run_all(strict_run(strict.model, kernels=k), ecg) for k in ("xnnpack", "reference"))
    assert np.abs(xnnpack.logits - reference.logits).max() <= 4 * strict.outputs[0].scale
    assert np.abs(xnnpack.uncertainty - reference.uncertainty).max() <= 0.01  # of the log of a standard deviation


# --- clamps -------------------------------------------------------------------------------------------------------


def with_clamp(data: bytes, bound: float) -> bytes:
    """The float file with its clamp at +-bound instead."""
    model = tflite_file.parse(data)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        kind, _ = tflite_file.operator_name(model, operator)
        if kind in ("MAXIMUM", "MINIMUM"):
            constant = next(int(i) for i in operator.inputs if model.buffers[graph.tensors[i].buffer].data is not None)
            value = np.array([-bound if kind == "MAXIMUM" else bound], np.float32)
            model.buffers[graph.tensors[constant].buffer].data = np.frombuffer(value.tobytes(), np.uint8)
    return tflite_file.pack(model)


@pytest.mark.slow
def test_a_clamp_that_is_active_is_kept_by_saturation(named: Path, exported, tmp_path: Path) -> None:
    """With the bound in the middle of the log-variances, most of them are clamped, in the float file and in INT8."""
    ecg = exported.data.validation[:48]
    free = tmp_path / "free.tflite"
    free.write_bytes(with_clamp(named.read_bytes(), 1e6))
    unclamped = run_all(tflite_run(free), ecg).uncertainty
    bound = float(np.abs(unclamped).mean())
    tight = tmp_path / "tight.tflite"
    tight.write_bytes(with_clamp(named.read_bytes(), bound))
    files = export_strict(
        tight, exported.data.calibration[:64], recipe=recipe_of(min_calibration_records=64), leads=LEADS, labels=LABELS,
        out=tmp_path, log=tmp_path / "log",
    )  # fmt: skip
    clamped = run_all(tflite_run(tight), ecg).uncertainty
    strict_says = run_all(strict_run(files.model), ecg).uncertainty
    assert np.abs(clamped - unclamped).mean() > 0.1 * bound  # the clamp matters
    assert np.abs(strict_says - clamped).mean() < 0.1 * np.abs(clamped - unclamped).mean()
    (clamp,) = files.clamps
    step = (clamp.stored[1] - clamp.stored[0]) / 255
    assert clamp.bound == (pytest.approx(-bound), pytest.approx(bound))
    assert clamp.bound[0] - step <= clamp.stored[0]
    assert clamp.stored[1] <= clamp.bound[1] + step


@pytest.mark.slow
def test_taking_the_clamp_out_changes_no_bit_where_it_is_not_active(named: Path, exported, tmp_path: Path) -> None:
    ready = integer_ready(named.read_bytes(), operators=recipe_of().tflite_ops)
    (bound,) = ready.bounds.values()
    assert bound == (-6.0, 6.0)
    ecg = exported.data.validation[:8]
    before, after = (run_all(tflite_run(data), ecg) for data in (named.read_bytes(), ready.data))
    np.testing.assert_array_equal(before.logits, after.logits)
    np.testing.assert_array_equal(before.uncertainty, after.uncertainty)
    model = tflite_file.parse(ready.data)
    assert not {"MAXIMUM", "MINIMUM"} & {tflite_file.operator_name(model, o)[0] for o in model.subgraphs[0].operators}


@pytest.mark.slow
def test_a_value_that_is_read_beside_its_clamp_is_refused(named: Path) -> None:
    model = tflite_file.parse(named.read_bytes())
    graph = model.subgraphs[0]
    clamp = next(o for o in graph.operators if tflite_file.operator_name(model, o)[0] == "MAXIMUM")
    beside = copy.copy(clamp)
    spare = copy.copy(graph.tensors[int(clamp.outputs[0])])
    spare.name = b"spare"
    graph.tensors.append(spare)
    beside.outputs = [len(graph.tensors) - 1]
    graph.operators.append(beside)
    with pytest.raises(ExportModelError, match="beside its clamp"):
        integer_ready(tflite_file.pack(model), operators=recipe_of().tflite_ops)


def test_a_clamped_tensor_without_a_range_is_refused() -> None:
    ranges = {"a": (np.array([-9.0]), np.array([4.0]))}
    cut = within(ranges, {"a": (-6.0, 6.0)})
    assert [float(end[0]) for end in cut["a"]] == [-6.0, 4.0]
    with pytest.raises(ExportModelError, match=r"no range of the clamped tensors \['b'\]"):
        within(ranges, {"b": (-6.0, 6.0)})


# --- what is refused ----------------------------------------------------------------------------------------------


def with_operator(data: bytes, old: str, new: str) -> bytes:
    model = tflite_file.parse(data)
    codes = {name: code for code, name in tflite_file.OPERATORS.items()}
    for entry in model.operatorCodes:
        if max(entry.builtinCode, entry.deprecatedBuiltinCode) == codes[old]:
            entry.builtinCode = entry.deprecatedBuiltinCode = codes[new]
    return tflite_file.pack(model)


@pytest.mark.slow
def test_a_graph_that_divides_is_refused_and_nothing_is_written(named: Path, exported, tmp_path: Path) -> None:
    dividing = tmp_path / "poe.tflite"
    dividing.write_bytes(with_operator(named.read_bytes(), "MUL", "DIV"))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ExportModelError, match="holds DIV; expected only") as caught:
        export_strict(
            dividing,
            exported.data.calibration,
            recipe=recipe_of(),
            leads=LEADS,
            labels=LABELS,
            out=out,
            log=out / "log",
        )
    assert "product of experts" in caught.value.advice
    assert not list(out.glob("*.tflite"))


@pytest.mark.slow
def test_a_recipe_that_forgets_the_border_leaves_floats_that_are_found(named: Path, exported, tmp_path: Path) -> None:
    recipe = recipe_of(min_calibration_records=8)
    partial = replace(recipe, tflite_ops=tuple(op for op in recipe.tflite_ops if op not in ("INPUT", "OUTPUT")))
    with pytest.raises(ExportAuditError, match="converts types inside a strict-integer model"):
        export_strict(
            named, exported.data.calibration[:8], recipe=partial, leads=LEADS, labels=LABELS,
            out=tmp_path, log=tmp_path / "log",
        )  # fmt: skip
    assert not (tmp_path / "model.strict.tflite").exists()


@pytest.mark.parametrize(
    ("changes", "n", "leads", "error", "words"),
    [
        ({}, 12, LEADS, ExportCalibrationError, "found 12 calibration recordings; expected at least 256"),
        ({}, 256, ("I",), ExportCalibrationError, r"expected float32 \(n, 1, time\)"),
        ({"region": "encoder"}, 256, LEADS, ExportError, "quantizes 'encoder'; expected 'all'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_read(changes, n, leads, error, words, tmp_path: Path) -> None:
    ecg = np.zeros((n, 2, 2500), np.float32)
    with pytest.raises(error, match=words):
        export_strict(
            tmp_path / "none.tflite", ecg, recipe=recipe_of(**changes), leads=leads, labels=LABELS,
            out=tmp_path, log=tmp_path / "log",
        )  # fmt: skip


@pytest.mark.slow
def test_a_float_file_is_no_strict_file(named: Path) -> None:
    with pytest.raises(ExportModelError, match=r"ecg is float32 .* expected int8"):
        strict_interface(named)


# --- the trunk ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_trunk_recipe_leaves_the_first_convolution_and_the_linear_layers_float(
    named: Path, exported, tmp_path: Path
) -> None:
    recipe, log = load_recipe("static_wi8_ai8_trunk"), tmp_path / "log"
    with noise_to(log):
        ranges = collect_ranges(named, exported.data.calibration[:64], recipe=recipe, log=log)
    made = quantize_tflite(named, tmp_path / "m.tflite", recipe=recipe, ranges=ranges, log=log)
    report = audit_tflite(made.read_bytes(), int8=True, region="trunk", **SHAPE)
    assert report.problems == ()
    counts = {(row.region, row.op, row.kind): row.count for row in report.ops}
    assert counts["encoder", "CONV_2D", "float"] == 1
    assert counts["encoder", "CONV_2D", "int8"] == 1
    assert counts["encoder", "FULLY_CONNECTED", "float"] == 2
    assert counts["encoder", "MEAN", "int8"] == 1
