"""Synthetic ECG whose waves are known, and a student that was taught one thing: how tall QRS is in lead II."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lsemvae.model.config import StudentConfig
from lsemvae.model.student import StudentNet

FS_HZ = 250.0
N_SAMPLES = 1250
# Centre after the R peak in s, standard deviation in s, amplitude in I and II in mV.
SHAPES = {"P": (-0.16, 0.018, (0.08, 0.12)), "QRS": (0.0, 0.012, (0.8, 1.0)), "T": (0.28, 0.035, (0.2, 0.3))}
CONFIG = StudentConfig(
    channels=(6, 8), kernels=(15, 9), strides=(4, 2), summary=4, labels=("TALL_II", "OTHER"), n_samples=N_SAMPLES
)


@dataclass(frozen=True)
class Toy:
    """`x` float32 `[record, 2, time]` in mV, `tall` amplitudes of QRS in lead II in mV, `beats` R peaks in samples."""

    x: np.ndarray
    tall: np.ndarray
    beats: np.ndarray


def ecg(n: int, *, seed: int = 0, with_p: bool = True, n_samples: int = N_SAMPLES) -> Toy:
    """Every amplitude is drawn on its own, so that nothing but QRS in lead II tells `tall`."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / FS_HZ
    beats_s = np.arange(0.4, n_samples / FS_HZ - 0.3, 0.8)
    tall = rng.uniform(0.3, 1.7, n)
    x = rng.normal(0, 0.005, (n, 2, n_samples))
    for kind, (centre, sd, amplitudes) in SHAPES.items():
        if kind == "P" and not with_p:
            continue
        curve = np.exp(-0.5 * ((t - beats_s[:, None] - centre) / sd) ** 2).sum(0)
        for lead, amplitude in enumerate(amplitudes):
            scale = tall if (kind, lead) == ("QRS", 1) else amplitude * rng.uniform(0.5, 1.5, n)
            x[:, lead] += scale[:, None] * curve
    return Toy(x.astype(np.float32), tall, np.round(beats_s * FS_HZ).astype(int))


def qrs_filter() -> torch.Tensor:
    """First-layer weights `[6, 2, 15]`: nothing of lead I; of lead II the curvature at 12 ms, both signs, which P and T hardly have."""
    t = torch.arange(-7.0, 8.0) / 3.0
    curvature = (1 - t**2) * torch.exp(-0.5 * t**2)
    curvature = curvature - curvature.mean()
    weight = torch.zeros(CONFIG.channels[0], 2, 15)
    weight[0::2, 1], weight[1::2, 1] = curvature, -curvature
    return weight


def train_student(steps: int = 60) -> StudentNet:
    """Learn whether QRS in lead II is taller than 1 mV, through a first layer that sees nothing but QRS in lead II."""
    torch.manual_seed(0)
    data = ecg(128)
    x, y = torch.from_numpy(data.x), torch.from_numpy((data.tall > 1.0).astype(np.float32))
    model = StudentNet(CONFIG).train()
    first = model.encoder.body[0][0].weight
    first.data.copy_(qrs_filter())
    first.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for step in range(steps):
        pick = torch.arange(step * 32, step * 32 + 32) % len(x)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x[pick])[0][:, 0], y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
