"""Fine-tuning on labels: encoders and head learn together, and one model reads 12, 6, two leads or one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.model.build import Model
from lsemvae.model.config import TrainConfig, to_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.batches import load_batch, seen_in_training
from lsemvae.train.checkpoint import fresh_model, load_weights
from lsemvae.train.loop import Loop, Report, check_device
from lsemvae.train.run import as_begun, check_labels, check_parent, start_run

FINETUNE: Final = TrainConfig(epochs=12, batch=32, lr=1.5e-3, weight_decay=1e-2)
# Rare statements weigh more, but no more than this: beyond it a handful of recordings steers the encoders.
MAX_POSITIVE_WEIGHT: Final = 5.0


def positive_weight(labels: np.ndarray) -> Tensor:
    """Return each label's weight of positives: the root of negatives per positive, capped; float32 `[label]`."""
    positives = np.maximum((labels == 1).sum(0), 1)
    negatives = (labels == 0).sum(0)
    return torch.from_numpy(np.clip(np.sqrt(negatives / positives), 1.0, MAX_POSITIVE_WEIGHT).astype(np.float32))


def train_only(net: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Freeze every parameter of `net` but these."""
    kept = {id(parameter) for parameter in parameters}
    for parameter in net.parameters():
        parameter.requires_grad = id(parameter) in kept


def finetune(
    store: RecordStore,
    pretrained: Path,
    run_dir: Path,
    rows: np.ndarray,
    *,
    train: TrainConfig = FINETUNE,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
    device: str = "cpu",
) -> Model:
    """Fine-tune the pre-trained run `pretrained` on the labelled `rows`; of a `paper` run only the probe is trained.

    Each recording of a batch is seen through a lead subset of its own. `device` is `cpu`, or `cuda` (bfloat16 autocast).
    """
    check_device(device)
    check_parent(Path(pretrained), list(left_out), store)
    net, before = fresh_model(Path(pretrained))
    model = net.config
    config = {
        "kind": before["kind"],
        "stage": "finetune",
        "model": to_json(model),
        "train": to_json(train),
        "from": str(pretrained),
    }
    check_labels(store.label_names, model.labels, of=str(store.root))
    config = as_begun(run_dir, config, model=type(model), train=TrainConfig)
    start_run(run_dir, config, store=store, left_out=list(left_out), seed=train.seed)
    torch.manual_seed(train.seed)
    load_weights(net, Path(pretrained) / "model.safetensors")
    train_only(net, net.finetune_parameters())
    if isinstance(net, LsEmvae) and net.measure is not None:
        net.measure.fit_scale(torch.from_numpy(store.measures[rows]))
    net.to(device)
    weight = positive_weight(store.labels[rows]).to(device)
    spec = AugmentSpec()

    def step(batch_rows: np.ndarray, g: torch.Generator, _progress: float) -> dict[str, Tensor]:
        batch = load_batch(store, batch_rows)
        x = (
            augment(batch.x, leads=model.leads, gain_known=batch.gain_known, spec=spec, g=g)
            if train.augment
            else batch.x
        )
        seen = seen_in_training(batch.present, g, subsets=train.subsets, each=True).to(device)
        there = batch.to(device)
        return net.finetune_terms(x.to(device), there.present, seen, there.labels, weight, g, there.measures)

    Loop(net, train, run_dir, rows, step, report, device).run()
    return net.eval()
