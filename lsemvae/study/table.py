"""The evidence table: leave each group of folds out in turn, train each row on the others, score it on that group.

`OUT/table/<row>/<group>-<seed>/` holds the runs and `OUT/predictions/<row>.npz` the logits. What is there is not done
again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from export.report import without_folders
from lsemvae.data.folder import EcgFolder
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import EcgError
from lsemvae.evaluate.predictions import LEAD_SETS, PredictionTable
from lsemvae.model.config import TrainConfig
from lsemvae.model.presets import preset
from lsemvae.study.floor_row import floor_logits
from lsemvae.study.rows import FINETUNE_BUDGET, PRETRAIN_BUDGET, Row
from lsemvae.train.baseline import train_baseline
from lsemvae.train.batches import LEAD_SUBSETS, in_batches, subset_mask
from lsemvae.train.finetune import finetune
from lsemvae.train.pipeline import FoldPlan
from lsemvae.train.pretrain import pretrain
from lsemvae.train.run import git_revision, versions, write_json

Say = Callable[[str], None]


@dataclass(frozen=True)
class TableJob:
    """What a table is made from; `epochs` replaces both stages' budget (a smoke test)."""

    data: Path
    out: Path
    store: RecordStore
    plans: Sequence[FoldPlan]
    say: Say
    seeds: tuple[int, ...] = (0,)
    epochs: int | None = None

    def budget(self, row: Row, seed: int) -> tuple[TrainConfig, TrainConfig]:
        """Return pre-training and fine-tuning of a row: the same for all but for what the row changes by name."""
        first, second = (
            replace(stage, seed=seed, epochs=self.epochs or stage.epochs, **row.train)
            for stage in (PRETRAIN_BUDGET, FINETUNE_BUDGET)
        )
        if row.pretrains:
            return first, second
        return replace(first, epochs=0), replace(second, epochs=first.epochs + second.epochs)


def complete(store: RecordStore, rows: np.ndarray) -> np.ndarray:
    """Return the part of `rows` with known gain and twelve leads, so that all lead sets compare on the same recordings."""
    counts: np.ndarray = store.gain_known[rows].astype(bool) & store.present[rows].all(1)
    return np.asarray(rows[counts])


def scored_rows(store: RecordStore, plan: FoldPlan) -> np.ndarray:
    """Return the held-out recordings of a group that count in the table."""
    return complete(store, plan.test)


