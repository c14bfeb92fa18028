"""The variational baselines against their papers: products and mixtures by brute force, objectives term by term."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS
from lsemvae.model.baselines import beta_vae, mmvae_plus, mopoe, mvae
from lsemvae.model.baselines.beta_vae import BetaVae
from lsemvae.model.baselines.mmvae_plus import MmvaePlus, log_mixture, log_normal
from lsemvae.model.baselines.mopoe import Mopoe, subset_family
from lsemvae.model.baselines.mvae import Mvae
from lsemvae.model.baselines.vae import component_weights, pick, stratified_component
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.fusion import product_of_experts
from lsemvae.model.lsemvae import sample

TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=5, trunk=(8, 8), summary=6)
LABELS = ("RHS",)
PRIVATE = 1  # channels of w beside the 5 of u


def _g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _x(n: int = 6) -> torch.Tensor:
    return 0.3 * torch.randn(n, 12, 2500, generator=_g(5))


def _present(*leads: str, n: int = 6) -> torch.Tensor:
    return torch.tensor([lead in leads for lead in LEADS]).repeat(n, 1)


def _experts(n: int = 6, latent: int = 5, steps: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (n, 12, latent, steps)
    return torch.randn(shape, generator=_g(1)), torch.randn(shape, generator=_g(2)).clamp(-2, 2)


def _mean_instead_of_sample(mean: torch.Tensor, logvar: torch.Tensor, g: torch.Generator | None = None) -> torch.Tensor:
    return mean


def _normal(mean: torch.Tensor, logvar: torch.Tensor) -> Normal:
    return Normal(mean, (0.5 * logvar).exp())


# MVAE


@pytest.mark.promise(101)
def test_mvae_joint_is_the_product_of_the_densities_and_the_prior_on_a_grid() -> None:
    model = Mvae(LABELS, config=TINY)
    z = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    mean, logvar = (p.double() for p in _experts(1, 1, 1))
    for leads in (LEADS, LIMB_LEADS, ("I", "V2"), ("aVF",), ()):
        # A batch always has a lead, a recording of it may have none.
        two, both = _present(*leads, n=2), (mean.expand(2, -1, -1, -1), logvar.expand(2, -1, -1, -1))
        two[1] = True
        density = Normal(0.0, 1.0).log_prob(z)
        for k in [LEADS.index(lead) for lead in leads]:
            density = density + _normal(mean[0, k, 0, 0], logvar[0, k, 0, 0]).log_prob(z)
        weight = (density - density.max()).exp()
        weight = weight / weight.sum()
        expected_mean = (weight * z).sum()
        expected_var = (weight * (z - expected_mean).square()).sum()
        got_mean, got_logvar = model.joint(both, two)
        torch.testing.assert_close(got_mean[0, 0, 0], expected_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got_logvar[0, 0, 0].exp(), expected_var, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_mvae_objective_is_the_sum_of_bounds_over_all_leads_single_leads_and_subsets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recomputed with torch.distributions; the latent sample is replaced by the mean, the subset by a fixed one."""
    monkeypatch.setattr(mvae, "sample", _mean_instead_of_sample)
    chosen = _present("I", "V1")
    monkeypatch.setattr(mvae, "draw_subsets", lambda present, g: [(present & chosen, 1.0)])
    model, x = Mvae(LABELS, config=TINY).eval(), _x()
    present, target = _present("I", "II", "V1"), _present(*LIMB_LEADS, "V1")
    present[0] = _present("I", "II", n=1)[0]
    rise = 0.5
    got = model.pretrain_terms(x, present, target, _g(), progress=rise * TINY.anneal)

    means, logvars = model.encode(x * present.unsqueeze(-1), present)
    sd = model.decoder.sd_for(x * target.unsqueeze(-1))
    singles = [present & _present(lead) for lead in ("I", "II", "V1")]
    expected = torch.zeros(())
    for seen, drawn_leads in [(present, target), *((s, s) for s in singles), (present & chosen, present & chosen)]:
        for b in range(6):
            on = seen[b].nonzero()[:, 0]
            precision, mean = torch.ones_like(means[b, 0]), torch.zeros_like(means[b, 0])
            for k in on:
                precision = precision + logvars[b, k].neg().exp()
                mean = mean + logvars[b, k].neg().exp() * means[b, k]
            mean = mean / precision
            drawn = model.decoder(mean[None], torch.arange(12))[0]
            for k in drawn_leads[b].nonzero()[:, 0]:
                expected = expected - Normal(drawn[k], sd[b, k]).log_prob(x[b, k]).sum()
            expected = expected + rise * kl_divergence(Normal(mean, precision.rsqrt()), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(got["loss"], expected / (target.sum() * 2500), rtol=1e-4, atol=1e-4)


def test_mvae_single_leads_drawn_with_their_weights_add_up_to_all_of_them() -> None:
    present, g = _present(*LIMB_LEADS, "V1"), _g()
    total = torch.zeros(12)
    for _ in range(2000):
        for seen, weight in mvae.draw_singles(present, g):
            assert seen.sum(1).eq(1).all()
            total += weight * seen[0].float()
    torch.testing.assert_close(total / 2000, present[0].float(), rtol=0.1, atol=0.0)
    assert len(mvae.draw_singles(present, g)) == mvae.N_SINGLES
    assert mvae.draw_singles(_present("I"), g)[0][1] == 1.0


def test_mvae_random_subsets_are_uniform_over_the_non_empty_sets() -> None:
    present, g = _present("I", "II", "V6"), _g()
    seen: dict[tuple[bool, ...], int] = {}
    for _ in range(3500):
        ((subset, weight),) = mvae.draw_subsets(present, g)
        assert weight == 1.0
        key = tuple(subset[0, [0, 1, 11]].tolist())
        seen[key] = seen.get(key, 0) + 1
    assert set(seen) == set(itertools.product((False, True), repeat=3)) - {(False,) * 3}
    assert min(seen.values()) > 400  # 500 expected, sd 21
    assert max(seen.values()) < 600


# MoPoE


def test_mopoe_family_holds_single_leads_the_sets_in_use_and_the_named_groups() -> None:
    family = subset_family()
    wanted = [*((lead,) for lead in LEADS), LEADS, LIMB_LEADS, ("I", "II"), CHEST_LEADS[:3], CHEST_LEADS[3:]]
    assert sorted(family) == sorted(wanted)
    assert len(set(family)) == len(family) == 17


def test_mopoe_lead_sets_in_use_are_those_of_the_training_batches() -> None:
    from lsemvae.train.batches import LEAD_SUBSETS

    assert {leads for _, leads, _ in LEAD_SUBSETS} == set(mopoe.SETS_IN_USE)


@pytest.mark.parametrize(
    ("leads", "count"),
    [(LEADS, 17), (LIMB_LEADS, 8), (("I", "II"), 3), (("I",), 1), (("I", "V1", "V2", "V4"), 6), ((), 1)],
)
def test_mopoe_subsets_shrink_to_what_is_present_and_count_once(leads: tuple[str, ...], count: int) -> None:
    model = Mopoe(LABELS, config=TINY)
    shrunk, valid = model.members(_present(*leads, n=2))
    assert valid.sum(1).tolist() == [count, count]
    sets = {tuple(lead for lead, on in zip(LEADS, row, strict=True) if on) for row in shrunk[0][valid[0]].tolist()}
    assert sets == {tuple(lead for lead in subset if lead in leads) for subset in subset_family()} - (
        {()} if leads else set()
    )
    assert len(sets) == count
    weights = component_weights(valid)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert ((weights > 0) == valid).all()


def test_mopoe_products_are_those_of_the_shared_product_of_experts() -> None:
    model, (mean, logvar) = Mopoe(LABELS, config=TINY), _experts()
    present = _present(*LIMB_LEADS, "V2")
    present[0] = False
    shrunk, _ = model.members(present)
    got_mean, got_logvar = model.products((mean, logvar), shrunk)
    for k in range(shrunk.shape[1]):
        weight = torch.zeros(6, 12).masked_fill(~shrunk[:, k], float("-inf"))
        expected = product_of_experts(mean, logvar, weight, prior=False)
        torch.testing.assert_close(got_mean[:, k], expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got_logvar[:, k], expected[1], rtol=1e-4, atol=1e-5)


def test_mopoe_precisions_survive_the_bound_of_the_encoders() -> None:
    model = Mopoe(LABELS, config=TINY)
    shrunk, _ = model.members(_present(*LEADS))
    for bound in (-TINY.logvar_bound, TINY.logvar_bound):
        mean, logvar = model.products((torch.full((6, 12, 5, 4), 3.0), torch.full((6, 12, 5, 4), bound)), shrunk)
        torch.testing.assert_close(mean, torch.full_like(mean, 3.0))
        torch.testing.assert_close(logvar[:, -1], torch.full_like(logvar[:, -1], bound - math.log(shrunk[0, -1].sum())))


@pytest.mark.promise(101)
def test_mopoe_objective_term_by_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mopoe, "sample", _mean_instead_of_sample)
    chosen = torch.tensor([0, 1, 12, 0, 1, 12])
    monkeypatch.setattr(mopoe, "stratified_component", lambda valid, g: chosen)
    model, x = Mopoe(LABELS, config=TINY).eval(), _x()
    present, target = _present("I", "II"), _present(*LIMB_LEADS)
    got = model.pretrain_terms(x, present, target, _g(), progress=1.0)
    means, logvars = model.encode(x * present.unsqueeze(-1), present)
    sd, nats = model.decoder.sd_for(x * target.unsqueeze(-1)), torch.zeros(())
    for b in range(6):
        products = []
        for on in ((0,), (1,), (0, 1)):
            precision = sum(logvars[b, k].neg().exp() for k in on)
            products.append(
                Normal(sum(logvars[b, k].neg().exp() * means[b, k] for k in on) / precision, precision.rsqrt())
            )
        nats = nats + sum(kl_divergence(q, Normal(0.0, 1.0)).sum() for q in products) / 3
        drawn = model.decoder(products[{0: 0, 1: 1, 12: 2}[int(chosen[b])]].mean[None], torch.arange(12))[0]
        nats = nats - Normal(drawn[:6], sd[b, :6]).log_prob(x[b, :6]).sum()
    torch.testing.assert_close(got["loss"], nats / (36 * 2500), rtol=1e-4, atol=1e-4)


