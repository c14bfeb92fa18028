"""Named configurations, one dial for their size, and the paper's two stages. Importing this module does not import torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, Literal, overload

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import LsEmvaeConfig, TrainConfig
from lsemvae.model.paper_config import PaperConfig

PRESETS: Final = ("base", "paper")
# Size of the evidence table: a quarter of the weights, so that two cores can train many rows.
SMALL: Final = 0.5
_STEP: Final = 2  # widths stay even
_MAX_SIZE: Final = 8.0
_NEVER_CLIPS: Final = 1e9

# Pre-training as published: constant rate, all twelve leads, recordings as they are, last weights kept.
PAPER_PRETRAIN: Final = TrainConfig(
    epochs=100,
    batch=128,
    lr=5e-4,
    weight_decay=1e-5,
    warmup=0.0,
    clip_norm=1.0,
    ema=0.0,
    subsets="all_leads",
    augment=False,
    schedule="constant",
    optimizer="fused_adamw",
)
# The probe as published. Its loss is one sigmoid a label; for one label that is the published softmax over two classes.
PAPER_PROBE: Final = TrainConfig(
    epochs=50,
    batch=32,
    lr=1e-4,
    weight_decay=0.0,
    warmup=0.0,
    clip_norm=_NEVER_CLIPS,
    ema=0.0,
    subsets="all_leads",
    augment=False,
    schedule="constant",
    optimizer="fused_adam",
)


@overload
def preset(
    name: Literal["base"], *, labels: tuple[str, ...], measures: tuple[str, ...] = ..., size: float = ...
) -> LsEmvaeConfig: ...


@overload
def preset(
    name: Literal["paper"], *, labels: tuple[str, ...], measures: tuple[str, ...] = ..., size: float = ...
) -> PaperConfig: ...


@overload
def preset(
    name: str, *, labels: tuple[str, ...], measures: tuple[str, ...] = ..., size: float = ...
) -> LsEmvaeConfig | PaperConfig: ...


def preset(
    name: str, *, labels: tuple[str, ...], measures: tuple[str, ...] = (), size: float = 1.0
) -> LsEmvaeConfig | PaperConfig:
    """Return the configuration `base` or `paper`, with all widths scaled by `size` (0.5: small).

    `base`: channels, latent and trunk; the summary posterior keeps its 32 dimensions, which students are distilled to. `paper`:
    convolution channels and latent; it has labels only, `measures` are for `base`.
    """
    if not (math.isfinite(size) and 0 < size <= _MAX_SIZE):
        raise FormatError(f"found size {size}, expected a number above 0 and up to {_MAX_SIZE:g}")
    if name == "base":
        base = LsEmvaeConfig(labels=tuple(labels), measures=tuple(measures))
        t1, t2 = (scaled(width, size) for width in base.trunk)
        return replace(base, channels=_three(base.channels, size), latent=scaled(base.latent, size), trunk=(t1, t2))
    if name == "paper":
        paper = PaperConfig(labels=tuple(labels))
        return replace(paper, channels=_three(paper.channels, size), latent=scaled(paper.latent, size))
    raise FormatError(f"found preset {name!r}, expected one of {', '.join(PRESETS)}")


def scaled(width: int, size: float) -> int:
    """Return a width times `size`, to the nearest even number, 2 at least."""
    return max(_STEP, _STEP * math.floor(width * size / _STEP + 0.5))


def _three(channels: tuple[int, int, int], size: float) -> tuple[int, int, int]:
    c1, c2, c3 = (scaled(width, size) for width in channels)
    return c1, c2, c3
