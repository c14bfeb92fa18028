"""Published ratios: one thread to four, one board to another, one percentile to the median."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.data import published
from export.benchmark.projected.fit import calibration_points

THREADS: Final = (1, 4)
PI4_CLOCK_HZ: Final = 1.5e9
"""The clock of the published Raspberry Pi 4; the fit is of it."""
PI5_CLOCK_HZ: Final = 2.4e9
PI3BPLUS_CLOCK_HZ: Final = 1.4e9
"""The Zero 2 W has the cores of the 3B+ at another clock; 3B+ figures are the nearest that were published by threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, median and largest of what was published."""

    low: float
    central: float
    high: float
    models: int

    def to_dict(self) -> dict[str, float]:
        """Return the spread for JSON."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """Return smallest, median and largest of some values."""
    if not values:
        raise BenchmarkError("found no published value, expected at least one")
    return Spread(low=min(values), central=statistics.median(values), high=max(values), models=len(values))


def one_thread_to_four(precision: str) -> Spread:
    """Return T1 / T4 on a Raspberry Pi 4, models of 40 to 5500 ms.

    The centre is of TFLite 2.18 with XNNPACK (EfficientDet-lite); the ends also cover TFLite 2.5 with other models.
    """
    newer, older = (_thread_ratios(precision, table) for table in ("pi4_pi5_threads", "pi3bplus_pi4"))
    return _covering(spread(newer), older)


def pi4_to_pi5(precision: str, *, threads: int) -> Spread:
    """Return T(Raspberry Pi 4) / T(Raspberry Pi 5) of the same model and thread count.

    The centre is of TFLite 2.18 (EfficientDet-lite). With four threads the ends also cover MobileNet v2, XNNPACK on the
    Raspberry Pi 4 over ExecuTorch on the Raspberry Pi 5.
    """
    rows = published()["pi4_pi5_threads"].where(precision=precision, threads=threads)
    same_model = spread([row["pi4_ms"] / row["pi5_ms"] for row in rows])
    return _covering(same_model, [pi4_to_pi5_check(precision)] if threads == 4 else [])


def pi4_to_pi5_check(precision: str) -> float:
    """Return T(Raspberry Pi 4, XNNPACK) / T(Raspberry Pi 5, ExecuTorch) of MobileNet v2: other model, other runtimes."""
    wanted = {"model": "mobilenet-v2-1.0-224", "precision": precision}
    pi4 = published()["xnnpack_pi4"].one(**wanted)["pi4_ms"]
    return float(pi4 / published()["pi5_executorch"].one(**wanted)["pi5_ms"])


def pi3bplus_to_pi4(precision: str, *, threads: int) -> Spread:
    """Return T(Raspberry Pi 3B+) / T(Raspberry Pi 4), both 64-bit, of the same model and thread count."""
    rows = published()["pi3bplus_pi4"].where(precision=precision, threads=threads)
    return spread([row["pi3bplus_ms"] / row["pi4_ms"] for row in rows])


def pi3plus_to_pi4_check() -> Spread:
    """Return T(Raspberry Pi 3+) / T(Raspberry Pi 4) of INT8 MobileNets, both 32-bit, many threads (XNNPACK)."""
    rows = published()["xnnpack_pi3plus_pi4_32bit"].where(precision="int8")
    return spread([row["pi3plus_ms"] / row["pi4_ms"] for row in rows])


def jitter(percentile: str) -> Spread:
    """Return a percentile over the median (`p90` or `p99`), all models that were published for a Raspberry Pi 4.

    It is what the operating system did to those runs, with four threads. It is no property of another model.
    """
    rows = published()["pi4_percentiles"].rows
    return spread([row[f"{percentile}_ms"] / row["p50_ms"] for row in rows])


def decode_width() -> int:
    """Return how many instructions a Cortex-A72 decodes a cycle; it can retire no more."""
    return int(published()["a72_decode"].one(core="cortex-a72")["width"])


def largest_weights(precision: str) -> int:
    """Return the weights of the largest calibration model."""
    return max(point.weights for point in calibration_points(precision))


def _thread_ratios(precision: str, table: str) -> list[float]:
    one, four = (
        {row["model"]: row["pi4_ms"] for row in published()[table].where(precision=precision, threads=threads)}
        for threads in THREADS
    )
    return [one[model] / four[model] for model in one]


def _covering(centre: Spread, others: Sequence[float]) -> Spread:
    """Return the spread with its ends moved out as far as the others; its centre stays."""
    return (
        replace(
            centre, low=min(centre.low, *others), high=max(centre.high, *others), models=centre.models + len(others)
        )
        if others
        else centre
    )
