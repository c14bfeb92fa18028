"""Splits that never cut a patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from lsemvae.ecg.errors import FormatError


def check_disjoint(patients: Sequence[str], *parts: np.ndarray) -> None:
    """Raise FormatError if a patient stands in two of the index arrays `parts`."""
    names = np.asarray(patients)
    for a in range(len(parts)):
        for b in range(a + 1, len(parts)):
            shared = set(names[parts[a]]) & set(names[parts[b]])
            if shared:
                raise FormatError(
                    f"found {len(shared)} patients in two splits (for one, {sorted(shared)[0]}), expected none",
                    advice="Split by patient, not by recording.",
                )


def patient_fold(patient: str, *, n_folds: int, salt: str = "lsemvae") -> int:
    """Return a fold 1..n_folds for a patient key, the same on every machine (SHA-256, no random state)."""
    digest = hashlib.sha256(f"{salt}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n_folds + 1


def group_folds(folds: Sequence[int], n_groups: int) -> list[tuple[int, ...]]:
    """Gather stratified folds into `n_groups` runs of equal length: nine folds in three -> (1,2,3), (4,5,6), (7,8,9)."""
    present = sorted(set(folds))
    if n_groups < 2 or n_groups > len(present):
        raise FormatError(f"found {len(present)} folds, expected at least {max(n_groups, 2)} for {n_groups} groups")
    return [tuple(int(f) for f in part) for part in np.array_split(present, n_groups)]


def held_out(folds: np.ndarray, patients: Sequence[str], test_folds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return row indices (train, test) for one group of test folds; fold 0 (none stated) is in neither."""
    is_test = np.isin(folds, list(test_folds))
    train, test = np.flatnonzero((folds > 0) & ~is_test), np.flatnonzero(is_test)
    check_disjoint(patients, train, test)
    return train, test
