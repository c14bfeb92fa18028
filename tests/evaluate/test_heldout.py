"""Held-out means held out: which model scores which recording, and what calibration is fitted on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lsemvae import scoring
from lsemvae.data.convert import convert_folder
from lsemvae.data.labels import LABELS
from lsemvae.data.store import RecordStore
from lsemvae.ecg.decision import Decision, Outcome
from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.evaluate import heldout
from lsemvae.evaluate.heldout import calibrate_run, pooled
from lsemvae.train.pipeline import fold_plans
from tests.data.test_folder_format import write_folder

RULE = DecisionRule(primary="RHS", calibrations={"RHS": Calibration(slope=1.0, intercept=0.0)}, thresholds={"RHS": 0.5})


def _folder(root: Path, n: int = 16) -> Path:
    return write_folder(root / "data", np.random.default_rng(0).integers(-300, 300, (n, 8, 5000)).astype(np.int16))


class _Fake:
    """Stands for a screener; its probability tells which bundle it was opened from."""

    def __init__(self, name: str, seen: list[tuple[str, str]]) -> None:
        self.name, self.seen = name, seen
        self.bundle = SimpleNamespace(
            manifest=SimpleNamespace(labels=("RHS",), decision=RULE, label_statement="statements of readers")
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


def _run(tmp_path: Path, left_out: list[int]) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"folds_left_out": left_out}))
    return run


def test_calibration_reads_only_the_folds_that_were_left_out(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path, [2])
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
        calibrate_run(_run(tmp_path, []), store)
    assert "--leave-out" in caught.value.advice
