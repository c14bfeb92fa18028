"""Comparing what a model says here and under the emulator: integers byte by byte, floats within units in the last place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from export.benchmark.errors import BenchmarkError, EmulationError

# One unit in the last place of a float32 near 1. Behind equal INT8 results only the order of some dozen additions in the
# head differs between kernels (one or two units); in a float model that of all layers.
_ULP: Final = 2.0**-23
HEAD_TOLERANCE: Final = 16 * _ULP
FLOAT_TOLERANCE: Final = 128 * _ULP
"""Largest difference of a float output to this machine's, relative to the largest output or to 1 where that is smaller."""


def same_integers(host: Mapping[str, np.ndarray], emulated: Mapping[str, np.ndarray]) -> str:
    """Return the hash of the INT8 results, which must be the same bytes on both sides."""
    names = sorted(name for name in host if name.startswith("border/"))
    for name in names:
        if host[name].dtype != emulated[name].dtype or not np.array_equal(host[name], emulated[name]):
            steps = np.abs(host[name].astype(np.int64) - emulated[name].astype(np.int64))
            raise EmulationError(
                f"found {np.count_nonzero(steps):,} of {steps.size:,} INT8 results that differ from this machine's (by up to "
                f"{steps.max()} steps), expected the same bytes"
            )
    return _sha256([emulated[name] for name in names])


def _sha256(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def float_difference_of(
    host: Mapping[str, np.ndarray], emulated: Mapping[str, np.ndarray], *, tolerance: float
) -> float:
    """Return the largest difference of an output, relative to the largest number of that output or to 1."""
    largest = 0.0
    for name in (name for name in host if name.startswith("out/")):
        here, there = host[name].astype(np.float64), emulated[name].astype(np.float64)
        if here.shape != there.shape or not np.isfinite(there).all():
            raise EmulationError(
                f"output {name[4:]!r}: found shape {list(there.shape)} or a number that is not finite, expected {list(here.shape)}"
            )
        largest = max(largest, float(np.abs(here - there).max() / max(1.0, np.abs(here).max())))
    if largest > tolerance:
        raise EmulationError(
            f"a float output differs from this machine's by {largest:.2g} of its size, expected at most {tolerance:g}"
        )
    return largest


def output_of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an output `[n, ...]` by its name."""
    if f"out/{name}" not in arrays:
        raise BenchmarkError(
            f"found the outputs {sorted(n[4:] for n in arrays if n.startswith('out/'))}, expected {name!r}"
        )
    return arrays[f"out/{name}"]
