"""Matching of feature maps: the teacher's fused latent map, 15.6 Hz, against a projected map of the student.

The teacher's channels are centred and scaled first. Without that, a cosine between maps is that between their means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import StudentConfig
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.batches import in_batches

# Samples of 4 ms in one step of the teacher's map.
TEACHER_STRIDE: Final = 16
# Mean and sd of a channel over 256 recordings x 157 steps are known to better than 1 %.
SCALE_RECORDS: Final = 256
_MIN_SD: Final = 1e-4


@dataclass(frozen=True)
class MapScale:
    """Mean and standard deviation `[1, latent, 1]` of the teacher's channels."""

    mean: Tensor
    sd: Tensor

    def __call__(self, latent: Tensor) -> Tensor:
        """Return a map `[batch, latent, steps]` in standard deviations."""
        return (latent - self.mean) / self.sd


@torch.no_grad()
def map_scale(teacher: LsEmvae, store: RecordStore, rows: np.ndarray) -> MapScale:
    """Return mean and sd of the channels of the teacher's map over at most `SCALE_RECORDS` of `rows`, evenly spread."""
    few = rows[np.unique(np.linspace(0, len(rows) - 1, min(SCALE_RECORDS, len(rows))).astype(int))]
    every = torch.cat([teacher.posterior(batch.x, batch.present).mean for batch in in_batches(store, few)])
    return MapScale(every.mean((0, 2), keepdim=True), every.std((0, 2), keepdim=True).clamp(min=_MIN_SD))


def feature_stage(student: StudentConfig) -> int:
    """Return the first convolution of a student after which a step is as long as the teacher's, or longer."""
    strides = np.cumprod(student.strides)
    fitting = np.flatnonzero(strides >= TEACHER_STRIDE)
    if not len(fitting):
        raise FormatError(
            f"found a student whose steps are at most {int(strides[-1])} samples long, expected {TEACHER_STRIDE} or more",
            advice="Lengthen its strides, or leave the weight of feature out.",
        )
    return int(fitting[0])


def pooled_to(latent: Tensor, steps: int) -> Tensor:
    """Average `[batch, latent, T]` to `steps`, each window centred where a strided convolution is centred.

    Convolutions with symmetric padding put step j of a map with r times fewer steps at step r * j.
    """
    ratio = math.ceil(latent.shape[-1] / steps)
    out = torch.nn.functional.avg_pool1d(latent, 2 * ratio - 1, ratio, ratio - 1, count_include_pad=False)
    if out.shape[-1] != steps:
        raise FormatError(
            f"found a student map of {steps} steps beside a teacher map of {latent.shape[-1]}, expected a whole ratio",
            advice="Give the student strides that are powers of two.",
        )
    return out


def feature_loss(projected: Tensor, target: Tensor, *, match: str) -> Tensor:
    """Return the distance of a projected student map to the scaled teacher map, both `[batch, latent, steps]`.

    `cosine`: 1 - cosine over channels at each step, 0 to 2. `standardized`: half the mean square difference.
    """
    target = pooled_to(target, projected.shape[-1])
    if match == "cosine":
        return (1 - torch.nn.functional.cosine_similarity(projected, target, dim=1)).mean()
    return 0.5 * (projected - target).square().mean()
