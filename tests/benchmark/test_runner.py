"""The runner: one object that says everything, or one that says what is wrong. The checks: each doubt is one sentence."""

from __future__ import annotations

import argparse
import ast
import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.benchmark.devices import board
from export.benchmark.errors import BenchmarkError, BoardError
from export.benchmark.measured import runner
from export.benchmark.measured.figures import board_flags, throttle_words
from export.benchmark.measured.process import BOARD_PROGRAMS, RUNNER, Plan, parse_run
from export.gates.outputs import file_run, run_all
from lsemvae.screen.runtime import onnx_options
from lsemvae.screen.runtime.contract import Signature

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "edge_app" / "bundle"
MODEL, GOLDEN = BUNDLE / "model.tflite", BUNDLE / "golden.npz"
QUICK = ("--threads", "1,4096", "--runs", "30", "--warm-up-s", "0", "--min-s", "0", "--json")


def call(
    *arguments: object, interpreter: tuple[str, ...] = (sys.executable, "-P"), **kw: Any
) -> tuple[int, dict[str, Any]]:
    command = [*interpreter, str(RUNNER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **kw)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    started = time.monotonic()
    status, found = call("--model", MODEL, "--inputs", GOLDEN, *QUICK, "--started-monotonic-s", repr(started))
    assert status == 0
    return found


@pytest.fixture
def quiet(said: dict[str, Any]) -> dict[str, Any]:
    """The same run as if nothing had disturbed it."""
    run = copy.deepcopy(said)
    run["latency"]["1"] |= {"runs": 300, "others_cores": 0.0, "frequency_khz": [None, None]}
    idle = {"governors": [], "throttled": None, "temperature_c": None, "frequency_khz": None, "frequency_max_khz": None}
    run["state"] = {"loadavg_at_start": [0.0, 0.0, 0.0], "before": idle, "after": dict(idle)}
    return run


@pytest.fixture
def pi4(quiet: dict[str, Any]) -> dict[str, Any]:
    """What a cool Raspberry Pi 4 with a fixed clock says."""
    quiet["machine"]["board"] = "Raspberry Pi 4 Model B Rev 1.4"
    for when in ("before", "after"):
        quiet["state"][when] |= {
            "governors": ["performance"],
            "throttled": 0,
            "temperature_c": 45.0,
            "frequency_max_khz": 1_500_000,
        }
    quiet["latency"]["1"]["frequency_khz"] = [1_500_000, 1_500_000]
    return quiet


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_its_outputs_are_those_of_the_clinics_runtime(said: dict[str, Any]) -> None:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        expected = run_all(file_run(MODEL, Signature((1, 2, 2500), archive["logits"][:1].shape)), archive["ecg"])
    np.testing.assert_array_equal(np.array(said["outputs"]["logits"], np.float32), expected.logits)
    np.testing.assert_array_equal(np.array(said["outputs"]["uncertainty"], np.float32), expected.uncertainty)


def test_percentiles_are_in_order_and_as_many_runs_as_asked(said: dict[str, Any]) -> None:
    taken = said["latency"]["1"]
    values = [taken[key] for key in ("min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms")]
    assert values == sorted(values)
    assert 0 < values[0]
    assert taken["min_ms"] <= taken["mean_ms"]
    assert taken["runs"] == 30


def test_more_threads_than_cores_are_left_out_and_said(said: dict[str, Any]) -> None:
    assert said["threads_left_out"] == [4096]
    assert list(said["latency"]) == ["1"]


def test_cold_start_covers_its_steps(said: dict[str, Any]) -> None:
    steps = said["steps_ms"]
    parts = sum(steps[name] for name in ("numpy_import", "inputs", "import", "load", "first_inference"))
    assert 0 < parts < steps["cold_start"] < 60_000


def test_cold_start_is_found_without_a_parents_word() -> None:
    before = time.monotonic()
    status, found = call("--model", MODEL, "--inputs", GOLDEN, *QUICK, "--cold-only")
    wall_ms = 1e3 * (time.monotonic() - before)
    steps = found["steps_ms"]
    assert status == 0
    # The kernel counts process starts in ticks of 10 ms.
    assert steps["import"] + steps["load"] < steps["cold_start"] < wall_ms + 20
    assert found["latency"] == {}
    assert found["threads_left_out"] == []


def test_runtime_and_model_need_more_memory_than_numpy(said: dict[str, Any]) -> None:
    empty, used = said["memory_kib"]["empty"], said["memory_kib"]["used"]
    assert empty["hwm"] + 1024 < used["hwm"]
    assert empty["pss"] < used["pss"]


def test_it_names_versions_kernel_and_page_size(said: dict[str, Any]) -> None:
    assert said["runtime"]["name"] in runner.RUNTIMES[".tflite"]
    assert said["runtime"]["version"][0].isdigit()
    assert said["machine"]["numpy"] == np.__version__
    assert said["machine"]["page_bytes"] % 4096 == 0
    assert said["machine"]["kernel"]


def test_other_programs_are_counted_without_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    monkeypatch.setattr(runner, "busy_s", lambda: 17.0)
    monkeypatch.setattr(runner, "own_s", lambda: 4.0)
    monkeypatch.setattr(runner.time, "monotonic", lambda: start + 2.0)
    assert runner.others_cores(10.0, 1.0, start) == pytest.approx((7.0 - 3.0) / 2.0)
    assert runner.others_cores(None, 1.0, start) is None


def test_firmware_and_clocks_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005 || echo "temp=81.2\'C"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = runner.state()
    assert (found["throttled"], found["temperature_c"]) == (0x50005, 81.2)


class Options:
    """What a session of ONNX Runtime is set up with."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


def test_onnx_runtime_is_set_up_as_in_the_clinic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner takes the clinic's own file, in the package and beside itself on a board."""
    seen: list[Options] = []

    class Runtime:
        SessionOptions = Options

        class InferenceSession:
            def __init__(self, content: bytes, options: Options, providers: list[str]) -> None:
                seen.append(options)

    runner._onnx(Runtime, b"", 3)
    clinic = onnx_options.session_options(Runtime, 3)
    assert vars(seen[0]) == vars(clinic)
    assert (clinic.intra_op_num_threads, clinic.inter_op_num_threads) == (3, 1)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2", False),
        ("flags : fpu avx512_vnni", True),
        ("flags\t\t: avx_vnni", True),
        ("Features : asimd", False),
    ],
)
def test_a_processor_that_adds_in_32_bits_is_known_by_its_flags(flags: str, expected: bool) -> None:
    assert onnx_options.has_vnni(f"processor : 0\n{flags}\nbugs : avx_vnni") is expected


