"""A conversion of the same weights is used again, and of no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from export.convert import to_tflite


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A converter that writes the weights it was given, and a list of its calls."""
    calls: list[Path] = []

    def convert(run_dir: Path, out: Path, *, log: Path) -> Path:
        calls.append(run_dir)
        out.write_bytes((run_dir / "model.safetensors").read_bytes())
        return out

    monkeypatch.setattr(to_tflite, "export_tflite", convert)
    return calls


def run(run_dir: Path) -> bytes:
    work = run_dir.parent / "work"
    work.mkdir(exist_ok=True)
    return to_tflite.converted_once(run_dir, work / "m.tflite", log=work / "log").read_bytes()


def test_the_same_weights_are_converted_once(run_copy: Path, counted: list[Path]) -> None:
    assert run(run_copy) == run(run_copy)
    assert len(counted) == 1


@pytest.mark.promise(118)
def test_other_weights_are_converted(run_copy: Path, counted: list[Path]) -> None:
    before = run(run_copy)
    weights = load_file(run_copy / "model.safetensors")
    save_file(
        {name: np.asarray(value + np.float32(1)) for name, value in weights.items()}, run_copy / "model.safetensors"
    )
    assert run(run_copy) != before
    assert len(counted) == 2


@pytest.mark.promise(118)
@pytest.mark.parametrize("harm", ["cut", "foreign", "no note", "broken note"])
def test_a_file_that_is_not_what_its_note_says_is_made_again(run_copy: Path, counted: list[Path], harm: str) -> None:
    before = run(run_copy)
    made = run_copy.parent / "work" / "m.tflite"
    if harm == "cut":
        made.write_bytes(before[:100])
    elif harm == "foreign":
        shutil.copy(run_copy / "config.json", made)
    elif harm == "no note":
        made.with_suffix(".json").unlink()
    else:
        made.with_suffix(".json").write_text("{")
    assert run(run_copy) == before
    assert len(counted) == 2


@pytest.mark.promise(118)
def test_another_converter_version_converts_again(
    run_copy: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(run_copy)
    monkeypatch.setattr(to_tflite, "versions", lambda: {"litert-torch": "9.9"})
    run(run_copy)
    assert len(counted) == 2


def test_a_conversion_that_fails_leaves_no_note(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> Path:
        raise RuntimeError("no")

    monkeypatch.setattr(to_tflite, "export_tflite", fail)
    with pytest.raises(RuntimeError):
        run(run_copy)
    assert list((run_copy.parent / "work").glob("*.json")) == []
