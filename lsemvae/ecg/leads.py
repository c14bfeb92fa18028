"""Leads by name, and the algebra of the six limb leads.

Two electrode differences span all six limb leads (Einthoven 1912, Goldberger 1942)::

    III = II - I    aVR = -(I + II) / 2    aVL = I - II / 2    aVF = II - I / 2

so `[six, time] = LIMB_MATRIX @ [two, time]`, a matrix of rank 2. Leads are always chosen by name: archives disagree
about the order of aVL and aVF.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import LeadError, SampleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FloatArray = npt.NDArray[np.floating[Any]]

LIMB_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST_LEADS: Final = ("V1", "V2", "V3", "V4", "V5", "V6")
LEADS: Final = LIMB_LEADS + CHEST_LEADS
MEASURED_LEADS: Final = ("I", "II")

LIMB_MATRIX: Final[npt.NDArray[np.float64]] = np.array(
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]]
)
LIMB_MATRIX.setflags(write=False)

_BY_FOLDED: Final[Mapping[str, str]] = MappingProxyType({name.lower(): name for name in LEADS})
# Prefixes that archives and standards put before the name: "Lead I", "ECG aVR", "MDC_ECG_LEAD_V1" (ISO/IEEE
# 11073-10101), "LEAD_II".
_PREFIX: Final = re.compile(r"^(?:mdc_ecg_lead_|ecg[ _-]*lead[ _-]*|ecg[ _-]+|lead[ _-]*)", re.ASCII)


def canonical_lead(name: str) -> str:
    """Return the canonical spelling of a lead name.

    Accepts any case and the usual prefixes ("avr", "Lead I", "ecg ii", "MDC_ECG_LEAD_aVR").

    Raises
    ------
    LeadError
        If the name is no known lead; the message lists the known names.
    """
    folded = name.strip().lower() if isinstance(name, str) else ""
    found = _BY_FOLDED.get(folded) or _BY_FOLDED.get(_PREFIX.sub("", folded, count=1).strip())
    if found is None:
        raise LeadError(f"found unknown lead {name!r}, expected one of {', '.join(LEADS)}")
    return found


def canonical_leads(names: Sequence[str]) -> tuple[str, ...]:
    """Return the canonical spelling of several lead names, in the given order.

    Raises
    ------
    LeadError
        If a name is unknown, or if two names mean the same lead.
    """
    if isinstance(names, str):
        raise LeadError(f"found one text {names!r} for the lead names, expected a sequence of names")
    first_spelling: dict[str, str] = {}
    for name in names:
        lead = canonical_lead(name)
        if lead in first_spelling:
            raise LeadError(
                f"found lead {lead} twice (as {first_spelling[lead]!r} and as {name!r}), expected each lead once"
            )
        first_spelling[lead] = name
    return tuple(first_spelling)


def derive_limb_leads(i: npt.ArrayLike, ii: npt.ArrayLike) -> FloatArray:
    """Return the six limb leads from leads I and II.

    Parameters
    ----------
    i, ii
        Leads I and II, `[..., time]`, any one unit. Integers are computed in float64.

    Returns
    -------
    ndarray
        `[..., 6, time]` in the order of :data:`LIMB_LEADS`, same unit, same float type.
    """
    a, b = _as_float(i), _as_float(ii)
    if a.shape != b.shape:
        raise SampleError(f"found lead I of shape {a.shape} and lead II of shape {b.shape}, expected equal shapes")
    half_a, half_b = a / 2, b / 2
    return np.stack([a, b, b - a, -half_a - half_b, a - half_b, b - half_a], axis=-2)


def estimate_i_ii(samples: npt.ArrayLike, *, leads: Sequence[str]) -> FloatArray:
    """Return leads I and II as measured, or by least squares over all limb leads at hand.

    Parameters
    ----------
    samples
        `[lead, time]`, any unit.
    leads
        Names of the rows, any order; chest leads are passed over.

    Returns
    -------
    ndarray
        `[2, time]`, same unit. Exactly the given rows where I and II are the only limb leads.

    Raises
    ------
    LeadError
        If fewer than two limb leads are present (any two are independent).
    """
    x, names = _rows(samples, leads)
    present = [name for name in names if name in LIMB_LEADS]
    if set(present) == set(MEASURED_LEADS):
        return x[[names.index("I"), names.index("II")]]
    if len(present) < 2:
        raise LeadError(f"found limb leads {_listing(present)}, expected at least two of {', '.join(LIMB_LEADS)}")
    solve = np.linalg.pinv(LIMB_MATRIX[[LIMB_LEADS.index(name) for name in present]]).astype(x.dtype)
    estimate: FloatArray = solve @ x[[names.index(name) for name in present]]
    return estimate


def select_leads(samples: npt.ArrayLike, *, leads: Sequence[str], wanted: Sequence[str]) -> FloatArray:
    """Return the wanted leads by name.

    Leads that are present are taken as they are. Limb leads that are missing are derived from leads I and II, which
    are taken directly or, where one of them is missing too, estimated from the limb leads at hand.

    Parameters
    ----------
    samples
        `[lead, time]`, any unit.
    leads
        Names of the rows of `samples`, any order.
    wanted
        Names of the rows of the result, any order.

    Returns
    -------
    ndarray
        `[len(wanted), time]`, same unit.

    Raises
    ------
    LeadError
        If a wanted chest lead is missing, or a limb lead cannot be derived.
    """
    x, names = _rows(samples, leads)
    targets = canonical_leads(wanted)
    missing = [name for name in targets if name not in names]
    lost = [name for name in missing if name in CHEST_LEADS]
    if lost:
        raise LeadError(
            f"found leads {_listing(names)}, expected also {_listing(lost)}",
            advice="Chest leads cannot be computed from limb leads: record them, or use a model for limb leads.",
        )
    derived = x[:0]
    if missing:
        measured = set(MEASURED_LEADS) <= set(names)
        i_ii = x[[names.index("I"), names.index("II")]] if measured else estimate_i_ii(x, leads=names)
        derived = derive_limb_leads(*i_ii)
    return np.stack([x[names.index(name)] if name in names else derived[LIMB_LEADS.index(name)] for name in targets])


def einthoven_residual(samples: npt.ArrayLike, *, leads: Sequence[str]) -> float:
    """Return how far the limb leads are from the two-dimensional model.

    Parameters
    ----------
    samples
        `[lead, time]`, any unit.
    leads
        Names of the rows; chest leads are passed over.

    Returns
    -------
    float
        Root mean square, over limb leads and time, of the difference to the least-squares fit by two signals; unit of
        `samples`. 0.0 where only two limb leads are given, which always fit.
    """
    x, names = _rows(samples, leads)
    present = [name for name in names if name in LIMB_LEADS]
    if len(present) <= 2 or x.shape[-1] == 0:
        estimate_i_ii(x, leads=names)  # refuses fewer than two limb leads
        return 0.0
    limb = x[[names.index(name) for name in present]].astype(np.float64)
    fit = LIMB_MATRIX[[LIMB_LEADS.index(name) for name in present]] @ estimate_i_ii(limb, leads=present)
    return float(np.sqrt(np.mean((limb - fit) ** 2)))


def _rows(samples: npt.ArrayLike, leads: Sequence[str]) -> tuple[FloatArray, tuple[str, ...]]:
    """Return samples as float `[lead, time]` and canonical names, checked against each other."""
    names = canonical_leads(leads)
    x = _as_float(samples)
    if x.ndim != 2 or x.shape[0] != len(names):
        raise SampleError(
            f"found samples of shape {x.shape}, expected ({len(names)}, time) for leads {_listing(names)}"
        )
    return x, names


def _as_float(x: npt.ArrayLike) -> FloatArray:
    """Return an array of its own float type; integers become float64."""
    array = np.asarray(x)
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    raise SampleError(f"found samples of type {array.dtype}, expected real numbers")


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
