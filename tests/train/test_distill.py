"""Distillation: several teachers, the student's own view, feature maps, recordings without labels, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, TrainConfig, to_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.batches import load_batch
from lsemvae.train.checkpoint import load_lsemvae, load_student, save_tensors
from lsemvae.train.distill import DistillObjective, distill, student_for
from lsemvae.train.recipes import DISTILL, PATIENT, PATIENT_OPTIONS, DistillOptions, recipe_of
from lsemvae.train.run import start_run
from lsemvae.train.teachers import ask, teacher_targets
from lsemvae.train.views import ViewBank, unlabelled_rows, without_truth
from tests.data.test_folder_format import write_folder

TEACHER = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4)
STUDENT = StudentConfig(channels=(4, 6, 8, 8, 8), summary=4)
FEATURE = dataclasses.replace(DISTILL, extra={**DISTILL.extra, "feature": 1.0})
AUGMENTED = DistillOptions(teacher_view="augmented")
LABELLED = np.arange(12)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Twelve labelled recordings of folds 1-4; then two that nobody labelled, a flat one, and one of the external test."""
    root = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    beats = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    x = (beats * rng.uniform(200, 900, (16, 8, 1)) + rng.normal(0, 10, (16, 8, 5000))).astype(np.int16)
    made = convert_folder(write_folder(root / "data", x), root / "store")
    split, fold, labels, samples = made.split.copy(), made.fold.copy(), made.labels.copy(), np.array(made.samples)
    split = np.where(np.arange(16) < 12, split, "quality_dev").astype("<U16")
    split[15] = "external_dev"
    fold[12:], labels[12:15], samples[14, 7] = 0, np.nan, 0
    patient = np.array([f"p{k // 2}" for k in range(16)])
    return dataclasses.replace(made, split=split, fold=fold, labels=labels, samples=samples, patient=patient)


def _teacher(store: RecordStore, run: Path, *, seed: int = 0, left_out: Sequence[int] = ()) -> Path:
    """A fine-tuned run folder with weights as drawn: what it says does not matter here, only to whom."""
    torch.manual_seed(seed)
    model = dataclasses.replace(TEACHER, labels=store.label_names, measures=store.measure_names)
    config = {"kind": "lsemvae", "stage": "finetune", "model": to_json(model)}
    start_run(run, config, store=store, left_out=list(left_out), seed=seed)
    save_tensors(run / "model.safetensors", LsEmvae(model).state_dict())
    return run


def _student(store: RecordStore) -> StudentConfig:
    return dataclasses.replace(STUDENT, labels=store.label_names, measures=store.measure_names)


def _few(preset: TrainConfig, epochs: int) -> TrainConfig:
    return dataclasses.replace(preset, epochs=epochs, batch=4)


def _objective(
    store: RecordStore, run: Path, options: DistillOptions, train: TrainConfig = DISTILL
) -> DistillObjective:
    teacher, _ = load_lsemvae(run)
    student = _student(store)
    if train.extra.get("feature"):
        student = dataclasses.replace(student, hint=4)
    torch.manual_seed(0)
    return DistillObjective(
        net=StudentNet(student), teachers=[teacher], store=store, rows=LABELLED, options=options, train=train,
        label_weight=torch.ones(len(store.label_names)),
    )  # fmt: skip


def _shifted(x: torch.Tensor, by: int, limit: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (limit, limit), mode="reflect")[..., by : by + x.shape[-1]]


def test_defaults_are_noted_as_ever_and_a_finished_run_of_them_is_found_again(
    store: RecordStore, tmp_path: Path
) -> None:
    teacher = _teacher(store, tmp_path / "f")
    train = _few(DISTILL, 1)
    first = distill(store, teacher, tmp_path / "s", LABELLED, student=_student(store), train=train)
    config = json.loads((tmp_path / "s/config.json").read_text())
    assert set(config) == {"kind", "model", "train", "teacher", "teacher_model", "labels", "leads"}
    assert set(config["model"]) == {
        "leads", "channels", "kernels", "strides", "summary", "logvar_bound", "labels", "measures", "n_samples",
    }  # fmt: skip
    again = distill(store, [teacher], tmp_path / "s", LABELLED, student=_student(store), train=train)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.slow
