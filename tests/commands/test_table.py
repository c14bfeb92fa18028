"""The evidence table: one budget for all rows, held-out recordings only, nothing done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore, thinned
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS
from lsemvae.evaluate.predictions import load
from lsemvae.model.baselines import BASELINES
from lsemvae.study import table as table_module
from lsemvae.study.extras import decoder_row, median_interval, reconstruction_r2, student_row, teacher_row
from lsemvae.study.floor_row import CHEST_FEATURES, floor_logits
from lsemvae.study.rows import FINETUNE_BUDGET, PRETRAIN_BUDGET, ROWS, Row, chosen_rows
from lsemvae.study.table import TableJob, lead_set_logits, run_row, run_table, scored_rows
from lsemvae.train.distill import distill
from lsemvae.train.pipeline import fold_plans
from lsemvae.train.recipes import DISTILL
from tests.data.test_folder_format import write_folder

TINY = 0.125


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    root = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    beats = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    x = (beats * rng.uniform(200, 900, (24, 8, 1)) + rng.normal(0, 10, (24, 8, 5000))).astype(np.int16)
    return convert_folder(write_folder(root / "data", x), root / "store")


@pytest.fixture
def job(store: RecordStore, tmp_path: Path) -> TableJob:
    return TableJob(store.root.parent / "data", tmp_path, store, fold_plans(store, 2), lambda _: None, epochs=1)


def _row(name: str, **fields: object) -> Row:
    return Row(name, "ablation", name, "lsemvae", size=TINY, **fields)  # type: ignore[arg-type]


@pytest.mark.promise(102)
def test_every_row_sees_the_recordings_equally_often(job: TableJob) -> None:
    whole = TableJob(job.data, job.out, job.store, job.plans, job.say)
    for row in ROWS:
        first, second = whole.budget(row, 3)
        assert first.epochs + second.epochs == PRETRAIN_BUDGET.epochs + FINETUNE_BUDGET.epochs, row.name
        assert (first.seed, second.seed) == (3, 3)
        assert (first.lr, second.lr) == (PRETRAIN_BUDGET.lr, FINETUNE_BUDGET.lr), row.name
    assert whole.budget(next(r for r in ROWS if not r.pretrains), 0)[0].epochs == 0


def test_each_baseline_and_each_change_has_one_row() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert {row.name for row in ROWS if row.kind == "baseline"} == set(BASELINES)
    assert len(
        {
            json.dumps([row.model, row.train, row.pretrains, row.preset], sort_keys=True)
            for row in ROWS
            if row.kind == "lsemvae"
        }
    ) == sum(row.kind == "lsemvae" for row in ROWS)


def test_unknown_rows_are_refused_with_the_known_ones() -> None:
    assert [row.name for row in chosen_rows(["mvae", "floor"])] == ["floor", "mvae"]
    with pytest.raises(FormatError, match="found rows nonsense, expected some of floor"):
        chosen_rows(["nonsense"])


@pytest.mark.slow
@pytest.mark.promise(102)
def test_a_row_is_scored_on_what_its_models_have_not_seen_and_never_run_twice(
    job: TableJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_row(job, _row("small"))
    found = load(path)
    assert found.logits.shape == (1, 4, len(job.store), len(job.store.label_names))
    assert np.isfinite(found.logits).all()
    assert sorted(found.uid) == sorted(job.store.uid)
    runs = sorted((job.out / "table/small").iterdir())
    assert [json.loads((run / "finetune/run.json").read_text())["folds_left_out"] for run in runs] == [
        list(plan.left_out) for plan in job.plans
    ]
    assert found.about["n_parameters"] > 0
    assert len(found.about["seconds_per_fold"]) == 2

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(table_module, "pretrain", never)
    assert run_row(job, _row("small")) == path


@pytest.mark.slow
def test_a_change_of_a_row_reaches_the_model_and_the_stage(job: TableJob) -> None:
    run_row(job, _row("changed", model={"prior": False}, train={"subsets": "all_leads"}))
    for stage in ("pretrain", "finetune"):
        config = json.loads((job.out / f"table/changed/{job.plans[0].name}-0/{stage}/config.json").read_text())
        assert config["model"]["prior"] is False
        assert config["train"]["subsets"] == "all_leads"


@pytest.mark.slow
def test_a_row_that_fails_is_named_and_the_others_are_run(job: TableJob, monkeypatch: pytest.MonkeyPatch) -> None:
    real = table_module.run_row

    def broken(job: TableJob, row: Row) -> Path:
        if row.name == "bad":
            raise FormatError("found nothing")
        return real(job, row)

    monkeypatch.setattr(table_module, "run_row", broken)
    with pytest.raises(RuntimeError, match="rows that failed: bad"):
        run_table(job, [_row("bad"), _row("good")])
    assert (job.out / "predictions/good.npz").is_file()
    assert "FormatError" in json.loads((job.out / "table-failed.json").read_text())["bad"]


def test_recordings_of_unknown_gain_or_with_a_missing_lead_do_not_count(job: TableJob) -> None:
    gain, present = job.store.gain_known.copy(), job.store.present.copy()
    gain[0], present[1, 7] = 0, False
    some = dataclasses.replace(job.store, gain_known=gain, present=present)
    counted = np.concatenate([scored_rows(some, plan) for plan in fold_plans(some, 2)])
    assert sorted(counted) == list(range(2, len(some)))


def test_lead_sets_show_only_their_leads(job: TableJob) -> None:
    seen: list[list[str]] = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
            seen.append([lead for lead, there in zip(LEADS, present[0], strict=True) if there])
            return torch.zeros(len(x), 3)

    lead_set_logits(Spy(), job.store, np.arange(4))
    assert [len(leads) for leads in seen] == [12, 6, 2, 1]
    assert seen[2] == ["I", "II"]


def test_the_floor_learns_from_measured_recordings_and_has_no_column_for_one_lead(store: RecordStore) -> None:
    rng = np.random.default_rng(1)
    names = ["m_hr", "m_rr_cv", "m_beat_corr", "m_qrs_ms", "m_S_I", "m_R_aVR", "m_P_II", "m_qrs_axis", *CHEST_FEATURES]
    mi = store.labels[:, store.label_names.index("MI")]
    rows = [
        {"uid": str(uid), "age": "50", "sex": "F", **{name: f"{rng.normal() + 3 * y:.3f}" for name in names}}
        for uid, y in zip(store.uid, mi, strict=True)
    ]
    plan = fold_plans(store, 2)[0]
    logits, n = floor_logits(rows, store, plan.train, plan.test, ("12", "6", "I+II", "I"))
    k = store.label_names.index("MI")
    assert n > 0
    assert np.isnan(logits[3]).all()
    np.testing.assert_array_equal(logits[1], logits[2])
    assert np.isnan(logits[0, :, store.label_names.index("RHS")]).all()  # one answer only: nothing to fit
    positive = mi[plan.test] == 1
    assert logits[1, positive, k].min() > logits[1, ~positive, k].max()


@pytest.mark.slow
def test_extras_score_held_out_recordings(job: TableJob) -> None:
    run_row(job, _row("chain"))
    root = job.out / "cv"
    for plan in job.plans:
        source = job.out / f"table/chain/{plan.name}-0"
        (root / plan.name).mkdir(parents=True)
        for stage in ("pretrain", "finetune"):
            (source / stage).rename(root / plan.name / stage)
        distill(
            job.store, root / plan.name / "finetune", root / plan.name / "student", plan.train,
            train=dataclasses.replace(DISTILL, epochs=1, batch=4), left_out=plan.left_out,
        )  # fmt: skip
    row = decoder_row("chain", job.store, job.plans, root)
    assert row["n"] == len(job.store)
    assert set(row["r2"]) == set(LEADS)
    assert all(low <= value <= high <= 1 for value, low, high in row["r2"].values())
    rows, logits = teacher_row(job.store, job.plans, root)
    np.testing.assert_allclose(logits, load(job.out / "predictions/chain.npz").logits[0], atol=2e-2)
    runs = [root / plan.name / "student" for plan in job.plans]
    again, student = student_row(job.store, job.plans, runs)
    np.testing.assert_array_equal(rows, again)
    assert np.isnan(student[[0, 3]]).all()
    assert np.isfinite(student[[1, 2]]).all()


def test_r2_is_one_for_a_perfect_drawing_and_zero_for_the_mean(store: RecordStore) -> None:
    x = torch.from_numpy(store.millivolts(np.arange(4)))

    class Perfect(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def posterior(self, x: torch.Tensor, present: torch.Tensor):  # type: ignore[no-untyped-def]
            from types import SimpleNamespace

            return SimpleNamespace(mean=x)

        def decoder(self, z: torch.Tensor, leads: torch.Tensor) -> torch.Tensor:
            return z.mean(-1, keepdim=True) + self.scale * (z - z.mean(-1, keepdim=True))

    assert reconstruction_r2(Perfect(1.0), store, np.arange(4)) == pytest.approx(np.ones((4, 12)), abs=1e-5)  # type: ignore[arg-type]
    assert reconstruction_r2(Perfect(0.0), store, np.arange(4)) == pytest.approx(np.zeros((4, 12)), abs=1e-5)  # type: ignore[arg-type]
    assert x.shape == (4, 12, 2500)


def test_the_interval_of_a_median_resamples_patients() -> None:
    values, patients = np.r_[np.zeros(50), np.ones(50)], np.repeat(["a", "b"], 50)
    assert median_interval(values, patients)[1:] == [0.0, 1.0]
    assert median_interval(values[:50], patients[:50]) == [0.0, 0.0, 0.0]


def test_a_thinned_store_keeps_each_fold_and_only_whole_recordings(store: RecordStore) -> None:
    k = store.label_names.index("MI")
    labels = store.labels.copy()
    labels[:-1, k] = 0  # one positive, the last recording of its fold
    store = dataclasses.replace(store, labels=labels)
    small = thinned(store, per_fold=2)
    assert [int((small.fold == fold).sum()) for fold in (1, 2, 3, 4)] == [2, 2, 2, 3]
    assert int((small.labels[:, k] == 1).sum()) == 1
    assert small.present.all()
    np.testing.assert_array_equal(small.millivolts([0]), store.millivolts([0]))
