"""Measured values that a model may learn beside its labels; a value that nobody measured is unknown, never zero.

Those of the development recordings are automatic measurements of the median beat (columns `m_*`). They are the features of the
logistic floor, and a network that has learned to measure them starts from what the floor knows. Those of a cohort
(`lsemvae.data.cohort`) are pressures, velocities or volumes, each with its plausible range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from lsemvae.data.cells import is_missing
from lsemvae.data.rules import Quantity, Range, Row

# An angle enters as sine and cosine: 179 and -179 degrees are neighbours.
TRANSFORMS: Final[Mapping[str, Callable[[float], float]]] = MappingProxyType(
    {"": lambda x: x, "sin_deg": lambda x: math.sin(math.radians(x)), "cos_deg": lambda x: math.cos(math.radians(x))}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One value to be regressed.

    Attributes
    ----------
    name, quantity, unit
        What it is called, which columns it is made of, and the unit of the result.
    transform
        Empty, `sin_deg` or `cos_deg`, after the range was checked.
    amplitude
        Whether it is an amplitude of the ECG, which means nothing where the gain is unknown.
    limits
        Plausible range of the quantity before the transform.
    measured
        A column: where it is empty, the value was not measured.
    """

    name: str
    quantity: Quantity
    unit: str
    transform: str = ""
    amplitude: bool = False
    limits: Range | None = None
    measured: str = ""
    description: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it reads."""
        return (*self.quantity.columns, *filter(None, [self.measured]))

    def raw(self, row: Row) -> float:
        """Return the value before its transform, in its own unit; NaN where not measured, refused where not plausible."""
        if self.measured and is_missing(row, self.measured):
            return math.nan
        found = self.quantity.value(row)
        return found if self.limits is None else self.limits.check(row, self.quantity, found)

    def value(self, row: Row, *, gain_known: bool) -> float:
        """Return the value in a row, NaN where it was not measured or means nothing without a gain."""
        if self.amplitude and not gain_known:
            return math.nan
        return TRANSFORMS[self.transform](self.raw(row))

    def to_json(self) -> dict[str, Any]:
        """Return the measure as JSON-able data."""
        return {
            "name": self.name,
            "quantity": self.quantity.to_json(),
            "unit": self.unit,
            "transform": self.transform,
            "amplitude": self.amplitude,
            "range": None if self.limits is None else [self.limits.low, self.limits.high],
            "measured": self.measured,
            "description": self.description,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measure:
        """Return the measure that `to_json` wrote."""
        limits = (
            None if data["range"] is None else Range(float(data["range"][0]), float(data["range"][1]), data["unit"])
        )
        texts = {key: str(data[key]) for key in ("name", "unit", "transform", "measured", "description")}
        return cls(
            quantity=Quantity.from_json(data["quantity"]), amplitude=bool(data["amplitude"]), limits=limits, **texts
        )


def _own(name: str, column: str, unit: str, transform: str = "", *, amplitude: bool = False) -> Measure:
    return Measure(name=name, quantity=Quantity.of(column), unit=unit, transform=transform, amplitude=amplitude)


MEASURES: Final[Mapping[str, Measure]] = {
    measure.name: measure
    for measure in (
        _own("heart_rate", "m_hr", "bpm"),
        _own("rr_variation", "m_rr_cv", "1"),
        _own("qrs_ms", "m_qrs_ms", "ms"),
        _own("qrs_axis_sin", "m_qrs_axis", "1", "sin_deg"),
        _own("qrs_axis_cos", "m_qrs_axis", "1", "cos_deg"),
        _own("s_i_mv", "m_S_I", "mV", amplitude=True),
        _own("r_avr_mv", "m_R_aVR", "mV", amplitude=True),
        _own("p_ii_mv", "m_P_II", "mV", amplitude=True),
    )
}


def measure_values(row: Row, *, gain_known: bool) -> np.ndarray:
    """Return one metadata row as float32 `[measure]`, NaN where not measured."""
    return np.array([m.value(row, gain_known=gain_known) for m in MEASURES.values()], np.float32)