def test_what_goes_to_a_board_runs_an_onnx_model_there(tmp_path: Path) -> None:
    """Only the two files, in a folder of their own and started as on a board."""
    for program in BOARD_PROGRAMS:
        (tmp_path / program.name).write_bytes(program.read_bytes())
    command = [
        sys.executable,
        "-B",
        "runner.py",
        "--model",
        str(BUNDLE / "model.onnx"),
        "--inputs",
        str(GOLDEN),
        *QUICK,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["runtime"]["name"] == "onnxruntime"


# ---- stands alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", BOARD_PROGRAMS, ids=lambda path: path.name)
def test_it_imports_nothing_but_the_standard_library_and_parses_as_python_3_9(program: Path) -> None:
    tree = ast.parse(program.read_text(), feature_version=(3, 9))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == set()


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def bare(tmp_path: Path, *packages: str) -> tuple[str, ...]:
    """An interpreter that sees only these packages."""
    for package in packages:
        found = Path(sys.modules[package].__file__ or "").parent
        (tmp_path / package).symlink_to(found)
        if (found.parent / f"{package}.libs").is_dir():
            (tmp_path / f"{package}.libs").symlink_to(found.parent / f"{package}.libs")
    words = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return (sys.executable, "-S", "-I", "-c", words)


def test_missing_numpy(tmp_path: Path) -> None:
    status, found = call("--model", MODEL, "--inputs", GOLDEN, *QUICK, interpreter=bare(tmp_path))
    assert (status, found["error"]["code"]) == (2, "E_NUMPY")
    assert "pip install numpy" in found["error"]["advice"]


@pytest.mark.parametrize(("model", "package"), [("model.tflite", "ai-edge-litert"), ("model.onnx", "onnxruntime")])
def test_missing_runtime(tmp_path: Path, model: str, package: str) -> None:
    status, found = call("--model", BUNDLE / model, "--inputs", GOLDEN, *QUICK, interpreter=bare(tmp_path, "numpy"))
    assert (status, found["error"]["code"]) == (2, "E_RUNTIME")
    assert package in found["error"]["advice"]


def failure(model: Path, inputs: Path) -> runner.RunnerError:
    args = argparse.Namespace(
        model=model,
        inputs=inputs,
        threads=[1],
        runs=1,
        warm_up_s=0.0,
        min_s=0.0,
        cold_only=True,
        started_monotonic_s=None,
    )
    with pytest.raises(runner.RunnerError) as caught:
        runner.measure(args)
    return caught.value


def written(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    broken = tmp_path / "model.tflite"
    broken.write_bytes(b"TFL3 but not really")
    assert failure(broken, GOLDEN).code == "E_MODEL"
    assert failure(tmp_path / "model.bin", GOLDEN).code == "E_MODEL"
    assert failure(tmp_path / "absent.onnx", GOLDEN).code == "E_MODEL"


def test_inputs_that_are_no_recordings(tmp_path: Path) -> None:
    ecg = np.zeros((1, 2, 2500), np.float32)
    nan = ecg.copy()
    nan[0, 0, 0] = np.nan
    for arrays in ({"other": ecg}, {"ecg": nan}, {"ecg": ecg[0]}, {"ecg": ecg[:0]}):
        assert failure(MODEL, written(tmp_path / "inputs.npz", **arrays)).code == "E_INPUT"
    assert failure(MODEL, tmp_path / "absent.npz").code == "E_INPUT"


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_recordings_of_another_shape(tmp_path: Path, name: str) -> None:
    inputs = written(tmp_path / "inputs.npz", ecg=np.zeros((1, 6, 5000), np.float32))
    found = failure(BUNDLE / name, inputs)
    assert found.code == "E_MODEL"
    assert "[1, 6, 5000]" in str(found)


def test_outputs_that_are_no_numbers() -> None:
    def run(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[0.0, np.inf]]), np.array([[0.0]])

    with pytest.raises(runner.RunnerError, match="NaN or infinity") as caught:
        runner._outputs(np, run, np.zeros((1, 2, 4), np.float32))
    assert caught.value.code == "E_OUTPUT"


# ---- reading it ------------------------------------------------------------------------------------------------------


def test_an_answer_is_read_back(said: dict[str, Any]) -> None:
    assert parse_run("Welcome to this board\n" + json.dumps(said) + "\n") == said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing"),
        ("bash: python: command not found", "command not found"),
        ('{"schema": "lsemvae-benchm', "no JSON"),
        ('{"schema": "other/1"}', "other/1"),
        ('{"schema": NaN}', "no JSON"),
        ('{"schema": "lsemvae-benchmark-run/1"}', "no 'model'"),
        ('{"schema": "lsemvae-benchmark-run/1", "model": []}', r"run\.model is \[\]"),
        ("{" * 100_000, "no JSON"),
        ("x" * 2_000_000, "2000000 characters"),
    ],
)
def test_an_answer_that_is_none_is_refused_with_what_was_found(text: str, words: str) -> None:
    with pytest.raises(BoardError, match=words):
        parse_run(text, error=BoardError, where="the board")


