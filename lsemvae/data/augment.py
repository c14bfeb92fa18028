"""Augmentation of front-end output, for training only: the disturbances that a handheld device adds to an ECG.

Every function takes float32 `[batch, lead, time]` in mV at 250 Hz and a torch generator, and returns a new tensor.
Gains and noise act on the two measured channels and are carried to the derived limb leads, so that Einthoven's and
Goldberger's relations hold after augmentation as they do on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from lsemvae.ecg.leads import LIMB_LEADS

FS_HZ: Final = 250.0
# Rows: I, II, III, aVR, aVL, aVF as sums of I and II (Einthoven 1912, Goldberger 1942).
LIMB_FROM_I_II: Final = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]])


@dataclass(frozen=True, slots=True)
class AugmentSpec:
    """Strengths: log-normal gain (known and unknown gain), noise and baseline rms in mV, shift and mask in seconds."""

    gain_sd: float = 0.05
    unknown_gain_sd: float = 0.30
    noise_mv: float = 0.02
    baseline_mv: float = 0.05
    shift_s: float = 1.0
    mask_s: float = 0.8


def random_gain(x: torch.Tensor, gain_known: torch.Tensor, spec: AugmentSpec, g: torch.Generator) -> torch.Tensor:
    """Multiply each recording by one random gain; recordings whose overall gain is unknown get a wide one."""
    sd = torch.where(gain_known, spec.gain_sd, spec.unknown_gain_sd)
    gain = torch.exp(torch.randn(len(x), generator=g) * sd)
    return x * gain[:, None, None]


def random_shift(x: torch.Tensor, spec: AugmentSpec, g: torch.Generator) -> torch.Tensor:
    """Shift in time by up to `shift_s`, mirrored at the edge, so that no beat has a fixed place."""
    limit = int(spec.shift_s * FS_HZ)
    padded = torch.nn.functional.pad(x, (limit, limit), mode="reflect")
    start = int(torch.randint(0, 2 * limit + 1, (1,), generator=g))
    return padded[..., start : start + x.shape[-1]].contiguous()


def _noise_channels(n: int, channels: int, time: int, spec: AugmentSpec, g: torch.Generator) -> torch.Tensor:
    """Draw white noise plus a slow sinusoid per channel, each of its own strength: mV `[n, channels, time]`."""
    strength = torch.rand(n, channels, 2, generator=g) ** 2
    noise = torch.randn(n, channels, time, generator=g) * (strength[..., :1] * spec.noise_mv)
    f_hz = 0.5 + torch.rand(n, channels, 1, generator=g)
    phase = torch.rand(n, channels, 1, generator=g) * 6.2832
    t_s = torch.arange(time) / FS_HZ
    return noise + torch.sin(6.2832 * f_hz * t_s + phase) * strength[..., 1:] * spec.baseline_mv


def add_noise(
    x: torch.Tensor, limb: list[int], chest: list[int], spec: AugmentSpec, g: torch.Generator
) -> torch.Tensor:
    """Add noise on I and II, carried to the limb leads at `limb` (positions of I..aVF, -1: absent), and own noise on the chest."""
    n, _, time = x.shape
    out = x.clone()
    two = _noise_channels(n, 2, time, spec, g)
    out[:, [p for p in limb if p >= 0]] += torch.einsum("lc,bct->blt", LIMB_FROM_I_II[[p >= 0 for p in limb]], two)
    if chest:
        out[:, chest] += _noise_channels(n, len(chest), time, spec, g)
    return out


def time_mask(x: torch.Tensor, spec: AugmentSpec, g: torch.Generator) -> torch.Tensor:
    """Silence one random stretch of up to `mask_s` in all leads."""
    length = int(torch.randint(0, int(spec.mask_s * FS_HZ) + 1, (1,), generator=g))
    start = int(torch.randint(0, x.shape[-1] - length + 1, (1,), generator=g))
    out = x.clone()
    out[..., start : start + length] = 0.0
    return out


def augment(
    x: torch.Tensor, *, leads: tuple[str, ...], gain_known: torch.Tensor, spec: AugmentSpec, g: torch.Generator
) -> torch.Tensor:
    """Run the whole chain on `[batch, lead, time]` in mV; leads that are all zero (absent) stay zero."""
    absent = (x == 0).all(-1, keepdim=True)
    limb = [leads.index(lead) if lead in leads else -1 for lead in LIMB_LEADS]
    chest = [k for k, lead in enumerate(leads) if lead not in LIMB_LEADS]
    x = random_gain(random_shift(x, spec, g), gain_known, spec, g)
    x = time_mask(add_noise(x, limb, chest, spec, g), spec, g)
    return x.masked_fill(absent, 0.0)
