"""`lsemvae export` as typed: without arguments the packaged student, with a run folder that run; nothing is overwritten."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from export.int8.recipe import DEFAULT_RECIPE, load_recipe
from export.run import export_run
from export.student_run.packaged import PACKAGED_RUN, is_packaged, work_folder
from lsemvae.cli import app
from lsemvae.screen.bundle import SHIPPED_BUNDLE, open_bundle
from lsemvae.screen.manifest import Manifest
from tests.data.test_folder_format import write_folder

RUN = CliRunner()


@pytest.fixture
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LSEMVAE_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, cache: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.needs_data
def test_with_all_recordings_the_packaged_student_becomes_the_shipped_model(
    here: Path, ecg_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSEMVAE_DATA", str(ecg_data_dir))
    done = RUN.invoke(app, ["export", "--target", "tflite", "--int8", "--out", "b", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["plan"]["validation_records"] > 4000
    assert "recordings that ship" not in done.stderr
    assert (here / "b" / "model.tflite").read_bytes() == (SHIPPED_BUNDLE / "model.tflite").read_bytes()


@pytest.mark.promise(113)
@pytest.mark.slow
def test_without_arguments_the_packaged_student_becomes_the_shipped_model(
    here: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing but the installation: no recordings of one's own, no variable, no folder beside."""
    monkeypatch.delenv("LSEMVAE_DATA", raising=False)
    done = RUN.invoke(app, ["export", "--target", "tflite", "--int8", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["plan"]["calibration_records"] == 256
    assert "on the recordings that ship with the student" in done.stderr
    shipped = open_bundle(None).manifest
    out = here / f"{shipped.id}-{shipped.version}"
    assert said["out"] == out.name
    made = Manifest.from_bytes((out / "manifest.json").read_bytes())
    assert made.decision == shipped.decision
    assert (out / "model.tflite").read_bytes() == (SHIPPED_BUNDLE / "model.tflite").read_bytes()
    public = bytes.fromhex((own_home / "keys" / "default.pub").read_text())
    assert open_bundle(out, trusted_keys=[public]).manifest.id == shipped.id
    log = Path(said["log"])
    assert log.is_file()
    assert str(PACKAGED_RUN) not in str(log)

    again = RUN.invoke(app, ["export", "--target", "tflite", "--int8"])
    assert again.exit_code == 1
    assert "is there already" in again.output


def test_the_help_names_the_recipe_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join(RUN.invoke(app, ["export", "-h"], env={"COLUMNS": "200"}).output.replace("│", " ").split())
    assert f"[default: {DEFAULT_RECIPE}]" in said
    assert inspect.signature(export_run).parameters["recipe"].default == DEFAULT_RECIPE
    assert load_recipe().name == DEFAULT_RECIPE


@pytest.mark.promise(113)
def test_a_folder_in_the_way_is_said_before_recordings_are_looked_for(here: Path) -> None:
    (here / "taken").mkdir()
    done = RUN.invoke(app, ["export", "--out", "taken", "--data", "no such place"])
    assert done.exit_code == 1
    assert "taken is there already" in done.output


@pytest.mark.promise(113)
def test_without_recordings_it_says_where_it_looked_and_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSEMVAE_DATA", str(here / "nowhere"))
    done = RUN.invoke(app, ["export", "--json"])
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "E_EXPORT_CALIBRATION"
    assert "nowhere" in error["message"]
    assert "--data" in error["advice"]
    assert list(here.iterdir()) == []


def test_other_recordings_do_not_carry_the_packaged_calibration(here: Path, cache: Path) -> None:
    """Its INT8 ranges come from named PTB-XL recordings: without them it would be another model of the same name."""
    samples = np.random.default_rng(0).normal(0, 200, (3, 8, 5000)).astype(np.int16)
    folder = write_folder(here / "data", samples)
    before = set((cache / "lsemvae").glob("stores/*/index.json"))
    for _ in range(2):  # the second time the converted store is found in the cache
        done = RUN.invoke(app, ["export", "--data", str(folder), "--out", "b"])
        assert done.exit_code == 1
        assert "calibration recordings are not in the store" in done.output
        assert not (here / "b").exists()
    assert len(set((cache / "lsemvae").glob("stores/*/index.json")) - before) == 1


def test_the_packaged_run_is_read_only_for_an_export(here: Path, cache: Path) -> None:
    assert is_packaged(PACKAGED_RUN)
    assert work_folder(PACKAGED_RUN, name="export").is_relative_to(cache)
    own = shutil.copytree(PACKAGED_RUN, here / "mine")
    assert not is_packaged(own)
    assert work_folder(own, name="export") == own / "export"


@pytest.mark.promise(113)
def test_the_packaged_run_holds_no_path() -> None:
    files = [path for path in PACKAGED_RUN.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md", ".npz", ".png", ".safetensors", ".txt"}
    for path in PACKAGED_RUN.rglob("*.json"):
        assert "/home" not in path.read_text()
        assert "/root" not in path.read_text()
        assert "/work" not in path.read_text()
        assert "/tmp" not in path.read_text()


def test_the_packaged_student_is_the_one_of_the_shipped_bundle() -> None:
    shipped = open_bundle(None).manifest
    decision = json.loads((PACKAGED_RUN / "decision.json").read_text())
    assert decision["decision"] == shipped.decision.to_dict()
    assert decision["fitted_on"] == "tflite_int8"
    identity = json.loads((PACKAGED_RUN / "bundle.json").read_text())
    assert (identity["id"], identity["version"]) == (shipped.id, shipped.version)
