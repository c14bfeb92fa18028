"""The re-created published path has the published shape, and nothing else depends on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from export.benchmark.measured.reference import PARAMETERS, ReferencePath, build_reference, reference_input

ENCODER_PARAMETERS = 20_488_352
CLASSIFIER_PARAMETERS = 196_994
EXECUTED_MMACS = 158.2  # of the six encoders: both dense layers of each lead run


@pytest.fixture(scope="module")
def path() -> ReferencePath:
    return build_reference()


@pytest.mark.slow
@pytest.mark.promise(126)
def test_parameters_are_the_published_count(path: ReferencePath) -> None:
    parts = [sum(p.numel() for p in encoder.parameters()) for encoder in path.encoders.per_lead]
    assert parts == [ENCODER_PARAMETERS] * 6
    assert sum(p.numel() for p in path.head.parameters()) == CLASSIFIER_PARAMETERS
    assert sum(p.numel() for p in path.parameters()) == PARAMETERS == 6 * ENCODER_PARAMETERS + CLASSIFIER_PARAMETERS


@pytest.mark.promise(126)
def test_executed_multiply_adds_are_the_published_count(path: ReferencePath) -> None:
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv1d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in path.encoders.modules()]
    with torch.inference_mode():
        logits = path(reference_input())
    for hook in hooks:
        hook.remove()
    assert logits.shape == (1, 2)
    assert torch.isfinite(logits).all()
    assert round(macs / 1e6, 1) == EXECUTED_MMACS


def test_every_lead_reaches_the_classifier(path: ReferencePath) -> None:
    ecg = reference_input()
    with torch.inference_mode():
        whole = path(ecg)
        for lead in range(6):
            without = ecg.clone()
            without[:, lead] = 0
            assert not torch.equal(path(without), whole)


def test_input_is_ten_seconds_of_six_leads_at_500_hz() -> None:
    ecg = reference_input()
    assert ecg.shape == (1, 6, 5000)
    assert torch.equal(ecg, reference_input())


@pytest.mark.slow
def test_building_leaves_the_random_state_of_torch_alone(path: ReferencePath) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    again = build_reference()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(again.head[0].weight, path.head[0].weight)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
