"""Whether a device's limb leads can be what they are called.

Three electrodes have two independent differences; every further limb lead follows from two of them (Einthoven 1912:
III = II - I; Goldberger 1942: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2). A device that claims more leads than that
and breaks the relations has a wiring, a lead code or a scale wrong, and no lead of it can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import LeadError, SampleError
from lsemvae.ecg.leads import LIMB_LEADS, LIMB_MATRIX, canonical_leads

# What the quality gate allows (`QualityThresholds.max_einthoven_mv`): a hundred times a device's rounding, a tenth of a
# small R wave.
LIMIT_UV: Final = 50.0

_ADVICE: Final = "Attach the electrodes as marked and record again. If this returns, the device names its leads wrongly: do not use it."


@dataclass(frozen=True, slots=True)
class LimbCheck:
    """How far each limb lead is from what the other limb leads say of it.

    Attributes
    ----------
    leads
        Limb leads that were looked at; fewer than three always agree.
    residual_uv
        For each of them, root mean square over time, in microvolt.
    n_samples
        Samples that were compared; 0 says that nothing is known.
    limit_uv
        Largest residual allowed.
    """

    leads: tuple[str, ...]
    residual_uv: tuple[float, ...]
    n_samples: int
    limit_uv: float = LIMIT_UV

    @property
    def worst_uv(self) -> float:
        """Largest residual; 0.0 where nothing could be compared."""
        return max(self.residual_uv, default=0.0)

    @property
    def ok(self) -> bool:
        """Whether every lead agrees with the others."""
        return self.worst_uv <= self.limit_uv

    def require(self) -> None:
        """Raise a `LeadError` that shows what was found, if the leads contradict each other."""
        if self.ok:
            return
        worst = self.leads[self.residual_uv.index(self.worst_uv)]
        raise LeadError(
            f"limb leads {', '.join(self.leads)}: found {worst} {self.worst_uv:.0f} uV rms from what the others say of it, "
            f"expected at most {self.limit_uv:g} uV",
            advice=_ADVICE,
        )


def check_limb_relations(codes: NDArray[np.int32], leads: Sequence[str], lsb_uv: float) -> LimbCheck:
    """Hold the limb leads of a device against each other.

    Parameters
    ----------
    codes
        Device codes ``[lead, time]``, only times with every electrode on. Each lead's mean is taken off: channels have
        offsets of their own.
    leads
        Names of the rows; chest leads are passed over.
    lsb_uv
        Weight of one code in microvolt.

    Returns
    -------
    LimbCheck
        A lead's residual is its distance from the least-squares prediction by the other limb leads (Allen 1974,
        PRESS): with I, II and III that of III is III - (II - I).
    """
    names = canonical_leads(leads)
    array = np.asarray(codes)
    if array.ndim != 2 or array.shape[0] != len(names):
        raise SampleError(f"limb leads: found codes of shape {array.shape}, expected ({len(names)}, time)")
    rows = [at for at, name in enumerate(names) if name in LIMB_LEADS]
    limb = tuple(names[at] for at in rows)
    if len(limb) < 3 or array.shape[1] == 0:
        return LimbCheck(leads=limb, residual_uv=(0.0,) * len(limb), n_samples=array.shape[1])
    level_uv = array[rows].astype(np.float64) * lsb_uv
    level_uv -= level_uv.mean(axis=1, keepdims=True)
    matrix = LIMB_MATRIX[[LIMB_LEADS.index(name) for name in limb]]
    fit = matrix @ np.linalg.pinv(matrix)
    residual_uv = np.sqrt(np.mean((level_uv - fit @ level_uv) ** 2, axis=1)) / (1.0 - np.diag(fit))
    return LimbCheck(leads=limb, residual_uv=tuple(map(float, residual_uv)), n_samples=array.shape[1])
