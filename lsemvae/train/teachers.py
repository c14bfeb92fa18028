"""Answers of one teacher or several to recordings: logits, summary posterior, fused latent map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.store import RecordStore
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.batches import in_batches
from lsemvae.train.checkpoint import load_lsemvae, read_config
from lsemvae.train.run import check_labels, check_parent


def load_teachers(
    folders: Sequence[Path], store: RecordStore, left_out: tuple[int, ...]
) -> tuple[list[LsEmvae], dict[str, Any]]:
    """Load teachers that left the same folds out and name the store's labels; return them and the first one's sizes."""
    teachers, configs = [], []
    for folder in folders:
        check_parent(folder, list(left_out), store)
        read_config(folder, "lsemvae", stage="finetune")
        teacher, config = load_lsemvae(folder)
        check_labels(store.label_names, teacher.config.labels, of=str(folder))
        teachers.append(teacher.requires_grad_(requires_grad=False))
        configs.append(config)
    return teachers, dict(configs[0]["model"])


class Told(NamedTuple):
    """What teachers say of a batch: logits `[batch, label]`, summary posterior `[batch, summary]`, fused map
    `[batch, latent, steps]`."""

    logits: Tensor
    mean: Tensor
    logvar: Tensor
    latent: Tensor


@torch.no_grad()
def ask(teachers: Sequence[LsEmvae], x: Tensor, present: Tensor) -> Told:
    """Return what teachers say of a batch: the mean of their logits, and the posterior and map of the first one.

    Logits mean the same in every run. A latent axis does not: each run finds its own.
    """
    first, *others = teachers
    q = first.posterior(x, present)
    seen = first.read(q)
    logits = seen.logits
    if others:
        logits = torch.stack([logits, *(other.screen(x, present).logits for other in others)]).mean(0)
    return Told(logits, seen.summary_mean, seen.summary_logvar, q.mean)


def teacher_targets(
    teachers: Sequence[LsEmvae], store: RecordStore, rows: np.ndarray, batch: int = 64
) -> dict[str, Tensor]:
    """Return logits and summary posterior of the teachers for `rows`, each recording with all leads it has."""
    parts: dict[str, list[Tensor]] = {"logits": [], "mean": [], "logvar": []}
    for part in in_batches(store, rows, size=batch):
        told = ask(teachers, part.x, part.present)
        for name, values in parts.items():
            values.append(getattr(told, name))
    return {name: torch.cat(values) for name, values in parts.items()}