def two_lead_row(
    store: RecordStore, plans: Sequence[FoldPlan], parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the store and logits `[lead_set, record, label]` of students on I and II, from those of each group.

    Six limb leads are sums of I and II, so the column of six leads is that of two; twelve and one are NaN: a student has no
    such input.
    """
    logits = np.concatenate(parts)
    out = np.full((len(LEAD_SETS), *logits.shape), np.nan)
    for name in ("6", "I+II"):
        out[LEAD_SETS.index(name)] = logits
    return np.concatenate([scored_rows(store, plan) for plan in plans]), out


@torch.no_grad()
def lead_set_logits(net: nn.Module, store: RecordStore, rows: np.ndarray) -> np.ndarray:
    """Return logits float32 `[lead_set, record, label]` of a model shown each lead set of `LEAD_SETS` in turn."""
    net.eval()
    chosen = {name: leads for name, leads, _ in LEAD_SUBSETS}
    out = []
    for name in LEAD_SETS:
        mask = subset_mask(chosen[name])
        parts = [net(batch.x, batch.present & mask).numpy() for batch in in_batches(store, rows)]
        out.append(np.concatenate(parts))
    return np.stack(out)


def _train(job: TableJob, row: Row, plan: FoldPlan, seed: int) -> nn.Module:
    """Return the trained model of a row on one group; its runs lie in `OUT/table/<row>/<group>-<seed>`."""
    out = job.out / "table" / row.name / f"{plan.name}-{seed}"
    first, second = job.budget(row, seed)
    labels, measures = job.store.label_names, job.store.measure_names
    rows, left_out = complete(job.store, plan.train), plan.left_out
    if row.kind == "baseline":
        base = preset("base", labels=labels, measures=measures, size=row.size)
        return train_baseline(
            job.store, out, rows, name=row.name, config=base, pretrain=first, finetune=second, left_out=left_out
        )
    model = replace(preset(row.preset, labels=labels, measures=measures, size=row.size), **row.model)
    pretrain(job.store, out / "pretrain", rows, model=model, train=first, left_out=left_out)
    return finetune(job.store, out / "pretrain", out / "finetune", rows, train=second, left_out=left_out)


def run_row(job: TableJob, row: Row) -> Path:
    """Train and score one row on every group and seed, and return the file of its logits."""
    path = job.out / "predictions" / f"{row.name}.npz"
    if path.is_file():
        return path
    n_parameters, seconds, per_seed = 0, [], []
    for seed in job.seeds:
        per_group = []
        for plan in job.plans:
            began, scored = time.monotonic(), scored_rows(job.store, plan)
            if row.kind == "floor":
                metadata = EcgFolder(job.data).rows
                logits, n_parameters = floor_logits(metadata, job.store, plan.train, scored, LEAD_SETS)
            else:
                net = _train(job, row, plan, seed)
                logits = lead_set_logits(net, job.store, scored)
                n_parameters = sum(p.numel() for p in net.parameters())
            seconds.append(round(time.monotonic() - began, 1))
            job.say(f"{row.name} {plan.name} seed {seed}: {seconds[-1]:.0f} s")
            per_group.append(logits)
        per_seed.append(np.concatenate(per_group, 1))
    first, second = job.budget(row, 0)
    epochs = f"{first.epochs} + {second.epochs} epochs of {len(complete(job.store, job.plans[0].train))} recordings"
    about = {
        "group": row.group,
        "title": row.title,
        "n_parameters": n_parameters,
        "budget": "closed form" if row.kind == "floor" else epochs,
        "changes": {**row.model, **row.train},
        "seconds_per_fold": seconds,
        "command": without_folders(" ".join(["lsemvae", *sys.argv[1:]])),
        "git_revision": git_revision(),
        "versions": versions(),
        "data_sha256": job.store.data_hash,
        "threads": torch.get_num_threads(),
    }
    rows = np.concatenate([scored_rows(job.store, plan) for plan in job.plans])
    record_logits(path, job.store, rows, np.stack(per_seed), seeds=job.seeds, about=about)
    return path


def record_logits(
    path: Path,
    store: RecordStore,
    rows: np.ndarray,
    logits: np.ndarray,
    *,
    seeds: tuple[int, ...],
    about: Mapping[str, Any],
    lead_sets: tuple[str, ...] = LEAD_SETS,
) -> None:
    """Write logits `[seed, lead_set, record, label]` of the recordings `rows` as `<row>.npz` with its description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PredictionTable(
        name=path.stem,
        lead_sets=lead_sets,
        labels=store.label_names,
        seeds=seeds,
        uid=store.uid[rows],
        fold=store.fold[rows].astype(int),
        logits=logits,
        about=dict(about),
    ).save(path)


def run_table(job: TableJob, rows: Sequence[Row]) -> list[Path]:
    """Run every row that is not there yet; a row that fails names itself and the others go on being run."""
    done, failed = [], {}
    for row in rows:
        try:
            done.append(run_row(job, row))
        except (EcgError, RuntimeError) as error:  # one row must not cost the night: it is named, and the command fails
            job.say(f"{row.name} failed: {type(error).__name__}: {error}")
            failed[row.name] = f"{type(error).__name__}: {error}"
    write_json(job.out / "table-failed.json", failed)
    if failed:
        raise RuntimeError(f"rows that failed: {', '.join(failed)}; see {job.out / 'table-failed.json'}")
    return done
