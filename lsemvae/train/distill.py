"""Distillation: teach a student on two measured channels what its twelve-lead teacher says.

Terms, each with its weight in `TrainConfig.extra`:

- `bce` (1 where not given): labels, where they are known;
- `soft` at `temperature`: the teacher's logits (Hinton 2015); of several teachers, their mean;
- `posterior`: KL(summary posterior of the teacher || that of the student), in nats;
- `feature`: the teacher's fused latent map, matched through a 1x1 projection of a map of the student (Romero 2015);
- `measuring`: regression of the measures.

A teacher's answer may be `cached`, once per recording as it is stored, or given on the `augmented` view that the student
sees: same shift, same gain, same noise. A map has a place in time, so `feature` needs the second. Fresh views cost one run
of the teacher a step; `views` of them, drawn once, cost that many epochs of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import augment
from lsemvae.data.splits import check_disjoint
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, TrainConfig, from_json, to_json
from lsemvae.model.losses import gaussian_kl, masked_bce, soft_bce
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.model.student_sizes import student_config
from lsemvae.train.batches import Batch, load_batch, rows_with
from lsemvae.train.checkpoint import read_config
from lsemvae.train.finetune import positive_weight
from lsemvae.train.hints import MapScale, feature_loss, feature_stage, map_scale
from lsemvae.train.loop import Loop, Report, check_rows
from lsemvae.train.recipes import DISTILL, DistillOptions
from lsemvae.train.run import check_labels, start_run
from lsemvae.train.teachers import ask, load_teachers, teacher_targets
from lsemvae.train.views import EXTERNAL_SPLIT, ViewBank, unlabelled_rows, without_truth

_WEIGHTS: Final = frozenset({"bce", "soft", "temperature", "posterior", "feature", "measuring"})
_WEIGHTS_ADVICE: Final = "Start from DISTILL or PATIENT and change the weights in their `extra`."
# Fields that runs of version 0.1.0 note. Others are written only where they are not the default, so that those resume.
_FIRST: Final = frozenset({
    "leads", "channels", "kernels", "strides", "summary", "logvar_bound", "labels", "measures", "n_samples",
    "epochs", "batch", "lr", "weight_decay", "warmup", "clip_norm", "ema", "seed", "extra",
})  # fmt: skip


def student_for(store: RecordStore, teacher_dir: Path | Sequence[Path], size: str) -> StudentConfig:
    """Return the student of a size for a store's labels and measures, with the summary width of its (first) teacher."""
    config = read_config(_folders(teacher_dir)[0], "lsemvae", stage="finetune")
    summary = from_json(LsEmvaeConfig, config["model"]).summary
    return student_config(size, store.label_names, store.measure_names, summary)


def distill(
    store: RecordStore,
    teacher_dir: Path | Sequence[Path],
    run_dir: Path,
    rows: np.ndarray,
    *,
    student: StudentConfig | None = None,
    train: TrainConfig = DISTILL,
    options: DistillOptions | None = None,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
) -> StudentNet:
    """Train a student on `rows`: on their labels, and on what one teacher or several (their run folders) say.

    Recordings without one of the student's leads are left out: it would learn from a flat line. Rows of the folds
    `left_out` and of split `external_dev` are refused.
    """
    folders = _folders(teacher_dir)
    options = options or DistillOptions()
    _check_asked(train, options)
    teachers, teacher_model = load_teachers(folders, store, left_out)
    teacher = teachers[0].config
    student = student or StudentConfig(labels=store.label_names, measures=store.measure_names, summary=teacher.summary)
    if student.summary != teacher.summary:
        raise FormatError(
            f"found a student of {student.summary} summary dimensions, expected {teacher.summary} as its teacher has",
            advice="Give the student the summary of its teacher: it learns to match it.",
        )
    student = replace(student, hint=0)
    if train.extra.get("feature", 0.0) > 0:
        student = replace(student, hint=teacher.latent, hint_stage=feature_stage(student))
    check_labels(store.label_names, student.labels, of=str(store.root))
    rows = rows_with(store, rows, student.leads)
    check_rows(rows)
    extra_rows = unlabelled_rows(store, rows) if options.unlabelled else rows[:0]
    every_row = np.concatenate([rows, extra_rows])
    held_out = np.flatnonzero(np.isin(store.fold, list(left_out)) | (store.split == EXTERNAL_SPLIT))
    check_disjoint([str(patient) for patient in store.patient], every_row, held_out)
    config = {
        "kind": "student",
        "model": _noted(student),
        "train": _noted(train),
        "teacher": str(folders[0]) if len(folders) == 1 else [str(folder) for folder in folders],
        "teacher_model": teacher_model,
        "labels": list(student.labels),
        "leads": list(student.leads),
    }
    if options != DistillOptions():
        config["distill"] = {**json.loads(json.dumps(asdict(options))), "unlabelled_recordings": len(extra_rows)}
    start_run(run_dir, config, store=store, left_out=list(left_out), seed=train.seed)
    torch.manual_seed(train.seed)
    net = StudentNet(student)
    if net.measure is not None:
        net.measure.fit_scale(torch.from_numpy(store.measures[rows]))
    step = DistillObjective(
        net=net,
        teachers=teachers,
        store=without_truth(store, extra_rows),
        options=options,
        train=train,
        rows=every_row,
        label_weight=positive_weight(store.labels[rows]),
    )
    Loop(net, train, run_dir, step.rows, step, report).run()
    return net.eval()


