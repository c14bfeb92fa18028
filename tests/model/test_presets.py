"""Presets and the size dial: what they scale, what they leave, and what they refuse."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from lsemvae.data.labels import LABELS
from lsemvae.ecg.errors import FormatError
from lsemvae.model.build import build_model, config_kind, kind_of
from lsemvae.model.config import LsEmvaeConfig, TrainConfig, from_json, to_json
from lsemvae.model.paper_config import PaperConfig
from lsemvae.model.presets import PAPER_PRETRAIN, PAPER_PROBE, SMALL, preset, scaled

BASE_PARAMETERS = 295_070
"""Of `base` with the built-in labels and no measures."""


def _count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_base_at_size_one_is_the_default_configuration() -> None:
    assert preset("base", labels=LABELS) == LsEmvaeConfig()
    assert _count(build_model(LsEmvaeConfig())) == BASE_PARAMETERS


def test_the_dial_scales_all_widths_of_base_and_leaves_the_summary() -> None:
    small = preset("base", labels=("A",), measures=("m_QRSd",), size=SMALL)
    assert small.channels == (8, 12, 16)
    assert small.latent == 18
    assert small.trunk == (32, 48)
    assert small.summary == LsEmvaeConfig().summary
    assert small.labels == ("A",)
    assert small.measures == ("m_QRSd",)


def test_half_the_widths_are_about_a_quarter_of_the_weights() -> None:
    small = _count(build_model(preset("base", labels=LABELS, size=SMALL)))
    assert 0.2 < small / BASE_PARAMETERS < 0.3


def test_every_size_gives_a_model_that_runs() -> None:
    for size in (0.05, 0.25, 0.7):
        model = build_model(preset("base", labels=("A", "B"), size=size)).eval()
        assert model(torch.zeros(1, 12, 2500), torch.ones(1, 12, dtype=torch.bool)).shape == (1, 2)


def test_the_dial_of_paper_scales_convolutions_and_latent() -> None:
    small = preset("paper", labels=("A",), size=0.25)
    assert small.channels == (4, 8, 16)
    assert small.latent == 64
    assert small.groups == PaperConfig().groups


@pytest.mark.parametrize(("width", "size", "expected"), [(16, 0.5, 8), (36, 0.25, 10), (16, 0.01, 2), (24, 1.0, 24)])
def test_widths_are_rounded_to_even_numbers(width: int, size: float, expected: int) -> None:
    assert scaled(width, size) == expected


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf, 9.0])
def test_a_size_that_is_none_is_refused(size: float) -> None:
    with pytest.raises(FormatError, match="found size"):
        preset("base", labels=LABELS, size=size)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FormatError, match="found preset 'huge', expected one of base, paper"):
        preset("huge", labels=LABELS)


def test_configurations_survive_json_and_know_their_kind() -> None:
    for name in ("base", "paper"):
        config = preset(name, labels=LABELS, size=0.5)
        kind = config_kind(kind_of(config), of="here")
        assert from_json(kind, to_json(config)) == config
    for train in (PAPER_PRETRAIN, PAPER_PROBE):
        assert from_json(TrainConfig, to_json(train)) == train
    with pytest.raises(FormatError, match="found a run of kind 'student'"):
        config_kind("student", of="here")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mixture": "sampled"},
        {"hierarchy": "flat"},
        {"limb_experts": "two"},
        {"noise": "none"},
        {"group_weights": "some"},
        {"hierarchy": "poe", "positional_groups": True},
        {"mixture": "stratified", "kl_of_unsampled_mean": True},
    ],
)
def test_a_value_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=r"found .*expected"):
        LsEmvaeConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"subsets": "some"}, {"schedule": "step"}, {"optimizer": "sgd"}])
def test_a_training_option_that_means_nothing_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(FormatError, match=r"found .*expected one of"):
        TrainConfig(epochs=1, batch=1, lr=0.1, **wrong)  # type: ignore[arg-type]


def test_importing_presets_does_not_import_torch() -> None:
    code = "import sys, lsemvae.model.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
