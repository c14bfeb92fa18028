"""Boolean time lines to half-open runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def runs_of(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Half-open runs ``(start, stop)`` in which `mask` ``[time]`` is true, in order."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2].tolist(), edges[1::2].tolist()
    return tuple(zip(starts, stops, strict=True))