def test_several_teachers_average_logits_and_the_first_gives_posterior_and_map(
    store: RecordStore, tmp_path: Path
) -> None:
    a, b = (load_lsemvae(_teacher(store, tmp_path / str(seed), seed=seed))[0] for seed in (1, 2))
    batch = load_batch(store, LABELLED)
    both, one, two = (ask(teachers, batch.x, batch.present) for teachers in ([a, b], [a], [b]))
    torch.testing.assert_close(both.logits, (one.logits + two.logits) / 2)
    assert not torch.allclose(one.logits, two.logits)
    for name in ("mean", "logvar", "latent"):
        assert torch.equal(getattr(both, name), getattr(one, name))
    net = distill(
        store,
        [tmp_path / "1", tmp_path / "2"],
        tmp_path / "s",
        LABELLED,
        student=_student(store),
        train=_few(DISTILL, 1),
    )
    assert json.loads((tmp_path / "s/config.json").read_text())["teacher"] == [str(tmp_path / "1"), str(tmp_path / "2")]
    assert not net.training


def test_every_teacher_must_have_left_the_same_folds_out(store: RecordStore, tmp_path: Path) -> None:
    teachers = [
        _teacher(store, tmp_path / "a", left_out=[1]),
        _teacher(store, tmp_path / "b", left_out=[2]),
    ]
    rows = LABELLED[~np.isin(store.fold[LABELLED], [1])]
    with pytest.raises(FormatError, match=r"b: found a run that left out folds \[2\], expected \[1\]"):
        distill(store, teachers, tmp_path / "s", rows, student=_student(store), train=_few(DISTILL, 1), left_out=(1,))


@pytest.mark.promise(110)
def test_the_teacher_answers_on_the_very_view_that_the_student_sees(store: RecordStore, tmp_path: Path) -> None:
    objective = _objective(store, _teacher(store, tmp_path / "f"), AUGMENTED, FEATURE)
    rows = LABELLED[:4]
    _, x, told = objective.view(rows, torch.Generator().manual_seed(3), 0.0)
    batch = load_batch(store, rows)
    seen = augment(
        batch.x, leads=LEADS, gain_known=batch.gain_known, spec=AugmentSpec(), g=torch.Generator().manual_seed(3)
    )
    assert torch.equal(x, seen[:, :2])
    expected = ask(objective.teachers, seen, batch.present)
    stored = ask(objective.teachers, batch.x, batch.present)
    for name, value in told.items():
        assert torch.equal(value, getattr(expected, name))
        assert not torch.allclose(value, getattr(stored, name))


def test_a_bank_of_views_keeps_the_answer_to_each_view_beside_it(store: RecordStore, tmp_path: Path) -> None:
    """With a shift as the only augmentation: the one shift that gives the kept signal also gives the kept map."""
    teacher, _ = load_lsemvae(_teacher(store, tmp_path / "f"))
    spec = AugmentSpec(gain_sd=0, unknown_gain_sd=0, noise_mv=0, baseline_mv=0, shift_s=0.04, mask_s=0)
    bank = ViewBank(teachers=[teacher], store=store, rows=LABELLED, leads=("I", "II"), spec=spec, seed=0, with_map=True)
    kept = bank.pick(0, torch.tensor([5]))
    batch = load_batch(store, LABELLED[5:6])
    distances = [float((_shifted(batch.x, by, 10)[:, :2] - kept["x"]).abs().max()) for by in range(21)]
    assert min(distances) < 1e-3 < sorted(distances)[1]
    told = ask([teacher], _shifted(batch.x, int(np.argmin(distances)), 10), batch.present)
    torch.testing.assert_close(kept["logits"], told.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept["latent"], told.latent, rtol=0, atol=2e-3)


