"""Where attribution lies: sums of a map over channels and waves, for one recording and over many with intervals.

A share is that of |attribution|. Integrated gradients carry the input as a factor, so a large wave gets a large share from
a model that weighs every sample alike; beside each share stands that of |voltage|, which such a model would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import LengthError
from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.resampling import interval, patient_weights
from lsemvae.explain.waves import WAVES

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WaveSums:
    """Sums of one map over channels and waves, `[channel, wave]` in the order of the channels and of `WAVES`.

    `share` of |attribution| and `amplitude_share` of |mV| each sum to one; `net_logit` is the signed sum in logits, whose total is
    what moved the logit; `time_share` `[wave]` is the part of the time that the class fills.
    """

    channels: tuple[str, ...]
    share: FloatArray
    net_logit: FloatArray
    amplitude_share: FloatArray
    time_share: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return the sums, JSON-able, by channel and wave."""
        named = {"share": self.share, "net_logit": self.net_logit, "amplitude_share": self.amplitude_share}
        tables = {
            name: {
                c: dict(zip(WAVES, _rounded(row), strict=True)) for c, row in zip(self.channels, values, strict=True)
            }
            for name, values in named.items()
        }
        return {**tables, "time_share": dict(zip(WAVES, _rounded(self.time_share), strict=True))}


def wave_sums(
    values: npt.ArrayLike, *, x_mv: npt.ArrayLike, codes: npt.NDArray[np.int8], channels: Sequence[str]
) -> WaveSums:
    """Sum a map `[channel, time]` in logits over the classes `codes` `[time]` of each sample; `x_mv` is its input."""
    a, x = np.asarray(values, np.float64), np.asarray(x_mv, np.float64)
    if a.shape != x.shape or a.shape != (len(channels), codes.size):
        raise LengthError(
            f"found a map {a.shape}, samples {x.shape} and {codes.size} classes, expected {len(channels)} channels of one length",
            advice="Give the map the samples it was computed from.",
        )
    one_hot = np.equal.outer(codes, np.arange(len(WAVES))).astype(np.float64)
    return WaveSums(
        tuple(channels), _normed(np.abs(a) @ one_hot), a @ one_hot, _normed(np.abs(x) @ one_hot), one_hot.mean(axis=0)
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over recordings with 95 % intervals over patients; tables as `{channel: {wave: Estimate}}`."""

    n_records: int
    n_patients: int
    channels: tuple[str, ...]
    by_wave: dict[str, Estimate]
    by_channel: dict[str, Estimate]
    by_both: dict[str, dict[str, Estimate]]
    net_by_wave: dict[str, Estimate]
    amplitude_by_wave: dict[str, Estimate]
    amplitude_by_channel: dict[str, Estimate]
    time_by_wave: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-able: each as `[value, low, high]`."""
        plain = ("by_wave", "by_channel", "net_by_wave", "amplitude_by_wave", "amplitude_by_channel")
        return {
            "records": self.n_records,
            "patients": self.n_patients,
            "channels": list(self.channels),
            **{name: {key: triple(e) for key, e in getattr(self, name).items()} for name in plain},
            "by_both": {c: {w: triple(e) for w, e in row.items()} for c, row in self.by_both.items()},
            "time_by_wave": {w: round(v, 4) for w, v in self.time_by_wave.items()},
        }


def summarise(sums: Sequence[WaveSums], *, patients: npt.ArrayLike, seed: int = 0) -> Summary:
    """Average over recordings, each counting once; all recordings of a drawn patient go together."""
    who = np.asarray(patients)
    if not sums or len(sums) != who.size or len({s.channels for s in sums}) != 1:
        raise LengthError(
            f"found {len(sums)} recordings, {who.size} patients and {len({s.channels for s in sums})} sets of channels, "
            "expected at least one recording, a patient for each, and one set of channels",
            advice="Summarise recordings that have the same leads.",
        )
    weights = patient_weights(who, seed=seed).astype(np.float64)
    channels = sums[0].channels
    share, net = np.stack([s.share for s in sums]), np.stack([s.net_logit for s in sums])
    amplitude = np.stack([s.amplitude_share for s in sums])

    def over(values: FloatArray, names: Sequence[str]) -> dict[str, Estimate]:
        return {name: mean_interval(values[:, k], weights=weights) for k, name in enumerate(names)}

    return Summary(
        n_records=len(sums),
        n_patients=len(np.unique(who)),
        channels=channels,
        by_wave=over(share.sum(1), WAVES),
        by_channel=over(share.sum(2), channels),
        by_both={c: over(share[:, k], WAVES) for k, c in enumerate(channels)},
        net_by_wave=over(net.sum(1), WAVES),
        amplitude_by_wave=over(amplitude.sum(1), WAVES),
        amplitude_by_channel=over(amplitude.sum(2), channels),
        time_by_wave=dict(zip(WAVES, np.mean([s.time_share for s in sums], axis=0).tolist(), strict=True)),
    )


def mean_interval(values: npt.ArrayLike, *, weights: FloatArray) -> Estimate:
    """Return the mean of `values` `[record]` with its interval over the draws `weights` `[draw, record]`."""
    v = np.asarray(values, np.float64)
    return interval(float(v.mean()), weights @ v / weights.sum(1))


def triple(estimate: Estimate) -> list[float | None]:
    """Return `[value, low, high]` for JSON; NaN becomes null."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return [round(x, 5) if np.isfinite(x) else None for x in numbers]


def _normed(table: FloatArray) -> FloatArray:
    """Return a table that sums to one; nothing stays nothing."""
    total = float(table.sum())
    return table / total if total > 0 else table


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(v), 5) for v in values]
