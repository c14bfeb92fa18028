"""Sizes and switches of the models, as data. Importing this module does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lsemvae.data.labels import LABELS
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T")

# Named by the heart's side they look at. The six limb leads share one group, for they are two physical channels.
BASE_GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("frontal", LIMB_LEADS),
    ("right_precordial", CHEST_LEADS[:3]),
    ("left_precordial", CHEST_LEADS[3:]),
)


FUSION_CHOICES: Final = {
    "group_weights": ("learned", "uniform"),
    "hierarchy": ("hime", "poe", "moe"),
    "mixture": ("moments", "stratified", "parameter_average"),
    "limb_experts": ("all", "measured"),
}


def check_groups(groups: tuple[tuple[str, tuple[str, ...]], ...], leads: tuple[str, ...]) -> None:
    """Refuse groups that do not hold each lead exactly once."""
    named = [lead for _, members in groups for lead in members]
    if sorted(named) != sorted(leads):
        raise FormatError(f"found groups over {sorted(named)}, expected each of {sorted(leads)} exactly once")


def check_choices(config: object, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a field whose value is none of its choices."""
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise FormatError(f"found {name} {getattr(config, name)!r}, expected one of {', '.join(allowed)}")


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
    hierarchy: str = (
        "hime"  # `hime`: groups, then a mixture of them; `poe`: one product of all leads; `moe`: a mixture of leads
    )
    mixture: str = (
        "moments"  # across groups: their mixture's `moments`, `stratified` samples of it, or `parameter_average`
    )
    limb_experts: str = (
        "all"  # `measured`: where I and II are there, the four limb leads derived from them are no experts
    )
    latent_matching: float = (
        0.0  # pre-training: on KL(posterior of all leads || posterior of the subset) per latent element
    )
    lead_blind_decoder: bool = False  # this and what follows: defects of the reference, see lsemvae.model.switches
    kl_of_unsampled_mean: bool = False
    per_lead_zscore: bool = False
    positional_groups: bool = False
    crossed_avl_avf: bool = False

    def __post_init__(self) -> None:
        check_groups(self.groups, self.leads)
        check_choices(self, {**FUSION_CHOICES, "noise": ("relative", "absolute")})
        if self.positional_groups and self.hierarchy != "hime":
            raise FormatError(f"found positional_groups with hierarchy {self.hierarchy!r}, expected 'hime'")
        if self.kl_of_unsampled_mean and self.mixture == "stratified":
            raise FormatError(
                "found kl_of_unsampled_mean with mixture 'stratified', expected one of them: both replace the KL"
            )


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
    repeats: tuple[int, ...] = ()  # residual blocks after each strided convolution; empty: none
    pool: str = "mean"  # over time: `mean`, or `mean_max`: beside it the mean of the maxima of four parts
    hint: int = 0  # channels of the teacher's map that a 1x1 projection learns to match in training; 0: no projection
    hint_stage: int = 2  # after which convolution the projection reads

    def __post_init__(self) -> None:
        if self.repeats and len(self.repeats) != len(self.channels):
            raise FormatError(f"found {len(self.repeats)} repeats, expected {len(self.channels)} as channels, or none")
        if self.pool not in ("mean", "mean_max"):
            raise FormatError(f"found pool {self.pool!r}, expected one of mean, mean_max")
        if not 0 <= self.hint_stage < len(self.channels) and self.hint:
            raise FormatError(f"found hint_stage {self.hint_stage}, expected 0 to {len(self.channels) - 1}")
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            found = (len(self.channels), len(self.kernels), len(self.strides))
            raise FormatError(f"found {found} channels, kernels and strides, expected equally many")
        if any(k % 2 == 0 for k in self.kernels):
            raise FormatError(f"found kernels {self.kernels}, expected odd ones (symmetric padding)")


_TRAIN_CHOICES: Final = {
    "subsets": ("in_use", "all_leads"),
    "schedule": ("cosine", "constant"),
    "optimizer": ("adamw", "adam", "fused_adamw", "fused_adam"),
}


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
    subsets: str = "in_use"  # pre-training, fine-tuning: the lead subsets met `in_use`, or always `all_leads`
    lost_gradients: bool = False  # a defect of the reference: every second gradient is thrown away
    augment: bool = True
    schedule: str = "cosine"  # after the warm-up; or `constant`
    optimizer: str = (
        "adamw"  # or `adam`, which adds the decay to the gradient; `fused_...` is the same in one pass over memory
    )

    def __post_init__(self) -> None:
        check_choices(self, _TRAIN_CHOICES)


def to_json(config: DataclassInstance) -> dict[str, Any]:
    """Return a configuration as JSON-able data."""
    return json.loads(json.dumps(asdict(config)))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def from_json(kind: type[_T], data: dict[str, Any]) -> _T:
    """Return the configuration that `to_json` wrote; unknown keys are refused with the known ones listed."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = set(data) - known
    if unknown:
        raise FormatError(f"found keys {sorted(unknown)}, expected only {sorted(known)}")
    return kind(**{key: _tuples(value) for key, value in data.items()})