def test_a_view_is_the_same_whenever_it_is_drawn(store: RecordStore, tmp_path: Path) -> None:
    teacher, _ = load_lsemvae(_teacher(store, tmp_path / "f"))
    banks = [
        ViewBank(teachers=[teacher], store=store, rows=LABELLED, leads=("I", "II"), spec=AugmentSpec(), seed=0, with_map=False)
        for _ in range(2)
    ]  # fmt: skip
    every = torch.arange(12)
    early = banks[0].pick(0, every)["x"]
    late = [banks[1].pick(view, every)["x"] for view in (1, 0)]
    assert torch.equal(early, late[1])
    assert not torch.allclose(early, late[0])
    assert "latent" not in banks[0].pick(0, every)


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7, 49])
def test_views_are_taken_in_turn_by_epoch(store: RecordStore, tmp_path: Path, steps_per_epoch: int) -> None:
    train, asked = _few(DISTILL, 11), []
    options = dataclasses.replace(AUGMENTED, views=3)
    objective = _objective(store, _teacher(store, tmp_path / "f"), options, train)
    empty = {"x": torch.zeros(2, 2, 2500)}
    objective._bank.pick = lambda view, _places: asked.append(view) or dict(empty)  # type: ignore[method-assign]
    n_steps = train.epochs * steps_per_epoch
    for step in range(n_steps):
        objective.view(LABELLED[:2], torch.Generator(), step / n_steps)
    assert asked == [step // steps_per_epoch % 3 for step in range(n_steps)]


@pytest.mark.slow
def test_a_run_with_views_that_was_stopped_ends_as_one_that_was_not(store: RecordStore, tmp_path: Path) -> None:
    teacher = _teacher(store, tmp_path / "f")
    options = dataclasses.replace(AUGMENTED, views=2)
    common = {"student": _student(store), "train": _few(FEATURE, 3), "options": options}

    def stop(row: dict[str, float | int | str]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    distill(store, teacher, tmp_path / "whole", LABELLED, **common)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        distill(store, teacher, tmp_path / "broken", LABELLED, report=stop, **common)  # type: ignore[arg-type]
    distill(store, teacher, tmp_path / "broken", LABELLED, **common)  # type: ignore[arg-type]
    a, b = (load_file(str(tmp_path / run / "model.safetensors")) for run in ("whole", "broken"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_student_learns_the_map_of_its_teacher_and_is_whole_without_the_projection(
    store: RecordStore, tmp_path: Path
) -> None:
    still = AugmentSpec(gain_sd=0, unknown_gain_sd=0, noise_mv=0, baseline_mv=0, shift_s=0, mask_s=0)
    options = dataclasses.replace(AUGMENTED, views=1, augment=still)
    distill(
        store, _teacher(store, tmp_path / "f"), tmp_path / "s", LABELLED, student=_student(store),
        train=_few(FEATURE, 20), options=options,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "s/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["feature"] < 0.5 * rows[0]["feature"]
    net, config = load_student(tmp_path / "s")
    assert config["model"]["hint"] == 4
    assert net.config.hint_stage == 2
    bare = StudentNet(dataclasses.replace(net.config, hint=0)).eval()
    bare.load_state_dict({name: t for name, t in net.state_dict().items() if not name.startswith("hint.")})
    x = torch.randn(2, 2, 2500)
    for whole, without in zip(net(x), bare(x), strict=True):
        assert torch.equal(whole, without)


def test_unlabelled_recordings_are_those_of_the_listed_split_that_carry_signal(store: RecordStore) -> None:
    """Not the flat one (14), not the external one (15)."""
    assert unlabelled_rows(store, LABELLED).tolist() == [12, 13]
    clipped = np.array(store.samples)
    clipped[13, 3, :100] = 32767
    assert unlabelled_rows(dataclasses.replace(store, samples=clipped), LABELLED).tolist() == [12]
    present = store.present.copy()
    present[12, 8] = False
    assert unlabelled_rows(dataclasses.replace(store, present=present), LABELLED).tolist() == [13]
    labels = store.labels.copy()
    labels[12, 0] = 1
    assert unlabelled_rows(dataclasses.replace(store, labels=labels), LABELLED).tolist() == [13]
    patient = store.patient.copy()
    patient[12:14] = patient[0]
    with pytest.raises(FormatError, match="found no unlabelled recording in splits quality_dev") as caught:
        unlabelled_rows(dataclasses.replace(store, patient=patient), LABELLED)
    assert "without unlabelled" in caught.value.advice


@pytest.mark.promise(110)
def test_only_the_teacher_speaks_of_unlabelled_recordings(store: RecordStore, tmp_path: Path) -> None:
    teacher = _teacher(store, tmp_path / "f")
    options = DistillOptions(unlabelled=True)
    train = _few(DISTILL, 1)
    net = distill(
        store, teacher, tmp_path / "s", LABELLED, student=_student(store), train=dataclasses.replace(train, batch=7),
        options=options,
    )  # fmt: skip
    assert json.loads((tmp_path / "s/config.json").read_text())["distill"]["unlabelled_recordings"] == 2
    plain = distill(store, teacher, tmp_path / "p", LABELLED, student=_student(store), train=train)
    assert net.measure is not None
    assert plain.measure is not None
    assert torch.equal(net.measure.mean, plain.measure.mean), "the scale of the measures is that of the labelled rows"
    blind = without_truth(store, np.array([12, 13]))
    assert np.isnan(blind.labels[12:14]).all()
    assert np.isnan(blind.measures[12:14]).all()
    assert np.array_equal(blind.labels[:12], store.labels[:12], equal_nan=True)


def test_a_batch_without_any_label_moves_the_student_by_what_the_teacher_says(
    store: RecordStore, tmp_path: Path
) -> None:
    blind = without_truth(store, LABELLED)
    objective = _objective(blind, _teacher(store, tmp_path / "f"), DistillOptions())
    terms = objective(LABELLED[:4], torch.Generator().manual_seed(0), 0.0)
    assert float(terms["bce"].detach()) == 0
    assert float(terms["measuring"].detach()) == 0
    terms["loss"].backward()
    moved = objective.net.encoder.body[0][0].weight.grad
    assert moved is not None
    assert float(moved.abs().max()) > 0


@pytest.mark.promise(110)
def test_defect_leak_rows_of_the_external_test_are_never_distilled(store: RecordStore, tmp_path: Path) -> None:
    teacher = _teacher(store, tmp_path / "f")
    with pytest.raises(FormatError, match=r"found 1 patients in two splits \(for one, p7\)"):
        distill(
            store, teacher, tmp_path / "s", np.append(LABELLED, 15), student=_student(store), train=_few(DISTILL, 1)
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.promise(110)
def test_defect_leak_rows_of_left_out_folds_are_refused(store: RecordStore, tmp_path: Path) -> None:
    teacher = _teacher(store, tmp_path / "f", left_out=[2])
    with pytest.raises(FormatError, match="patients in two splits"):
        distill(
            store, teacher, tmp_path / "s", LABELLED, student=_student(store), train=_few(DISTILL, 1), left_out=(2,)
        )


def _with(**weights: float) -> TrainConfig:
    return dataclasses.replace(DISTILL, extra={**DISTILL.extra, **weights})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (_with(feature=1.0), DistillOptions(), "found a weight of feature with cached teachers"),
        (_with(features=1.0), DistillOptions(), r"found weights \['features'\]"),
        (dataclasses.replace(DISTILL, extra={"soft": 1.0}), DistillOptions(), "found no weight of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    store: RecordStore, tmp_path: Path, train: TrainConfig, options: DistillOptions, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        distill(
            store, _teacher(store, tmp_path / "f"), tmp_path / "s", LABELLED, student=_student(store),
            train=train, options=options,
        )  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_options_and_recipes_name_what_they_do_not_know(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found teacher_view 'live', expected one of cached, augmented"):
        DistillOptions(teacher_view="live")
    with pytest.raises(FormatError, match="found 3 views of a cached teacher"):
        DistillOptions(views=3)
    with pytest.raises(FormatError, match="found the recipe 'slow', expected one of quick, patient"):
        recipe_of("slow")
    with pytest.raises(FormatError, match="found no teacher"):
        distill(store, [], tmp_path / "s", LABELLED)
    other = dataclasses.replace(_student(store), summary=6)
    with pytest.raises(FormatError, match="found a student of 6 summary dimensions, expected 4"):
        distill(store, _teacher(store, tmp_path / "f"), tmp_path / "s", LABELLED, student=other)


def test_recipes_are_the_presets_unless_something_else_is_asked() -> None:
    assert recipe_of("quick") == (DISTILL, DistillOptions())
    assert recipe_of("patient") == (PATIENT, PATIENT_OPTIONS)
    train, options = recipe_of("quick", feature=0.5, unlabelled=True)
    assert (train.extra["feature"], options.teacher_view, options.views) == (0.5, "augmented", 0)
    assert options.unlabelled
    train, options = recipe_of("patient", views=0, feature=0.0)
    assert (train.extra["feature"], options.views, options.teacher_view) == (0.0, 0, "augmented")


def test_a_size_fits_its_teacher_and_its_store(store: RecordStore, tmp_path: Path) -> None:
    student = student_for(store, _teacher(store, tmp_path / "f"), "xs")
    assert (student.summary, student.labels, student.measures) == (4, store.label_names, store.measure_names)


def test_cached_answers_are_those_to_the_stored_recording(store: RecordStore, tmp_path: Path) -> None:
    teacher, _ = load_lsemvae(_teacher(store, tmp_path / "f"))
    batch = load_batch(store, LABELLED)
    told = teacher_targets([teacher], store, LABELLED, batch=5)
    torch.testing.assert_close(told["logits"], teacher(batch.x, batch.present).detach())
