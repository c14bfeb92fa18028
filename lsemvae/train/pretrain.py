"""Pre-training on recordings without labels: maximize the evidence lower bound under the lead subsets of use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.model.build import Model, ModelConfig, build_model, compile_parts, kind_of
from lsemvae.model.config import LsEmvaeConfig, TrainConfig, to_json
from lsemvae.train.batches import load_batch, seen_in_training
from lsemvae.train.loop import Loop, Report, check_device
from lsemvae.train.run import as_begun, check_labels, start_run

# Small batches: the decoder needs steps, about a thousand, more than it needs recordings in each.
PRETRAIN: Final = TrainConfig(epochs=6, batch=16, lr=2e-3)
# Gain and shift only: noise that is drawn must not become something to reconstruct.
AUGMENT: Final = AugmentSpec(noise_mv=0.0, baseline_mv=0.0, mask_s=0.0)


def pretrain(
    store: RecordStore,
    run_dir: Path,
    rows: np.ndarray,
    *,
    model: ModelConfig | None = None,
    train: TrainConfig = PRETRAIN,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
    device: str = "cpu",
    compiled: bool = False,
) -> Model:
    """Pre-train on `rows` of the store; every lead a recording has is a target, also those the encoder does not see.

    `model` is the configuration of `base` or of `paper`; `device` is `cpu`, or `cuda` (bfloat16 autocast);
    `compiled` puts torch.compile to encoders and decoder, which pays on a GPU.
    """
    model = model or LsEmvaeConfig(labels=store.label_names, measures=store.measure_names)
    config = {"kind": kind_of(model), "stage": "pretrain", "model": to_json(model), "train": to_json(train)}
    check_device(device)
    check_labels(store.label_names, model.labels, of=str(store.root))
    config = as_begun(run_dir, config, model=type(model), train=TrainConfig)
    start_run(run_dir, config, store=store, left_out=list(left_out), seed=train.seed)
    torch.manual_seed(train.seed)
    net = build_model(model).to(device)
    if compiled:
        compile_parts(net)

    def step(batch_rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = (
            augment(batch.x, leads=model.leads, gain_known=batch.gain_known, spec=AUGMENT, g=g)
            if train.augment
            else batch.x
        )
        present = seen_in_training(batch.present, g, subsets=train.subsets, each=False)
        return net.pretrain_terms(x.to(device), present.to(device), batch.present.to(device), g, progress=progress)

    Loop(net, train, run_dir, rows, step, report, device).run()
    return net.eval()
