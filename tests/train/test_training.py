"""Training: resumable to the bit, complete run folders, no pickle, clear refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore, open_store
from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, TrainConfig
from lsemvae.train import loop as loop_module
from lsemvae.train.batches import LEAD_SUBSETS, draw_subset, draw_subsets, rows_with, seen_through
from lsemvae.train.checkpoint import load_lsemvae, load_student
from lsemvae.train.distill import distill
from lsemvae.train.finetune import FINETUNE, finetune
from lsemvae.train.loop import learning_rate
from lsemvae.train.pipeline import fold_plans
from lsemvae.train.pretrain import PRETRAIN, pretrain
from lsemvae.train.recipes import DISTILL
from lsemvae.train.run import store_of
from tests.data.test_folder_format import write_folder

MODEL = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4)
STUDENT = StudentConfig(channels=(4, 6, 8, 8, 8), summary=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    root = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    beats = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    x = (beats * rng.uniform(200, 900, (16, 8, 1)) + rng.normal(0, 10, (16, 8, 5000))).astype(np.int16)
    return convert_folder(write_folder(root / "data", x), root / "store")


def _few(preset: TrainConfig, epochs: int) -> TrainConfig:
    return dataclasses.replace(preset, epochs=epochs, batch=4)


def _rows(store: RecordStore) -> np.ndarray:
    return np.arange(len(store))


class _StopError(Exception):
    pass


def _stop_after(n: int):  # type: ignore[no-untyped-def]
    def report(row: dict[str, object]) -> None:
        if row["epoch"] == n:
            raise _StopError

    return report


@pytest.mark.slow
@pytest.mark.promise(74)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(store: RecordStore, tmp_path: Path) -> None:
    config = _few(PRETRAIN, 3)
    pretrain(store, tmp_path / "whole", _rows(store), model=MODEL, train=config)
    with pytest.raises(_StopError):
        pretrain(store, tmp_path / "broken", _rows(store), model=MODEL, train=config, report=_stop_after(2))
    (half,) = (tmp_path / "broken").glob("resume-*")
    torn = tmp_path / "broken/resume-00009"
    torn.mkdir()
    (torn / "raw.safetensors").write_bytes((half / "raw.safetensors").read_bytes()[:50])
    pretrain(store, tmp_path / "broken", _rows(store), model=MODEL, train=config)
    a, b = (load_file(str(tmp_path / run / "model.safetensors")) for run in ("whole", "broken"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6)
    assert not list((tmp_path / "broken").glob("resume-*"))


@pytest.mark.slow
@pytest.mark.promise(75)
def test_the_three_stages_leave_complete_run_folders(store: RecordStore, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1), left_out=(9,))
    finetune(store, tmp_path / "p", tmp_path / "f", _rows(store), train=_few(FINETUNE, 1), left_out=(9,))
    distill(store, tmp_path / "f", tmp_path / "s", _rows(store), student=STUDENT, train=_few(DISTILL, 2), left_out=(9,))
    for stage, epochs in (("p", 1), ("f", 1), ("s", 2)):
        run = json.loads((tmp_path / stage / "run.json").read_text())
        assert run["data_sha256"] == store.data_hash
        assert run["versions"]["torch"]
        lines = [json.loads(line) for line in (tmp_path / stage / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))
        assert all(np.isfinite(line["loss"]) for line in lines)
    assert json.loads((tmp_path / "p/run.json").read_text())["folds_left_out"] == [9]
    student, config = load_student(tmp_path / "s")
    assert config["leads"] == ["I", "II"]
    assert not student.training
    before = load_file(str(tmp_path / "p/model.safetensors"))
    after = load_file(str(tmp_path / "f/model.safetensors"))
    moved = [name for name in before if name.startswith("encoders") and not torch.equal(before[name], after[name])]
    assert moved, "fine-tuning moves the encoders"


@pytest.mark.slow
def test_a_run_knows_its_store_wherever_both_are_moved_together(store: RecordStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "a/store")
    pretrain(open_store(tmp_path / "a/store"), tmp_path / "a/p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    assert json.loads((tmp_path / "a/p/run.json").read_text())["store"] == "../store"
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_store(store_of(tmp_path / "b/p")).data_hash == store.data_hash
    shutil.rmtree(tmp_path / "b/store")
    with pytest.raises(FormatError, match="found no record store") as caught:
        store_of(tmp_path / "b/p")
    assert "--data" in caught.value.advice


@pytest.mark.slow
@pytest.mark.promise(89)
def test_defect_leak_a_stage_must_leave_out_what_its_parent_left_out(store: RecordStore, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1), left_out=(1,))
    with pytest.raises(FormatError, match=r"left out folds \[1\], expected \[2\]"):
        finetune(store, tmp_path / "p", tmp_path / "f", _rows(store), train=_few(FINETUNE, 1), left_out=(2,))
    with pytest.raises(FormatError, match="other folds left out"):
        pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1), left_out=(2,))


@pytest.mark.slow
@pytest.mark.promise(89)
def test_defect_leak_folds_of_other_data_are_not_the_folds_that_were_left_out(
    store: RecordStore, tmp_path: Path
) -> None:
    """Fold 1 of a store with other patients in it was not left out by a run that left out fold 1."""
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1), left_out=(1,))
    other = dataclasses.replace(store, fold=np.roll(store.fold, 1))
    with pytest.raises(FormatError, match="left folds of other data out"):
        finetune(other, tmp_path / "p", tmp_path / "f", _rows(store), train=_few(FINETUNE, 1), left_out=(1,))
    assert not (tmp_path / "f").exists()


def test_defect_other_labels_are_other_data(store: RecordStore, tmp_path: Path) -> None:
    """Samples alone do not tell: a run with half of its epochs on corrected labels would be nobody's run."""
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    other = dataclasses.replace(store, labels=1 - store.labels)
    with pytest.raises(FormatError, match="found a run with other data"):
        pretrain(other, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    run = json.loads((tmp_path / "p/run.json").read_text())
    del run["rows_sha256"]  # as version 0.1.0 wrote it
    (tmp_path / "p/run.json").write_text(json.dumps(run))
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))


@pytest.mark.promise(90)
def test_defect_a_store_of_another_front_end_is_never_trained_on(store: RecordStore, tmp_path: Path) -> None:
    other = dataclasses.replace(store, index={**store.index, "frontend_sha256": "f" * 64})
    with pytest.raises(FormatError, match="found a store of front-end ffffffffffffffff, expected") as caught:
        pretrain(other, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    assert "lsemvae convert" in caught.value.advice
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_defect_labels_in_another_order_are_refused(store: RecordStore, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    turned = dataclasses.replace(store, index={**store.index, "labels": store.index["labels"][::-1]})
    with pytest.raises(FormatError, match=r"found the labels NORM, .* expected RHS, .* in this order"):
        finetune(turned, tmp_path / "p", tmp_path / "f", _rows(store), train=_few(FINETUNE, 1))


def test_defect_a_model_that_learned_no_label_is_no_teacher(store: RecordStore, tmp_path: Path) -> None:
    """A pre-trained model has the weights of a teacher, but its head is as it was drawn."""
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    with pytest.raises(FormatError, match="found a run of stage 'pretrain', expected 'finetune'") as caught:
        distill(store, tmp_path / "p", tmp_path / "s", _rows(store), student=STUDENT, train=_few(DISTILL, 1))
    assert "lsemvae finetune" in caught.value.advice
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_defect_an_epoch_that_was_noted_but_not_saved_is_noted_once(store: RecordStore, tmp_path: Path) -> None:
    config = _few(PRETRAIN, 3)
    with pytest.raises(_StopError):
        pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=config, report=_stop_after(2))
    with (tmp_path / "p/metrics.jsonl").open("a") as handle:
        handle.write(
            '{"epoch": 3, "loss": 9.0}\n{"epo'
        )  # killed between the line and the checkpoint, and while writing
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=config)
    lines = [json.loads(line) for line in (tmp_path / "p/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] != 9.0


def test_defect_a_term_of_some_steps_is_averaged_over_those_steps(store: RecordStore, tmp_path: Path) -> None:
    net, calls = torch.nn.Linear(1, 1), iter(range(99))

    def step(rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        terms = {"loss": net.weight.sum() * 0}
        return {**terms, "matching": torch.tensor(6.0)} if next(calls) % 2 else terms

    rows = []
    loop_module.Loop(net, _few(PRETRAIN, 1), tmp_path, _rows(store), step, rows.append).run()
    assert rows[0]["matching"] == 6.0


@pytest.mark.slow
def test_defect_chest_leads_alone_train_the_teacher_and_are_left_out_for_the_student(
    store: RecordStore, tmp_path: Path
) -> None:
    """A store in which some recordings, in one batch all of them, have no limb lead."""
    present, samples = store.present.copy(), np.array(store.samples)
    present[4:, :6], samples[4:, :6] = False, 0
    mixed = dataclasses.replace(store, present=present, samples=samples)
    pretrain(mixed, tmp_path / "p", np.arange(4, 16), model=MODEL, train=_few(PRETRAIN, 4))
    finetune(mixed, tmp_path / "p", tmp_path / "f", _rows(store), train=_few(FINETUNE, 2))
    assert rows_with(mixed, _rows(store), ("I", "II")).tolist() == [0, 1, 2, 3]
    distill(mixed, tmp_path / "f", tmp_path / "s", _rows(store), student=STUDENT, train=_few(DISTILL, 1))
    with pytest.raises(SampleError, match="found 0 recordings to train on"):
        distill(mixed, tmp_path / "f", tmp_path / "t", np.arange(4, 16), student=STUDENT, train=_few(DISTILL, 1))


def test_a_subset_that_nobody_has_is_seen_whole_and_any_other_exactly() -> None:
    present = torch.tensor([[True, False, True], [False, False, True]])
    limb, chest = torch.tensor([True, True, False]), torch.tensor([False, True, False])
    assert seen_through(present, limb).tolist() == [[True, False, False], [False, False, True]]
    assert torch.equal(seen_through(present, chest), present)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff"])
def test_defect_a_damaged_run_folder_is_refused_with_advice(
    store: RecordStore, pretrained: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    run = tmp_path / "p"
    shutil.copytree(pretrained, run)
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(FormatError, match=r"p.*found .*, expected") as caught:
        finetune(store, run, tmp_path / "f", _rows(store), train=_few(FINETUNE, 1))
    assert "ECG in a supported format" not in caught.value.advice


def test_averaged_weights_and_batch_norm_statistics_follow_the_model(tmp_path: Path) -> None:
    """After one step of weight 9/10 of the way: parameters and running statistics alike; counters are copied."""
    net = torch.nn.BatchNorm1d(2)

    def step(_rows: np.ndarray, _g: torch.Generator, _progress: float) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            net.running_mean.fill_(1.0)  # type: ignore[union-attr]
            net.weight.fill_(3.0)
            net.num_batches_tracked.fill_(5)  # type: ignore[union-attr]
        return {"loss": net.weight.sum() * 0}

    config = TrainConfig(epochs=1, batch=1, lr=0.1, weight_decay=0.0)
    loop_module.Loop(net, config, tmp_path, np.arange(1), step).run()  # leaves the average in the model
    assert net.running_mean.tolist() == pytest.approx([0.9, 0.9])  # type: ignore[union-attr]
    assert net.weight.tolist() == pytest.approx([1 + 0.9 * 2] * 2)
    assert int(net.num_batches_tracked) == 5  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.promise(74)
def test_another_configuration_never_resumes_a_run(store: RecordStore, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    with pytest.raises(FormatError, match="found a run with other train"):
        pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 2))


@pytest.mark.slow
def test_defect_lost_gradients_every_batch_moves_the_weights(store: RecordStore, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "p", _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    model, _ = load_lsemvae(tmp_path / "p")
    seen = []

    def step(_rows: np.ndarray, _g: torch.Generator, _progress: float) -> dict[str, torch.Tensor]:
        seen.append(model.decoder.log_sd.detach().clone())
        return {"loss": model.decoder.log_sd.sum()}

    (tmp_path / "x").mkdir()
    loop_module.Loop(model, _few(PRETRAIN, 1), tmp_path / "x", _rows(store), step).run()
    assert len(seen) == 4
    assert not any(torch.equal(before, after) for before, after in pairwise(seen))


@pytest.mark.promise(77)
def test_a_loss_that_is_not_finite_stops_training(store: RecordStore, tmp_path: Path) -> None:
    net = torch.nn.Linear(1, 1)
    (tmp_path / "x").mkdir()
    loop = loop_module.Loop(
        net, _few(PRETRAIN, 1), tmp_path / "x", _rows(store), lambda _r, _g, _p: {"loss": net.weight.sum() * np.nan}
    )
    with pytest.raises(SampleError, match="found loss nan"):
        loop.run()


@pytest.fixture(scope="module")
def pretrained(store: RecordStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "p"
    pretrain(store, run, _rows(store), model=MODEL, train=_few(PRETRAIN, 1))
    return run


@pytest.mark.promise(26, 77)
@pytest.mark.parametrize("damage", ["nan", "missing", "extra", "shape", "garbage"])
def test_damaged_weights_are_refused(pretrained: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes((pretrained / "config.json").read_bytes())
    tensors = load_file(str(pretrained / "model.safetensors"))
    if damage == "nan":
        tensors["decoder.log_sd"][0] = np.nan
    elif damage == "missing":
        del tensors["decoder.log_sd"]
    elif damage == "extra":
        tensors["decoder.more"] = torch.zeros(1)
    elif damage == "shape":
        tensors["decoder.log_sd"] = torch.zeros(3)
    if damage == "garbage":
        (run / "model.safetensors").write_bytes(b"\x80\x04not safetensors")
    else:
        save_file(tensors, str(run / "model.safetensors"))
    with pytest.raises((FormatError, SampleError)):
        load_lsemvae(run)


@pytest.mark.promise(77)
def test_a_teacher_is_no_student(pretrained: Path) -> None:
    with pytest.raises(FormatError, match="found a run of kind 'lsemvae', expected 'student'"):
        load_student(pretrained)


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    config = TrainConfig(epochs=1, batch=1, lr=1.0, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)


def test_the_lead_sets_of_use_are_all_drawn() -> None:
    g = torch.Generator().manual_seed(0)
    drawn = {int(draw_subset(g).sum()) for _ in range(200)}
    assert drawn == {12, 6, 2, 1}
    assert sum(weight for _, _, weight in LEAD_SUBSETS) == pytest.approx(1.0)
    assert len(draw_subset(g)) == len(LEADS)
    sizes = draw_subsets(g, 4000).sum(1)
    assert {int(n): float((sizes == n).float().mean()) for n in (12, 6, 2, 1)} == pytest.approx(
        {12: 0.4, 6: 0.3, 2: 0.2, 1: 0.1}, abs=0.03
    )


@pytest.mark.promise(76)
def test_fold_plans_cover_every_fold_once_and_share_no_patient(store: RecordStore) -> None:
    plans = fold_plans(store, 2)
    tested = np.concatenate([plan.test for plan in plans])
    assert sorted(tested.tolist()) == list(range(len(store)))
    for plan in plans:
        assert not set(store.patient[plan.train]) & set(store.patient[plan.test])
