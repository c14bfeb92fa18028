"""The decision rule that ships is fitted on the outputs of the file that ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.errors import ExportCalibrationError, ExportModelError
from export.gates.gates import GateThresholds
from export.gates.outputs import Outputs
from export.gates.refit import refitted, settle
from export.run import export_run
from export.student_run.data import ExportData
from export.student_run.source import DecisionSource, load_decision
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.screen.manifest import Manifest

LABELS = ("RHS", "NORM")
RULE = DecisionRule(
    primary="RHS",
    calibrations={label: Calibration(slope=1.0, intercept=0.0) for label in LABELS},
    thresholds=dict.fromkeys(LABELS, 0.5),
    abstain_band=(0.5, 0.5),
    max_uncertainty=0.4,
    interval_logit_sd=0.3,
)
DECISION = DecisionSource(RULE, ())
N = 800
# A network of 2 k parameters on 240 recordings: one flip is 0.4 %, and its latency tells nothing.
GATES = GateThresholds(max_latency_ratio=None, min_decision_agreement=0.98)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return (np.random.default_rng(0).random((N, 2)) < 0.25).astype(float)


def outputs(truth: np.ndarray, *, scale: float, shift: float) -> Outputs:
    rng = np.random.default_rng(1)
    logits = 4.0 * truth - 2.0 + rng.normal(0, 1.5, truth.shape)
    return Outputs((scale * logits + shift).astype(np.float32), rng.normal(0, 0.1, (N, 1)).astype(np.float32))


def data(truth: np.ndarray, held_out: np.ndarray | None) -> ExportData:
    ecg = np.zeros((N, 2, 4), np.float32)
    ids = tuple(map(str, range(N)))
    return ExportData(ecg[:1], ("c",), ecg, ids, truth, held_out=held_out)


def settled(
    truth: np.ndarray, held_out: np.ndarray | None, decision: DecisionSource = DECISION, shipped: str = "tflite_int8"
):
    found = {"torch_fp32": outputs(truth, scale=1, shift=0), shipped: outputs(truth, scale=0.5, shift=1.0)}
    return settle(decision, found, shipped=(shipped,), data=data(truth, held_out), labels=LABELS)


@pytest.mark.promise(112)
def test_the_refitted_rule_calls_one_negative_in_ten_of_the_int8_outputs(truth: np.ndarray) -> None:
    rows = np.arange(N) % 2 == 0
    found = settled(truth, rows)
    assert (found.decision.fitted_on, found.records) == ("tflite_int8", N // 2)
    said = outputs(truth, scale=0.5, shift=1.0).logits[rows]
    for k, label in enumerate(LABELS):
        calibration = found.decision.rule.calibrations[label]
        p = 1 / (1 + np.exp(-(calibration.slope * said[:, k] + calibration.intercept)))
        negatives = p[truth[rows, k] == 0]
        assert np.mean(negatives < found.decision.rule.thresholds[label]) == pytest.approx(0.9, abs=0.01)
        assert calibration.slope == pytest.approx(2 * refit_of_float(truth, rows).calibrations[label].slope, rel=1e-3)


def refit_of_float(truth: np.ndarray, rows: np.ndarray) -> DecisionRule:
    return refitted(RULE, outputs(truth, scale=1, shift=0), truth=truth, rows=rows, labels=LABELS)


@pytest.mark.promise(112)
def test_recordings_that_the_model_has_seen_do_not_enter(truth: np.ndarray) -> None:
    rows = np.arange(N) % 2 == 0
    clean = settled(truth, rows)
    spoilt = truth.copy()
    spoilt[~rows] = 1.0 - spoilt[~rows]
    found = {"tflite_int8": outputs(truth, scale=0.5, shift=1.0)}
    other = settle(DECISION, found, shipped=("tflite_int8",), data=data(spoilt, rows), labels=LABELS)
    assert other.decision.rule == clean.decision.rule


@pytest.mark.promise(112)
def test_without_held_out_recordings_the_float_rule_stays_and_says_so(truth: np.ndarray) -> None:
    for held_out in (None, np.zeros(N, dtype=bool)):
        found = settled(truth, held_out)
        assert found.decision.rule == RULE
        assert found.said.startswith("NOT REFITTED")


def test_a_rule_fitted_on_int8_outputs_is_kept(truth: np.ndarray) -> None:
    found = settled(truth, np.ones(N, dtype=bool), replace(DECISION, fitted_on="tflite_int8"))
    assert found.decision.rule == RULE
    assert "is kept" in found.said


def test_a_float_bundle_keeps_the_rule(truth: np.ndarray) -> None:
    found = settled(truth, np.ones(N, dtype=bool), shipped="onnx_fp32")
    assert (found.decision.rule, found.decision.fitted_on) == (RULE, "torch_fp32")


def test_an_abstain_band_that_the_run_chose_is_kept_and_so_is_the_interval(truth: np.ndarray) -> None:
    chosen = replace(RULE, abstain_band=(0.4, 0.6), max_uncertainty=None)
    found = refitted(chosen, outputs(truth, scale=1, shift=0), truth=truth, rows=np.ones(N, dtype=bool), labels=LABELS)
    assert (found.abstain_band, found.max_uncertainty, found.interval_logit_sd) == ((0.4, 0.6), None, 0.3)
    moved = refitted(RULE, outputs(truth, scale=1, shift=0), truth=truth, rows=np.ones(N, dtype=bool), labels=LABELS)
    assert moved.abstain_band == (moved.thresholds["RHS"],) * 2


@pytest.mark.slow
@pytest.mark.promise(112)
def test_an_export_with_held_out_recordings_ships_the_refitted_rule(
    run_copy: Path, export_data, tmp_path: Path
) -> None:
    held_out = replace(export_data, held_out=np.ones(len(export_data.validation), dtype=bool))
    export_run(
        run_copy,
        target="onnx",
        out=tmp_path / "b",
        data=held_out,
        gates=GATES,
    )
    manifest = Manifest.from_bytes((tmp_path / "b" / "manifest.json").read_bytes())
    assert manifest.provenance["decision"]["fitted_on"] == "onnx_int8"
    assert manifest.provenance["decision"]["records"] == len(export_data.validation)
    before = load_decision(run_copy, manifest.labels).rule
    assert manifest.decision.thresholds != before.thresholds
    assert manifest.decision.interval_logit_sd == before.interval_logit_sd


def test_a_decision_file_that_was_fitted_on_something_unknown_is_refused(
    run_copy: Path, export_data, tmp_path: Path
) -> None:
    path = run_copy / "decision.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fitted_on": "guesses"}))
    with pytest.raises(ExportModelError, match="found fitted_on 'guesses'; expected one of torch_fp32"):
        export_run(run_copy, out=tmp_path / "b", data=export_data, dry_run=True)


def test_a_mask_of_another_length_is_refused(run_copy: Path, export_data, tmp_path: Path) -> None:
    for held_out in (np.ones(3, dtype=bool), np.ones(len(export_data.validation))):
        with pytest.raises(ExportCalibrationError, match="held_out is"):
            export_run(run_copy, out=tmp_path / "b", data=replace(export_data, held_out=held_out), dry_run=True)
