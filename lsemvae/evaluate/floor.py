"""The floor: logistic regression on nine hand features of the limb leads plus age and sex. A network must beat it.

The features are the automatic measurements (`m_*`) in the metadata of the development recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lsemvae.data.cells import number

# Seven measurements; the frontal QRS axis enters as sine and cosine, which makes nine.
HAND_FEATURES: Final = ("m_hr", "m_rr_cv", "m_beat_corr", "m_qrs_ms", "m_S_I", "m_R_aVR", "m_P_II")


def hand_features(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Return, float64 `[record, 11]`, seven measurements, sine and cosine of the axis, age, sex; NaN where missing."""
    axis = np.deg2rad([number(r, "m_qrs_axis") for r in rows])
    columns = [[number(r, name) for r in rows] for name in HAND_FEATURES]
    age = [number(r, "age") for r in rows]
    male = [{"M": 1.0, "F": 0.0}.get(r.get("sex", ""), np.nan) for r in rows]
    return np.column_stack([*columns, np.sin(axis), np.cos(axis), age, male])


def floor_probabilities(
    features: np.ndarray, y: np.ndarray, folds: np.ndarray, groups: Sequence[Sequence[int]]
) -> np.ndarray:
    """Return held-out probabilities `[record]` of the regression, trained on the other groups; NaN outside the groups.

    NaN also where the other groups hold one answer only: there is nothing to fit.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = np.full(len(y), np.nan)
    for left_out in groups:
        test = np.isin(folds, list(left_out))
        train = ~test & (folds > 0) & np.isfinite(y)
        if len(np.unique(y[train])) < 2:
            continue
        model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(features[train], y[train])
        out[test] = model.predict_proba(features[test])[:, 1]
    return out
