"""The window: which part of a record the quality gate judges and the model sees, chosen once and given to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lsemvae.ecg.errors import LeadError, LengthError
from lsemvae.ecg.leads import LIMB_LEADS, MEASURED_LEADS, canonical_leads
from lsemvae.ecg.runs import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lsemvae.ecg.record import EcgRecord

# A recording may lack 1 % of the window (9.9 s for 10 s): devices and archives round their rates and cut a few samples.
TOLERATED_SHORTFALL: Final = 0.01
# Of the `base` front-end; a bundle's own says how long its model's window is.
DURATION_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a record that the quality gate judges and the model sees: chosen once, given to both.

    Attributes
    ----------
    leads
        Leads that the model takes; rows of the front-end's result.
    judged
        Leads of the record that the gate judges: those of `leads`, and every limb lead that was recorded, because what
        is derived from them cannot be better than they are.
    start, stop
        First sample and end, counted in samples of the record; both 0 where nothing is undisturbed.
    least
        Samples of the shortest window that the model accepts.
    stretch
        The undisturbed stretch that holds the window; the filter sees all of it. None where nothing is undisturbed.
    """

    leads: tuple[str, ...]
    judged: tuple[str, ...]
    start: int
    stop: int
    least: int
    stretch: Interval | None

    @property
    def n_samples(self) -> int:
        """Length in samples of the record."""
        return self.stop - self.start

    @property
    def enough(self) -> bool:
        """Whether the window is long enough for the model."""
        return self.stretch is not None and self.stretch.stop - self.start >= self.least


def choose_window(
    record: EcgRecord,
    *,
    leads: Sequence[str] = MEASURED_LEADS,
    duration_s: float = DURATION_S,
    start_s: float | None = None,
) -> Window:
    """Return the window of a record: the first that is long enough, has no gap and no lead-off.

    Where no stretch is long enough, the longest is returned, for the gate to judge and say why; the front-end refuses
    it. The rate is not looked at: the gate names a wrong one, the front-end refuses it.

    Parameters
    ----------
    record
        The recording.
    leads
        Leads that the model takes.
    duration_s
        Length of the window in seconds: `duration_s` of the model's front-end.
    start_s
        Begin of the window in seconds instead of the first that is possible.

    Raises
    ------
    LengthError
        If `start_s` lies outside the record or a disturbance follows it.
    """
    wanted = canonical_leads(leads)
    exact = duration_s * record.fs_hz
    needed, least = round(exact), int(np.ceil(exact * (1 - TOLERATED_SHORTFALL) - 1e-9))
    runs = free_runs(record, leads=wanted)
    if start_s is None:
        long_enough = next((run for run in runs if run.n_samples >= least), None)
        stretch = long_enough or max(runs, key=lambda run: run.n_samples, default=None)
        start = stretch.start if stretch else 0
    else:
        if not 0 <= start_s < record.duration_s:
            raise LengthError(f"found window start {start_s!r} s, expected 0 to {record.duration_s:.2f} s")
        start = round(start_s * record.fs_hz)
        stretch = next((run for run in runs if run.start <= start and start + least <= run.stop), None)
        if stretch is None:
            seconds = least / record.fs_hz
            raise LengthError(
                f"found a gap, lead-off or the end within {seconds:.2f} s of {start_s:g} s, expected none"
            )
    return Window(
        leads=wanted,
        judged=tuple(lead for lead in record.leads if lead in LIMB_LEADS or lead in wanted),
        start=start,
        stop=min(stretch.stop, start + needed) if stretch else 0,
        least=least,
        stretch=stretch,
    )


def free_runs(record: EcgRecord, *, leads: Sequence[str] = MEASURED_LEADS) -> tuple[Interval, ...]:
    """Return the stretches of a record without gap and without lead-off that touches the wanted leads.

    A lost limb electrode spoils every lead (the chest leads are measured against the three limb electrodes), a lost
    chest electrode only its own.
    """
    wanted = canonical_leads(leads)
    if not wanted:
        raise LeadError("found no wanted lead, expected at least one")
    busy = [(gap.start, gap.stop) for gap in record.gaps]
    busy += [(off.start, off.stop) for off in record.lead_off if off.lead in LIMB_LEADS or off.lead in wanted]
    runs, position = [], 0
    for start, stop in [*sorted(busy), (record.n_samples, record.n_samples)]:
        if start > position:
            runs.append(Interval(position, start))
        position = max(position, stop)
    return tuple(runs)