@dataclass(kw_only=True)
class DistillObjective:
    """The terms of a distillation. The loop calls it with row indices, a generator and the share of steps done."""

    net: StudentNet
    teachers: Sequence[LsEmvae]
    store: RecordStore
    rows: np.ndarray
    options: DistillOptions
    train: TrainConfig
    label_weight: Tensor

    def __post_init__(self) -> None:
        self._bank = ViewBank(
            teachers=self.teachers,
            store=self.store,
            rows=self.rows,
            leads=self.net.config.leads,
            spec=self.options.augment,
            seed=self.train.seed,
            with_map=self.net.hint is not None,
        )
        self._scale: MapScale | None = None  # of the first teacher's map
        self._stored: dict[str, Tensor] = {}  # what the teachers say of each of `rows` as it is stored
        self._place = {int(row): k for k, row in enumerate(self.rows)}

    def __call__(self, batch_rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Return `loss` and its terms."""
        batch, x, told = self.view(batch_rows, g, progress)
        if self.net.hint is None:
            mean, logvar = self.net.encoder(x)
        else:
            seen, mean, logvar = self.net.encoder.with_map(x, self.net.config.hint_stage)
        logits, _ = self.net.head(mean, logvar)
        matched = gaussian_kl(told["mean"], told["logvar"], mean, logvar).sum(1).mean()
        terms = {
            "bce": masked_bce(logits, batch.labels, pos_weight=self.label_weight),
            "soft": soft_bce(logits, told["logits"], self.train.extra["temperature"]),
            "posterior": matched,
        }
        if self.net.hint is not None:
            if self._scale is None:
                self._scale = map_scale(self.teachers[0], self.store, self.rows)
            target = self._scale(told["latent"])
            terms["feature"] = feature_loss(self.net.hint(seen), target, match=self.options.feature_match)
        if self.net.measure is not None:
            terms["measuring"] = self.net.measure.loss(mean, batch.measures)
        weights = {"bce": 1.0, **self.train.extra}
        return {"loss": torch.stack([weights[name] * value for name, value in terms.items()]).sum(), **terms}

    def view(
        self, batch_rows: np.ndarray, g: torch.Generator, progress: float
    ) -> tuple[Batch, Tensor, dict[str, Tensor]]:
        """Return the batch, what the student sees of it `[batch, 2, time]` in mV, and what the teachers say."""
        leads, spec = self.net.config.leads, self.options.augment
        if self.options.teacher_view == "augmented" and not self.options.views:
            batch = load_batch(self.store, batch_rows)
            x = augment(batch.x, leads=LEADS, gain_known=batch.gain_known, spec=spec, g=g)
            told = ask(self.teachers, x, batch.present)._asdict()
            return batch, x[:, [LEADS.index(lead) for lead in leads]], told
        batch = load_batch(self.store, batch_rows, leads=leads)
        places = torch.tensor([self._place[int(row)] for row in batch_rows])
        if self.options.views:
            epoch = int(progress * self.train.epochs + 1e-6)  # progress is a quotient: 3 may read 2.9999999
            told = self._bank.pick(epoch % self.options.views, places)
            return batch, told.pop("x"), told
        x = augment(batch.x, leads=leads, gain_known=batch.gain_known, spec=spec, g=g)
        if not self._stored:
            self._stored = teacher_targets(self.teachers, self.store, self.rows)
        return batch, x, {name: values[places] for name, values in self._stored.items()}


def _folders(teacher_dir: Path | Sequence[Path]) -> list[Path]:
    folders = [teacher_dir] if isinstance(teacher_dir, str | Path) else list(teacher_dir)
    if not folders:
        raise FormatError(
            "found no teacher, expected the run folder of at least one", advice="Name a run folder of lsemvae finetune."
        )
    return [Path(folder) for folder in folders]


def _check_asked(train: TrainConfig, options: DistillOptions) -> None:
    if unknown := set(train.extra) - _WEIGHTS:
        raise FormatError(
            f"found weights {sorted(unknown)}, expected some of {sorted(_WEIGHTS)}", advice=_WEIGHTS_ADVICE
        )
    if missing := {"soft", "temperature", "posterior", "measuring"} - set(train.extra):
        raise FormatError(
            f"found no weight of {sorted(missing)}, expected one (0 leaves a term out of the sum)",
            advice=_WEIGHTS_ADVICE,
        )
    if train.extra.get("feature", 0.0) > 0 and options.teacher_view == "cached":
        raise FormatError(
            "found a weight of feature with cached teachers, expected teachers on the augmented view",
            advice="Set teacher_view to augmented: a cached map does not know by how much the student's view is shifted.",
        )


def _noted(config: StudentConfig | TrainConfig) -> dict[str, Any]:
    kept = {f.name for f in fields(config) if f.name in _FIRST or getattr(config, f.name) != f.default}
    return {name: value for name, value in to_json(config).items() if name in kept}