def test_mopoe_head_reads_the_mean_of_draws_from_the_mixture() -> None:
    torch.manual_seed(0)
    model, present = Mopoe(LABELS, config=TINY).eval(), _present("I", "II", "V1", n=1)
    x = _x(1) * present.unsqueeze(-1)
    with torch.no_grad():
        mean, logvar, valid = (p[:, :, :, :2] if p.dim() == 4 else p for p in model.mixture(x, present))
        many = valid.expand(20_000, -1)
        which = stratified_component(many, _g())
        draws = sample(mean[0, which], logvar[0, which], _g(1))
        torch.testing.assert_close(draws.mean(0), model.latent_mean(x, present)[0, :, :2], rtol=0.0, atol=0.04)


# Mixtures


def test_a_stratified_draw_is_uniform_valid_and_evenly_spread() -> None:
    valid = torch.zeros(30, 17, dtype=torch.bool)
    valid[:, [2, 5, 16]] = True
    valid[0] = False
    valid[0, 7] = True
    counts, first = torch.zeros(17), torch.zeros(17)
    g = _g()
    for _ in range(600):
        drawn = stratified_component(valid, g)
        assert drawn[0] == 7
        assert valid[torch.arange(30), drawn].all()
        batch = torch.bincount(drawn[1:], minlength=17)
        assert batch[[2, 5, 16]].max() - batch[[2, 5, 16]].min() <= 2
        counts += batch
        first[drawn[1]] += 1
    torch.testing.assert_close(counts[[2, 5, 16]] / counts.sum(), torch.full((3,), 1 / 3), rtol=0.03, atol=0.0)
    torch.testing.assert_close(first[[2, 5, 16]] / 600, torch.full((3,), 1 / 3), rtol=0.2, atol=0.0)


