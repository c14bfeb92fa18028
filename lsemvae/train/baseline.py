"""Train a baseline as LS-EMVAE is trained: same batches, augmentation, lead subsets, schedule and averaging."""

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
    """Train the baseline `name` in `out/pretrain` and `out/finetune`; `config` sizes those built from parts of LS-EMVAE.

    A baseline without a pre-training objective fine-tunes for the epochs of both stages: every row of a table sees as many
    recordings.
    """
    torch.manual_seed(finetune.seed)
    net = build_baseline(name, store.label_names, store.measure_names, config=config)
    screen = cast("TrainableScreen", net)
    leads, weight = tuple(store.index["leads"]), positive_weight(store.labels[rows])

    def pretrain_step(batch_rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = augment(batch.x, leads=leads, gain_known=batch.gain_known, spec=PRETRAIN_AUGMENT, g=g)
        seen = seen_in_training(batch.present, g, subsets=pretrain.subsets, each=False)
        return screen.pretrain_terms(x, seen, batch.present, g, progress=progress)

    def finetune_step(batch_rows: np.ndarray, g: torch.Generator, _progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = augment(batch.x, leads=leads, gain_known=batch.gain_known, spec=AugmentSpec(), g=g)
        seen = seen_in_training(batch.present, g, subsets=finetune.subsets, each=True)
        return screen.finetune_terms(x, batch.present, seen, batch.labels, weight, g, batch.measures)

    def run(stage: str, train: TrainConfig, step: Step) -> None:
        about: dict[str, Any] = {"kind": "baseline", "name": name, "stage": stage}
        about |= {"model": to_json(config) if config else None, "train": to_json(train)}
        about["labels"] = list(store.label_names)
        start_run(out / stage, about, store=store, left_out=list(left_out), seed=train.seed)
        Loop(net, train, out / stage, rows, step, report).run()

    if screen.pretrains:
        run("pretrain", pretrain, pretrain_step)
        train_only(net, screen.finetune_parameters())
    else:
        finetune = replace(finetune, epochs=finetune.epochs + pretrain.epochs)
    measure = getattr(net, "measure", None)
    if measure is not None:
        measure.fit_scale(torch.from_numpy(store.measures[rows]))
    run("finetune", finetune, finetune_step)
    return net.eval()