def test_a_missing_part_is_named(said: dict[str, Any]) -> None:
    said = copy.deepcopy(said)
    del said["latency"]["1"]["p99_ms"]
    with pytest.raises(BenchmarkError, match="latency of 1 threads has no 'p99_ms'"):
        parse_run(json.dumps(said))


def test_a_runners_error_keeps_its_advice() -> None:
    error = {"code": "E_RUNTIME", "message": "no runtime", "advice": "Install one."}
    with pytest.raises(BoardError, match="the board: E_RUNTIME: no runtime") as caught:
        parse_run(json.dumps({"schema": runner.SCHEMA, "error": error}), error=BoardError, where="the board")
    assert caught.value.advice == "Install one."


def test_control_characters_of_a_board_do_not_reach_the_terminal(said: dict[str, Any]) -> None:
    said = copy.deepcopy(said)
    said["machine"]["board"] = "Pi\x1b[2J\x07 4" + "x" * 5000
    found = parse_run(json.dumps(said))["machine"]["board"]
    assert found.isprintable()
    assert len(found) <= 300


@pytest.mark.parametrize("wrong", [{"threads": ()}, {"threads": (0,)}, {"runs": 0}, {"warm_up_s": -1.0}])
def test_a_plan_that_measures_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError, match="expected thread counts"):
        Plan(**wrong)


