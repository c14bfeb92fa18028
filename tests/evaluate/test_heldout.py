"""Held-out means held out: which model scores which recording, and what calibration is fitted on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lsemvae.data.convert import convert_folder
from lsemvae.data.labels import LABELS
from lsemvae.data.store import RecordStore
from lsemvae.ecg.decision import Decision, Outcome, error_decision
from lsemvae.ecg.errors import FormatError, SampleError, StoreError
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.evaluate import heldout, scoring
from lsemvae.evaluate.heldout import calibrate_run, pooled
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, to_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import save_tensors
from lsemvae.train.pipeline import fold_plans
from lsemvae.train.run import write_json
from tests.data.test_folder_format import write_folder

RULE = DecisionRule(primary="RHS", calibrations={"RHS": Calibration(slope=1.0, intercept=0.0)}, thresholds={"RHS": 0.5})

PROVENANCE: dict[str, Any] = {}
"""What the fake manifests state of their origin."""


def _folder(root: Path, n: int = 16) -> Path:
    return write_folder(root / "data", np.random.default_rng(0).integers(-300, 300, (n, 8, 5000)).astype(np.int16))


class _Fake:
    """Stands for a screener; its probability tells which bundle it was opened from."""

    def __init__(self, name: str, seen: list[tuple[str, str]]) -> None:
        self.name, self.seen = name, seen
        self.bundle = SimpleNamespace(
            manifest=SimpleNamespace(
                labels=("RHS",), decision=RULE, label_statement="statements of readers", provenance=dict(PROVENANCE)
            )
        )

    def screen(self, record: Any) -> Any:
        self.seen.append((self.name, record.record_id))
        decision = Decision(outcome=Outcome.NOT_DETECTED, label="RHS", probabilities={"RHS": 0.25}, uncertainty=0.1)
        return SimpleNamespace(decision=decision)


def _opener(seen: list[tuple[str, str]]) -> Callable[[Path | None], Any]:
    return lambda path: _Fake(path.name if path else "shipped", seen)


def test_each_recording_is_scored_by_the_bundle_that_has_not_seen_its_fold(tmp_path: Path) -> None:
    data, bundles = _folder(tmp_path), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1, 2], "b": [3, 4]}))
    seen: list[tuple[str, str]] = []
    scores = scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener(seen))
    fold = {row["uid"]: int(float(row["strat_fold"])) for row in scores.rows}
    assert len(seen) == 16
    assert all(name == ("a" if fold[uid] in (1, 2) else "b") for name, uid in seen)


def test_a_fold_that_no_bundle_left_out_is_an_error_not_a_guess(tmp_path: Path) -> None:
    data, bundles = _folder(tmp_path), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1, 2]}))
    with pytest.raises(FormatError, match=r"found folds \[3, 4\]"):
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([]))


def test_a_single_bundle_scores_everything(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    scores = scoring.score_folder(_folder(tmp_path), bundle=None, split="train", open_screener=_opener(seen))
    assert {name for name, _ in seen} == {"shipped"}
    assert scores.outcome_counts()["NOT DETECTED"] == 16
    np.testing.assert_array_equal(scores.probabilities("RHS"), 0.25)


def test_truth_counts_unread_negatives_only_when_asked(tmp_path: Path) -> None:
    scores = scoring.score_folder(_folder(tmp_path), bundle=None, split="all", open_screener=_opener([]))
    assert np.isnan(scores.truth("RHS")).sum() == 8
    assert np.isfinite(scores.truth("RHS", every_negative=True)).all()


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return convert_folder(_folder(tmp_path), tmp_path / "store")


def test_pooled_scores_fill_exactly_the_tested_rows(store: RecordStore) -> None:
    plans = fold_plans(store, 2)
    out = pooled(store, plans, lambda plan, rows: np.full((len(rows), 1), float(plan.left_out[0])), width=1)
    for plan in plans:
        assert (out[plan.test, 0] == plan.left_out[0]).all()
    assert np.isnan(pooled(store, plans[:1], lambda plan, rows: np.zeros((len(rows), 1)), width=1)).sum() == len(
        plans[1].test
    )


def _run(tmp_path: Path, left_out: list[int], store: RecordStore) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"folds_left_out": left_out, "data_sha256": store.data_hash}))
    return run


def test_calibration_reads_only_the_folds_that_were_left_out(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path, [2], store)
    used: list[np.ndarray] = []

    def logits(run_dir: Path, store: RecordStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        used.append(rows)
        return np.zeros((len(rows), len(LABELS))), np.zeros(len(rows))

    monkeypatch.setattr(heldout, "student_logits", logits)
    monkeypatch.setattr(heldout, "load_student", lambda _: (None, {"labels": list(LABELS)}))
    with pytest.raises(SampleError, match="expected at least one of each"):
        calibrate_run(run, store)
    assert set(store.fold[used[0]].tolist()) == {2}


def test_a_student_that_left_nothing_out_cannot_be_calibrated(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found no recording of folds") as caught:
        calibrate_run(_run(tmp_path, [], store), store)
    assert "--leave-out" in caught.value.advice


def test_defect_leak_a_student_is_not_calibrated_on_folds_of_other_data(store: RecordStore, tmp_path: Path) -> None:
    run = _run(tmp_path, [2], store)
    text = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**text, "data_sha256": "0" * 64}))
    with pytest.raises(FormatError, match="left folds of other data out"):
        calibrate_run(run, store)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{}", '"a"', "\xff", '{"a": 3}', '{"a": []}', '{"a": ["x"]}', '{"a": [true]}',
                                  '{"a": [0]}', '{"../a": [1]}', '{"": [1]}'])  # fmt: skip
def test_defect_damaged_folds_are_refused_with_advice(tmp_path: Path, text: str) -> None:
    data, bundles = _folder(tmp_path, 2), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"folds\.json.*found .*, expected") as caught:
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([]))
    assert "Copy the folder again" in caught.value.advice


@pytest.mark.promise(91)
def test_defect_leak_a_fold_listed_for_two_bundles_is_refused(tmp_path: Path) -> None:
    data, bundles = _folder(tmp_path, 2), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1, 2], "b": [2, 3, 4]}))
    with pytest.raises(FormatError, match=r"found folds \[1, 2, 2, 3, 4\], expected each fold once"):
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([]))


@pytest.mark.promise(91)
def test_defect_leak_folds_must_agree_with_the_signed_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """folds.json carries no signature: whoever edits it must not get figures on training data."""
    data, bundles = _folder(tmp_path), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1, 2, 3, 4]}))
    monkeypatch.setitem(PROVENANCE, "folds_left_out", [4])
    with pytest.raises(FormatError, match=r"found folds \[1, 2, 3, 4\] for a, expected \[4\]"):
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([]))
    monkeypatch.setitem(PROVENANCE, "folds_left_out", [4, 3, 2, 1])
    assert scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([])).predictions


def test_defect_pooled_bundles_with_other_rules_are_refused(tmp_path: Path) -> None:
    data, bundles = _folder(tmp_path), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1, 2], "b": [3, 4]}))
    other = DecisionRule(primary="RHS", calibrations=RULE.calibrations, thresholds={"RHS": 0.4})

    def opener(path: Path | None) -> Any:
        fake = _Fake(path.name if path else "", [])
        if fake.name == "b":
            fake.bundle.manifest.decision = other
        return fake

    with pytest.raises(FormatError, match="different outputs or decision rules"):
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=opener)


def _edit(data: Path, **cells: str) -> Path:
    """Set cells of every row of a folder's table."""
    rows = list(csv.DictReader((data / "metadata.csv").read_text().splitlines()))
    with (data / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], *(name for name in cells if name not in rows[0])])
        writer.writeheader()
        writer.writerows({**row, **cells} for row in rows)
    return data


