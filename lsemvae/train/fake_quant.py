"""The INT8 arithmetic of a student's encoder, simulated in float as the exporter's recipe quantizes it.

Weights: symmetric, one scale for each output channel, -127..127. Activations: asymmetric, one scale for each tensor over
its true minimum and maximum, zero included, 256 steps (Jacob 2018). Rounding passes gradients straight through
(Bengio 2013); what lies outside a range is cut and passes none.

A student is folded first: each BatchNorm becomes a bias, and the weights that are rounded are those that ship.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.model.student import Residual, StudentNet

_WEIGHT_STEPS: Final = 127
_ACTIVATION_STEPS: Final = 255
_LEAST: Final = 1e-12  # a tensor of zeros has no range

Ranges = Mapping[str, tuple[float, float]]
Tap = Callable[[str, Tensor], Tensor]
Weigh = Callable[[str, Tensor], Tensor]

STEM: Final = "0.0"
ENDS: Final = ("mean", "logvar")
# Tensors that stay float, by the recipe's region: the trunk reads and gives float maps.
FLOAT_MAPS: Final[Mapping[str, frozenset[str]]] = {"encoder": frozenset(), "trunk": frozenset({"input", *ENDS})}
# Layers whose weights stay float: in the trunk's recipe the first convolution and the summary's linear layers.
FLOAT_WEIGHTS: Final[Mapping[str, frozenset[str]]] = {"encoder": frozenset(), "trunk": frozenset({STEM, *ENDS})}


def fake_weight(weight: Tensor) -> Tensor:
    """Round weights `[out, ...]` to 8 bits, a scale for each output channel; gradients pass as if nothing was rounded."""
    peak = weight.detach().abs().flatten(1).amax(1).clamp(min=_LEAST)
    scale = (peak / _WEIGHT_STEPS).view(-1, *(1,) * (weight.dim() - 1))
    return weight + ((weight / scale).round() * scale - weight).detach()


def fake_activation(x: Tensor, low: float, high: float) -> Tensor:
    """Round `x` to 256 steps between `low` and `high` (zero included) and cut it there; no gradient passes outside."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / _ACTIVATION_STEPS, _LEAST)
    zero = round(-low / scale)
    inside = x.clamp(-zero * scale, (_ACTIVATION_STEPS - zero) * scale)
    return inside + ((inside / scale).round() * scale - inside).detach()


@torch.no_grad()
def folded(net: StudentNet) -> StudentNet:
    """Fold each BatchNorm of `net` into its convolution, but for the bias, and return `net` itself.

    `w' = w g / sd` and `b' = b - m g / sd` with `sd = sqrt(var + eps)`. Tensors keep their names, so the result loads and
    exports as any student. Its norms have mean 0, variance 1 and a weight of `sqrt(1 + eps)`: folding again changes nothing.
    """
    for conv, norm in conv_pairs(net):
        assert norm.running_mean is not None  # for mypy: every norm here tracks its statistics
        assert norm.running_var is not None
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.mul_(gain.view(-1, 1, 1))
        norm.bias.sub_(norm.running_mean * gain)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0)
        norm.weight.fill_((1.0 + norm.eps) ** 0.5)
    return net


def conv_pairs(net: StudentNet) -> Iterator[tuple[nn.Conv1d, nn.BatchNorm1d]]:
    """Yield each convolution of the encoder with the BatchNorm behind it."""
    for stage in net.encoder.body:
        for block in blocks_of(stage):
            for part in (block.first, block.second) if isinstance(block, Residual) else (block,):
                yield _pair(part)


