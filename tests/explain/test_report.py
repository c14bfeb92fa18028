"""Files of one recording and of a set, through the command: what they hold, what they say, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lsemvae.commands import explain as cli_explain
from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore
from lsemvae.data.tasks import BUILT_IN, TaskSet
from lsemvae.ecg.errors import FormatError, LeadError
from lsemvae.explain import figure
from lsemvae.explain.attribution import attribute, explained, open_run
from lsemvae.explain.report import channels_of, row_of
from lsemvae.explain.sets import choose_rows, seen_by
from lsemvae.explain.statement import label_statement
from lsemvae.explain.waves import delineate
from lsemvae.model.config import StudentConfig
from lsemvae.model.student import StudentNet
from tests.data.test_folder_format import write_folder
from tests.explain.test_attribution import _run, tiny_lsemvae
from tests.explain.toy import ecg

STUDENT = StudentConfig(channels=(4, 6), kernels=(15, 9), strides=(4, 2), summary=4, labels=("RHS", "MI", "MINE"))
N = 16

app = typer.Typer(pretty_exceptions_enable=False)
app.command("explain")(cli_explain.explain)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    root = tmp_path_factory.mktemp("explain")
    x = ecg(N, n_samples=2500).x
    leads = np.repeat(np.concatenate([x, *[x[:, 1:]] * 6], axis=1), 2, axis=2)  # I, II, V1-V6 at 500 Hz
    return convert_folder(write_folder(root / "data", (leads * 1e3).astype(np.int16)), root / "store")


@pytest.fixture(scope="module")
def student_run(tmp_path_factory: pytest.TempPathFactory, store: RecordStore) -> Path:
    root = _run(tmp_path_factory.mktemp("runs") / "student", StudentNet(STUDENT), kind="student")
    run = {"data_sha256": store.data_hash, "folds_sha256": store.folds_hash, "folds_left_out": [1, 2, 3]}
    (root / "run.json").write_text(json.dumps(run))
    return root


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_one_recording_gives_picture_numbers_and_map(student_run: Path, store: RecordStore, tmp_path: Path) -> None:
    code, text = call(
        student_run, "--data", store.root, "--out", tmp_path, "--label", "MI", "--uid", "r3", "--steps", 256
    )
    assert code == 0, text
    assert "None is pulmonary hypertension" in text
    assert "not what is wrong with the heart" in text
    assert (tmp_path / "r3-MI.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "r3-MI.json").read_text())
    assert found["label_statement"].startswith("MI: myocardial infarction statement")
    assert found["stated"] == 1.0
    assert found["completeness_residual"] <= found["completeness_tolerance"]
    with np.load(tmp_path / "r3-MI.npz", allow_pickle=False) as arrays:
        assert arrays["attribution"].shape == arrays["x_mv"].shape == (2, 2500)
        assert arrays["attribution"].sum() == pytest.approx(found["logit"] - found["baseline_logit"], abs=0.06)
        assert {w[0] for w in found["waves"]} == {"P", "QRS", "T"}
        assert arrays["channels"].tolist() == ["I", "II"]


def test_an_output_that_nobody_knows_is_called_so(store: RecordStore) -> None:
    assert "neither this record store nor this toolkit knows" in label_statement("MINE", tasks=store.tasks)
    assert label_statement("AFIB", tasks=store.tasks).startswith("AFIB: atrial fibrillation or flutter statement.")


def test_a_cohort_says_what_its_own_labels_are() -> None:
    task = replace(BUILT_IN.labels[0], name="RHS", description="mean pulmonary artery pressure above 20 mmHg")
    own = TaskSet(name="c", statement="Measured by right-heart catheter.", labels=(task,))
    assert label_statement("RHS", tasks=own) == (
        "RHS: mean pulmonary artery pressure above 20 mmHg. Measured by right-heart catheter."
    )


@pytest.mark.slow
def test_a_set_is_summarised_and_checked(student_run: Path, store: RecordStore, tmp_path: Path) -> None:
    code, text = call(
        student_run, "--data", store.root, "--out", tmp_path, "--label", "MI", "--summary", 6, "--steps", 256, "--json"
    )
    assert code == 0, text
    found = json.loads((tmp_path / "summary-MI.json").read_text())
    assert found["held_out"] == "folds 1, 2, 3"
    # Four recordings of these folds have the statement: too few for a group.
    assert {name: group["records"] for name, group in found["groups"].items()} == {"not stated": 6}
    assert all(store.fold[row_of(store, uid)] in (1, 2, 3) for uids in found["uids"].values() for uid in uids)
    assert {c["randomised"] for c in found["sanity"]["randomised_weights"]} == {"all", "read_out"}
    assert {c["filled_with"] for c in found["sanity"]["deletion"]} == {"baseline", "line"}
    assert (tmp_path / "summary-MI.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_lsemvae_is_shown_on_what_was_measured(store: RecordStore, tmp_path: Path) -> None:
    run = _run(tmp_path / "f", tiny_lsemvae(), kind="lsemvae", stage="finetune")
    words = ("--data", store.root, "--out", tmp_path, "--label", "OTHER", "--uid", "r1", "--steps", 64, "--json")
    code, text = call(run, *words)
    assert code == 0, text
    found = json.loads(text)
    assert found["channels"] == ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert found["logit_of_stored_leads"] == pytest.approx(found["logit"], abs=0.02)
    assert found["limb_leads"]["relative_difference_on_i_and_ii"] < 1e-9
    assert len(found["limb_leads"]["shares_by_pair"]) == 5
    assert channels_of(store, 1, open_run(run), limb_only=True) == ("I", "II")


def test_wrong_words_end_with_advice(student_run: Path, store: RecordStore, tmp_path: Path) -> None:
    common = ("--data", store.root, "--out", tmp_path)
    assert call(student_run, *common)[0] == 2
    assert call(student_run, *common, "--uid", "r1", "--summary", 5)[0] == 2
    code, text = call(student_run, *common, "--uid", "nobody")
    assert code == 1
    assert "found no recording 'nobody'" in " ".join(text.split())
    code, text = call(student_run, *common, "--uid", "r1", "--label", "LVH")
    assert code == 1
    assert "expected one of RHS, MI, MINE" in " ".join(text.split())


def test_too_small_a_group_is_refused(store: RecordStore) -> None:
    with pytest.raises(FormatError, match="too few recordings for RHS"):
        choose_rows(store, "RHS", n=4, channels=("I", "II"), folds=())
    every = choose_rows(store, "UNKNOWN", n=9, channels=("I", "II"), folds=())
    assert list(every) == ["all"]
    assert len(every["all"]) == 9


def test_other_data_is_not_called_held_out(student_run: Path, store: RecordStore, tmp_path: Path) -> None:
    assert seen_by(student_run, store) == [1, 2, 3]
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text(json.dumps({"data_sha256": "of other recordings", "folds_left_out": [1]}))
    assert seen_by(other, store) == []


def test_a_recording_without_lead_ii_is_refused(store: RecordStore) -> None:
    present = store.present.copy()
    present[0, 1] = False
    without_ii = RecordStore(**{**vars(store), "present": present})
    with pytest.raises(LeadError, match="found no lead II"):
        channels_of(without_ii, 0, explained(StudentNet(STUDENT).eval()), limb_only=False)


def test_the_picture_is_on_paper_scale_and_says_what_label_and_map_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figure, "_save", lambda fig, path: drawn.append(fig))
    x = ecg(1, n_samples=2500).x[0]
    found = attribute(x, explained=explained(StudentNet(STUDENT).eval()), label="MI", n_steps=256)
    waves = delineate(x, fs_hz=250.0)
    figure.draw_record(
        tmp_path / "a.png", x, attribution=found, waves=waves, fs_hz=250.0, title="r1", statement="MI: what it is."
    )
    (page,) = drawn
    words = " ".join(text.get_text() for text in page.texts)
    assert "MI: what it is." in words
    assert "not what is wrong with the heart" in words
    for axes, row in zip(page.axes[:2], x, strict=True):
        box = axes.get_window_extent()
        mm = 25.4 / page.dpi
        low, high = axes.get_ylim()
        assert box.width * mm == pytest.approx(250.0, abs=0.1)  # 10 s at 25 mm/s
        assert box.height * mm == pytest.approx((high - low) * 10.0, abs=0.1)
        assert low < row.min() < row.max() < high
