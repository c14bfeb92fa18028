"""Sizes and switches of the models, as data. Importing this module does not import torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from lsemvae.data.labels import LABELS
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS

_T = TypeVar("_T")

BASE_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("frontal", LIMB_LEADS),
    ("right_precordial", CHEST_LEADS[:3]),
    ("left_precordial", CHEST_LEADS[3:]),
)
"""Named by the heart's side they look at. The six limb leads share one group, for they are two physical channels."""


@dataclass(frozen=True, slots=True)
class LsEmvaeConfig:
    """LS-EMVAE, preset `base`. The latent is a map of `latent` channels at `fs / 16` (15.6 Hz): it keeps beat timing."""

    leads: tuple[str, ...] = LEADS
    groups: tuple[tuple[str, tuple[str, ...]], ...] = BASE_GROUPS
    channels: tuple[int, int, int] = (16, 24, 32)  # stem /4, two blocks /2: 16 samples (64 ms) a latent step
    latent: int = 36
    prior: bool = True  # the standard normal joins each group's product (the reference drops it)
    limb_rank: int = 2  # precision of n limb experts is scaled by rank / n: two channels, not six, are evidence
    group_weights: str = "learned"  # of the mixture: `learned` (per latent channel) or `uniform`
    noise: str = "relative"  # the likelihood's sd: `relative` to the lead's rms in the recording, or `absolute` in mV
    logvar_bound: float = 6.0
    beta: float = (
        0.5  # on the KL, in nats per observed sample; 1 is the evidence lower bound, less buys sharper drawings
    )
    alignment: float = 0.1
    anneal: float = 0.3  # share of the pre-training steps over which beta and alignment rise from 0
    trunk: tuple[int, int] = (64, 96)  # head: convolutions over the fused map
    summary: int = 32  # dimensions of the summary posterior that the student learns to match
    bottleneck: float = 1e-4  # fine-tuning: on KL(summary || standard normal)
    matching: float = 1e-3  # fine-tuning: on KL(summary of all leads || summary of the subset)
    measuring: float = 0.3  # fine-tuning: on the regression of the measures
    labels: tuple[str, ...] = LABELS
    measures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = [lead for _, members in self.groups for lead in members]
        if sorted(named) != sorted(self.leads):
            raise FormatError(f"found groups over {sorted(named)}, expected each of {sorted(self.leads)} exactly once")
        for name, allowed in (("group_weights", ("learned", "uniform")), ("noise", ("relative", "absolute"))):
            if getattr(self, name) not in allowed:
                raise FormatError(f"found {name} {getattr(self, name)!r}, expected one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """The edge student: Conv1d + BatchNorm + ReLU on the two measured channels, a summary posterior and a linear head."""

    leads: tuple[str, ...] = ("I", "II")
    channels: tuple[int, ...] = (32, 48, 64, 96, 112)
    kernels: tuple[int, ...] = (15, 9, 9, 5, 5)
    strides: tuple[int, ...] = (4, 2, 2, 2, 2)
    summary: int = 32
    logvar_bound: float = 6.0
    labels: tuple[str, ...] = LABELS
    measures: tuple[str, ...] = ()
    n_samples: int = 2500

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            found = (len(self.channels), len(self.kernels), len(self.strides))
            raise FormatError(f"found {found} channels, kernels and strides, expected equally many")
        if any(k % 2 == 0 for k in self.kernels):
            raise FormatError(f"found kernels {self.kernels}, expected odd ones (symmetric padding)")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One stage of training. `epochs` is fixed beforehand: no test fold chooses it."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float = 1e-4
    warmup: float = 0.1  # share of all steps
    clip_norm: float = 1.0
    ema: float = 0.995
    seed: int = 0
    extra: dict[str, float] = field(default_factory=dict)


def to_json(config: LsEmvaeConfig | StudentConfig | TrainConfig) -> dict[str, Any]:
    """A configuration as JSON-able data."""
    return json.loads(json.dumps(asdict(config)))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def from_json(kind: type[_T], data: dict[str, Any]) -> _T:
    """The reverse of `to_json`; unknown keys are refused with the known ones listed."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = set(data) - known
    if unknown:
        raise FormatError(f"found keys {sorted(unknown)}, expected only {sorted(known)}")
    return kind(**{key: _tuples(value) for key, value in data.items()})
