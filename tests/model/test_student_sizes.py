"""Sizes of the student: what they cost, that the default stays what it is, and the parts that the larger ones add."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from lsemvae.data.labels import LABELS
from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import StudentConfig, from_json, to_json
from lsemvae.model.student import PEAK_PARTS, Residual, StudentNet
from lsemvae.model.student_sizes import SIZES, student_config, student_cost

# Thousands of parameters: what the name of a size promises.
PROMISED = {"xs": (15, 25), "s": (50, 70), "m": (130, 140), "l": (235, 260), "xl": (470, 530)}
MEASURES = ("heart_rate", "qrs_ms")


def test_the_middle_size_is_the_default_student() -> None:
    assert student_config("m", LABELS, MEASURES, 32) == StudentConfig(labels=LABELS, measures=MEASURES)


def test_weights_of_the_default_keep_their_names_and_shapes() -> None:
    """Bundles and run folders are made of these."""
    found = {name: tuple(t.shape) for name, t in StudentNet(StudentConfig(measures=MEASURES)).state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {}
    widths = (2, 32, 48, 64, 96, 112)
    for k, kernel in enumerate((15, 9, 9, 5, 5)):
        expected[f"encoder.body.{k}.0.weight"] = (widths[k + 1], widths[k], kernel)
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[f"encoder.body.{k}.1.{name}"] = (widths[k + 1],)
        expected[f"encoder.body.{k}.1.num_batches_tracked"] = ()
    for name in ("mean", "logvar"):
        expected |= {f"encoder.summary.{name}.weight": (32, 112), f"encoder.summary.{name}.bias": (32,)}
    expected |= {"head.logits.weight": (13, 32), "head.logits.bias": (13,)}
    expected |= {"measure.linear.weight": (2, 32), "measure.linear.bias": (2,), "measure.mean": (2,), "measure.sd": (2,)}  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_size_costs_what_it_promises_and_scores_a_recording(size: str) -> None:
    net = StudentNet(student_config(size, LABELS, MEASURES, 32)).eval()
    low, high = PROMISED[size]
    assert low * 1000 <= student_cost(net).parameters <= high * 1000
    logits, uncertainty = net(torch.randn(2, 2, 2500))
    assert (logits.shape, uncertainty.shape) == ((2, 13), (2, 1))
    assert from_json(StudentConfig, to_json(net.config)) == net.config


def test_sizes_grow() -> None:
    costs = [student_cost(StudentNet(student_config(size, LABELS))) for size in SIZES]
    assert all(a.parameters < b.parameters and a.macs < b.macs for a, b in pairwise(costs))


def test_cost_of_the_default_by_hand() -> None:
    steps, widths, kernels = (625, 313, 157, 79, 40), (2, 32, 48, 64, 96, 112), (15, 9, 9, 5, 5)
    weights = [widths[k] * widths[k + 1] * kernels[k] for k in range(5)]
    linear = 2 * 112 * 32 + 32 * 13
    cost = student_cost(StudentNet(StudentConfig(measures=MEASURES, hint=36)))
    assert cost.macs == sum(w * t for w, t in zip(weights, steps, strict=True)) + linear
    assert cost.parameters == sum(weights) + sum(widths[1:]) + linear + 2 * 32 + 13


def test_counting_leaves_the_mode_and_the_statistics_alone() -> None:
    net = StudentNet(StudentConfig()).train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    student_cost(net)
    assert net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_residual_block_adds_to_what_passes_it() -> None:
    block = Residual(4).eval()
    x = torch.rand(2, 4, 10)
    with torch.no_grad():
        block.second[1].weight.zero_()
        assert torch.equal(block(x), x)
        block.second[1].bias.fill_(1.0)
        assert torch.equal(block(x), x + 1)
    block.train()(x.requires_grad_()).sum().backward()
    assert all(p.grad is not None for p in block.parameters())


def test_peaks_are_the_mean_of_the_maxima_of_four_parts() -> None:
    config = dataclasses.replace(StudentConfig(), pool="mean_max")
    encoder = StudentNet(config).encoder
    h = torch.rand(2, 112, 40)
    pooled = encoder.pooled(h)
    assert pooled.shape == (2, 224)
    torch.testing.assert_close(pooled[:, :112], h.mean(-1))
    torch.testing.assert_close(pooled[:, 112:], h.view(2, 112, PEAK_PARTS, 10).amax(-1).mean(-1))


@pytest.mark.parametrize("size", ["m", "l"])
@pytest.mark.parametrize("stage", [0, 2, 4])
def test_the_map_in_between_is_on_the_way_to_the_answer(size: str, stage: int) -> None:
    net = StudentNet(student_config(size, LABELS)).eval()
    x = torch.randn(2, 2, 2500)
    seen, mean, logvar = net.encoder.with_map(x, stage)
    assert seen.shape == (2, net.config.channels[stage], (625, 313, 157, 79, 40)[stage])
    for a, b in zip((mean, logvar), net.encoder(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"repeats": (1,)}, "found 1 repeats, expected 5"),
        ({"pool": "max"}, "found pool 'max', expected one of mean, mean_max"),
        ({"hint": 36, "hint_stage": 5}, "found hint_stage 5, expected 0 to 4"),
    ],
)
def test_what_is_no_student_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        StudentConfig(**fields)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="found the student size 'xxl', expected one of xs, s, m, l, xl"):
        student_config("xxl", LABELS)


def test_a_configuration_from_before_the_sizes_is_a_default_student() -> None:
    later = ("repeats", "pool", "hint", "hint_stage")
    old = {name: value for name, value in to_json(StudentConfig()).items() if name not in later}
    assert from_json(StudentConfig, old) == StudentConfig()