@pytest.mark.parametrize(
    ("column", "text"), [("y_RHS", "yes"), ("y_RHS", "2"), ("gain_known", "perhaps"), ("row", "x")]
)
def test_defect_a_cell_that_is_no_label_is_found_before_anything_is_scored(
    tmp_path: Path, column: str, text: str
) -> None:
    seen: list[tuple[str, str]] = []
    data = _edit(_folder(tmp_path, 2), **{column: text})
    with pytest.raises(FormatError, match=f"r0: found {column} '{text}', expected"):
        scoring.score_folder(data, bundle=None, split="all", open_screener=_opener(seen), known_gain=True)
    assert not seen


def test_defect_a_fold_that_is_no_number_is_named(tmp_path: Path) -> None:
    data, bundles = _edit(_folder(tmp_path, 2), strat_fold="one"), tmp_path / "cv"
    bundles.mkdir()
    (bundles / scoring.FOLDS_FILE).write_text(json.dumps({"a": [1]}))
    with pytest.raises(FormatError, match="r0: found strat_fold 'one', expected a number"):
        scoring.score_folder(data, bundle=bundles, split="all", open_screener=_opener([]))


def test_defect_known_gain_that_leaves_nothing_says_so(tmp_path: Path) -> None:
    data = _edit(_folder(tmp_path, 2), gain_known="False")
    with pytest.raises(FormatError, match="none of known gain"):
        scoring.score_folder(data, bundle=None, split="all", open_screener=_opener([]), known_gain=True)