def test_a_full_batch_of_leads_uses_every_component() -> None:
    drawn = stratified_component(torch.ones(32, 12, dtype=torch.bool), _g())
    assert set(drawn.tolist()) == set(range(12))


# MMVAE+


def test_mmvae_plus_mixture_density_is_that_of_torch_distributions() -> None:
    mean, logvar = _experts(3)
    valid = _present("I", "II", "V3", n=3)
    u = torch.randn(3, 5, 4, generator=_g(3))
    got = log_mixture(u, mean, logvar, valid)
    on = valid[0].nonzero()[:, 0]
    parts = Independent(_normal(mean[:, on], logvar[:, on]), 2)
    torch.testing.assert_close(got, MixtureSameFamily(Categorical(torch.ones(3, 3)), parts).log_prob(u))
    torch.testing.assert_close(log_normal(u, mean[:, 0], logvar[:, 0]), _normal(mean[:, 0], logvar[:, 0]).log_prob(u))


def test_mmvae_plus_one_sample_kl_averages_to_that_of_the_mixture_on_a_grid() -> None:
    mean, logvar = torch.tensor([-1.5, 0.4, 2.0]), torch.tensor([-1.0, 0.3, -0.5])
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.stack([_normal(m, lv).log_prob(z) for m, lv in zip(mean.double(), logvar.double(), strict=True)])
    log_q = torch.logsumexp(density - math.log(3), 0)
    expected = (log_q.exp() * (log_q - Normal(0.0, 1.0).log_prob(z))).sum() * (z[1] - z[0])
    n = 60_000
    valid = torch.ones(n, 3, dtype=torch.bool)
    m = stratified_component(valid, _g())
    u = sample(mean[m], logvar[m], _g(1)).view(n, 1, 1)
    zero = torch.zeros_like(u)
    got = log_mixture(u, mean.expand(n, 3)[..., None, None], logvar.expand(n, 3)[..., None, None], valid)
    got = (got - log_normal(u, zero, zero).flatten()).mean()
    assert float(got) == pytest.approx(float(expected), abs=0.02)


