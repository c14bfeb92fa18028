"""The training loop: one schedule, weight averaging, resumable after any epoch, the same result on every resume.

Randomness comes from a generator seeded by (seed, epoch), so that a resumed run draws what an unbroken one would.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.model.config import TrainConfig
from lsemvae.train.checkpoint import load_tensors, load_weights, optimizer_tensors, restore_optimizer, save_tensors
from lsemvae.train.run import append_metrics, keep_metrics, read_object, write_json

_RESUME: Final = "resume-"

Step = Callable[[np.ndarray, torch.Generator, float], dict[str, Tensor]]
Report = Callable[[dict[str, float | int | str]], None]


def epoch_text(row: Mapping[str, float | int | str]) -> str:
    """Return what an epoch gave in one line, as `epoch 1, epochs 6, loss 0.2513`."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )


def check_rows(rows: np.ndarray) -> None:
    """Refuse to train on nothing."""
    if not len(rows):
        raise SampleError(
            "found 0 recordings to train on, expected at least 1",
            advice="Look at the folds left out, and whether the recordings have the leads that the model reads.",
        )


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Return the rate of a step: a linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017) or a constant."""
    warm = max(1, int(config.warmup * n_steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "constant":
        return config.lr
    return 0.5 * config.lr * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW or Adam; the fused one passes once over memory: five times as fast for 256 million weights on a CPU."""
    fused = config.optimizer.startswith("fused_")
    kind = torch.optim.AdamW if config.optimizer.endswith("adamw") else torch.optim.Adam
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused or None)


def check_device(device: str) -> None:
    """Refuse a device that this machine or this build of torch does not have."""
    if device not in ("cpu", "cuda"):
        raise FormatError(f"found device {device!r}, expected cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise FormatError(
            "found no GPU that this torch can use, expected one for device cuda",
            advice="Train on the CPU, or install the CUDA build of torch on a machine with a GPU.",
        )


@dataclass
class Loop:
    """Train `model` on the row indices `rows`, in epochs after each of which it may be stopped and resumed.

    `step(batch_rows, generator, progress)` returns terms, `loss` among them; `progress` is the share of all steps that
    are done, 0 to 1.

    The model lies on `device` beforehand. On `cuda` the step runs under bfloat16 autocast; weights, fusion and divergences
    stay float32, and the generator stays on the CPU, so that a seed draws the same subsets and noise on every device.
    """

    model: nn.Module
    config: TrainConfig
    run_dir: Path
    rows: np.ndarray
    step: Step
    report: Report | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_rows(self.rows)
        self.optimizer = make_optimizer(self.config, [p for p in self.model.parameters() if p.requires_grad])
        self.average = self.model  # without averaging no second copy of the weights is kept
        if self.config.ema:
            self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.epoch = 0

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches; a last batch of one would break batch normalization."""
        return max(1, len(self.rows) // self.config.batch)

    def run(self) -> None:
        """Train what is left of the epochs; write model.safetensors when done."""
        config = self.config
        if (self.run_dir / "model.safetensors").is_file():
            load_weights(self.model, self.run_dir / "model.safetensors")
            return
        complete = [folder for folder in self.run_dir.glob(f"{_RESUME}*") if (folder / "state.json").is_file()]
        if complete:
            folder = max(complete)
            load_weights(self.model, folder / "raw.safetensors")
            load_weights(self.average, folder / "average.safetensors")
            restore_optimizer(self.optimizer, load_tensors(folder / "optimizer.safetensors"))
            self.epoch = int(read_object(folder / "state.json")["epoch"])
        keep_metrics(self.run_dir, self.epoch)
        while self.epoch < config.epochs:
            g = torch.Generator().manual_seed(config.seed * 100_003 + self.epoch)
            torch.manual_seed(config.seed * 100_003 + self.epoch)  # dropout has no generator of its own
            order = torch.randperm(len(self.rows), generator=g).numpy()
            values: dict[str, list[float]] = {}
            began = time.monotonic()
            self.model.train()
            for k in range(self.steps_per_epoch):
                batch = self.rows[np.sort(order[k * config.batch : (k + 1) * config.batch])]
                for name, value in self._one_step(batch, g, self.epoch * self.steps_per_epoch + k).items():
                    values.setdefault(name, []).append(value)
            seconds = time.monotonic() - began
            self.epoch += 1
            # A term that only some steps have (matching) is averaged over those steps.
            means = {name: sum(seen) / len(seen) for name, seen in values.items()}
            row: dict[str, float | int | str] = {
                "epoch": self.epoch,
                "epochs": config.epochs,
                "seconds": round(seconds, 2),
            }
            row |= means
            append_metrics(self.run_dir, row)
            self._save()
            if self.report:
                self.report(row)
        save_tensors(self.run_dir / "model.safetensors", self.average.state_dict())
        self.model.load_state_dict(self.average.state_dict())
        self._clear()

    def _one_step(self, batch: np.ndarray, g: torch.Generator, step: int) -> dict[str, float]:
        n_steps = self.config.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, n_steps)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16) if self.device == "cuda" else nullcontext():
            terms = self.step(batch, g, step / n_steps)
        if not torch.isfinite(terms["loss"]):
            raise SampleError(
                f"found loss {float(terms['loss'])} at step {step}, expected a finite number",
                advice="Lower the learning rate, or look for broken recordings in the store.",
            )
        # The reference accumulates over two batches but clears the gradient before each: with `lost_gradients`, that of
        # each first of two batches in an epoch never reaches the optimizer.
        lost = self.config.lost_gradients and step % self.steps_per_epoch % 2 == 0
        if not lost:
            terms["loss"].backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
        if not lost and self.average is not self.model:
            # Exponential average of the weights; early steps count little, so that the start does not linger.
            decay = min(self.config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, now in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                    if mean.is_floating_point():
                        mean.lerp_(now, 1 - decay)
                    else:
                        mean.copy_(now)
        return {name: float(value.detach()) for name, value in terms.items()}

    def _save(self) -> None:
        """Write one folder per epoch, complete once its state.json is there; older ones go afterwards."""
        folder = self.run_dir / f"{_RESUME}{self.epoch:05d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_tensors(folder / "raw.safetensors", self.model.state_dict())
        save_tensors(folder / "average.safetensors", self.average.state_dict())
        save_tensors(folder / "optimizer.safetensors", optimizer_tensors(self.optimizer))
        write_json(folder / "state.json", {"epoch": self.epoch})
        self._clear(keep=folder)

    def _clear(self, keep: Path | None = None) -> None:
        for folder in self.run_dir.glob(f"{_RESUME}*"):
            if folder != keep:
                shutil.rmtree(folder, ignore_errors=True)
