"""The peer of the timings is the published method: its size, its losses, and each of its defects."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence


def _load(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up; throughput imports its neighbour by this name
    spec.loader.exec_module(module)
    return module


ref = _load("reference_loop")
TINY = ref.ReferenceConfig(n_samples=80, channels=(2, 3, 4), latent=5)


def _tiny(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return ref.ReferenceModel(TINY)


def _x(n: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n, 12, 80, generator=torch.Generator().manual_seed(seed))


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes_have_the_published_parameter_count() -> None:
    with torch.device("meta"):
        model = ref.ReferenceModel(ref.ReferenceConfig())
    assert _count(model.encoders[0]) == 20_488_352
    assert _count(model.decoder) == 10_290_353
    assert _count(model) == 256_150_577
    out = model(torch.empty(2, 12, 5000, device="meta"))
    assert [r.shape for r in out.recons] == [(2, 5000)] * 12
    assert [m.shape for m in (*out.means, *out.logvars)] == [(2, 256)] * 24


def test_product_of_experts_is_that_of_gaussians() -> None:
    g = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(3, 4, 5, generator=g).double(), torch.randn(3, 4, 5, generator=g).double()
    got_mean, got_logvar = ref.product_of_experts(mean, logvar)
    precision = torch.exp(-logvar)
    torch.testing.assert_close(got_logvar, -precision.sum(0).log(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got_mean, (precision * mean).sum(0) / precision.sum(0), rtol=1e-6, atol=1e-6)


def test_fusion_is_the_parameter_average_of_four_products_without_the_prior() -> None:
    g = torch.Generator().manual_seed(2)
    means = [torch.randn(2, 5, generator=g) for _ in range(12)]
    logvars = [torch.randn(2, 5, generator=g) for _ in range(12)]
    groups = [
        ref.product_of_experts(torch.stack(means[k : k + 3]), torch.stack(logvars[k : k + 3])) for k in (0, 3, 6, 9)
    ]
    mean, logvar = ref.grouped_fusion(means, logvars, 4)
    torch.testing.assert_close(mean, sum(pair[0] for pair in groups) / 4)
    torch.testing.assert_close(logvar, sum(pair[1] for pair in groups) / 4)


def test_six_leads_lose_avl_avf_and_the_prior() -> None:
    means = [torch.zeros(1, 5, requires_grad=True) for _ in range(6)]
    logvars = [torch.zeros(1, 5) for _ in range(6)]
    ref.grouped_fusion(means, logvars, 4)[0].sum().backward()
    assert [bool(m.grad.abs().sum() > 0) for m in means] == [True, True, True, True, False, False]


def test_all_twelve_reconstructions_are_the_same_waveform() -> None:
    out = _tiny()(_x())
    assert all(torch.equal(out.recons[0], other) for other in out.recons[1:])


def test_decoder_is_called_once_per_lead() -> None:
    model, calls = _tiny(), []
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    model(_x())
    assert len(calls) == 12


def test_loss_terms_equal_their_definitions() -> None:
    torch.manual_seed(0)
    model, x = _tiny(), _x()
    out = model(x)
    recon = torch.stack(out.recons, 1)
    mean, logvar = torch.stack(out.means, 1), torch.stack(out.logvars, 1)
    bar = Normal(mean.mean(1), (0.5 * logvar.mean(1)).exp())
    kl = kl_divergence(bar, Normal(0.0, 1.0)).sum(1).mean()
    align = (mean - mean.mean(1, keepdim=True)).square().mean()
    error = (x - recon).square().sum((1, 2)).mean()
    got = ref.reference_loss(x, out, beta=0.3, config=TINY)
    torch.testing.assert_close(got, 1e-3 * error + 0.3 * kl + 0.1 * align)


def test_fused_log_variance_is_outside_the_penalty() -> None:
    out = _tiny()(_x())
    without_z = out._replace(recons=[r.detach() for r in out.recons])
    loss = ref.reference_loss(_x(), without_z, beta=1.0, config=TINY)
    grads = torch.autograd.grad(loss, [out.mean, out.logvar], allow_unused=True)
    assert grads == (None, None)


@pytest.mark.parametrize(("epoch", "beta"), [(0, 0.0), (25, 0.5), (50, 1.0), (99, 1.0)])
def test_kl_weight_rises_over_fifty_epochs(epoch: int, beta: float) -> None:
    assert ref.annealed(epoch, ref.ReferenceConfig()) == beta


def _trained(batches: list[Tensor], accumulation: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    model = ref.ReferenceModel(replace(TINY, accumulation=accumulation))
    torch.manual_seed(7)
    losses = ref.train_epoch(model, ref.reference_optimizer(model), batches, epoch=50)
    assert len(losses) == len(batches)
    return model


def test_accumulation_throws_every_second_mini_batch_away() -> None:
    a, b, other = _x(seed=1), _x(seed=2), _x(seed=3)
    kept, swapped = _trained([a, b]), _trained([other, b])
    assert all(torch.equal(p, q) for p, q in zip(kept.parameters(), swapped.parameters(), strict=True))
    changed = _trained([a, other])
    assert any(not torch.equal(p, q) for p, q in zip(kept.parameters(), changed.parameters(), strict=True))


def test_one_mini_batch_of_two_makes_no_step() -> None:
    start = _tiny()
    assert all(torch.equal(p, q) for p, q in zip(start.parameters(), _trained([_x()]).parameters(), strict=True))


@pytest.mark.slow
def test_loop_learns_the_mean_waveform() -> None:
    torch.manual_seed(0)
    model = ref.ReferenceModel(replace(TINY, accumulation=1, lr=1e-2))
    wave = torch.sin(torch.arange(80) / 5).repeat(8, 12, 1)
    losses = ref.train_epoch(model, ref.reference_optimizer(model), [wave] * 60)
    assert losses[-1] < 0.2 * losses[0]


def test_the_package_never_imports_the_peer(repo_root: Path) -> None:
    for room in ("lsemvae", "export", "edge_app", "firmware_bridge"):
        for path in (repo_root / room).rglob("*.py"):
            assert "reference_loop" not in path.read_text(encoding="utf-8"), path
