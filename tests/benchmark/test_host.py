"""MEASURED on this host: every figure has its basis, and what was not measured is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.benchmark.basis import Basis, BenchmarkSection
from export.benchmark.errors import BenchmarkError
from export.benchmark.measured import host
from export.benchmark.measured.figures import figures_of, start_figures
from export.benchmark.measured.host import cpu_name, measure_host
from export.benchmark.measured.process import Plan, run_child, run_here

BUNDLE = Path(__file__).resolve().parents[2] / "edge_app" / "bundle"
MODELS, GOLDEN = (BUNDLE / "model.tflite", BUNDLE / "model.onnx"), BUNDLE / "golden.npz"
QUICK = Plan(threads=(1, 4096), runs=20, warm_up_s=0.0, min_s=0.0)
LATENCY = [f"latency_1t_{key}" for key in ("p10", "p50", "p90", "p99", "mean")]


@pytest.fixture(scope="module")
def section() -> BenchmarkSection:
    return measure_host(MODELS, inputs=GOLDEN, plan=QUICK, cold_starts=2)


@pytest.mark.slow
def test_one_row_a_file_with_all_figures_measured(section: BenchmarkSection) -> None:
    assert [name for name, _ in section.rows] == ["model.tflite", "model.onnx"]
    assert section.basis is Basis.MEASURED
    for path, (_, figures) in zip(MODELS, section.rows, strict=True):
        values = {figure.name: figure for figure in figures}
        assert [name for name in values if name.startswith("latency")] == LATENCY
        assert {"cold_start", "import", "load", "first_inference", "memory_peak_over_numpy"} <= set(values)
        assert values["model_file"].value == path.stat().st_size / 1024
        assert 0 < values["latency_1t_p50"].value < values["cold_start"].value


def test_cold_start_is_the_middle_of_fresh_processes(section: BenchmarkSection) -> None:
    found = next(figure for figure in section.rows[0][1] if figure.name == "cold_start")
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert "2 fresh processes" in found.note


def test_thread_counts_above_the_cores_are_said(section: BenchmarkSection) -> None:
    assert any(note.startswith("4096 threads not measured: this machine has") for note in section.notes)


def test_too_few_runs_are_flagged_for_each_file(section: BenchmarkSection) -> None:
    for name in ("model.tflite", "model.onnx"):
        assert f"{name}: only 20 runs with 1 thread, expected at least 300" in section.flags


def test_the_load_that_our_own_processes_make_is_not_held_against_later_files(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_here(MODELS[0], GOLDEN, QUICK)
    run["state"]["loadavg_at_start"] = [9.0, 9.0, 9.0]
    monkeypatch.setattr(host, "run_here", lambda *_, **__: run)
    flags = measure_host(MODELS, inputs=GOLDEN, cold_starts=1).flags
    assert [flag for flag in flags if "load average" in flag] == [
        "model.tflite: busy machine: load average 9.00 at the start, above 0.5"
    ]


def test_title_names_the_processor_and_no_file_of_this_machine(section: BenchmarkSection) -> None:
    assert cpu_name() in section.title
    said = " ".join((section.title, *section.notes, *section.flags))
    assert str(BUNDLE) not in said


def test_a_missing_file_and_no_model_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"found no file absent\.tflite"):
        measure_host([tmp_path / "absent.tflite"], inputs=GOLDEN)
    with pytest.raises(BenchmarkError, match="no model was named"):
        measure_host([], inputs=GOLDEN)


def test_a_file_that_is_no_model_is_an_error_with_the_runners_words(tmp_path: Path) -> None:
    broken = tmp_path / "model.tflite"
    broken.write_bytes(b"no model")
    with pytest.raises(BenchmarkError, match=r"the runner: E_MODEL: model\.tflite cannot be loaded"):
        measure_host([broken], inputs=GOLDEN, plan=QUICK)


@pytest.mark.slow
def test_a_process_that_hangs_or_dies_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("import time; time.sleep(30)")
    with pytest.raises(BenchmarkError, match=r"no answer of child\.py after 0\.5 s"):
        run_child(["python3", "-P", str(script)], limit_s=0.5)
    script.write_text("import os, sys; sys.stderr.write('killed here'); sys.stderr.flush(); os.abort()")
    with pytest.raises(BenchmarkError, match=r"status -6 and said nothing.*killed here"):
        run_child(["python3", "-P", str(script)])


def test_a_machine_that_cannot_tell_has_no_such_figure() -> None:
    run = run_here(MODELS[0], GOLDEN, QUICK, cold_only=True)
    run["steps_ms"]["cold_start"] = None
    run["memory_kib"] = {key: {"hwm": None, "rss": None, "pss": None} for key in ("empty", "used")}
    names = [figure.name for figure in figures_of(run)]
    assert names == ["import", "load", "first_inference", "model_file"]
    assert [figure.name for figure in start_figures([run])] == ["import", "load", "first_inference"]
