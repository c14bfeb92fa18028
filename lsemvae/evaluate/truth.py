"""What readers stated and who was recorded, joined by uid to recorded predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsemvae.data.cells import gain_is_known, number, whole
from lsemvae.data.folder import EcgFolder
from lsemvae.data.labels import label_values
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.predictions import PredictionTable


@dataclass(frozen=True)
class Truth:
    """Reader statements and persons, in the order of `uid`.

    Attributes
    ----------
    uid, patient, sex
        str `[record]`; a recording without a patient key is its own patient; sex is F, M or empty.
    labels, y
        Names, and float32 `[record, label]`: 1, 0, or NaN where nothing was stated or, for RHS, no axis was stated.
    age
        Years `[record]`, NaN where not stated.
    gain_known
        bool `[record]`: whether amplitudes are in true millivolts.
    fold
        int `[record]`, from 1.
    """

    uid: np.ndarray
    labels: tuple[str, ...]
    y: np.ndarray
    patient: np.ndarray
    age: np.ndarray
    sex: np.ndarray
    gain_known: np.ndarray
    fold: np.ndarray

    def of(self, label: str) -> np.ndarray:
        """Return what was stated about one label, float64 `[record]`."""
        if label not in self.labels:
            raise FormatError(f"found the labels {', '.join(self.labels)}, expected also {label}")
        return np.asarray(self.y[:, self.labels.index(label)], dtype=np.float64)

    def part(self, keep: np.ndarray) -> Truth:
        """Return the recordings where `keep` (bool or indices) holds."""
        columns = {name: getattr(self, name)[keep] for name in ("uid", "y", "patient", "age", "sex", "gain_known")}
        return Truth(labels=self.labels, fold=self.fold[keep], **columns)


def join_truth(folder: EcgFolder, tables: Sequence[PredictionTable], labels: Sequence[str]) -> Truth:
    """Return the truth of every recording that any of the tables scores, in the order of uids.

    A uid that the folder does not have, or whose fold differs, is refused: the figures would not be held out.
    """
    by_uid = {row["uid"]: row for row in folder.rows}
    for table in tables:
        strangers = [str(u) for u in table.uid if str(u) not in by_uid]
        if strangers:
            raise FormatError(
                f"{table.name}: found {len(strangers)} recordings (for one, {strangers[0]}) that {folder.root} does not have, "
                "expected only recordings of its metadata.csv",
                advice="Point --data to the folder that the predictions were made on.",
            )
        for one, fold in zip(table.uid, table.fold, strict=True):
            stated = whole(by_uid[str(one)], "strat_fold", missing=0)
            if stated != fold:
                raise FormatError(
                    f"{table.name}: found {one} in fold {fold}, expected fold {stated} as in {folder.root}",
                    advice="Use the metadata that the predictions were made with: otherwise nothing says they are held out.",
                )
    uid = np.unique(np.concatenate([table.uid for table in tables]))
    rows = [by_uid[str(u)] for u in uid]
    return Truth(
        uid=uid,
        labels=tuple(labels),
        y=np.array([label_values(row, tuple(labels)) for row in rows]).reshape(len(rows), len(labels)),
        patient=np.array([row.get("patient") or row["uid"] for row in rows]),
        age=np.array([number(row, "age") for row in rows]),
        sex=np.array([row.get("sex", "") for row in rows]),
        gain_known=np.array([gain_is_known(row) for row in rows]),
        fold=np.array([whole(row, "strat_fold", missing=0) for row in rows]),
    )


def aligned(table: PredictionTable, uid: np.ndarray) -> np.ndarray:
    """Return logits float32 `[seed, lead_set, record, label]` in the order of `uid`; NaN where the table has no such recording."""
    order = np.argsort(table.uid)
    at = order[np.minimum(np.searchsorted(table.uid, uid, sorter=order), len(order) - 1)]
    out = np.array(table.logits[:, :, at])
    out[:, :, table.uid[at] != uid] = np.nan
    return out
