"""Each example runs as it stands: scripts as a process, the notebook cell by cell in one namespace, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import write_npz

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "from_recordings_to_a_picture.ipynb"
# Tested where it belongs: the bridge without the app.
ELSEWHERE = {"embed.py"}
# What a cell may print or draw and leave in the file: a reader's copy, not a store of pictures.
MAX_OUTPUT_BYTES = 20_000


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file with the second golden recording of the shipped bundle."""
    import numpy as np

    with np.load(ROOT / "edge_app/bundle/golden.npz") as golden:
        samples = np.round(golden["ecg"][1] * 1000).astype(np.int16)
    path = tmp_path / "recording.ecg.npz"
    write_npz(path, EcgRecord(samples=samples, lsb_uv=1.0, fs_hz=250.0, leads=("I", "II")))
    return path


def test_every_example_is_run_here() -> None:
    """A new example needs a test: this list is what the tests below run."""
    found = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert found - ELSEWHERE == {"screen_a_file.py", NOTEBOOK.name}
    assert all(f"({name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8") for name in found - ELSEWHERE)


def test_a_file_is_screened_in_five_lines(recording: Path, tmp_path: Path) -> None:
    source = (EXAMPLES / "screen_a_file.py").read_text(encoding="utf-8")
    statements = [line for line in source.splitlines() if line and not line.startswith(('"""', "import", "from"))]
    assert len(statements) <= 5
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "screen_a_file.py"), str(recording)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split(":")[0] in ("DETECTED", "NOT DETECTED", "ABSTAIN")
    assert "not pulmonary hypertension" in done.stdout


def cells(kind: str) -> list[str]:
    """Sources of the notebook's cells of one kind."""
    return [
        "".join(cell["source"])
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == kind
    ]


def test_the_notebook_is_a_notebook() -> None:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["metadata"]["kernelspec"]["name"]) == (4, "python3")
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids) >= 10
    for cell in book["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        assert all(isinstance(line, str) for line in cell["source"])
        assert len(json.dumps(cell.get("outputs", []))) <= MAX_OUTPUT_BYTES
        if cell["cell_type"] == "code":
            assert set(cell) == {"cell_type", "execution_count", "id", "metadata", "outputs", "source"}
    assert "not trained on pulmonary hypertension" in " ".join(cells("markdown")[0].split())


@pytest.mark.slow
def test_the_notebook_goes_from_recordings_to_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: plt.savefig(tmp_path / "picture.png"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(cells("code")):
        exec(compile(source, f"{NOTEBOOK.name}[{number}]", "exec"), namespace)
    plt.close("all")
    outcomes = [str(result.decision.outcome) for result in namespace["results"]]
    assert {"ABSTAIN", "NOT DETECTED"} <= set(outcomes)
    assert outcomes[-1] == "ABSTAIN", "a flat lead is never judged"
    assert "FLAT" in capsys.readouterr().out
    assert (tmp_path / "picture.png").stat().st_size > 10_000
