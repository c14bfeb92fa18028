"""Recordings that nobody labelled, as further rows of a distillation: only the teacher speaks of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.frontend import BASE

UNLABELLED_SPLITS: Final = ("quality_dev",)
"""Splits of fold 0 that may be used. A list of what may, not of what may not: a split of another name is left alone."""
EXTERNAL_SPLIT: Final = "external_dev"
"""The external test. No training row may come from it, with or without labels."""
MIN_SD_MV: Final = 0.01
"""A lead that moves less is an open electrode."""
MAX_CLIPPED_SHARE: Final = 0.01
"""Of a lead's samples at the front-end's clip; beyond it the lead is amplifier, not heart."""
_CHUNK: Final = 256


def unlabelled_rows(store: RecordStore, labelled: np.ndarray) -> np.ndarray:
    """Rows of `UNLABELLED_SPLITS` without fold and label, with twelve leads that carry signal, of nobody in `labelled`."""
    able = (store.fold == 0) & np.isin(store.split, UNLABELLED_SPLITS)
    able &= np.isnan(store.labels).all(1) & store.present.all(1).astype(bool)
    able &= ~np.isin(store.patient, store.patient[labelled])
    rows = np.flatnonzero(able)
    parts = [rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK)]
    rows = np.concatenate([rows[:0], *(part[_carries_signal(store, part)] for part in parts)])
    if not len(rows):
        raise FormatError(
            f"{store.root}: found no unlabelled recording in splits {', '.join(UNLABELLED_SPLITS)}, expected some",
            advice="Distil without unlabelled recordings, or convert a folder that has some.",
        )
    return rows


def _carries_signal(store: RecordStore, rows: np.ndarray) -> np.ndarray:
    x = store.millivolts(rows)
    clipped = (np.abs(x) >= BASE.clip_mv).mean(-1)
    return np.asarray(((x.std(-1) >= MIN_SD_MV) & (clipped <= MAX_CLIPPED_SHARE)).all(1))


def without_truth(store: RecordStore, rows: np.ndarray) -> RecordStore:
    """The store with labels and measures of `rows` unknown (NaN), in memory only."""
    if not len(rows):
        return store
    labels, measures = store.labels.copy(), store.measures.copy()
    labels[rows], measures[rows] = np.nan, np.nan
    return replace(store, labels=labels, measures=measures)
