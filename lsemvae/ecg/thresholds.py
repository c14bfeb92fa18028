"""Limits of the quality gate; they travel in a bundle's manifest."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from lsemvae.ecg.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityThresholds:
    """Limits of the quality gate. The defaults were measured; docs/explanation/quality-gate.md tells on what.

    Attributes
    ----------
    min_duration_s
        Least received time.
    max_flat_fraction
        Largest part of a lead without signal.
    max_saturated_fraction
        Largest part of a lead at the converter's or amplifier's limit.
    max_noise_mv
        Largest noise between beats, root mean square.
    max_baseline_mv
        Largest range of the slow drift.
    max_einthoven_mv
        Largest deviation of a limb lead from what the others say of it by Einthoven's and Goldberger's relations, root
        mean square.
    min_rms_mv, max_rms_mv
        Least and largest band-passed root mean square over the limb leads.
    min_beat_contrast
        Least ratio of the QRS envelope's peaks to its typical value.
    """

    min_duration_s: float = 9.9
    max_flat_fraction: float = 0.1
    max_saturated_fraction: float = 0.01
    max_noise_mv: float = 0.06
    max_baseline_mv: float = 2.0
    max_einthoven_mv: float = 0.05
    min_rms_mv: float = 0.03
    max_rms_mv: float = 0.45
    min_beat_contrast: float = 2.5

    def __post_init__(self) -> None:
        """Refuse limits that are not finite or negative."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ManifestError(f"found quality threshold {f.name} {value!r}, expected a finite number, 0 or more")
            object.__setattr__(self, f.name, float(value))

    def to_dict(self) -> dict[str, float]:
        """Return the limits for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityThresholds:
        """Return the limits of a mapping; all of them and no other, because a gate must not be skipped."""
        expected = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else values
            raise ManifestError(f"found quality thresholds {found!r}, expected {sorted(expected)}")
        return cls(**values)
