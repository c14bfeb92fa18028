"""Augmentation keeps what is true of a device: Einthoven's law, absent leads, and the numbers' order of size."""

from __future__ import annotations

import torch

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.ecg.leads import LEADS


def _batch() -> torch.Tensor:
    t = torch.arange(2500) / 250
    i, ii = torch.sin(6.28 * t), 0.5 * torch.sin(6.28 * 2 * t + 1)
    limb = torch.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2])
    chest = torch.stack([i * (k + 1) for k in range(6)])
    return torch.cat([limb, chest]).repeat(4, 1, 1)


def _run(x: torch.Tensor, seed: int = 0, known: bool = True) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return augment(x, leads=LEADS, gain_known=torch.full((len(x),), known), spec=AugmentSpec(), g=g)


def test_limb_leads_still_obey_einthoven_and_goldberger() -> None:
    y = _run(_batch())
    assert (y[:, 2] - (y[:, 1] - y[:, 0])).abs().max() < 1e-5
    assert (y[:, 3] + (y[:, 0] + y[:, 1]) / 2).abs().max() < 1e-5
    assert (y[:, 5] - (y[:, 1] - y[:, 0] / 2)).abs().max() < 1e-5
    assert (y - _batch()).abs().max() > 0.01


def test_absent_leads_stay_absent() -> None:
    x = _batch()
    x[1, 6:] = 0
    y = _run(x)
    assert (y[1, 6:] == 0).all()
    assert (y[0, 6:] != 0).any()


def test_the_same_seed_gives_the_same_batch_and_another_does_not() -> None:
    assert torch.equal(_run(_batch(), 3), _run(_batch(), 3))
    assert not torch.equal(_run(_batch(), 3), _run(_batch(), 4))


def test_unknown_gain_is_spread_wider_than_known_gain() -> None:
    x = _batch()[:1].repeat(256, 1, 1)
    known, unknown = (_run(x, known=k)[:, 0].abs().amax(-1).std() for k in (True, False))
    assert unknown > 2 * known
