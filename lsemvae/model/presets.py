"""Named configurations and one dial for their size. Importing this module does not import torch."""

from __future__ import annotations

import math
from dataclasses import replace

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import LsEmvaeConfig

SMALL = 0.5
"""Size of the ablation tables: a quarter of the weights, so that every row is trained with several seeds."""
_STEP = 2  # widths stay even
_MAX_SIZE = 8.0


def preset(name: str, *, labels: tuple[str, ...], measures: tuple[str, ...] = (), size: float = 1.0) -> LsEmvaeConfig:
    """`base`, with all widths scaled by `size` (0.5: small)."""
    if not (math.isfinite(size) and 0 < size <= _MAX_SIZE):
        raise FormatError(f"found size {size}, expected a number above 0 and up to {_MAX_SIZE:g}")
    if name != "base":
        raise FormatError(f"found preset {name!r}, expected one of base")
    plain = LsEmvaeConfig(labels=tuple(labels), measures=tuple(measures))
    c1, c2, c3 = (scaled(width, size) for width in plain.channels)
    t1, t2 = (scaled(width, size) for width in plain.trunk)
    return replace(plain, channels=(c1, c2, c3), latent=scaled(plain.latent, size), trunk=(t1, t2))


def scaled(width: int, size: float) -> int:
    """A width times `size`, to the nearest even number, 2 at least."""
    return max(_STEP, _STEP * math.floor(width * size / _STEP + 0.5))
