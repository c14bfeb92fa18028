"""Packed integers to int32 arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def int24(data: bytes, *, big_endian: bool = False) -> NDArray[np.int32]:
    """Signed 24-bit numbers; the length must be a multiple of three."""
    triples = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
    words = np.zeros((len(triples), 4), dtype=np.uint8)
    words[:, 1:] = triples[:, ::-1] if big_endian else triples
    # The three bytes lie in the upper part of a 32-bit word: an arithmetic shift brings the sign along.
    return (words.view("<i4")[:, 0] >> 8).astype(np.int32)


def int16(data: bytes) -> NDArray[np.int32]:
    """Signed 16-bit little-endian numbers."""
    return np.frombuffer(data, dtype="<i2").astype(np.int32)


def int32(data: bytes) -> NDArray[np.int32]:
    """Signed 32-bit little-endian numbers."""
    return np.frombuffer(data, dtype="<i4").astype(np.int32)
