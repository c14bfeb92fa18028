"""The recordings an export needs: some to learn the INT8 ranges from, others to judge the result on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.errors import ExportCalibrationError
from lsemvae.data.store import RecordStore
from lsemvae.ecg.frontend import FrontendSpec

N_CALIBRATION: Final = 256
# Half of the calibration set by label, a quarter from the tails of the amplitude, the rest spread over everything.
_SHARE_BY_LABEL: Final = 0.5
_SHARE_TALL: Final = 0.125
_SHARE_SMALL: Final = 0.125
# A clipped recording teaches the range of the clip, not of the heart; a few are life.
_MAX_CLIPPED_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class ExportData:
    """Recordings as the model sees them, through the run-time front-end: float32 `[n, lead, n_samples]` in mV.

    Attributes
    ----------
    truth
        Labels of the validation recordings `[m, K]`: 0, 1, or NaN where unknown.
    held_out
        Validation recordings `[m]` that the model has not seen and whose gain is known: the decision rule may be fitted
        on them. None where there are none.
    n_unseen
        How many validation recordings the model has not seen in training, whatever is known of their gain.
    source_sha256
        Hash of the data they were taken from.
    """

    calibration: np.ndarray
    calibration_ids: tuple[str, ...]
    validation: np.ndarray
    validation_ids: tuple[str, ...]
    truth: np.ndarray
    source_sha256: str = ""
    held_out: np.ndarray | None = None
    n_unseen: int = 0

    @property
    def calibration_sha256(self) -> str:
        """Hash of the list of calibration recordings."""
        return hashlib.sha256("\n".join(self.calibration_ids).encode()).hexdigest()

    def clipped_records(self, clip_mv: float) -> int:
        """Return how many calibration recordings touch the front-end's clip."""
        return int((np.abs(self.calibration).max(axis=(1, 2)) >= clip_mv).sum())


def check_data(
    data: ExportData,
    *,
    n_leads: int,
    n_labels: int,
    spec: FrontendSpec,
    min_calibration: int,
    min_validation: int = 1,
) -> ExportData:
    """Return the data, or raise ExportCalibrationError with what is wrong with it."""
    for name, ecg, ids in (
        ("calibration", data.calibration, data.calibration_ids),
        ("validation", data.validation, data.validation_ids),
    ):
        shape = (n_leads, spec.n_samples)
        if ecg.ndim != 3 or ecg.shape[1:] != shape or ecg.dtype != np.float32 or len(ecg) != len(ids) or not len(ecg):
            raise ExportCalibrationError(
                f"{name}: found {ecg.dtype} {ecg.shape} with {len(ids)} ids; "
                f"expected float32 (n, {shape[0]}, {shape[1]}) with n ids"
            )
        if len(set(ids)) != len(ids):
            raise ExportCalibrationError(f"{name}: found {len(ids)} ids, {len(set(ids))} different; expected each once")
        if not np.isfinite(ecg).all():
            raise ExportCalibrationError(f"{name}: found NaN or infinite samples; expected finite millivolts")
    if data.truth.shape != (len(data.validation), n_labels):
        raise ExportCalibrationError(f"truth has shape {data.truth.shape}; expected {(len(data.validation), n_labels)}")
    if len(data.calibration) < min_calibration:
        raise ExportCalibrationError(
            f"found {len(data.calibration)} calibration recordings; expected at least {min_calibration}"
        )
    if len(data.validation) < min_validation:
        raise ExportCalibrationError(
            f"found {len(data.validation)} validation recordings; expected at least {min_validation}"
        )
    shared = set(data.calibration_ids) & set(data.validation_ids)
    if shared:
        raise ExportCalibrationError(
            f"{len(shared)} recordings calibrate and validate; expected none (first: {min(shared)})"
        )
    if data.held_out is not None and (data.held_out.dtype != np.bool_ or data.held_out.shape != data.truth.shape[:1]):
        raise ExportCalibrationError(
            f"held_out is {data.held_out.dtype} {list(data.held_out.shape)}; expected bool [{len(data.validation)}]"
        )
    clipped = data.clipped_records(spec.clip_mv)
    if clipped > _MAX_CLIPPED_SHARE * len(data.calibration):
        raise ExportCalibrationError(
            f"{clipped} of {len(data.calibration)} calibration recordings reach the clip of {spec.clip_mv:g} mV; "
            f"expected at most {_MAX_CLIPPED_SHARE:.0%}"
        )
    return data


def data_from_store(
    store: RecordStore,
    *,
    leads: Sequence[str],
    labels: Sequence[str],
    spec: FrontendSpec,
    left_out: Sequence[int] = (),
    calibration_ids: Sequence[str] | None = None,
    n_calibration: int = N_CALIBRATION,
) -> ExportData:
    """Choose calibration and validation recordings from a record store.

    Calibration comes from the folds the model was trained on, by the given ids or stratified by label and amplitude;
    validation is every recording of other patients: of the left-out folds where the run left some out, else of the whole
    store, with the recordings that belong to no fold and were never trained on. Recordings that reach the front-end's clip are
    left out of both: the clinic's quality gate never lets them through to a model.
    """
    if store.index["frontend_sha256"] != spec.sha256():
        raise ExportCalibrationError(
            f"the store was made with front-end {store.index['frontend_sha256'][:12]}; expected {spec.sha256()[:12]}",
            advice="Convert the data again with `lsemvae convert`: training and the clinic share one front-end.",
        )
    if missing := [label for label in labels if label not in store.label_names]:
        raise ExportCalibrationError(f"the store has no labels {missing}; it has {list(store.label_names)}")
    trained = np.flatnonzero((store.fold > 0) & ~np.isin(store.fold, list(left_out)))
    may_calibrate = trained[store.gain_known[trained].astype(bool)]
    if calibration_ids is None:
        rows = choose_calibration(store, may_calibrate, leads=leads, clip_mv=spec.clip_mv, n=n_calibration)
    else:
        position = {str(uid): row for row, uid in enumerate(store.uid)}
        if unknown := [uid for uid in calibration_ids if uid not in position]:
            raise ExportCalibrationError(
                f"{len(unknown)} calibration recordings are not in the store (first: {unknown[0]})"
            )
        rows = np.array([position[uid] for uid in calibration_ids])
        allowed = np.isin(rows, may_calibrate)
        if refused := [uid for uid, may in zip(calibration_ids, allowed, strict=True) if not may]:
            raise ExportCalibrationError(
                f"{len(refused)} calibration recordings are held out or have no known gain (first: {refused[0]}); "
                "expected recordings of the folds the model was trained on"
            )
    judged = np.isin(store.fold, list(left_out)) if len(left_out) else np.ones(len(store.fold), dtype=bool)
    others = np.flatnonzero(judged & ~np.isin(store.patient, store.patient[rows]))
    validation = store.millivolts(others, leads=leads)
    passable = np.abs(validation).max(axis=(1, 2)) < spec.clip_mv
    others, validation = others[passable], validation[passable]
    columns = [store.label_names.index(label) for label in labels]
    return ExportData(
        calibration=store.millivolts(rows, leads=leads),
        calibration_ids=tuple(map(str, store.uid[rows])),
        validation=validation,
        validation_ids=tuple(map(str, store.uid[others])),
        truth=np.asarray(store.labels[others][:, columns], dtype=np.float64),
        source_sha256=store.data_hash,
        n_unseen=int((~np.isin(others, trained)).sum()),
        held_out=store.gain_known[others].astype(bool) if len(left_out) else None,
    )


def choose_calibration(
    store: RecordStore, rows: np.ndarray, *, leads: Sequence[str], clip_mv: float, n: int
) -> np.ndarray:
    """Return at most `n` of `rows`: positives of every label, the tallest and the smallest, then an even spread.

    The order within each part follows a hash of the recording's id, so the choice is the same on every machine and does
    not depend on the order of the store. Recordings at the clip, or without one of the leads, are left out.
    """
    peak_mv = np.array([np.abs(store.millivolts([row], leads=leads)).max() for row in rows])
    columns = [list(store.index["leads"]).index(lead) for lead in leads]
    usable = (peak_mv < clip_mv) & np.asarray(store.present)[rows][:, columns].all(axis=1)
    rows, peak_mv = rows[usable], peak_mv[usable]
    spread = np.argsort([hashlib.sha256(str(uid).encode()).hexdigest() for uid in store.uid[rows]], kind="stable")
    by_peak = np.argsort(peak_mv, kind="stable")
    n_labels = store.labels.shape[1]
    parts = [by_peak[max(0, len(rows) - int(_SHARE_TALL * n)) :], by_peak[: int(_SHARE_SMALL * n)]]
    for k in range(n_labels):
        positive = spread[store.labels[rows[spread], k] == 1.0]
        parts.append(positive[: int(_SHARE_BY_LABEL * n / n_labels)])
    order = list(dict.fromkeys(np.concatenate([*parts, spread]).tolist()))
    return np.sort(rows[order[:n]])