def _drawn_with_leaves(
    monkeypatch: pytest.MonkeyPatch, m: int, present: torch.Tensor, shift: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Pre-train on encodings that are leaves, component fixed to lead `m`: the leaf means, the drawn leads, the terms."""
    torch.manual_seed(0)
    model = MmvaePlus(LABELS, config=TINY).eval()
    mean, logvar = (0.1 * torch.randn(6, 12, 5 + PRIVATE, 157, generator=_g(s)) for s in (1, 2))
    mean = (mean + shift).requires_grad_()
    monkeypatch.setattr(model, "encode", lambda x, seen: (mean, logvar))
    monkeypatch.setattr(mmvae_plus, "stratified_component", lambda valid, g: torch.full((6,), m))
    kept: dict[str, torch.Tensor] = {}
    whole = model.draw_leads

    def keep(u: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        kept["drawn"] = whole(u, w)
        return kept["drawn"]

    monkeypatch.setattr(model, "draw_leads", keep)
    terms = model.pretrain_terms(_x(), present, _present(*LEADS), _g(), progress=1.0)
    return mean, kept["drawn"], terms


@pytest.mark.promise(101)
@pytest.mark.parametrize("m", [0, 7])
def test_mmvae_plus_cross_reconstruction_never_uses_the_targets_own_private_latent(
    monkeypatch: pytest.MonkeyPatch, m: int
) -> None:
    mean, drawn, _ = _drawn_with_leaves(monkeypatch, m, _present(*LEADS))
    for n in range(12):
        (grad,) = torch.autograd.grad(drawn[:, n].square().sum(), mean, retain_graph=True)
        shared, private = grad[:, :, :5].abs().sum((0, 2, 3)), grad[:, :, 5:].abs().sum((0, 2, 3))
        assert (shared > 0).tolist() == [k == m for k in range(12)], "u comes from the component alone"
        assert (private > 0).tolist() == [k == m == n for k in range(12)], f"lead {n} from component {m}"


@pytest.mark.parametrize(("lead", "changes"), [(3, True), (8, False)])
def test_mmvae_plus_perturbing_a_leads_private_encoding_changes_only_its_own_drawing_and_only_as_component(
    monkeypatch: pytest.MonkeyPatch, lead: int, changes: bool
) -> None:
    drawn = []
    for shift in (0.0, 1.0):
        moved = torch.zeros(1, 12, 5 + PRIVATE, 1)
        moved[:, lead, 5:] = shift
        drawn.append(_drawn_with_leaves(monkeypatch, 3, _present(*LEADS), moved)[1].detach())
    assert (not torch.equal(drawn[0][:, lead], drawn[1][:, lead])) is changes
    others = [k for k in range(12) if k != lead]
    assert torch.equal(drawn[0][:, others], drawn[1][:, others])


def test_mmvae_plus_private_latents_of_other_leads_come_from_their_learned_priors() -> None:
    torch.manual_seed(0)
    model = MmvaePlus(LABELS, config=TINY)
    with torch.no_grad():
        model.private_mean[4] = 3.0
        model.private_logvar[4] = 2 * math.log(0.1)
    w = model.draw_private(50, 40, _g())
    w.sum().backward()
    w = w.detach()
    assert float(w[:, 4].mean()) == pytest.approx(3.0, abs=0.01)
    assert float(w[:, 4].std()) == pytest.approx(0.1, abs=0.01)
    assert float(w[:, 5].mean()) == pytest.approx(0.0, abs=0.05)
    assert model.private_mean.grad.abs().gt(0).all()
    assert model.private_logvar.grad.abs().gt(0).all()


def test_mmvae_plus_a_hidden_lead_is_drawn_from_its_prior_even_where_it_would_be_the_component(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recording without leads has one stand-in component; its lead was not seen, so it has no private encoding."""
    present = _present("V1")
    present[2] = False
    mean, drawn, terms = _drawn_with_leaves(monkeypatch, 0, present)
    (grad,) = torch.autograd.grad(drawn[2].square().sum(), mean)
    assert not grad[:, :, 5:].any()
    assert torch.isfinite(terms["loss"])


@pytest.mark.slow
def test_mmvae_plus_kl_is_that_of_mixture_and_private_part(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = MmvaePlus(LABELS, config=TINY).eval(), _x(2)
    present = _present("II", n=2)
    with torch.no_grad():
        mean, logvar = model.encode(x * present.unsqueeze(-1), present)
        monkeypatch.setattr(model, "encode", lambda x, seen: (mean, logvar))
        monkeypatch.setattr(model, "draw_leads", lambda u, w: torch.zeros_like(x))  # no part of the KL
        draws = [model.pretrain_terms(x, present, present, _g(s), progress=1.0)["kl"] for s in range(300)]
    nats = kl_divergence(_normal(mean[:, 1], logvar[:, 1]), Normal(0.0, 1.0)).sum((0, 2)) / 2 / 2500
    assert float(torch.stack(draws).mean()) == pytest.approx(float(nats.sum()), abs=0.2 * float(nats[5:].sum()))


# beta-VAE


def test_beta_vae_weighs_the_kl_by_beta_and_nothing_else() -> None:
    for beta in (beta_vae.BETA, 1.0):
        torch.manual_seed(0)
        model = BetaVae(LABELS, config=TINY, beta=beta).eval()
        terms = model.pretrain_terms(_x(), _present(*LIMB_LEADS), _present(*LEADS), _g(), progress=1.0)
        torch.testing.assert_close(terms["loss"], terms["nll"] + beta * terms["kl"])
        mean, logvar = model.encoder(_x() * _present(*LIMB_LEADS).unsqueeze(-1), _present(*LIMB_LEADS))
        expected = kl_divergence(_normal(mean, logvar), Normal(0.0, 1.0)).sum() / 6 / (12 * 2500)
        torch.testing.assert_close(terms["kl"], expected)
    assert beta_vae.BETA == 4.0


@pytest.mark.parametrize("kind", [BetaVae, Mvae, Mopoe, MmvaePlus])
@torch.no_grad()
def test_a_flat_lead_is_not_an_absent_one(kind: type[BetaVae | Mvae | Mopoe | MmvaePlus]) -> None:
    torch.manual_seed(0)
    model, x = kind(LABELS, config=TINY).eval(), _x(2)
    x[:, 6:] = 0
    assert (model(x, _present(*LEADS, n=2)) - model(x, _present(*LIMB_LEADS, n=2))).abs().max() > 1e-6


def test_pick_takes_one_row_a_recording() -> None:
    rows = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(pick(rows, torch.tensor([2, 0])), torch.stack([rows[0, 2], rows[1, 0]]))
