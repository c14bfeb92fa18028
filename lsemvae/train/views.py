"""A bank of augmented views with the teachers' answers to each, drawn once: consistent teaching at the price of a few epochs.

A teacher that answers on every fresh view runs as long as the training does. A bank of n views of each recording asks it
n times in all, and student and teacher still see the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.ecg.leads import LEADS
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.batches import load_batch
from lsemvae.train.teachers import ask

_BATCH = 64
_HALF = ("x", "latent")
"""Kept as float16: 1 uV at 1 mV, and 21 KiB a recording and view instead of 42."""


@dataclass(kw_only=True)
class ViewBank:
    """View v of every recording in `rows`, made when it is first asked for; the same for the same seed, whenever made."""

    teachers: Sequence[LsEmvae]
    store: RecordStore
    rows: np.ndarray
    leads: tuple[str, ...]
    spec: AugmentSpec
    seed: int
    with_map: bool
    _views: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def pick(self, view: int, places: Tensor) -> dict[str, Tensor]:
        """`x` `[batch, lead, time]` mV and what the teachers say, for positions in `rows`."""
        if view not in self._views:
            self._views[view] = self._draw(view)
        return {name: values[places].float() for name, values in self._views[view].items()}

    def _draw(self, view: int) -> dict[str, Tensor]:
        """Recordings go through the augmentation in random company, because those of one call share their shift."""
        g = torch.Generator().manual_seed(self.seed * 100_003 + view)
        order = torch.randperm(len(self.rows), generator=g)
        parts = [self._part(self.rows[order[k : k + _BATCH].numpy()], g) for k in range(0, len(order), _BATCH)]
        back = torch.argsort(order)
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}

    def _part(self, rows: np.ndarray, g: torch.Generator) -> dict[str, Tensor]:
        batch = load_batch(self.store, rows)
        x = augment(batch.x, leads=LEADS, gain_known=batch.gain_known, spec=self.spec, g=g)
        told = ask(self.teachers, x, batch.present)._asdict()
        if not self.with_map:
            del told["latent"]
        kept = {"x": x[:, [LEADS.index(lead) for lead in self.leads]], **told}
        return {name: values.half() if name in _HALF else values for name, values in kept.items()}
