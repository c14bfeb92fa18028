"""The counting command: what it writes, and that a count made again is the recorded one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.benchmark.devices import board
from export.benchmark.projected import counts
from export.benchmark.projected.counts import COUNTS_FILE, counted, read_graph
from lsemvae.model.student_sizes import SIZES
from lsemvae.screen.bundle import SHIPPED_BUNDLE
from tools.arm64 import count
from tools.arm64.emulate import emulate
from tools.arm64.root import ensure_root

ROOT = Path(__file__).resolve().parents[2]
# LiteRT's count is the same to the digit in every run of one program; around it, another release of the interpreter or of
# guest.py moves the call from Python by some hundred instructions. ONNX Runtime searches the heap for free memory.
TOLERANCE = {"litert": 1e-4, "onnx": 5e-3}


@pytest.fixture
def ecg() -> np.ndarray:
    with np.load(SHIPPED_BUNDLE / "golden.npz", allow_pickle=False) as golden:
        return golden["ecg"]


@pytest.mark.promise(123)
@pytest.mark.usefixtures("needs_qemu")
@pytest.mark.needs_qemu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        ("edge_app/bundle/model.tflite", "litert"),
        ("edge_app/bundle/model.onnx", "onnx"),
        ("docs/evidence/cv/folds-1-2-3/model.tflite", "litert"),
    ],
)
def test_a_packaged_model_counted_again_gives_the_recorded_count(path: str, runtime: str, ecg: np.ndarray) -> None:
    """The third is another student of the same graph: its weights change nothing."""
    content = (ROOT / path).read_bytes()
    recorded = counted(read_graph(content, runtime=runtime)).boards["pi4"]
    again = emulate(content, runtime=runtime, device=board("pi4"), root=ensure_root(), ecg=ecg[:1])
    assert again.instructions == pytest.approx(recorded.instructions, rel=TOLERANCE[runtime])
    seen = {name: n for name, n in again.opcodes.counts.items() if n > 10_000}
    for name, instructions in seen.items():
        assert recorded.record["opcodes"][name] == pytest.approx(instructions, rel=20 * TOLERANCE[runtime]), name


@pytest.mark.slow
def test_a_student_with_random_weights_has_the_graph_of_the_shipped_one(ecg: np.ndarray) -> None:
    int8, float_form = count.size_models("m", ecg, say=lambda _: None)
    shipped = read_graph((SHIPPED_BUNDLE / "model.tflite").read_bytes(), runtime="litert")
    assert read_graph(int8.content, runtime="litert") == shipped
    assert read_graph(float_form.content, runtime="litert").key == counted(shipped).float_form


def entry(what: str, instructions: int) -> dict:
    seen = {"runtime": "litert", "instructions": instructions}
    return {
        "what": what,
        "date": "2026-12-01",
        "command": "c",
        "operators": 1,
        "float_form": None,
        "boards": {"pi4": seen},
    }


def test_counts_are_added_and_replaced_by_their_graphs() -> None:
    first = json.loads(count.merged({}, {"a": entry("x", 1), "b": entry("w", 2)}))
    assert list(first["graphs"]) == ["b", "a"]  # by what was counted
    again = json.loads(count.merged(first, {"a": entry("x", 7)}))
    assert {key: found["boards"]["pi4"]["instructions"] for key, found in again["graphs"].items()} == {"a": 7, "b": 2}
    assert again["schema"] == counts.COUNTS_SCHEMA


def test_the_file_is_as_the_command_writes_it() -> None:
    text = COUNTS_FILE.read_text(encoding="utf-8")
    assert count.merged(json.loads(text), {}) == text


def test_random_weights_never_take_the_place_of_a_bundles_own_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counts.json"
    path.write_text(count.merged({}, {"a": entry("model.tflite of a bundle", 1), "b": entry(f"s {count.RANDOM}", 2)}))
    monkeypatch.setattr(count, "COUNTS_FILE", path)
    made = {key: entry(f"s {count.RANDOM}", 9) for key in ("a", "b", "c")}
    monkeypatch.setattr(count, "count_models", lambda *_, **__: made)
    assert count.main(["--sizes", "m", "--write"]) == 0
    graphs = json.loads(path.read_text())["graphs"]
    assert {key: found["boards"]["pi4"]["instructions"] for key, found in graphs.items()} == {"a": 1, "b": 9, "c": 9}


def test_without_write_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(count, "COUNTS_FILE", tmp_path / "counts.json")
    monkeypatch.setattr(count, "count_models", lambda *_, **__: {"a": entry("model.tflite of a bundle", 4_281_312)})
    assert count.main([]) == 0
    assert re.search(r"4,281,312 +pi4 +litert +model\.tflite of a bundle", capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert count.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("E_BENCHMARK_TOOL: found no program 'qemu-aarch64'")
    assert "sudo apt install qemu-user mmdebstrap gcc libc6-dev" in said


def test_a_bundle_that_is_none_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(count, "ensure_root", lambda **_: pytest.fail("began"))
    assert count.main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith("E_BUNDLE")


@pytest.mark.slow
def test_its_help_says_what_it_needs() -> None:
    command = [sys.executable, "-m", "tools.arm64.count", "-h"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for needed in ("qemu-user", "mmdebstrap", "gcc", "capstone", "x86-64 Linux", ",".join(SIZES)):
        assert needed in said


@pytest.mark.parametrize("package", ["lsemvae", "export", "edge_app", "firmware_bridge"])
def test_nothing_in_the_wheel_imports_tools(package: str) -> None:
    pattern = re.compile(r"^\s*(from tools[. ]|import tools)", re.MULTILINE)
    found = [path for path in (ROOT / package).rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == []
