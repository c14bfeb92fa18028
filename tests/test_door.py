"""The Python door: which names strangers may rely on, and that each of them works as its example says."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import lsemvae
from tests.data.test_folder_format import write_folder

NAMES = [
    "LEADS",
    "EcgRecord",
    "Manifest",
    "Outcome",
    "ScreenResult",
    "Screener",
    "__version__",
    "apply_frontend",
    "assess_quality",
    "derive_limb_leads",
    "load_model",
    "open_bundle",
    "open_screener",
    "open_store",
    "read_record",
]


def heart_mv(seconds: float = 12.0, fs_hz: float = 500.0) -> np.ndarray:
    """Leads I and II of a heart at 72 beats a minute, `[2, time]` in mV."""
    t_s = np.arange(round(fs_hz * seconds)) / fs_hz
    phase_s = (t_s + 0.3) % (60 / 72)
    waves = ((0.12, 0.16, 0.022), (-0.08, 0.262, 0.008), (1.0, 0.285, 0.011), (-0.2, 0.31, 0.009), (0.28, 0.54, 0.045))
    beat = sum(height * np.exp(-0.5 * ((phase_s - centre) / width) ** 2) for height, centre, width in waves)
    return np.stack([0.6 * beat, beat]) + np.random.default_rng(3).normal(scale=0.004, size=(2, t_s.size))


@pytest.fixture
def small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `recording.csv` and a record store `store`: what the examples open."""
    from lsemvae.data.convert import convert_folder

    rows = "\n".join(",".join(f"{value:.5f}" for value in row) for row in heart_mv().T)
    (tmp_path / "recording.csv").write_text(f"# fs_hz=500\n# unit=mV\nI,II\n{rows}\n", encoding="ascii")
    counts = np.random.default_rng(0).integers(-900, 900, (4, 8, 5000)).astype(np.int16)
    convert_folder(write_folder(tmp_path / "folder", counts), tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_door_is_these_names_and_no_other() -> None:
    assert lsemvae.__all__ == NAMES
    assert set(NAMES) <= set(dir(lsemvae))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_explained(name: str) -> None:
    found = getattr(lsemvae, name)
    assert name in ("LEADS", "__version__") or found.__doc__


@pytest.mark.usefixtures("small_set")
def test_the_examples_hold() -> None:
    found = doctest.testmod(lsemvae, verbose=False)
    assert (found.failed, found.attempted > 15) == (0, True)


def test_every_name_has_an_example() -> None:
    code = "\n".join(example.source for example in doctest.DocTestParser().get_examples(lsemvae.__doc__ or ""))
    assert {name for name in NAMES if not re.search(rf"lsemvae\.{name}\b", code)} == set()


def test_the_door_alone_loads_neither_numpy_nor_torch() -> None:
    script = "import lsemvae, json, sys; print(json.dumps([dir(lsemvae), sorted(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)
    assert set(NAMES) <= set(names)
    assert not {"numpy", "torch", "typer", "lsemvae.ecg"} & set(loaded)


@pytest.mark.parametrize("name", ["Outcome", "read_record", "open_screener"])
def test_what_the_clinic_takes_through_the_door_loads_no_laboratory(name: str) -> None:
    script = f"import lsemvae, json, sys; lsemvae.{name}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "pandas", "wfdb"} & set(json.loads(done.stdout))


def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'lsemvae' has no attribute 'load_weights'"):
        lsemvae.load_weights  # noqa: B018


def test_version_is_that_of_the_project(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    assert lsemvae.__version__ == project["version"]


@pytest.mark.parametrize("room", ["lsemvae.ecg", "lsemvae.formats", "lsemvae.screen"])
def test_every_public_name_of_a_room_is_there(room: str) -> None:
    module = import_module(room)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError):
        module.nothing_of_this_name  # noqa: B018


def test_a_model_is_that_of_its_run_folder(tmp_path: Path) -> None:
    from tests.explain.test_attribution import TINY, _run, tiny_lsemvae

    model = lsemvae.load_model(_run(tmp_path / "run", tiny_lsemvae(), kind="lsemvae", stage="finetune"))
    assert (type(model).__name__, model.config, model.training) == ("LsEmvae", TINY, False)
    student = lsemvae.load_model()
    assert (type(student).__name__, student.training) == ("StudentNet", False)


def test_a_run_that_is_none_is_refused(tmp_path: Path) -> None:
    from lsemvae.ecg.errors import FormatError

    (tmp_path / "config.json").write_text('{"kind": "forest", "model": {}}')
    with pytest.raises(FormatError, match="found a run of kind 'forest'"):
        lsemvae.load_model(tmp_path)
