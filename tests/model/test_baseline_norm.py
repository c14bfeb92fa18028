"""Batch renormalization: plain at the start, the same network in training and in use once the averages stand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lsemvae.model.baselines import norm
from lsemvae.model.baselines.norm import BatchRenorm1d, conv_renorm


def _g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _settled(channels: int, batches: list[torch.Tensor], kind: type[nn.BatchNorm1d] = BatchRenorm1d) -> nn.BatchNorm1d:
    """Averages over many batches, each of one kind."""
    layer = kind(channels).train()
    with torch.no_grad():
        for k in range(norm.FULL_STEPS + 100):
            layer(batches[k % len(batches)])
    return layer


def _kinds() -> list[torch.Tensor]:
    """Three kinds of batches, as three lead sets give: other spread, other mean."""
    return [
        spread * torch.randn(8, 3, 40, generator=_g(k)) + shift
        for k, (spread, shift) in enumerate(((1.0, 0.0), (0.7, 0.2), (0.3, -0.2)))
    ]


def test_the_first_steps_are_plain_batch_normalization() -> None:
    plain, renorm = nn.BatchNorm1d(3), BatchRenorm1d(3)
    for x in _kinds():
        torch.testing.assert_close(renorm(x), plain(x))
    assert int(renorm.num_batches_tracked) == 3


def test_the_averages_are_plain_means_until_they_span_many_batches() -> None:
    layer, kinds = BatchRenorm1d(3), _kinds()
    for x in kinds:
        layer(x)
    torch.testing.assert_close(layer.running_mean, torch.stack([x.mean((0, 2)) for x in kinds]).mean(0))
    torch.testing.assert_close(
        layer.running_var, torch.stack([x.var((0, 2)) for x in kinds]).mean(0), rtol=1e-3, atol=1e-4
    )


@torch.no_grad()
def test_training_and_use_are_one_function_for_batches_of_one_lead_set() -> None:
    kinds = _kinds()
    renorm, plain = _settled(3, kinds), _settled(3, kinds, nn.BatchNorm1d)
    for layer, same in ((renorm, True), (plain, False)):
        worst = 0.0
        for x in kinds:
            trained = layer.train()(x)
            used = layer.eval()(x)
            worst = max(worst, float((trained - used).abs().max()))
        assert (worst < 0.05) is same, worst


def test_the_correction_is_clipped_to_its_range() -> None:
    layer = _settled(3, _kinds())
    with torch.no_grad():
        scale, shift = layer._correction(1e3 * torch.randn(8, 3, 40, generator=_g()) + 1e4, norm.FULL_STEPS)
        assert (scale == norm.MAX_SCALE).all()
        assert (shift == norm.MAX_SHIFT).all()
        scale, _ = layer._correction(1e-9 * torch.randn(8, 3, 40, generator=_g()), norm.FULL_STEPS)
        torch.testing.assert_close(scale, torch.full((3,), 1 / norm.MAX_SCALE))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_range_grows_with_the_steps(share: float) -> None:
    layer = _settled(3, _kinds())
    step = norm.PLAIN_STEPS + share * (norm.FULL_STEPS - norm.PLAIN_STEPS)
    scale, shift = layer._correction(1e6 * torch.rand(8, 3, 40, generator=_g()) + 1e6, int(step))
    torch.testing.assert_close(scale, torch.full((3,), 1 + share * (norm.MAX_SCALE - 1)))
    torch.testing.assert_close(shift, torch.full((3,), share * norm.MAX_SHIFT))


def test_the_gradient_treats_the_correction_as_constant() -> None:
    layer, x = _settled(3, _kinds()), _kinds()[2].double()
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    target = torch.randn(x.shape, generator=_g(9), dtype=torch.float64)
    ours = x.clone().requires_grad_()
    (layer(ours) * target).sum().backward()
    found = [ours.grad, layer.weight.grad, layer.bias.grad]

    theirs, w, b = x.clone().requires_grad_(), state["weight"].requires_grad_(), state["bias"].requires_grad_()
    mean, sd = theirs.mean((0, 2)), (theirs.var((0, 2), correction=0) + layer.eps).sqrt()
    average_sd = (state["running_var"] + layer.eps).sqrt()
    r = (sd.detach() / average_sd).clamp(1 / norm.MAX_SCALE, norm.MAX_SCALE)
    d = ((mean.detach() - state["running_mean"]) / average_sd).clamp(-norm.MAX_SHIFT, norm.MAX_SHIFT)
    hat = (theirs - mean[:, None]) / sd[:, None] * r[:, None] + d[:, None]
    ((w[:, None] * hat + b[:, None]) * target).sum().backward()
    for a, e in zip(found, (theirs.grad, w.grad, b.grad), strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize(("kernel", "stride", "length"), [(5, 1, 40), (5, 2, 20), (8, 1, 41), (1, 2, 20), (15, 4, 10)])
def test_the_length_after_a_convolution(kernel: int, stride: int, length: int) -> None:
    assert conv_renorm(2, 4, kernel, stride)(torch.randn(2, 2, 40)).shape == (2, 4, length)
