"""Batch renormalization (Ioffe 2017, arXiv 1702.03275) for encoders that mix all leads in their first layer.

A training batch is seen through one lead set: its statistics are those of that set, while the running averages mix all sets.
One lead of twelve gives a first convolution about a twelfth of the variance, so plain batch normalization would train a network
on other activations than it is tested with. Renormalization corrects each batch to the running averages, with constants
that carry no gradient; in evaluation both are the same function. Encoders of single leads do not need it.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

# Steps of plain batch normalization: until then the running averages say little.
PLAIN_STEPS: Final = 100
# From here on the correction has its full range; Ioffe ramps over 5,000 to 40,000 of 160,000 steps, runs here have a
# few thousand.
FULL_STEPS: Final = 400
MAX_SCALE: Final = 3.0  # the published r_max
MAX_SHIFT: Final = 5.0  # the published d_max
MOMENTUM: Final = 0.01  # the published rate: the averages must span many batches, for each shows one lead set


class BatchRenorm1d(nn.BatchNorm1d):
    """`[batch, channel, time]`: batch normalization with its result corrected to the running averages."""

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return `w * (r * x_hat + d) + b`, where `x_hat` is normalized with the batch's own mean and variance."""
        if not self.training:
            return super().forward(x)
        step = int(self.num_batches_tracked)
        scale, shift = self._correction(x, step)
        self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight * scale,
            self.bias + self.weight * shift,
            training=True,
            momentum=max(MOMENTUM, 1 / (step + 1)),  # a plain average until it spans 1 / MOMENTUM batches
            eps=self.eps,
        )

    @torch.no_grad()
    def _correction(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return scale r and shift d `[channel]`; their range grows from none at `PLAIN_STEPS` to all at `FULL_STEPS`."""
        share = min(1.0, max(0.0, (step - PLAIN_STEPS) / (FULL_STEPS - PLAIN_STEPS)))
        if not share:
            return torch.ones_like(self.running_mean), torch.zeros_like(self.running_mean)
        variance, mean = torch.var_mean(x, (0, 2), correction=0)
        sd = (self.running_var + self.eps).sqrt()
        r_max, d_max = 1 + share * (MAX_SCALE - 1), share * MAX_SHIFT
        scale = ((variance + self.eps).sqrt() / sd).clamp(1 / r_max, r_max)
        return scale, ((mean - self.running_mean) / sd).clamp(-d_max, d_max)


def conv_renorm(c_in: int, c_out: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Return Conv1d (no bias) + batch renormalization + ReLU; an even kernel gives one step more than an odd one."""
    conv = nn.Conv1d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    layers: list[nn.Module] = [conv, BatchRenorm1d(c_out)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
