"""Distillation: the twelve-lead teacher's evidence into a student that sees two measured channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.model.config import StudentConfig, TrainConfig, to_json
from lsemvae.model.losses import gaussian_kl, masked_bce, soft_bce
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.batches import load_batch, rows_with
from lsemvae.train.checkpoint import load_lsemvae, read_config
from lsemvae.train.finetune import positive_weight
from lsemvae.train.loop import Loop, Report, check_rows
from lsemvae.train.run import check_labels, check_parent, start_run

DISTILL = TrainConfig(
    epochs=30, batch=64, lr=3e-3, weight_decay=2e-2,
    extra={"soft": 0.5, "temperature": 2.0, "posterior": 0.01, "measuring": 0.3},
)  # fmt: skip


@torch.no_grad()
def teacher_targets(teacher: LsEmvae, store: RecordStore, rows: np.ndarray, batch: int = 64) -> dict[str, Tensor]:
    """Logits and summary posterior of the teacher for `rows`, each recording with all leads it has."""
    parts: dict[str, list[Tensor]] = {"logits": [], "mean": [], "logvar": []}
    for k in range(0, len(rows), batch):
        b = load_batch(store, rows[k : k + batch])
        seen = teacher.screen(b.x, b.present)
        parts["logits"].append(seen.logits)
        parts["mean"].append(seen.summary_mean)
        parts["logvar"].append(seen.summary_logvar)
    return {name: torch.cat(values) for name, values in parts.items()}


def distill(
    store: RecordStore,
    teacher_dir: Path,
    run_dir: Path,
    rows: np.ndarray,
    *,
    student: StudentConfig | None = None,
    train: TrainConfig = DISTILL,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
) -> StudentNet:
    """Train a student on `rows`: labels, softened teacher logits, and the teacher's summary posterior.

    Recordings without one of the student's leads are left out: it would learn from a flat line.
    """
    check_parent(Path(teacher_dir), list(left_out), store)
    read_config(Path(teacher_dir), "lsemvae", stage="finetune")
    teacher, teacher_config = load_lsemvae(teacher_dir)
    student = student or StudentConfig(
        labels=store.label_names, measures=store.measure_names, summary=teacher.config.summary
    )
    config = {
        "kind": "student", "model": to_json(student), "train": to_json(train), "teacher": str(teacher_dir),
        "teacher_model": teacher_config["model"], "labels": list(student.labels), "leads": list(student.leads),
    }  # fmt: skip
    for of, labels in ((str(store.root), store.label_names), (str(teacher_dir), teacher.config.labels)):
        check_labels(labels, student.labels, of=of)
    rows = rows_with(store, rows, student.leads)
    check_rows(rows)
    start_run(run_dir, config, store=store, left_out=list(left_out), seed=train.seed)
    torch.manual_seed(train.seed)
    net = StudentNet(student)
    if net.measure is not None:
        net.measure.fit_scale(torch.from_numpy(store.measures[rows]))
    targets = teacher_targets(teacher, store, rows)
    place = {int(row): k for k, row in enumerate(rows)}
    weight, spec = positive_weight(store.labels[rows]), AugmentSpec()

    def step(batch_rows: np.ndarray, g: torch.Generator, _progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows, leads=student.leads)
        x = augment(batch.x, leads=student.leads, gain_known=batch.gain_known, spec=spec, g=g)
        want = torch.tensor([place[int(row)] for row in batch_rows])
        mean, logvar = net.encoder(x)
        logits, _ = net.head(mean, logvar)
        matched = gaussian_kl(targets["mean"][want], targets["logvar"][want], mean, logvar).sum(1).mean()
        terms = {
            "bce": masked_bce(logits, batch.labels, pos_weight=weight),
            "soft": soft_bce(logits, targets["logits"][want], train.extra["temperature"]),
            "posterior": matched,
        }
        if net.measure is not None:
            terms["measuring"] = net.measure.loss(mean, batch.measures)
        weights = {"bce": 1.0, **train.extra}
        return {"loss": torch.stack([weights[name] * value for name, value in terms.items()]).sum(), **terms}

    Loop(net, train, run_dir, rows, step, report).run()
    return net.eval()
