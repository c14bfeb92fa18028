"""The whole way: a run folder in, a signed bundle out. One full conversion serves all tests that only look."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from safetensors.numpy import load_file, save_file

from export.convert import environment
from export.convert.to_tflite import export_tflite
from export.errors import (
    ExportAuditError,
    ExportCalibrationError,
    ExportConversionError,
    ExportDependencyError,
    ExportError,
    ExportGateError,
    ExportModelError,
    ExportTargetError,
)
from export.gates.gates import GateThresholds
from export.gates.outputs import run_all
from export.release.signing import key_path
from export.run import export_run
from lsemvae.ecg.canonical import canonical_json
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.frontend import apply_array
from lsemvae.screen.manifest import Manifest
from tests.export.asking import onnx_run, tflite_run

pytestmark = pytest.mark.slow
# A network of 2 k parameters spends its time on overhead, not on arithmetic: its latency tells nothing.
GATES = GateThresholds(max_latency_ratio=None)


def manifest_of(out: Path) -> Manifest:
    return Manifest.from_bytes((out / "manifest.json").read_bytes())


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


# What came out


@pytest.mark.promise(86)
def test_bundle_holds_what_it_should_and_nothing_else(exported) -> None:
    expected = {
        "model.tflite",
        "model.onnx",
        "manifest.json",
        "manifest.sig",
        "card.md",
        "golden.npz",
        "recipe.json",
        "report.json",
        "report.html",
    }
    assert {path.name for path in exported.out.iterdir()} == expected
    assert exported.result.total_bytes == sum(path.stat().st_size for path in exported.out.iterdir()) < 1 << 20
    assert [path.name for path in exported.out.parent.iterdir() if path.name.startswith(".")] == []


def test_manifest_is_canonical_and_complete(exported) -> None:
    stored = (exported.out / "manifest.json").read_bytes()
    assert canonical_json(json.loads(stored)) == stored
    manifest = manifest_of(exported.out)
    assert manifest.models == {"tflite": "model.tflite", "onnx": "model.onnx"}
    assert [(o.label, o.column, o.primary) for o in manifest.outputs] == [
        ("RHS", "p_RHS", True),
        ("RBBB_any", "p_RBBB_any", False),
        ("NORM", "p_NORM", False),
    ]
    assert manifest.input.shape == (1, 2, 2500)
    assert "None is pulmonary hypertension" in manifest.label_statement
    assert manifest.performance == ({"label": "RHS", "auroc": 0.9},)


@pytest.mark.promise(86)
def test_hashes_cover_every_file_but_manifest_and_signature(exported) -> None:
    files = manifest_of(exported.out).files
    stored = {path.name: path.read_bytes() for path in exported.out.iterdir()}
    assert set(files) == set(stored) - {"manifest.json", "manifest.sig"}
    for name, entry in files.items():
        assert (entry.sha256, entry.bytes) == (hashlib.sha256(stored[name]).hexdigest(), len(stored[name]))


@pytest.mark.promise(86)
def test_signature_verifies_with_the_published_key(exported) -> None:
    public = bytes.fromhex(key_path("default").with_suffix(".pub").read_text().strip())
    signature = (exported.out / "manifest.sig").read_bytes()
    signed = b"lsemvae-bundle/1\n" + (exported.out / "manifest.json").read_bytes()
    Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    assert len(signature) == 64
    assert manifest_of(exported.out).signature.key_id == hashlib.sha256(public).hexdigest()[:16]


@pytest.mark.promise(86)
def test_no_file_names_the_machine_or_the_code_that_built_it(exported) -> None:
    root = Path(__file__).parents[2]
    for path in exported.out.iterdir():
        content = path.read_bytes()
        for word in (root, Path.home(), sys.prefix, tempfile.gettempdir(), exported.run_dir.parent):
            assert f"{word}/".encode() not in content, path.name
        for word in (b"site-packages", b".py\x00", b'.py"', b"StudentNet", b"stack_trace"):
            assert word not in content, path.name


def test_provenance_keeps_the_command_without_its_folders(exported) -> None:
    provenance = manifest_of(exported.out).provenance
    assert provenance["command"] == "lsemvae distill --out run"
    assert provenance["git_revision"] == "0" * 40
    assert provenance["calibration_records"] == 256


@pytest.mark.promise(87)
def test_golden_outputs_are_those_of_the_reference_kernels_and_others_stay_within_the_tolerance(exported) -> None:
    with np.load(io.BytesIO((exported.out / "golden.npz").read_bytes()), allow_pickle=False) as golden:
        ecg, logits, uncertainty = golden["ecg"], golden["logits"], golden["uncertainty"]
        frontend = apply_array(golden["raw_mv"], fs_hz=float(golden["raw_fs_hz"]))
        np.testing.assert_array_equal(frontend, golden["frontend_out"])
    tflite, onnx = exported.out / "model.tflite", exported.out / "model.onnx"
    reference = run_all(tflite_run(tflite, kernels="reference"), ecg)
    np.testing.assert_array_equal(reference.logits, logits)
    np.testing.assert_array_equal(reference.uncertainty, uncertainty)
    tolerance = manifest_of(exported.out).parity["golden_tolerance"]
    assert 0 < tolerance <= GATES.max_golden_tolerance
    for run in (tflite_run(tflite), tflite_run(tflite, kernels="builtin"), onnx_run(onnx)):
        outputs = run_all(run, ecg)
        assert np.abs(outputs.logits - logits).max() <= tolerance
        assert np.abs(outputs.uncertainty - uncertainty).max() <= tolerance


def test_int8_tflite_and_int8_onnx_agree(exported) -> None:
    ecg = exported.data.validation
    tflite = run_all(tflite_run(exported.out / "model.tflite"), ecg)
    onnx = run_all(onnx_run(exported.out / "model.onnx"), ecg)
    # Same scales, other rounding: a few INT8 steps of the summary (about 1/100 of its range each) through the head.
    assert np.abs(tflite.logits - onnx.logits).max() < 0.05 * np.ptp(tflite.logits)
    assert np.abs(tflite.uncertainty - onnx.uncertainty).max() < 0.05


def test_report_holds_parity_audit_sizes_and_the_basis_of_each_latency(exported) -> None:
    report = exported.read("report.json")
    pairs = {(c["candidate"], c["reference"]) for c in report["parity"]["comparisons"]}
    files = {"tflite_fp32", "tflite_int8", "onnx_fp32", "onnx_int8"}
    assert pairs == {(name, "torch_fp32") for name in files} | {("onnx_int8", "tflite_int8")}
    assert set(report["sizes"]) == set(report["audit"]) == files
    assert all(row["problems"] == [] for row in report["audit"].values())
    assert [(row["runtime"], row["basis"]) for row in report["latency"]] == [
        ("tflite", "MEASURED"),
        ("onnx", "MEASURED"),
    ]


def test_recipe_travels_with_what_it_made(exported) -> None:
    stored = exported.read("recipe.json")
    assert stored["recipe"]["name"] == "static_wi8_ai8_trunk"
    assert stored["calibration"]["records"] == len(exported.data.calibration_ids)
    assert stored["calibration"]["ids_sha256"] == exported.data.calibration_sha256
    made = {"tflite_int8": "model.tflite", "onnx_int8": "model.onnx"}
    for name, file in made.items():
        assert stored["made"][name] == hashlib.sha256((exported.out / file).read_bytes()).hexdigest()


def test_ids_of_the_calibration_recordings_stay_in_the_run_folder(exported) -> None:
    """An id may be a hospital number, and a bundle goes to strangers."""
    kept = json.loads((exported.work / "calibration_ids.json").read_text(encoding="utf-8"))
    assert kept == list(exported.data.calibration_ids)
    for path in exported.out.iterdir():
        assert f'"{exported.data.calibration_ids[200]}"'.encode() not in path.read_bytes()


def test_a_second_export_of_the_same_run_at_the_same_time_is_refused(run_copy: Path, export_data, tmp_path) -> None:
    (run_copy / "export").mkdir()
    with (run_copy / "export" / "convert.log").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ExportTargetError, match="another export"):
            export_run(run_copy, out=tmp_path / "out", data=export_data, target="onnx", int8=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": "banana"}', "banana"),
        ('{"version": 1}', "no text for version"),
        ('{"min_host": "1"}', "three numbers"),
        ('{"licence": null}', "no text for licence"),
        ('{"not_for": "children"}', "list of texts"),
        ("{", "no JSON"),
    ],
)
def test_texts_that_no_manifest_can_hold_are_refused_before_anything_slow(
    run_copy: Path, export_data, tmp_path: Path, text: str, words: str
) -> None:
    (run_copy / "bundle.json").write_text(text, encoding="utf-8")
    with pytest.raises(ExportModelError, match=words):
        export_run(run_copy, out=tmp_path / "out", data=export_data, dry_run=True)


def test_a_decision_file_cut_short_is_named(run_copy: Path, export_data, tmp_path: Path) -> None:
    path = run_copy / "decision.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExportModelError, match=r"decision\.json is no JSON"):
        export_run(run_copy, out=tmp_path / "out", data=export_data, dry_run=True)


def test_too_few_validation_recordings_are_refused(run_copy: Path, export_data, tmp_path: Path) -> None:
    """On ten recordings every gate passes or fails by chance."""
    few = replace(
        export_data,
        validation=export_data.validation[:10],
        validation_ids=export_data.validation_ids[:10],
        truth=export_data.truth[:10],
    )
    with pytest.raises(ExportCalibrationError, match="found 10 validation recordings; expected at least 100"):
        export_run(run_copy, out=tmp_path / "out", data=few, dry_run=True)


def test_converters_speak_to_the_log_and_the_export_in_few_lines(exported, capfd: pytest.CaptureFixture[str]) -> None:
    assert exported.result.log == exported.work / "convert.log"
    assert exported.result.log.stat().st_size > 0
    assert any("converting to TFLite" in line for line in exported.progress)
    assert len(exported.progress) < 30


def test_summary_shows_sizes_parity_key_and_place(exported) -> None:
    text = exported.result.text()
    for word in (
        str(exported.out),
        exported.result.key_id,
        "model.tflite",
        "outcomes agree",
        "MEASURED",
        "convert.log",
    ):
        assert word in text


# Other ways to ask


def test_onnx_alone_in_float(run_copy: Path, export_data, tmp_path: Path) -> None:
    result = export_run(run_copy, target="onnx", int8=False, out=tmp_path / "b", data=export_data, gates=GATES)
    manifest = manifest_of(tmp_path / "b")
    assert manifest.models == {"onnx": "model.onnx"}
    assert "recipe.json" not in result.sizes
    assert manifest.provenance["recipe"] is None
    outputs = run_all(onnx_run(tmp_path / "b" / "model.onnx"), export_data.validation[:4])
    assert outputs.logits.shape == (4, 3)


def test_tflite_alone(run_copy: Path, exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = exported.work / "model.named.tflite"  # the same weights, converted already
    monkeypatch.setattr("export.steps.converted_once", lambda *_args, **_kwargs: named)
    export_run(run_copy, target="tflite", out=tmp_path / "b", data=exported.data, gates=GATES)
    assert manifest_of(tmp_path / "b").models == {"tflite": "model.tflite"}
    assert (tmp_path / "b" / "model.tflite").read_bytes() == (exported.out / "model.tflite").read_bytes()


def test_own_labels_get_their_own_statement_and_own_texts_have_the_last_word(
    run_copy: Path, export_data, tmp_path: Path
) -> None:
    edit_json(run_copy / "config.json", labels=["RHS", "mPAP_over_20", "NORM"])
    decision = json.loads((run_copy / "decision.json").read_text().replace("RBBB_any", "mPAP_over_20"))
    edit_json(run_copy / "decision.json", **decision)
    (run_copy / "bundle.json").write_text('{"id":"our-model","version":"2.1.0","not_for":["infants"]}')
    export_run(run_copy, target="onnx", int8=False, out=tmp_path / "b", data=export_data, gates=GATES)
    manifest = manifest_of(tmp_path / "b")
    assert (manifest.id, manifest.version, manifest.not_for) == ("our-model", "2.1.0", ("infants",))
    assert manifest.labels == ("RHS", "mPAP_over_20", "NORM")
    assert "the owner of the training data" in manifest.label_statement


def test_dry_run_tells_the_plan_and_writes_nothing(
    run_copy: Path, export_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSEMVAE_HOME", str(tmp_path / "home"))
    before = sorted(tmp_path.rglob("*"))
    result = export_run(run_copy, out=tmp_path / "b", data=export_data, dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert result.plan["targets"] == ["tflite", "onnx"]
    assert result.to_dict()["dry_run"] is True
    assert result.text().startswith("dry run, nothing written")


# What is refused


def test_existing_folder_is_refused_before_anything_is_read(exported, tmp_path: Path) -> None:
    with pytest.raises(ExportTargetError):
        export_run(tmp_path / "no such run", out=exported.out, data=exported.data)


@pytest.mark.promise(85, 119)
def test_missed_gate_leaves_no_bundle(run_copy: Path, export_data, tmp_path: Path) -> None:
    impossible = replace(GATES, max_p99_dp=0.0)
    with pytest.raises(ExportGateError, match="99th percentile") as caught:
        export_run(run_copy, target="onnx", out=tmp_path / "out" / "b", data=export_data, gates=impossible)
    assert not (tmp_path / "out").exists()
    page = run_copy / "export" / "report.html"
    assert str(page) in caught.value.advice
    assert "99th percentile" in page.read_text(encoding="utf-8")


@pytest.mark.promise(84)
def test_missed_latency_gate_leaves_no_bundle(run_copy: Path, export_data, tmp_path: Path) -> None:
    with pytest.raises(ExportGateError, match="expected a ratio of at most 0"):
        export_run(
            run_copy, target="onnx", out=tmp_path / "b", data=export_data, gates=replace(GATES, max_latency_ratio=0.0)
        )
    assert not (tmp_path / "b").exists()


@pytest.mark.promise(85)
def test_nan_weights_are_refused_by_name(run_copy: Path, export_data, tmp_path: Path) -> None:
    weights = load_file(run_copy / "model.safetensors")
    name = "encoder.body.0.0.weight"
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, run_copy / "model.safetensors")
    with pytest.raises(ExportModelError, match=name.replace(".", r"\.")):
        export_run(run_copy, out=tmp_path / "b", data=export_data)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "change",
    [{"kind": "lsemvae"}, {"labels": ["RHS"]}, {"leads": ["I"]}, {"leads": ["I", "banana"]}, {"model": {"depth": 3}}],
)
def test_checkpoint_of_another_architecture_is_refused(
    run_copy: Path, export_data, tmp_path: Path, change: dict
) -> None:
    edit_json(run_copy / "config.json", **change)
    with pytest.raises(ExportModelError):
        export_run(run_copy, out=tmp_path / "b", data=export_data)


def test_missing_or_partial_decision_rule_is_refused_with_advice(run_copy: Path, export_data, tmp_path: Path) -> None:
    stored = json.loads((run_copy / "decision.json").read_text())
    del stored["decision"]["thresholds"]["NORM"]
    (run_copy / "decision.json").write_text(json.dumps(stored))
    with pytest.raises(ExportModelError, match="thresholds for"):
        export_run(run_copy, out=tmp_path / "b", data=export_data)
    (run_copy / "decision.json").unlink()
    with pytest.raises(ExportModelError) as caught:
        export_run(run_copy, out=tmp_path / "b", data=export_data)
    assert "lsemvae calibrate" in caught.value.advice


def test_performance_that_json_cannot_hold_and_a_card_with_a_path_are_refused_at_once(
    run_copy: Path, export_data, tmp_path: Path
) -> None:
    good = (run_copy / "decision.json").read_text()
    (run_copy / "decision.json").write_text(good.replace("0.9", "NaN"))
    with pytest.raises(EcgError, match="JSON cannot hold"):
        export_run(run_copy, out=tmp_path / "b", data=export_data, dry_run=True)
    (run_copy / "decision.json").write_text(good)
    (run_copy / "card.md").write_text(f"trained in {run_copy}/data")
    with pytest.raises(ExportError, match=r"card\.md names a folder of this machine"):
        export_run(run_copy, out=tmp_path / "b", data=export_data, dry_run=True)


def test_too_few_calibration_recordings_are_refused(run_copy: Path, export_data, tmp_path: Path) -> None:
    few = replace(
        export_data, calibration=export_data.calibration[:40], calibration_ids=export_data.calibration_ids[:40]
    )
    with pytest.raises(ExportCalibrationError, match=r"found 40 .* at least 256"):
        export_run(run_copy, out=tmp_path / "b", data=few)


@pytest.mark.parametrize("package", ["litert_torch", "litert_quantizer", "onnx", "onnxruntime"])
def test_missing_converter_says_which_extra_and_where_it_runs(
    run_copy: Path, export_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = environment.importlib.util.find_spec
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name, *a: None if name == package else found(name, *a)
    )
    with pytest.raises(ExportDependencyError, match=package) as caught:
        export_run(run_copy, out=tmp_path / "b", data=export_data)
    assert "pip install 'lsemvae[export]'" in caught.value.advice
    assert "aarch64" in caught.value.advice
    assert "Windows" in caught.value.advice


def test_run_folder_that_cannot_be_written_is_said_before_anything_slow(
    run_copy: Path, export_data, tmp_path: Path
) -> None:
    (run_copy / "export").write_text("in the way")
    with pytest.raises(ExportTargetError, match="run folder cannot be written"):
        export_run(run_copy, out=tmp_path / "b", data=export_data)


def test_unknown_target_lists_the_known_ones(run_copy: Path, export_data, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="tflite, onnx, all"):
        export_run(run_copy, target="coreml", out=tmp_path / "b", data=export_data)


def test_a_converter_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ExportConversionError, match=r"status 1, expected 0; log: .*convert\.log"):
        export_tflite(tmp_path / "no run", tmp_path / "m.tflite", log=tmp_path / "convert.log")
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.promise(85)
def test_audit_failure_stops_the_export(run_copy: Path, export_data, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    from export.int8.recipe import load_recipe

    values = load_recipe().to_dict()
    values["onnx_ops"] = [op for op in values["onnx_ops"] if op != "ReduceMean"]
    recipe.write_text(json.dumps(values))
    with pytest.raises(ExportAuditError, match="encoder ReduceMean is float"):
        export_run(run_copy, target="onnx", out=tmp_path / "b", data=export_data, recipe=recipe, gates=GATES)
    assert not (tmp_path / "b").exists()
