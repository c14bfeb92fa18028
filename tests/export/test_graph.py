"""Folding: the exported graph says what the student says, and what cannot be exported is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportModelError
from export.student_run.graph import build_graph, check_student, fold_batch_norm
from lsemvae.model.student import StudentNet

SHAPE = {"n_leads": 2, "n_samples": 2500}


class Residual(nn.Module):
    """Conv + BN + ReLU blocks with a skip, wired by attributes instead of a Sequential, with `encoder` and `head`."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv1d(2, 8, 9, 4, 4, bias=False), nn.BatchNorm1d(8)
            self.conv2, self.bn2 = nn.Conv1d(8, 8, 9, 1, 4, bias=False), nn.BatchNorm1d(8)
            self.relu = nn.ReLU()
            self.mu, self.logvar = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.relu(self.bn1(self.conv1(x)))
            h = self.relu(self.bn2(self.conv2(h)) + h).mean(-1)
            return self.mu(h), self.logvar(h)

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 3)

        def forward(self, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
            return self.out(mu), 0.5 * logvar.mean(-1, keepdim=True)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = self.Encoder(), self.Head()

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(*self.encoder(ecg))


def shaken(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics that folding must respect."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.3, 3.0, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


@pytest.mark.parametrize("make", [Residual, lambda: None])
def test_folding_keeps_the_outputs(make, student: StudentNet) -> None:
    model = shaken(make() or student)
    graph = build_graph(model, **SHAPE)
    ecg = torch.randn(1, 2, 2500)
    for before, after in zip(model(ecg), graph(ecg), strict=True):
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_folding_leaves_no_norm_and_does_not_touch_the_student() -> None:
    model = shaken(Residual())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph = build_graph(model, **SHAPE)
    assert not norms(graph)
    assert len(norms(model)) == 2
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_graph_is_for_inference_only() -> None:
    graph = build_graph(shaken(Residual()).train(), **SHAPE)
    assert not graph.training
    assert not any(parameter.requires_grad for parameter in graph.parameters())


def test_named_graph_returns_outputs_by_name() -> None:
    outputs = build_graph(shaken(Residual()), named=True, **SHAPE)(torch.zeros(1, 2, 2500))
    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {"logits": (1, 3), "uncertainty": (1, 1)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    model = Residual()
    with torch.no_grad():
        model.encoder.conv2.weight[0, 0, 0] = value
    with pytest.raises(ExportModelError, match=r"encoder\.conv2\.weight"):
        check_student(model)


def test_a_model_without_the_two_regions_is_refused() -> None:
    with pytest.raises(ExportModelError, match="no module encoder and no module head"):
        check_student(nn.Linear(2, 2))


def test_a_norm_that_cannot_be_folded_is_refused() -> None:
    model = Residual()
    model.encoder.relu = nn.Sequential(nn.ReLU(), nn.GroupNorm(2, 8))
    with pytest.raises(ExportModelError, match=r"cannot be folded: encoder\.relu\.1"):
        fold_batch_norm(model.eval(), torch.zeros(1, 2, 2500))


def test_a_convolution_that_is_also_read_beside_its_norm_is_refused() -> None:
    class Leaky(Residual.Encoder):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.conv1(x)
            h = (self.relu(self.bn1(raw)) + raw).mean(-1)
            return self.mu(h), self.logvar(h)

    model = Residual()
    model.encoder = Leaky()
    model.encoder.bn2 = nn.Identity()
    with pytest.raises(ExportModelError, match="folding BatchNorm changed an output"):
        build_graph(shaken(model), **SHAPE)
