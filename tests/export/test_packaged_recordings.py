"""The recordings that ship with the packaged student: whose they are, that nothing is lost, and that damage is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.errors import ExportCalibrationError, ExportError
from export.run import export_run
from export.student_run.data import data_from_store
from export.student_run.packaged import PACKAGED_RUN
from export.student_run.recordings import RECORDINGS, content_sha256, packaged_recordings, residuals
from lsemvae.data.store import RecordStore
from lsemvae.ecg.frontend import BASE
from tools.packaged_recordings import N_VALIDATION, make


@pytest.fixture(scope="module")
def shipped() -> RecordStore:
    return packaged_recordings()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(RECORDINGS, tmp_path / "recordings"))


def read_index(folder: Path) -> dict:
    return json.loads((folder / "recordings.json").read_text(encoding="utf-8"))


def test_the_calibration_recordings_are_those_of_the_packaged_student(shipped: RecordStore) -> None:
    named = json.loads((PACKAGED_RUN / "calibration_ids.json").read_text(encoding="utf-8"))
    data = data_from_store(
        shipped, leads=("I", "II"), labels=shipped.label_names, spec=BASE, left_out=(), calibration_ids=named
    )
    assert data.calibration_ids == tuple(named) == tuple(shipped.uid[shipped.split == "calibration"])
    assert data.validation_ids == tuple(shipped.uid[shipped.split == "validation"])
    assert len(data.validation) == N_VALIDATION
    assert data.validation.dtype == np.float32
    assert 0.1 < np.abs(data.validation).max(axis=(1, 2)).mean() < BASE.clip_mv


def test_every_label_but_one_has_the_positives_that_its_gate_asks_for(shipped: RecordStore) -> None:
    """RAE is the one: PTB-XL has four of other persons than the calibration's; an export names it as not gated."""
    judged = shipped.labels[shipped.split == "validation"]
    positives = dict(zip(shipped.label_names, (judged == 1).sum(0).tolist(), strict=True))
    assert {name for name, n in positives.items() if n < 5} == {"RAE"}
    assert positives["RHS"] == 50
    assert all(10 <= n < N_VALIDATION / 2 for name, n in positives.items() if name != "RAE")


def test_they_are_public_recordings_under_one_licence_with_credit_and_without_patients(shipped: RecordStore) -> None:
    assert shipped.index["licence"] == "CC-BY-4.0"
    assert any("10.13026/kfzx-aw45" in text for text in shipped.index["attribution"])
    assert {source.split(" ")[0] for source in shipped.source} == {"PTB-XL"}
    assert all(re.fullmatch(r"ptbxl_\d{5}", uid) for uid in shipped.uid)
    assert set(read_index(RECORDINGS)["rows"]) == {"uid", "role", "source", "fold", "gain_known", "labels"}
    licence = (RECORDINGS / "LICENSE.txt").read_text(encoding="utf-8")
    for text in (*shipped.index["attribution"], *shipped.index["changes"], "creativecommons.org/licenses/by/4.0"):
        assert text in licence


def test_they_take_no_more_than_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in RECORDINGS.iterdir()) <= 3_000_000


def test_any_samples_come_back_as_they_were(own: Path) -> None:
    """Steps over the whole range of 16 bits included: the prediction wraps, and so does its undoing."""
    rng = np.random.default_rng(7)
    samples = np.zeros((3, 2, 400), np.int16)
    samples[0] = rng.integers(-32768, 32768, (2, 400))
    samples[1] = np.where(rng.random((2, 400)) < 0.5, -32768, 32767)
    samples[2, 1] = np.round(3000 * np.sin(np.arange(400) / 9))
    low, high = residuals(samples)
    index = read_index(own)
    index["rows"] = {name: values[:3] for name, values in index["rows"].items() if name != "labels"} | {
        "labels": {name: text[:3] for name, text in index["rows"]["labels"].items()}
    }
    index["sha256"] = content_sha256(index, low, high)
    (own / "recordings.json").write_text(json.dumps(index), encoding="utf-8")
    np.savez(own / "samples.npz", low=low, high=high)
    np.testing.assert_array_equal(packaged_recordings(own).samples, samples)


def damage_samples(folder: Path) -> None:
    with np.load(folder / "samples.npz", allow_pickle=False) as stored:
        low, high = stored["low"].copy(), stored["high"]
    low[700, 1, 1234] ^= 1
    np.savez_compressed(folder / "samples.npz", low=low, high=high)


def damage_a_label(folder: Path) -> None:
    index = read_index(folder)
    index["rows"]["labels"]["RHS"] = "1" + index["rows"]["labels"]["RHS"][1:]
    (folder / "recordings.json").write_text(json.dumps(index), encoding="utf-8")


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        damage_samples,
        damage_a_label,
        cut("samples.npz"),
        cut("recordings.json"),
        lambda folder: (folder / "samples.npz").unlink(),
        lambda folder: (folder / "recordings.json").write_text("{}"),
    ],
)
def test_a_damaged_set_is_refused_with_advice(own: Path, damage) -> None:
    damage(own)
    with pytest.raises(ExportCalibrationError, match="are damaged") as caught:
        packaged_recordings(own)
    assert "Install lsemvae again" in caught.value.advice
    assert "--data" in caught.value.advice


def test_a_student_is_not_fine_tuned_on_them(shipped: RecordStore, tmp_path: Path) -> None:
    """900 recordings of leads I and II are no training set."""
    with pytest.raises(ExportError, match="fine-tuning") as caught:
        export_run(PACKAGED_RUN, out=tmp_path / "b", data=shipped, qat=True, dry_run=True)
    assert "--data" in caught.value.advice


@pytest.mark.slow
@pytest.mark.needs_data
def test_the_tool_makes_the_same_set_again(ecg_data_dir: Path, tmp_path: Path) -> None:
    said = make(ecg_data_dir, tmp_path / "again")
    assert said == read_index(RECORDINGS)["sha256"]
    assert read_index(tmp_path / "again") == read_index(RECORDINGS)
    assert (tmp_path / "again" / "LICENSE.txt").read_bytes() == (RECORDINGS / "LICENSE.txt").read_bytes()