def _pair(block: nn.Module) -> tuple[nn.Conv1d, nn.BatchNorm1d]:
    assert isinstance(block, nn.Sequential)
    conv, norm = block[0], block[1]
    assert isinstance(conv, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    return conv, norm


def blocks_of(stage: nn.Module) -> list[nn.Module]:
    """Return the convolution of a stage and the residual blocks behind it."""
    assert isinstance(stage, nn.Sequential)
    return [stage] if isinstance(stage[0], nn.Conv1d) else list(stage)


def encode(net: StudentNet, x: Tensor, *, tap: Tap, weigh: Weigh) -> tuple[Tensor, Tensor]:
    """Run the encoder of a folded student, with `tap` on each stored tensor and `weigh` on each weight, both by name."""
    h = tap("input", x)
    for k, stage in enumerate(net.encoder.body):
        for j, block in enumerate(blocks_of(stage)):
            name = f"{k}.{j}"
            if isinstance(block, Residual):
                first, second = f"{name}.first", f"{name}.second"
                inner = tap(first, torch.relu(_convolved(block.first, h, first, weigh)))
                h = tap(name, torch.relu(h + tap(second, _convolved(block.second, inner, second, weigh))))
            else:
                h = tap(name, torch.relu(_convolved(block, h, name, weigh)))
    features = tap("features", net.encoder.pooled(h))
    summary = net.encoder.summary
    mean, logvar = (
        tap(name, nn.functional.linear(features, weigh(name, layer.weight), layer.bias))
        for name, layer in (("mean", summary.mean), ("logvar", summary.logvar))
    )
    return mean, logvar.clamp(-summary.bound, summary.bound)


def _convolved(block: nn.Module, h: Tensor, name: str, weigh: Weigh) -> Tensor:
    conv, norm = _pair(block)
    return nn.functional.conv1d(h, weigh(name, conv.weight), norm.bias, conv.stride, conv.padding)


@dataclass
class Observer:
    """A tap that changes nothing and keeps minimum and maximum of each tensor, and the largest magnitude of each channel."""

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    peaks: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Note minimum, maximum and channel peaks of `x` `[batch, channel, ...]`, and return `x` itself."""
        low, high = self.ranges.get(name, (0.0, 0.0))
        self.ranges[name] = (min(low, float(x.min())), max(high, float(x.max())))
        peak = x.abs().transpose(0, 1).flatten(1).amax(1)
        self.peaks[name] = torch.maximum(self.peaks[name], peak) if name in self.peaks else peak
        return x


@torch.no_grad()
def observed(net: StudentNet, ecg: Tensor, *, batch: int = 64) -> Observer:
    """Return minimum and maximum of each tensor of a folded student over recordings `[n, lead, time]` in mV."""
    seen = Observer()
    for part in ecg.split(batch):
        encode(net, part, tap=seen, weigh=lambda _, weight: weight)
    return seen


def quantized(net: StudentNet, x: Tensor, ranges: Ranges, *, region: str = "trunk") -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, summary mean and log-variance of a folded student as INT8 would give them; the head stays float.

    `region` is that of the exporter's recipe: `trunk` (what ships) or `encoder`.
    """

    def tap(name: str, value: Tensor) -> Tensor:
        return value if name in FLOAT_MAPS[region] else fake_activation(value, *ranges[name])

    def weigh(name: str, weight: Tensor) -> Tensor:
        return weight if name in FLOAT_WEIGHTS[region] else fake_weight(weight)

    mean, logvar = encode(net, x, tap=tap, weigh=weigh)
    return net.head.logits(mean), mean, logvar


@torch.no_grad()
def equalized(net: StudentNet, ecg: Tensor) -> StudentNet:
    """Rescale channels of a folded `net` so that none needs a far wider range than others (Nagel 2019); return it.

    A ReLU lets a positive factor pass, so what one layer divides by the next may multiply: the float student is the same.
    The factor of a channel is sqrt(a / w), with `a` its largest activation over `ecg` and `w` the largest weight that reads
    it: both then span the same range.
    """
    peaks = observed(net, ecg).peaks
    stages = [blocks_of(stage) for stage in net.encoder.body]
    for k, blocks in enumerate(stages):
        residuals = [block for block in blocks if isinstance(block, Residual)]
        for j, block in enumerate(blocks):
            if isinstance(block, Residual):
                _rescale([block.first], [_pair(block.second)[0].weight], peaks[f"{k}.{j}.first"])
        readers: list[Tensor] = [_pair(block.first)[0].weight for block in residuals]
        if k + 1 < len(stages):
            readers.append(_pair(stages[k + 1][0])[0].weight)
        else:  # the two summary layers read each channel's mean and, where there are peaks, its peak: in columns apart
            for layer in (net.encoder.summary.mean, net.encoder.summary.logvar):
                readers += layer.weight.split(net.config.channels[-1], 1)
        stream = [peaks[f"{k}.{j}"] for j in range(len(blocks))]
        _rescale([blocks[0], *(block.second for block in residuals)], readers, torch.stack(stream).amax(0))
    return net


def _rescale(makers: list[nn.Module], readers: list[Tensor], peak: Tensor) -> None:
    """Divide the channels that `makers` give by their factor, and multiply the columns of `readers`."""
    weight = torch.stack([reader.abs().transpose(0, 1).flatten(1).amax(1) for reader in readers]).amax(0)
    usable = (peak > _LEAST) & (weight > _LEAST)  # a dead channel keeps its scale
    factor = torch.where(usable, (peak / weight.clamp(min=_LEAST)).sqrt(), torch.ones_like(peak))
    for maker in makers:
        conv, norm = _pair(maker)
        conv.weight.div_(factor.view(-1, 1, 1))
        norm.bias.div_(factor)
    for reader in readers:
        reader.mul_(factor.view(1, -1, *(1,) * (reader.dim() - 2)))
