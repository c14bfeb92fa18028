"""The floor of the evidence table: logistic regression on hand-made features, for limb leads and for twelve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lsemvae.data.cells import number
from lsemvae.data.store import RecordStore
from lsemvae.evaluate.floor import hand_features

CHEST_FEATURES: Final = ("m_R_V1", "m_S_V1", "m_R_V5", "m_S_V5", "m_R_V6", "m_S_V6", "m_P_V1", "m_RS_V1")
# The limb features are sums of I and II: the floor for six leads is that for two. There is none for lead I alone (no
# axis).
_NEEDS_TWO_LEADS: Final = ("12", "6", "I+II")


def floor_logits(
    metadata: Sequence[Mapping[str, str]],
    store: RecordStore,
    train: np.ndarray,
    test: np.ndarray,
    lead_sets: Sequence[str],
) -> tuple[np.ndarray, int]:
    """Return logits float32 `[lead_set, record, label]` for `test`, and the number of coefficients of the largest fit.

    One regression a label is fitted on the recordings of `train` whose gain is known (the others have no measurements).
    NaN where there is nothing to fit: lead I alone, or a label with one answer only.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    by_uid = {row["uid"]: row for row in metadata}
    train = train[store.gain_known[train].astype(bool)]
    both = [by_uid[str(uid)] for uid in store.uid[np.concatenate([train, test])]]
    limb = hand_features(both)
    chest = np.array([[number(row, name) for name in CHEST_FEATURES] for row in both])
    out = np.full((len(lead_sets), len(test), len(store.label_names)), np.nan, np.float32)
    for name in set(lead_sets) & set(_NEEDS_TWO_LEADS):
        features = np.hstack([limb, chest]) if name == "12" else limb
        for k in range(len(store.label_names)):
            y = store.labels[train, k]
            known = np.isfinite(y)
            if len(np.unique(y[known])) != 2:
                continue
            model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=2000))
            model.fit(features[: len(train)][known], y[known])
            out[lead_sets.index(name), :, k] = model.decision_function(features[len(train) :])
    width = limb.shape[1] + chest.shape[1] + 1
    return out, width * len(store.label_names)
