"""Batches from the record store, and the lead subsets that occur in use (12, 6, I+II, I)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.store import RecordStore
from lsemvae.ecg.leads import LEADS, LIMB_LEADS, MEASURED_LEADS

# Name, leads, and how often a batch sees only these: the sets that are met in use, so that one model serves all.
LEAD_SUBSETS: Final[tuple[tuple[str, tuple[str, ...], float], ...]] = (
    ("12", LEADS, 0.4),
    ("6", LIMB_LEADS, 0.3),
    ("I+II", MEASURED_LEADS, 0.2),
    ("I", ("I",), 0.1),
)


@dataclass(frozen=True)
class Batch:
    """`x` float32 `[batch, lead, time]` mV, `present` bool `[batch, lead]`, `labels` and `measures` with NaN, gains."""

    x: Tensor
    present: Tensor
    labels: Tensor
    measures: Tensor
    gain_known: Tensor

    def to(self, device: str) -> Batch:
        """Return the same batch on another device."""
        return Batch(*(getattr(self, part.name).to(device) for part in fields(self)))


def load_batch(store: RecordStore, rows: np.ndarray, *, leads: tuple[str, ...] = LEADS) -> Batch:
    """Return rows of the store as tensors."""
    columns = [LEADS.index(lead) for lead in leads]
    return Batch(
        torch.from_numpy(store.millivolts(rows, leads=leads)),
        torch.from_numpy(store.present[rows][:, columns]),
        torch.from_numpy(store.labels[rows]),
        torch.from_numpy(store.measures[rows]),
        torch.from_numpy(store.gain_known[rows].astype(bool)),
    )


def in_batches(store: RecordStore, rows: np.ndarray, *, size: int = 64) -> Iterator[Batch]:
    """Yield rows of the store as batches of `size`, in their order."""
    for k in range(0, len(rows), size):
        yield load_batch(store, rows[k : k + size])


def draw_subset(g: torch.Generator, leads: tuple[str, ...] = LEADS) -> Tensor:
    """Draw one of the lead subsets: bool `[lead]`."""
    weights = torch.tensor([weight for _, _, weight in LEAD_SUBSETS])
    pick = int(torch.multinomial(weights, 1, generator=g))
    return subset_mask(LEAD_SUBSETS[pick][1], leads)


def draw_subsets(g: torch.Generator, n: int, leads: tuple[str, ...] = LEADS) -> Tensor:
    """Draw a lead subset for each of `n` recordings: bool `[batch, lead]`.

    One draw a recording, not one a batch: batch normalization behind the fusion then meets in training the mixture of lead sets
    that its running statistics stand for.
    """
    weights = torch.tensor([weight for _, _, weight in LEAD_SUBSETS])
    masks = torch.stack([subset_mask(chosen, leads) for _, chosen, _ in LEAD_SUBSETS])
    return masks[torch.multinomial(weights, n, replacement=True, generator=g)]


def seen_in_training(
    present: Tensor, g: torch.Generator, *, subsets: str, each: bool, leads: tuple[str, ...] = LEADS
) -> Tensor:
    """Return which leads a training step sees: those of one drawn subset a batch, of one a recording (`each`), or all.

    `subsets` is `TrainConfig.subsets`: `in_use` or `all_leads`.
    """
    if subsets == "all_leads":
        return present
    return seen_through(present, draw_subsets(g, len(present), leads) if each else draw_subset(g, leads))


def seen_through(present: Tensor, subset: Tensor) -> Tensor:
    """Return presence `[batch, lead]` under a subset; a recording that has no lead of its subset keeps all it has."""
    seen = present & subset
    return torch.where(seen.any(1, keepdim=True), seen, present)


def rows_with(store: RecordStore, rows: np.ndarray, leads: tuple[str, ...]) -> np.ndarray:
    """Return the part of `rows` that has all of `leads`: an absent lead reads as zeros, which are no recording."""
    columns = [LEADS.index(lead) for lead in leads]
    return rows[store.present[rows][:, columns].all(1)]


def subset_mask(chosen: tuple[str, ...], leads: tuple[str, ...] = LEADS) -> Tensor:
    """Return which of `leads` are in `chosen`, as bool `[lead]`."""
    return torch.tensor([lead in chosen for lead in leads])
