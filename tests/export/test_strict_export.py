"""The strict-integer form inside an export: judged like any other file, shipped beside the one that the clinic runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.errors import ExportError, ExportGateError
from export.gates.gates import GateThresholds
from export.run import export_run
from lsemvae.screen.manifest import Manifest

pytestmark = pytest.mark.slow
# Two thousand parameters on 240 recordings: one flip is 0.4 %, and a latency tells nothing.
GATES = GateThresholds(max_latency_ratio=None, min_decision_agreement=0.95, max_p99_dp=0.2, max_auroc_change=0.02)


@pytest.fixture
def converted(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, converted already."""

    def converted_once(_run: Path, out: Path, *, log: Path) -> Path:
        out.write_bytes((exported.work / "model.named.tflite").read_bytes())
        return out

    monkeypatch.setattr("export.steps.converted_once", converted_once)


def test_it_is_judged_and_shipped_with_its_interface(run_copy: Path, exported, converted, tmp_path: Path) -> None:
    result = export_run(run_copy, target="tflite", out=tmp_path / "b", data=exported.data, gates=GATES, strict=True)
    assert {"model.strict.tflite", "strict.json", "model.tflite"} <= set(result.sizes)
    assert result.parity is not None
    assert result.parity.comparison("tflite_strict").n == len(exported.data.validation)
    manifest = Manifest.from_bytes((tmp_path / "b" / "manifest.json").read_bytes())
    assert manifest.models == {"tflite": "model.tflite"}
    assert manifest.min_host == "0.3.0"
    spec = json.loads((tmp_path / "b" / "strict.json").read_text())
    assert spec["statement"] == manifest.label_statement
    assert spec["input"]["dtype"] == "int8"


def test_a_bundle_without_it_still_opens_on_older_hosts(exported) -> None:
    assert Manifest.from_bytes((exported.out / "manifest.json").read_bytes()).min_host == "0.1.0"


@pytest.mark.promise(115)
def test_it_misses_a_gate_like_any_other_file(run_copy: Path, exported, converted, tmp_path: Path, monkeypatch) -> None:
    def upside_down(model: Path):
        from export.strict.interface import strict_run

        run = strict_run(model)

        def turned(ecg):
            said = run(ecg)
            return replace(said, logits=-said.logits)

        return turned

    monkeypatch.setattr("export.judge.strict_run", upside_down)
    with pytest.raises(ExportGateError, match="tflite_strict against torch_fp32"):
        export_run(run_copy, target="tflite", out=tmp_path / "b", data=exported.data, gates=GATES, strict=True)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("asked", [{"target": "onnx"}, {"target": "tflite", "int8": False}])
def test_it_needs_int8_and_tflite(run_copy: Path, export_data, tmp_path: Path, asked: dict) -> None:
    with pytest.raises(ExportError, match="expected an INT8 export with the target tflite or all"):
        export_run(run_copy, out=tmp_path / "b", data=export_data, strict=True, **asked)


def test_its_recipe_cannot_make_the_file_that_the_clinic_runs(run_copy: Path, export_data, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="INT8 inputs and outputs") as caught:
        export_run(run_copy, out=tmp_path / "b", data=export_data, recipe="static_wi8_ai8_all")
    assert "--strict-int8" in caught.value.advice
