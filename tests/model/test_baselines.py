"""Every baseline: the calls of the training loops, presence, gradients, determinism, and that its losses can be lowered."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lsemvae.data.labels import LABELS
from lsemvae.ecg.errors import FormatError, LeadError, LengthError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from lsemvae.model.baselines import BASELINES, TrainableScreen, build_baseline
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.lsemvae import LsEmvae

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

THREE = ("RHS", "MI", "NORM")
TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=5, trunk=(8, 8), summary=6)
NAMES = ("resnet1d", "xresnet1d", "transformer", "multimodal_cnn", "beta_vae", "mvae", "mopoe", "mmvae_plus")
VAES = ("beta_vae", "mvae", "mopoe", "mmvae_plus")
N = 6
WEIGHT = torch.tensor([2.0, 1.0, 1.0])

every = pytest.mark.parametrize("name", NAMES)
variational = pytest.mark.parametrize("name", VAES)


def _model(name: str, seed: int = 0, measures: tuple[str, ...] = ()) -> nn.Module:
    torch.manual_seed(seed)
    return build_baseline(name, THREE, measures, config=TINY)


def _g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _x(n: int = N, seed: int = 5) -> torch.Tensor:
    return 0.3 * torch.randn(n, 12, 2500, generator=_g(seed))


def _present(*leads: str, n: int = N) -> torch.Tensor:
    return torch.tensor([lead in leads for lead in LEADS]).repeat(n, 1)


def _labels(n: int = N) -> torch.Tensor:
    labels = (torch.rand(n, 3, generator=_g(6)) < 0.4).float()
    labels[0, 1] = float("nan")
    return labels


def _settle(model: nn.Module) -> nn.Module:
    """Normalizations that start at zero would hide a branch from a test of gradients."""
    for name, p in model.named_parameters():
        if name.endswith("weight") and p.dim() == 1 and not p.detach().any():
            nn.init.ones_(p)
    return model


def test_the_registry_holds_the_rows_of_the_table() -> None:
    assert tuple(BASELINES) == NAMES


@pytest.mark.promise(101)
@every
def test_each_answers_the_calls_of_the_training_loops(name: str) -> None:
    model = build_baseline(name, THREE)
    assert isinstance(model, TrainableScreen)
    assert model.labels == THREE
    assert model.pretrains is (name in VAES)
    for call in ("forward", "pretrain_terms", "finetune_terms", "finetune_parameters"):
        expected = inspect.signature(getattr(TrainableScreen, call)).parameters
        found = inspect.signature(getattr(type(model), call)).parameters
        assert [(p.name, p.kind) for p in found.values()] == [(p.name, p.kind) for p in expected.values()], call


def test_the_model_they_are_compared_with_answers_the_same_calls() -> None:
    for call in ("forward", "pretrain_terms", "finetune_terms", "finetune_parameters"):
        expected = list(inspect.signature(getattr(TrainableScreen, call)).parameters)
        assert list(inspect.signature(getattr(LsEmvae, call)).parameters)[: len(expected)] == expected, call


@pytest.mark.slow
def test_one_dial_sizes_all_of_them() -> None:
    half = LsEmvaeConfig(channels=(8, 12, 16), latent=12, trunk=(32, 48))
    for name in NAMES:
        full, small = (
            sum(p.numel() for p in build_baseline(name, LABELS, config=c).parameters()) for c in (None, half)
        )
        assert 0.2 < small / full < 0.5, name


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FormatError, match="found baseline 'resnet', expected one of resnet1d"):
        build_baseline("resnet", THREE)


@every
def test_each_has_a_docstring_and_cites_its_source(name: str) -> None:
    kind = BASELINES[name]
    assert kind.__doc__
    module = inspect.getmodule(kind)
    assert module is not None
    assert re.search(r"\b[A-Z][a-z]+ (and [A-Z][a-z]+ )?20[12]\d\b", module.__doc__ or ""), "author and year"


def test_sizes_are_comparable_to_the_model_they_are_compared_with(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {name: sum(p.numel() for p in build_baseline(name, LABELS).parameters()) for name in NAMES}
    counts["LS-EMVAE"] = base = sum(p.numel() for p in LsEmvae(LsEmvaeConfig(labels=LABELS)).parameters())
    with capsys.disabled():
        print("\nparameters: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for name in NAMES:
        assert 0.7 * base < counts[name] < 2 * base, name
        if name not in VAES:
            assert 250_000 <= counts[name] <= 510_000, name


@every
@torch.no_grad()
def test_logits_for_each_lead_set_are_finite_and_differ(name: str) -> None:
    model, x = _settle(_model(name)).eval(), _x(3)
    sets = (LEADS, LIMB_LEADS, ("I", "II"), ("I",))
    logits = [model(x, _present(*leads, n=3)) for leads in sets]
    for out in logits:
        assert out.shape == (3, 3)
        assert torch.isfinite(out).all()
    for k in range(len(sets) - 1):
        assert (logits[k] - logits[k + 1]).abs().max() > 1e-6


@pytest.mark.slow
@pytest.mark.promise(101)
@every
def test_an_absent_lead_cannot_touch_logits_or_losses(name: str) -> None:
    x, some = _x(), _present(*LIMB_LEADS, "V1")
    some[0] = _present("II", n=1)[0]  # absence is decided per recording
    garbage = torch.tensor([1e3, float("nan"), float("inf")]).repeat(4).view(1, 12, 1)
    dirty = torch.where(some.unsqueeze(-1), x, garbage)
    results = []
    for data in (x, dirty):
        model = _model(name)
        torch.manual_seed(3)
        parts = [model.finetune_terms(data, some, some, _labels(), WEIGHT, _g())["loss"]]
        if name in VAES:
            parts.append(model.pretrain_terms(data, some, some, _g(), progress=1.0)["loss"])
        parts.append(model.eval()(data, some).sum())
        results.append(torch.stack(parts))
    assert torch.equal(*results)
    assert torch.isfinite(results[0]).all()


@variational
def test_the_encoder_does_not_see_a_target_that_is_not_present(name: str) -> None:
    """Changing a hidden target changes the likelihood, but no KL: that belongs to the posterior alone."""
    model, x = _model(name).eval(), _x()
    seen, target = _present(*LIMB_LEADS), _present(*LEADS)
    moved = x.clone()
    moved[:, 6:] += 0.5
    before, after = (model.pretrain_terms(data, seen, target, _g(), progress=1.0) for data in (x, moved))
    assert torch.equal(before["kl"], after["kl"])
    assert (before["nll"] - after["nll"]).abs() > 1e-3


@pytest.mark.slow
@every
def test_logits_of_a_recording_do_not_depend_on_its_neighbours(name: str) -> None:
    model, x, present = _model(name).eval(), _x(2), _present(*LEADS, n=2)
    present[0, 6:] = False
    with torch.no_grad():
        both = model(x, present)
        for k in range(2):
            torch.testing.assert_close(both[k : k + 1], model(x[k : k + 1], present[k : k + 1]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every
def test_fine_tuning_reaches_every_parameter_it_should_and_no_other(name: str) -> None:
    model = _settle(_model(name)).train()
    model.finetune_terms(_x(), _present(*LEADS), _present(*LEADS), _labels(), WEIGHT, _g())["loss"].backward()
    trained = {id(p) for p in model.finetune_parameters()}
    for key, p in model.named_parameters():
        reached = p.grad is not None and bool(p.grad.any())
        assert reached is (id(p) in trained), key


@variational
def test_pre_training_reaches_encoders_and_decoder_and_not_the_head(name: str) -> None:
    model = _settle(_model(name)).train()
    present = _present(*LEADS, n=12)  # one recording for each component of the mixture over leads
    model.pretrain_terms(_x(12), present, present, _g(), progress=1.0)["loss"].backward()
    for key, p in model.named_parameters():
        reached = p.grad is not None and bool(p.grad.any())
        assert reached is (not key.startswith("head.")), key


@every
def test_every_present_lead_gets_a_gradient_and_no_other(name: str) -> None:
    model = _settle(_model(name)).train()
    for leads in (LEADS, LIMB_LEADS, ("I",)):
        x = _x().requires_grad_()
        seen = _present(*leads)
        model.finetune_terms(x, _present(*LEADS), seen, _labels(), WEIGHT, _g())["loss"].backward()
        assert x.grad is not None
        assert torch.equal(x.grad.abs().amax((0, 2)) > 0, seen[0]), leads


@every
def test_a_statement_nobody_made_is_not_learned_from(name: str) -> None:
    model = _model(name).train()
    labels = torch.full((N, 3), float("nan"))
    labels[:, 0] = 1.0
    model.finetune_terms(_x(), _present(*LEADS), _present(*LEADS), labels, WEIGHT, _g())["loss"].backward()
    weight = (model.head.logits if name not in VAES else model.head.read_out.logits).weight
    assert weight.grad[0].any()
    assert not weight.grad[1:].any()


@every
def test_measures_are_regressed_from_the_same_evidence_and_an_unmeasured_cell_teaches_nothing(name: str) -> None:
    model = _model(name, measures=("axis", "rate")).train()
    measured = torch.randn(N, 2, generator=_g(7)) * 5 + 70
    measured[3:, 1] = float("nan")
    model.measure.fit_scale(measured)
    terms = model.finetune_terms(_x(), _present(*LEADS), _present("I", "II"), _labels(), WEIGHT, _g(), measured)
    torch.testing.assert_close(terms["loss"], terms["bce"] + 0.3 * terms["measuring"])
    terms["measuring"].backward()
    assert model.measure.linear.weight.grad.any(1).all()
    assert next(iter(model.finetune_parameters())).grad is not None
    model.zero_grad()
    nothing = torch.full((N, 2), float("nan"))
    nothing[:, 0] = 70.0
    model.finetune_terms(_x(), _present(*LEADS), _present("I"), _labels(), WEIGHT, _g(), nothing)[
        "measuring"
    ].backward()
    assert not model.measure.linear.weight.grad[1].any()
    assert {id(p) for p in model.measure.parameters()} <= {id(p) for p in model.finetune_parameters()}


@every
def test_one_lead_alone_gives_finite_losses_and_gradients(name: str) -> None:
    for lead in ("I", "V3"):
        model = _model(name).train()
        seen, present = _present(lead), _present(*LEADS)
        losses = [model.finetune_terms(_x(), present, seen, _labels(), WEIGHT, _g())["loss"]]
        if name in VAES:
            losses += [model.pretrain_terms(_x(), seen, t, _g(), progress=0.0)["loss"] for t in (seen, present)]
        torch.stack(losses).sum().backward()
        assert torch.isfinite(torch.stack(losses)).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@variational
def test_a_recording_without_any_seen_lead_is_the_prior(name: str) -> None:
    model = _model(name).train()
    seen = _present("I", "II")
    seen[3] = False
    terms = model.pretrain_terms(_x(), seen, _present(*LEADS), _g(), progress=1.0)
    terms["loss"].backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if name != "beta_vae":  # its one encoder sees zeros and flags
        assert (model.eval().latent_mean(_x() * seen.unsqueeze(-1), seen)[3] == 0).all()


@every
def test_a_batch_without_any_lead_is_refused(name: str) -> None:
    with pytest.raises(LeadError, match="no recording has a lead"):
        _model(name).eval()(_x(2), torch.zeros(2, 12, dtype=torch.bool))


def test_the_transformer_refuses_a_strip_of_another_length() -> None:
    with pytest.raises(LengthError, match="found 2000 samples, expected 2500"):
        _model("transformer").eval()(_x(2)[..., :2000], _present(*LEADS, n=2))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VAES])
def test_a_supervised_model_refuses_to_be_counted_as_pretrained(name: str) -> None:
    with pytest.raises(FormatError, match=r"expected fine-tuning only"):
        _model(name).pretrain_terms(_x(2), _present(*LEADS, n=2), _present(*LEADS, n=2), progress=0.0)


@pytest.mark.slow
@every
def test_the_same_generators_give_the_same_losses_and_gradients(name: str) -> None:
    def once(draw: int) -> list[torch.Tensor]:
        model = _model(name).train()
        torch.manual_seed(11)  # dropout has no generator of its own
        loss = model.finetune_terms(_x(), _present(*LEADS), _present("I", "II"), _labels(), WEIGHT, _g())["loss"]
        if name in VAES:
            loss = (
                loss
                + model.pretrain_terms(_x(), _present(*LIMB_LEADS), _present(*LEADS), _g(draw), progress=0.5)["loss"]
            )
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    first = once(1)
    assert all(torch.equal(a, b) for a, b in zip(first, once(1), strict=True))
    if name in VAES:
        assert not torch.equal(first[0], once(2)[0])


def _beats(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Strips of one pulse a second whose polarity in V1 is the first label: enough to be learned in a few steps."""
    t = torch.arange(2500) / 250
    pulse = torch.exp(-0.5 * (((t % 1) - 0.5) / 0.02) ** 2)
    labels = torch.zeros(n, 3)
    labels[::2, 0] = 1
    gain = torch.linspace(0.3, 1.0, 12).repeat(n, 1)
    gain[:, 6] = torch.where(labels[:, 0] == 1, 1.0, -1.0)
    return gain.unsqueeze(-1) * pulse, labels


