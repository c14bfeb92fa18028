"""Runs of samples (gaps, lead-off, overload) and the time of the first sample."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import FormatError, LeadError, LengthError
from lsemvae.ecg.leads import canonical_leads

TimeSource = Literal["device", "host", "file", "unknown"]


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Half-open run of samples `[start, stop)`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse an empty or negative run."""
        _check_run(self.start, self.stop)

    @property
    def n_samples(self) -> int:
        """Length in samples."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class LeadOff:
    """Half-open run of samples `[start, stop)` in which a lead had no contact."""

    lead: str
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Bring the lead name to canonical form and refuse an empty run."""
        object.__setattr__(self, "lead", canonical_leads((self.lead,))[0])
        _check_run(self.start, self.stop)


@dataclass(frozen=True, slots=True)
class StartTime:
    """When the first sample was taken, and whose clock said so."""

    utc_iso: str
    source: TimeSource = "unknown"

    def __post_init__(self) -> None:
        """Refuse an unknown source or an empty time."""
        if self.source not in get_args(TimeSource):
            raise FormatError(f"found time source {self.source!r}, expected one of {', '.join(get_args(TimeSource))}")
        if not isinstance(self.utc_iso, str) or not self.utc_iso:
            raise FormatError(f"found start time {self.utc_iso!r}, expected ISO 8601 text in UTC")


def checked_runs(runs: tuple[Interval, ...], what: str, n_samples: int) -> tuple[Interval, ...]:
    """Return the runs sorted; refuse runs that overlap or leave the record."""
    ordered = tuple(sorted(runs))
    for run in ordered:
        if run.stop > n_samples:
            raise LengthError(f"found a {what} up to sample {run.stop}, expected at most {n_samples}")
    for before, after in pairwise(ordered):
        if after.start < before.stop:
            raise LengthError(f"found overlapping runs {before} and {after} ({what}), expected disjoint ones")
    return ordered


def checked_lead_off(runs: tuple[LeadOff, ...], leads: tuple[str, ...], n_samples: int) -> tuple[LeadOff, ...]:
    """Return the runs; refuse leads that the record lacks and runs that leave the record."""
    for run in runs:
        if run.lead not in leads:
            raise LeadError(f"found lead-off for {run.lead}, expected one of the record's leads {', '.join(leads)}")
        if run.stop > n_samples:
            raise LengthError(f"found lead-off up to sample {run.stop}, expected at most {n_samples}")
    return tuple(runs)


def _check_run(start: int, stop: int) -> None:
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop):
        raise LengthError(f"found run {start!r}..{stop!r}, expected whole numbers with 0 <= start < stop")


def cut_run(run: Interval | LeadOff, start: int, stop: int) -> tuple[int, int] | None:
    """Return the part of a run inside `[start, stop)`, counted from `start`, or None."""
    first, last = max(run.start, start) - start, min(run.stop, stop) - start
    return (first, last) if first < last else None


def cut_runs(runs: tuple[Interval, ...], start: int, stop: int) -> tuple[Interval, ...]:
    """Return the parts of the runs inside `[start, stop)`, counted from `start`."""
    return tuple(Interval(*run) for old in runs if (run := cut_run(old, start, stop)))


def runs_of(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return the half-open runs ``(start, stop)`` in which `mask` ``[time]`` is true, in order."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2].tolist(), edges[1::2].tolist()
    return tuple(zip(starts, stops, strict=True))
