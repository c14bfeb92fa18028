"""Units of voltage. Case matters: "mV" is a thousandth of a volt, "MV" is refused."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lsemvae.ecg.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Mapping

UV_PER_UNIT: Final[Mapping[str, float]] = MappingProxyType({"uV": 1.0, "mV": 1e3, "V": 1e6})
# Other spellings of the same units: micro sign, Greek mu.
_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType({"\u00b5V": "uV", "\u03bcV": "uV"})


def microvolts_per(unit: str | None) -> float:
    """Return the microvolts in one `unit` ("uV", "mV" or "V"), or raise UnitError."""
    scale_uv = UV_PER_UNIT.get(_SPELLINGS.get(unit, unit)) if isinstance(unit, str) else None
    if scale_uv is None:
        raise UnitError(f"found unit {unit!r}, expected one of {', '.join(UV_PER_UNIT)}")
    return scale_uv
