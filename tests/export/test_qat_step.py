"""Quantization-aware fine-tuning inside an export: only when asked for, only where an output loses, never moving the bar."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from export import run as room
from export.errors import ExportError
from export.gates.gates import GateThresholds
from export.gates.parity import AurocPair
from export.job import plan_export
from export.judge import judge as honest_judge
from export.run import export_run

GATES = GateThresholds(max_latency_ratio=None, min_decision_agreement=0.9, max_p99_dp=0.2, max_auroc_change=0.05)


class FakeStore:
    """What the fine-tuning step asks of a store."""

    fold = np.array([0, 1, 1, 2])


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first judgement says that RHS lost 0.1 of AUROC in INT8, later ones are honest."""
    seen: list[str] = []

    def judge(job, graph, models, **tuned):
        found = honest_judge(job, graph, models, **tuned)
        seen.append(job.weights.name)
        if len(seen) > 1:
            return found
        first = found.parity.comparison("onnx_int8")
        others = tuple(c for c in found.parity.comparisons if c is not first)
        lost = replace(first, auroc=(AurocPair("RHS", 50, 0.9, 0.8), *first.auroc[1:]))
        return replace(found, parity=replace(found.parity, comparisons=(*others, lost)))

    monkeypatch.setattr("export.run.judge", judge)
    return seen


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, run_copy: Path) -> list[tuple]:
    """A fine-tuning that turns the head's bias by 0.01, and a list of what it was asked."""
    calls: list[tuple] = []

    def quantization_aware(store, student_dir, run_dir, rows, *, left_out):
        calls.append((store, student_dir, rows.tolist(), left_out))
        shutil.copytree(student_dir, run_dir, ignore=shutil.ignore_patterns("export"))
        weights = load_file(run_dir / "model.safetensors")
        weights["head.logits.bias"] = weights["head.logits.bias"] + np.float32(0.01)
        save_file(weights, run_dir / "model.safetensors")

    monkeypatch.setattr(room, "quantization_aware", quantization_aware)
    return calls


def asked(run_dir: Path, data, out: Path, monkeypatch: pytest.MonkeyPatch, *, qat: bool):
    monkeypatch.setattr(
        "export.run.plan_export",
        lambda request, **k: replace(
            plan_export(replace(request, qat=False), **k), request=replace(request, qat=qat, data=FakeStore())
        ),
    )
    return export_run(run_dir, target="onnx", out=out, data=data, gates=GATES, qat=qat)


@pytest.mark.slow
@pytest.mark.promise(116)
def test_an_output_that_loses_is_fine_tuned_and_held_against_the_student_as_trained(
    run_copy: Path, export_data, tmp_path: Path, lossy, tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = asked(run_copy, export_data, tmp_path / "b", monkeypatch, qat=True)
    assert lossy == ["run", "qat"]
    assert [call[1:] for call in tuned] == [(run_copy, [1, 2, 3], ())]
    assert result.parity is not None
    pairs = {(c.candidate, c.reference): c for c in result.parity.comparisons}
    assert set(pairs) == {("onnx_fp32", "torch_qat"), ("onnx_int8", "torch_fp32")}
    assert pairs["onnx_fp32", "torch_qat"].max_dlogit < 1e-3
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["provenance"]["qat"] is True


@pytest.mark.slow
@pytest.mark.promise(116)
def test_nothing_is_fine_tuned_unasked(
    run_copy: Path, export_data, tmp_path: Path, lossy, tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(run_copy, export_data, tmp_path / "b", monkeypatch, qat=False)
    assert (lossy, tuned) == (["run"], [])


@pytest.mark.slow
@pytest.mark.promise(116)
def test_asked_for_and_not_needed_it_is_not_done(
    run_copy: Path, export_data, tmp_path: Path, tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(run_copy, export_data, tmp_path / "b", monkeypatch, qat=True)
    assert tuned == []


def test_it_needs_the_store_and_int8(run_copy: Path, export_data, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected an INT8 export with the record store"):
        export_run(run_copy, out=tmp_path / "b", data=export_data, qat=True)
    assert not (tmp_path / "b").exists()