def _descend(model: nn.Module, loss: Callable[[int], torch.Tensor], steps: int, lr: float) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    values = []
    for k in range(steps):
        optimizer.zero_grad()
        value = loss(k)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return values


@pytest.mark.slow
@every
def test_the_supervised_loss_decreases(name: str) -> None:
    model, (x, labels) = _model(name).train(), _beats(N)
    present = _present(*LEADS)
    values = _descend(
        model, lambda _: model.finetune_terms(x, present, present, labels, WEIGHT, _g())["loss"], 12, 1e-2
    )
    assert sum(values[-3:]) / 3 < 0.6 * values[0], values


@pytest.mark.slow
@variational
def test_the_bound_improves_and_so_does_the_drawing(name: str) -> None:
    model, (x, _) = _model(name).train(), _beats(N)
    present = _present(*LEADS)
    nlls: list[float] = []

    def loss(k: int) -> torch.Tensor:
        terms = model.pretrain_terms(x, present, present, _g(k), progress=1.0)
        nlls.append(float(terms["nll"].detach()))
        return terms["loss"]

    values = _descend(model, loss, 14, 1e-2)
    assert sum(values[-3:]) / 3 < values[0] - 0.2, values
    assert sum(nlls[-3:]) / 3 < nlls[0] - 0.1, nlls


@variational
def test_the_kl_rises_with_progress(name: str) -> None:
    def loss(progress: float) -> dict[str, torch.Tensor]:
        model = _model(name).eval()
        return model.pretrain_terms(_x(), _present(*LEADS), _present(*LEADS), _g(), progress=progress)

    start, half, done, over = (loss(p * TINY.anneal) for p in (0.0, 0.5, 1.0, 2.0))
    assert start["loss"] < half["loss"] < done["loss"]
    assert torch.equal(done["loss"], over["loss"])
    torch.testing.assert_close(half["loss"], (start["loss"] + done["loss"]) / 2)