def test_a_signal_that_cannot_be_read_is_an_error_row_with_its_code(tmp_path: Path) -> None:
    data = _folder(tmp_path, 2)
    (data / "signals/a.npz").unlink()
    scores = scoring.score_folder(data, bundle=None, split="all", open_screener=_opener([]))
    assert [(p.outcome, p.reasons) for p in scores.predictions] == [("ERROR", ("E_FORMAT",))] * 2


def test_defect_the_reason_of_an_error_is_its_code_not_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = error_decision(SampleError("found 3; expected 4"))
    monkeypatch.setattr(_Fake, "screen", lambda self, record: SimpleNamespace(decision=decision))
    scores = scoring.score_folder(_folder(tmp_path, 2), bundle=None, split="all", open_screener=_opener([]))
    assert [(row.outcome, row.reasons) for row in scores.predictions] == [("ERROR", ("E_SAMPLE",))] * 2


def test_defect_predictions_that_cannot_be_written_are_refused_before_scoring(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere/p.csv", tmp_path):
        with pytest.raises(StoreError, match="found no way to write there") as caught:
            scoring.check_writable(path)
        assert caught.value.advice.startswith("Make the folder")
    scoring.check_writable(tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


def test_defect_a_failed_write_leaves_no_half_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = scoring.score_folder(_folder(tmp_path, 2), bundle=None, split="all", open_screener=_opener([]))
    (tmp_path / "p.csv").write_text("old")

    class FullDisk:
        def __init__(self, handle: Any, **_: str) -> None:
            self.handle = handle

        def writerow(self, row: list[str]) -> None:
            self.handle.write("uid,outc")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "writer", FullDisk)
    with pytest.raises(StoreError, match="No space left"):
        scoring.write_predictions(tmp_path / "p.csv", scores)
    assert (tmp_path / "p.csv").read_text() == "old"
    assert not list(tmp_path.glob("*.part"))


def test_defect_absent_leads_give_no_logit_instead_of_one_from_zeros(store: RecordStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = StudentConfig(channels=(4, 6, 8, 8, 8), summary=4)
    net = StudentNet(config)
    (tmp_path / "s").mkdir()
    save_tensors(tmp_path / "s/model.safetensors", net.state_dict())
    write_json(
        tmp_path / "s/config.json", {"kind": "student", "model": to_json(config), "leads": ["I", "II"], "labels": []}
    )
    present = store.present.copy()
    present[3, 1] = False
    logits, doubt = heldout.student_logits(tmp_path / "s", replace(store, present=present), np.arange(len(store)))
    assert np.flatnonzero(np.isnan(logits).any(1)).tolist() == np.flatnonzero(np.isnan(doubt)).tolist() == [3]


def test_defect_a_teacher_says_nothing_of_a_recording_without_the_leads(store: RecordStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4)
    (tmp_path / "f").mkdir()
    save_tensors(tmp_path / "f/model.safetensors", LsEmvae(config).state_dict())
    write_json(tmp_path / "f/config.json", {"kind": "lsemvae", "stage": "finetune", "model": to_json(config)})
    present = store.present.copy()
    present[5, :6] = False
    logits = heldout.teacher_logits(tmp_path / "f", replace(store, present=present), np.arange(len(store)), ("I", "II"))
    assert np.flatnonzero(np.isnan(logits).any(1)).tolist() == [5]


def test_defect_teacher_rows_hold_no_figures_that_need_a_probability(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        heldout, "teacher_logits", lambda run, store, rows, leads: np.zeros((len(rows), len(store.label_names)))
    )
    rows = heldout.teacher_table(store, fold_plans(store, 2), tmp_path, ["MI"])
    assert [row["leads"] for row in rows] == ["12", "6", "I+II", "I"]
    assert set(rows[0]) == {"label", "leads", "n", "positives", "auroc", "auprc"}


@pytest.mark.promise(91)
def test_defect_figures_on_training_folds_are_marked_as_not_held_out(tmp_path: Path) -> None:
    scores = scoring.score_folder(_folder(tmp_path), bundle=None, split="all", open_screener=_opener([]))
    assert scores.possibly_seen == 16, "the fake bundle left nothing out, and every recording carries a fold"


def test_folds_that_were_left_out_are_held_out(tmp_path: Path) -> None:
    def opener(path: Path | None) -> Any:
        fake = _Fake("shipped", [])
        fake.bundle.manifest.provenance = {"folds_left_out": [1, 2]}
        return fake

    scores = scoring.score_folder(_folder(tmp_path), bundle=None, split="all", open_screener=opener)
    assert scores.possibly_seen == 8
