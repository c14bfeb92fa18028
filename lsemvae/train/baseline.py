"""Train a baseline in the loop of LS-EMVAE: the same batches, augmentation, lead subsets, schedule and weight averaging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.model.baselines import TrainableScreen, build_baseline
from lsemvae.model.config import LsEmvaeConfig, TrainConfig, to_json
from lsemvae.train.batches import load_batch, seen_in_training
from lsemvae.train.finetune import positive_weight, train_only
from lsemvae.train.loop import Loop, Report, Step
from lsemvae.train.pretrain import AUGMENT as PRETRAIN_AUGMENT
from lsemvae.train.run import start_run


def train_baseline(
    store: RecordStore,
    out: Path,
    rows: np.ndarray,
    *,
    name: str,
    pretrain: TrainConfig,
    finetune: TrainConfig,
    config: LsEmvaeConfig | None = None,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
) -> nn.Module:
    """Train the baseline `name` in `out/pretrain` and `out/finetune`; `config` sizes those built from the parts of LS-EMVAE.

    A baseline without a pre-training objective fine-tunes for the epochs of both stages: every row of a table sees as many
    recordings.
    """
    torch.manual_seed(finetune.seed)
    net = build_baseline(name, store.label_names, store.measure_names, config=config)
    screen = cast("TrainableScreen", net)
    about = {"kind": "baseline", "name": name, "model": to_json(config) if config else None}
    if screen.pretrains:
        _run(
            net,
            _pretrain_step(screen, store, pretrain.subsets),
            about,
            store,
            out / "pretrain",
            rows,
            pretrain,
            left_out,
            report,
        )
        train_only(net, screen.finetune_parameters())
    else:
        finetune = replace(finetune, epochs=finetune.epochs + pretrain.epochs)
    measure = getattr(net, "measure", None)
    if measure is not None:
        measure.fit_scale(torch.from_numpy(store.measures[rows]))
    step = _finetune_step(screen, store, positive_weight(store.labels[rows]), finetune.subsets)
    _run(net, step, about, store, out / "finetune", rows, finetune, left_out, report)
    return net.eval()


def _run(
    net: nn.Module,
    step: Step,
    about: dict[str, Any],
    store: RecordStore,
    run_dir: Path,
    rows: np.ndarray,
    train: TrainConfig,
    left_out: tuple[int, ...],
    report: Report | None,
) -> None:
    config = {**about, "stage": run_dir.name, "labels": list(store.label_names), "train": to_json(train)}
    start_run(run_dir, config, store=store, left_out=list(left_out), seed=train.seed)
    Loop(net, train, run_dir, rows, step, report).run()


def _pretrain_step(screen: TrainableScreen, store: RecordStore, subsets: str) -> Step:
    def step(batch_rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = augment(batch.x, leads=tuple(store.index["leads"]), gain_known=batch.gain_known, spec=PRETRAIN_AUGMENT, g=g)
        present = seen_in_training(batch.present, g, subsets=subsets, each=False)
        return screen.pretrain_terms(x, present, batch.present, g, progress=progress)

    return step


def _finetune_step(screen: TrainableScreen, store: RecordStore, weight: Tensor, subsets: str) -> Step:
    def step(batch_rows: np.ndarray, g: torch.Generator, _progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = augment(batch.x, leads=tuple(store.index["leads"]), gain_known=batch.gain_known, spec=AugmentSpec(), g=g)
        seen = seen_in_training(batch.present, g, subsets=subsets, each=True)
        return screen.finetune_terms(x, batch.present, seen, batch.labels, weight, g, batch.measures)

    return step