# ---- what speaks against it ------------------------------------------------------------------------------------------


def test_an_undisturbed_board_has_no_flags(pi4: dict[str, Any]) -> None:
    assert board_flags(pi4, device=board("pi4")) == ()


@pytest.mark.promise(124)
def test_a_throttling_board_is_flagged_before_and_after(pi4: dict[str, Any]) -> None:
    pi4["state"]["before"]["throttled"] = 0x50000
    pi4["state"]["after"]["throttled"] = 0x50005
    before, after = board_flags(pi4)
    assert before == "throttling before the runs: under-voltage since start, throttled since start (0x50000)"
    assert after.startswith("throttling after the runs: under-voltage now, throttled now, under-voltage since start")


@pytest.mark.parametrize("bit", [0, 1, 2, 3, 16, 17, 18, 19])
def test_each_throttle_bit_counts(pi4: dict[str, Any], bit: int) -> None:
    pi4["state"]["after"]["throttled"] = 1 << bit
    assert len(board_flags(pi4)) == 1
    assert "unknown" not in throttle_words(1 << bit)


def test_bits_outside_the_mask_do_not_count(pi4: dict[str, Any]) -> None:
    pi4["state"]["after"]["throttled"] = 1 << 8
    assert board_flags(pi4) == ()


def test_a_pi_that_does_not_tell_is_flagged_and_another_machine_is_not(
    pi4: dict[str, Any], quiet: dict[str, Any]
) -> None:
    pi4["state"]["after"]["throttled"] = None
    assert "not known" in board_flags(pi4)[0]
    quiet["machine"]["board"] = None
    quiet["state"]["before"]["governors"] = []
    assert board_flags(quiet) == ()


@pytest.mark.promise(124)
def test_a_clock_that_falls_is_flagged_anywhere(quiet: dict[str, Any]) -> None:
    quiet["latency"]["1"]["frequency_khz"] = [1_500_000, 1_000_000]
    assert board_flags(quiet) == ("clock fell during the runs with 1 thread: 1500 to 1000 MHz",)
    quiet["latency"]["1"]["frequency_khz"] = [1_500_000, 1_450_000]
    assert board_flags(quiet) == ()


def test_a_pi_below_its_highest_clock_is_flagged(pi4: dict[str, Any]) -> None:
    pi4["latency"]["1"]["frequency_khz"] = [600_000, 600_000]
    assert board_flags(pi4) == ("clock below its maximum with 1 thread: 600 of 1500 MHz",)


def test_governor_heat_load_others_and_few_runs_are_flagged(pi4: dict[str, Any]) -> None:
    pi4["state"]["before"]["governors"] = ["ondemand"]
    pi4["state"]["after"]["temperature_c"] = 80.5
    pi4["state"]["loadavg_at_start"] = [1.2, 0.5, 0.1]
    pi4["latency"]["1"] |= {"others_cores": 0.7, "runs": 299}
    words = (
        "governor is ondemand",
        "reached 80.5 C",
        "other programs used 0.7 cores",
        "load average 1.20",
        "only 299 runs",
    )
    flags = board_flags(pi4)
    assert [word for word, flag in zip(words, flags, strict=True) if word not in flag] == []
    assert not any("load average" in flag for flag in board_flags(pi4, judge_load=False))


@pytest.mark.promise(124)
def test_another_board_than_asked_for_is_flagged(pi4: dict[str, Any]) -> None:
    assert board_flags(pi4, device=board("pi5")) == (
        "other board than asked for: found 'Raspberry Pi 4 Model B Rev 1.4', expected 'Raspberry Pi 5'",
    )
    pi4["machine"]["board"] = None
    pi4["state"]["after"]["throttled"] = 0
    assert "no board name" in board_flags(pi4, device=board("pi4"))[0]
