"""The published sizes: counts, equality with a plain form of the same formulas, the probe, the input, and what each option changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor
from torch.nn import functional

from lsemvae.data.folder import EcgFolder
from lsemvae.data.paper_input import cleaned, paper_input, paper_input_of
from lsemvae.ecg.errors import FormatError, LeadError, LengthError, SampleError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from lsemvae.ecg.record import record_from_physical
from lsemvae.ecg.runs import Interval
from lsemvae.model.build import compile_parts
from lsemvae.model.paper import LsEmvaePaper, from_250_hz, smoothed
from lsemvae.model.paper_config import PAPER_GROUPS, PaperConfig
from lsemvae.model.switches import with_defects

TINY = PaperConfig(n_samples=160, channels=(2, 3, 4), latent=6, hidden=5, labels=("A", "B"), dropout=0.0)
PUBLISHED = {
    "encoder": 20_488_352,
    "decoder": 10_290_353,
    "total": 256_150_577,
    "probe of 6": 196_994,
    "probe of 12": 393_602,
}


def _model(config: PaperConfig = TINY) -> LsEmvaePaper:
    torch.manual_seed(0)
    return LsEmvaePaper(config).eval()


def _x(n: int = 3, time: int = 160) -> Tensor:
    return torch.randn(n, 12, time, generator=torch.Generator().manual_seed(5))


def _present(*leads: str, n: int = 3) -> Tensor:
    return torch.tensor([lead in (leads or LEADS) for lead in LEADS]).repeat(n, 1)


def _g() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.promise(100)
def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        model = LsEmvaePaper(PaperConfig(labels=("A", "B")))
        six = LsEmvaePaper(PaperConfig(labels=("A", "B"), probe_leads=LIMB_LEADS))
    found = {
        "encoder": _count(model.encoders.per_lead[0]),
        "decoder": _count(model.decoder),
        "total": _count(model.encoders) + _count(model.fusion) + _count(model.decoder),
        "probe of 6": _count(six.probe),
        "probe of 12": _count(model.probe),
    }
    assert found == PUBLISHED


@pytest.mark.promise(100)
def test_shapes_are_as_published() -> None:
    with torch.device("meta"):
        model = LsEmvaePaper(PaperConfig(labels=("A", "B")))
        x = torch.zeros(2, 1, 5000)
        mean, logvar = model.encoders.per_lead[0](x)
        assert mean.shape == logvar.shape == (2, 256)
        assert model.decoder(mean).shape == (2, 12, 5000)
        assert model.config.flat == 40_000
    assert [len(leads) for _, leads in PAPER_GROUPS] == [3, 3, 3, 3]


def _plain_encode(model: LsEmvaePaper, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """One lead with two dense heads, straight from the description."""
    encoder, h = model.encoders.per_lead[k], x[:, k : k + 1]
    for conv in encoder.body:  # type: ignore[union-attr]
        h = functional.relu(functional.conv1d(h, conv.weight, conv.bias, stride=2, padding=1))
    d, heads = model.config.latent, encoder.heads
    flat = h.flatten(1)
    return flat @ heads.weight[:d].T + heads.bias[:d], flat @ heads.weight[d:].T + heads.bias[d:]  # type: ignore[index]


def _plain_decode(model: LsEmvaePaper, z: Tensor) -> Tensor:
    decoder = model.decoder
    h = (z @ decoder.dense.weight.T + decoder.dense.bias).view(len(z), model.config.channels[-1], -1)
    for k, up in enumerate(decoder.up):
        h = functional.conv_transpose1d(
            functional.relu(h) if k else h,
            up.weight,
            up.bias,
            stride=2,
            padding=1,  # type: ignore[arg-type]
        )
    return h[:, 0]


def _plain_terms(model: LsEmvaePaper, x: Tensor, noise: Tensor, *, prior: bool, mean_kl: bool) -> dict[str, Tensor]:
    """The objective lead by lead, decoder called once a lead, sums written out."""
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
    pairs = [_plain_encode(model, k, x) for k in range(12)]
    fused = []
    for k in (0, 3, 6, 9):
        precision = [(-lv).exp() for _, lv in pairs[k : k + 3]]
        total = torch.stack(precision).sum(0) + (1 if prior else 0)
        mean = torch.stack([p * m for p, (m, _) in zip(precision, pairs[k : k + 3], strict=True)]).sum(0) / total
        fused.append((mean, -total.log()))
    mean, logvar = torch.stack([m for m, _ in fused]).mean(0), torch.stack([v for _, v in fused]).mean(0)
    z = mean + noise * (0.5 * logvar).exp()
    reconstruction = (
        1e-3 * torch.stack([(x[:, k] - _plain_decode(model, z)).square().sum() for k in range(12)]).sum() / len(x)
    )
    centre, spread = torch.stack([m for m, _ in pairs]).mean(0), torch.stack([v for _, v in pairs]).mean(0)
    m, v = (centre, spread) if mean_kl else (mean, logvar)
    kl = -0.5 * (1 + v - m.square() - v.exp()).sum() / len(x)
    alignment = torch.stack([functional.mse_loss(mu, centre) for mu, _ in pairs]).mean()
    return {"reconstruction": reconstruction, "kl": kl, "alignment": alignment}


@pytest.mark.slow
@pytest.mark.promise(100)
@pytest.mark.parametrize(("prior", "mean_kl"), [(True, False), (False, True)])
def test_fast_form_equals_a_plain_loop_over_leads_in_values_and_gradients(*, prior: bool, mean_kl: bool) -> None:
    config = dataclasses.replace(TINY, prior=prior, kl_of_unsampled_mean=mean_kl)
    x, noise = _x(), torch.randn(3, 6, generator=_g())
    fast, plain = _model(config), _model(config)
    got = fast.pretrain_terms(x, _present(), _present(), _g(), progress=0.25)
    want = _plain_terms(plain, x, noise, prior=prior, mean_kl=mean_kl)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6)
    loss = want["reconstruction"] + 0.5 * want["kl"] + 0.1 * want["alignment"]
    torch.testing.assert_close(got["loss"], loss, rtol=1e-5, atol=1e-6)
    got["loss"].backward()
    loss.backward()
    trained = [p for p in zip(fast.parameters(), plain.parameters(), strict=True) if p[0].grad is not None]
    assert len(trained) == 12 * 8 + 8
    for a, b in trained:
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.promise(100)
def test_the_reference_is_every_switch_at_once() -> None:
    """Positional groups on twelve leads cut the prior off: the same as by name without it."""
    names = ("dropped_prior", "kl_of_unsampled_mean", "positional_groups")
    x, all_leads = _x(), _present()
    defects = _model(with_defects(TINY, *names))
    cut = _model(with_defects(TINY, "kl_of_unsampled_mean", "positional_groups"))
    plain = _plain_terms(_model(), x, torch.randn(3, 6, generator=_g()), prior=False, mean_kl=True)
    for model in (defects, cut):
        terms = model.pretrain_terms(x, all_leads, all_leads, _g(), progress=1.0)
        for name, value in plain.items():
            torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)


def test_beta_rises_over_the_first_half_of_the_steps() -> None:
    model, x, present = _model(), _x(), _present()
    for progress, rise in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        t = model.pretrain_terms(x, present, present, _g(), progress=progress)
        torch.testing.assert_close(t["loss"], t["reconstruction"] + rise * t["kl"] + 0.1 * t["alignment"])


def test_the_lead_blind_waveform_is_repeated_by_view_and_the_other_decoder_draws_leads_apart() -> None:
    z = torch.randn(2, 6)
    blind = _model().decoder(z)
    assert blind.stride(1) == 0
    conditioned = _model(dataclasses.replace(TINY, lead_blind_decoder=False)).decoder
    drawn = conditioned(z)
    assert drawn.shape == (2, 12, 160)
    assert (drawn == drawn[:, :1]).all(), "all leads are equal at the start"
    drawn[:, 3].sum().backward()
    assert conditioned.leads.weight.grad[3].abs().sum() > 0  # type: ignore[union-attr, index]
    assert conditioned.leads.weight.grad[4].abs().sum() == 0  # type: ignore[union-attr, index]


@torch.no_grad()
def test_groups_are_named_so_six_leads_all_count() -> None:
    model, x, six = _model(), _x(), _present(*LIMB_LEADS)
    base = model.posterior(x, six).mean
    for lead in LIMB_LEADS:
        moved = x.clone()
        moved[:, LEADS.index(lead)] += torch.randn(160, generator=_g())
        assert (model.posterior(moved, six).mean - base).abs().max() > 1e-5, lead


@torch.no_grad()
def test_an_absent_lead_cannot_touch_the_result() -> None:
    model, x, six = _model(), _x(), _present(*LIMB_LEADS)
    garbage = x.clone()
    garbage[:, 6:] = 1e4
    assert torch.equal(model(x, six), model(garbage, six))
    mixed = _present()
    mixed[0, 6:] = False
    torch.testing.assert_close(model(garbage, mixed)[0], model(garbage[:1], mixed[:1])[0])
    with pytest.raises(LeadError, match="no recording has a lead"):
        model.posterior(x, torch.zeros_like(six))


@pytest.mark.slow
def test_the_probe_alone_is_fine_tuned_and_reads_means_of_its_leads() -> None:
    model = _model(dataclasses.replace(TINY, probe_leads=LIMB_LEADS))
    labels, x = torch.tensor([[0.0, 1.0], [1.0, float("nan")], [0.0, 0.0]]), _x()
    terms = model.finetune_terms(x, _present(), _present(), labels, torch.full((2,), 9.0))
    terms["loss"].backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"probe"}
    assert {id(p) for p in model.finetune_parameters()} == {id(p) for p in model.probe.parameters()}
    known = ~labels.isnan()
    logits = model(x, _present())
    expected = functional.binary_cross_entropy_with_logits(logits[known], labels[known])
    torch.testing.assert_close(terms["loss"], expected)
    z = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
    means = torch.cat([_plain_encode(model, k, z)[0] for k in range(6)], 1)
    torch.testing.assert_close(model.features(x, _present()), means, rtol=1e-4, atol=1e-5)
    assert (model.features(x, _present("V1")) == 0).all()


@torch.no_grad()
def test_crossed_leads_reach_the_probe_only() -> None:
    plain, on, x = _model(), _model(with_defects(TINY, "crossed_avl_avf")), _x()
    exchanged = x[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]]
    assert torch.equal(on(x, _present()), plain(exchanged, _present()))
    assert not torch.equal(on(x, _present()), plain(x, _present()))
    a, b = (m.pretrain_terms(x, _present(), _present(), _g(), progress=1.0)["loss"] for m in (plain, on))
    assert torch.equal(a, b)


@torch.no_grad()
def test_zscore_is_a_switch() -> None:
    x = _x()
    off = _model(dataclasses.replace(TINY, per_lead_zscore=False))
    torch.testing.assert_close(_model()(x, _present()), _model()(3 * x + 1, _present()), rtol=1e-4, atol=1e-5)
    assert (off(x, _present()) - off(3 * x + 1, _present())).abs().max() > 1e-3


def test_a_store_at_250_hz_is_drawn_straight_and_smoothed() -> None:
    x = _x(time=80)
    up = torch.from_numpy(np.apply_along_axis(lambda v: np.interp(np.arange(160) / 2, np.arange(80), v), -1, x.numpy()))
    torch.testing.assert_close(from_250_hz(x), smoothed(up.float()))
    assert torch.equal(_model()(x, _present()), _model()(from_250_hz(x), _present()))
    with pytest.raises(LengthError, match=r"found 100 samples a lead, expected 160 .* or 80"):
        _model()(_x(time=100), _present())


def test_smoothing_is_a_moving_average_forward_and_backward() -> None:
    x = _x(1, 400).double()
    expected = signal.filtfilt(np.full(10, 0.1), [1.0], x.numpy())
    np.testing.assert_allclose(smoothed(x)[..., 60:-60], expected[..., 60:-60], atol=1e-12)
    assert torch.allclose(smoothed(torch.ones(1, 1, 50)), torch.ones(1, 1, 50))


def _gain(f_hz: float, *, fs_hz: float = 500.0) -> float:
    t = np.arange(int(10 * fs_hz)) / fs_hz
    out = cleaned(np.sin(2 * np.pi * f_hz * t)[None], fs_hz=fs_hz)
    return float(np.sqrt(2 * np.mean(out[0, 1000:4000] ** 2)))


@pytest.mark.parametrize(("f_hz", "gain"), [(5.0, 0.97), (10.0, 0.88), (16.0, 0.71), (25.0, 0.41), (40.0, 0.06)])
def test_the_papers_input_has_the_papers_pass_band(f_hz: float, gain: float) -> None:
    assert _gain(f_hz) == pytest.approx(gain, abs=0.015)
    assert _gain(f_hz, fs_hz=1000.0) == pytest.approx(gain, abs=0.015)


def test_the_papers_input_removes_drift_and_scale() -> None:
    t = np.arange(5000) / 500
    x = np.stack([np.sin(2 * np.pi * 7 * t), np.cos(2 * np.pi * 9 * t)])
    z = paper_input(x, fs_hz=500.0)
    assert z.shape == (2, 5000)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(-1, ddof=1), 1, atol=1e-5)
    np.testing.assert_allclose(paper_input(5 * x + 2, fs_hz=500.0), z, atol=1e-4)
    drifting = paper_input(x + np.sin(2 * np.pi * 0.1 * t), fs_hz=500.0)
    assert np.corrcoef(drifting[0, 500:-500], z[0, 500:-500])[0, 1] > 0.99


def test_the_papers_input_refuses_what_the_paper_drops() -> None:
    t = np.arange(5000) / 500
    with pytest.raises(SampleError, match=r"leads without signal in rows \[1\]"):
        paper_input(np.stack([np.sin(2 * np.pi * 7 * t), np.zeros(5000)]), fs_hz=500.0)
    with pytest.raises(LengthError, match="found 8 s, expected at least 10 s"):
        paper_input(np.ones((1, 4000)), fs_hz=500.0)


def test_the_papers_input_takes_leads_by_name_and_bridges_gaps() -> None:
    t = np.arange(5000) / 500
    x = np.stack([np.sin(2 * np.pi * (3 + k) * t) for k in range(3)])
    record = record_from_physical(x, unit="mV", fs_hz=500.0, leads=("aVF", "aVL", "I"))
    z, present = paper_input_of(record)
    assert [lead for lead, there in zip(LEADS, present, strict=True) if there] == ["I", "aVL", "aVF"]
    np.testing.assert_allclose(z[[5, 4, 0]], paper_input(record.to_mv(np.float64), fs_hz=500.0))
    assert not z[6:].any()
    gapped = x.copy()
    gapped[:, 1000:1100] = 0
    with_gap = record_from_physical(
        gapped, unit="mV", fs_hz=500.0, leads=("aVF", "aVL", "I"), gaps=(Interval(1000, 1100),)
    )
    bridged = record.to_mv(np.float64).copy()
    bridged[:, 1000:1100] = np.stack(
        [np.interp(np.arange(1000, 1100), [999, 1100], row[[999, 1100]]) for row in bridged]
    )
    np.testing.assert_allclose(paper_input_of(with_gap)[0][[5, 4, 0]], paper_input(bridged, fs_hz=500.0), atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"mixture": "stratified"}, {"n_samples": 161}, {"probe_leads": ()}, {"probe_leads": ("V9",)}]
)
def test_a_configuration_that_fits_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=r"found .*expected"):
        PaperConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_training_lowers_the_objective() -> None:
    torch.manual_seed(0)
    model = LsEmvaePaper(TINY)
    t = torch.arange(160) / 160
    x = torch.sin(2 * torch.pi * 4 * t).expand(8, 12, 160).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.pretrain_terms(x, _present(n=8), _present(n=8), progress=0.0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("blind", [True, False])
def test_bfloat16_autocast_keeps_fusion_and_objective_in_float32(*, blind: bool) -> None:
    model, x = _model(dataclasses.replace(TINY, lead_blind_decoder=blind)), _x()
    with torch.autocast("cpu", torch.bfloat16):
        half = model.pretrain_terms(x, _present(), _present(), _g(), progress=1.0)
    full = model.pretrain_terms(x, _present(), _present(), _g(), progress=1.0)
    for name, value in full.items():
        assert half[name].dtype == torch.float32, name
        torch.testing.assert_close(half[name], value, rtol=0.05, atol=1e-3)


def test_compiled_parts_give_the_same_numbers_under_the_same_names() -> None:
    model, plain, x = _model(), _model(), _x()
    compile_parts(model, backend="eager")
    assert list(model.state_dict()) == list(plain.state_dict())
    terms = [m.pretrain_terms(x, _present(), _present(), _g(), progress=1.0)["loss"] for m in (model, plain)]
    torch.testing.assert_close(*terms)


@pytest.mark.slow
def test_on_real_recordings_smoothing_keeps_seven_tenths_of_lead_two(ecg_data_dir: Path) -> None:
    """Measured on other recordings with the published preparation itself: 0.71 in the median, quartiles 0.67 and 0.77."""
    folder = EcgFolder(ecg_data_dir)
    kept = []
    for row in folder.select("train")[:16]:
        mv = folder.record(row).to_mv(np.float64)[LEADS.index("II")]
        high_passed = signal.sosfiltfilt(signal.butter(5, 0.5, "highpass", fs=500, output="sos"), mv)
        kept.append(np.ptp(cleaned(mv[None], fs_hz=500.0)) / np.ptp(high_passed))
    assert 0.65 < float(np.median(kept)) < 0.77
