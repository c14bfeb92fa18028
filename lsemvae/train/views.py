"""What else a student learns from: augmented views with the teachers' answers, and unlabelled recordings.

A teacher that answers on every fresh view runs as long as the training does. A bank of n views of each recording asks it
n times in all, and student and teacher still see the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.frontend import BASE
from lsemvae.ecg.leads import LEADS
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.batches import load_batch
from lsemvae.train.teachers import ask

_BATCH: Final = 64
# Kept as float16: 1 uV at 1 mV, and 21 KiB a recording and view instead of 42.
_HALF: Final = ("x", "latent")

# Splits of fold 0 that may be used without labels: a list of what may, so that a split of another name is left alone.
UNLABELLED_SPLITS: Final = ("quality_dev",)
# The external test. No training row may come from it, with or without labels.
EXTERNAL_SPLIT: Final = "external_dev"
# A lead that moves less is an open electrode.
MIN_SD_MV: Final = 0.01
# Of a lead's samples at the front-end's clip; beyond it the lead is amplifier, not heart.
MAX_CLIPPED_SHARE: Final = 0.01
_CHUNK: Final = 256


@dataclass(kw_only=True)
class ViewBank:
    """Augmented views of the recordings `rows` and the teachers' answers to each, drawn once.

    View v of all recordings is made when it is first asked for; the same seed gives the same view, whenever it is made.
    """

    teachers: Sequence[LsEmvae]
    store: RecordStore
    rows: np.ndarray
    leads: tuple[str, ...]
    spec: AugmentSpec
    seed: int
    with_map: bool
    _views: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def pick(self, view: int, places: Tensor) -> dict[str, Tensor]:
        """Return `x` `[batch, lead, time]` mV and what the teachers say, for positions in `rows`."""
        if view in self._views:
            return {name: values[places].float() for name, values in self._views[view].items()}
        # One call of `augment` shifts all its recordings alike, so recordings go through it in a random order: otherwise
        # those that follow each other in the store would share their shift in every view.
        g = torch.Generator().manual_seed(self.seed * 100_003 + view)
        order = torch.randperm(len(self.rows), generator=g)
        columns = [LEADS.index(lead) for lead in self.leads]
        parts: dict[str, list[Tensor]] = {}
        for k in range(0, len(order), _BATCH):
            batch = load_batch(self.store, self.rows[order[k : k + _BATCH].numpy()])
            x = augment(batch.x, leads=LEADS, gain_known=batch.gain_known, spec=self.spec, g=g)
            for name, values in {"x": x[:, columns], **ask(self.teachers, x, batch.present)._asdict()}.items():
                if name != "latent" or self.with_map:
                    parts.setdefault(name, []).append(values.half() if name in _HALF else values)
        back = torch.argsort(order)
        self._views[view] = {name: torch.cat(values)[back] for name, values in parts.items()}
        return self.pick(view, places)


def unlabelled_rows(store: RecordStore, labelled: np.ndarray) -> np.ndarray:
    """Return the rows of `UNLABELLED_SPLITS` that a teacher alone may speak of.

    They have no fold and no label, twelve leads that carry signal, and belong to no patient of the rows `labelled`.
    """
    able = (store.fold == 0) & np.isin(store.split, UNLABELLED_SPLITS)
    able &= np.isnan(store.labels).all(1) & store.present.all(1).astype(bool)
    able &= ~np.isin(store.patient, store.patient[labelled])
    rows = np.flatnonzero(able)
    carrying = [rows[:0]]
    for k in range(0, len(rows), _CHUNK):
        part = rows[k : k + _CHUNK]
        x = store.millivolts(part)
        clipped = (np.abs(x) >= BASE.clip_mv).mean(-1)
        carrying.append(part[((x.std(-1) >= MIN_SD_MV) & (clipped <= MAX_CLIPPED_SHARE)).all(1)])
    rows = np.concatenate(carrying)
    if not len(rows):
        raise FormatError(
            f"{store.root}: found no unlabelled recording in splits {', '.join(UNLABELLED_SPLITS)}, expected some",
            advice="Distil without unlabelled recordings, or convert a folder that has some.",
        )
    return rows


def without_truth(store: RecordStore, rows: np.ndarray) -> RecordStore:
    """Return the store with labels and measures of `rows` unknown (NaN), in memory only."""
    if not len(rows):
        return store
    labels, measures = store.labels.copy(), store.measures.copy()
    labels[rows], measures[rows] = np.nan, np.nan
    return replace(store, labels=labels, measures=measures)
