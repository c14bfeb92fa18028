"""Sizes of the student, from 20 k to 500 k parameters, and what each costs.

`m` is the default `StudentConfig`. `xs` and `s` are the same network with fewer channels. `l` and `xl` add one residual
block to each of the three late stages, where a step is cheap, and read mean and peaks over time. Up to `m` the INT8
`.tflite` file stays within 300 KiB; `l` takes 280 KiB with the recipe of the whole encoder and 319 KiB with that of the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import StudentConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lsemvae.model.student import StudentNet

_LATE: Final[dict[str, Any]] = {"repeats": (0, 0, 1, 1, 1), "pool": "mean_max"}
_SIZES: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "xs": {"channels": (12, 16, 24, 32, 40)},
        "s": {"channels": (20, 32, 40, 64, 72)},
        "m": {},
        "l": {"channels": (32, 48, 64, 80, 104), **_LATE},
        "xl": {"channels": (32, 56, 88, 120, 152), **_LATE},
    }
)
# Names from small to large.
SIZES: Final = tuple(_SIZES)
DEFAULT_SIZE: Final = "m"


def student_config(
    size: str, labels: tuple[str, ...], measures: tuple[str, ...] = (), summary: int = 32
) -> StudentConfig:
    """Return the student of a size (`xs`, `s`, `m`, `l`, `xl`) for these labels and measures; `summary` is the teacher's."""
    if size not in _SIZES:
        raise FormatError(
            f"found the student size {size!r}, expected one of {', '.join(SIZES)}",
            advice="Choose --size; m is the size that ships.",
        )
    return replace(StudentConfig(labels=labels, measures=measures, summary=summary), **_SIZES[size])


@dataclass(frozen=True, slots=True)
class StudentCost:
    """What one student costs at run time.

    Attributes
    ----------
    parameters
        Of encoder and head, which are exported, with BatchNorm folded into the convolutions.
    macs
        Multiplications of one recording in convolutions and linear layers.
    """

    parameters: int
    macs: int


def student_cost(net: StudentNet) -> StudentCost:
    """Count parameters and multiply-accumulates of what is exported of a student, by running it once on zeros."""
    import torch
    from torch import nn

    counted = {"parameters": 0, "macs": 0}

    def saw(module: nn.Module, _args: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv1d | nn.Linear)
        fan_in = module.weight[0].numel()
        counted["macs"] += fan_in * output[0].numel()
        counted["parameters"] += module.weight.numel() + module.weight.shape[0]  # a bias each, after folding

    layers = [m for m in net.modules() if isinstance(m, nn.Conv1d | nn.Linear)]
    hooks = [layer.register_forward_hook(saw) for layer in layers]
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, len(net.config.leads), net.config.n_samples))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return StudentCost(counted["parameters"], counted["macs"])
