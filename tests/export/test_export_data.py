"""Choosing calibration and validation recordings, and refusing sets that cannot carry an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.errors import ExportCalibrationError
from export.student_run.data import ExportData, check_data, data_from_store
from lsemvae.data.store import STORE_LSB_UV, RecordStore
from lsemvae.ecg.frontend import BASE, FrontendSpec
from lsemvae.ecg.leads import LEADS

LABELS = ("RHS", "NORM")
N = 400
CLIPPED, TALL, LEADLESS, GAINLESS = 11, 12, 13, 14


def make_store() -> RecordStore:
    """400 records of 200 patients over folds 1-10; a few with something special about them."""
    rng = np.random.default_rng(0)
    samples_mv = rng.normal(0, 0.2, (N, 12, BASE.n_samples))
    samples_mv[TALL, :2, 100], samples_mv[CLIPPED, 0, 50] = 4.5, BASE.clip_mv
    present = np.ones((N, 12), bool)
    present[LEADLESS, 1] = False
    labels = (rng.random((N, 2)) < [0.05, 0.5]).astype(np.float32)
    index = {
        "leads": list(LEADS), "lsb_uv": STORE_LSB_UV, "labels": list(LABELS), "measures": [],
        "source_sha256": "0" * 64, "frontend_sha256": BASE.sha256(),
    }  # fmt: skip
    return RecordStore(
        root=Path("unused"),
        index=index,
        samples=np.round(samples_mv * 1e3 / STORE_LSB_UV).astype(np.int16),
        uid=np.array([f"r{k:03d}" for k in range(N)]),
        patient=np.array([f"p{k // 2:03d}" for k in range(N)]),
        split=np.full(N, "train"),
        source=np.full(N, "test"),
        fold=(np.arange(N) // 2) % 10 + 1,
        labels=labels,
        measures=np.zeros((N, 0), np.float32),
        age=np.full(N, 60.0),
        sex_male=np.ones(N),
        gain_known=np.arange(N) != GAINLESS,
        present=present,
    )


@pytest.fixture(scope="module")
def store() -> RecordStore:
    return make_store()


def chosen(store: RecordStore, **changes) -> ExportData:
    arguments = {"leads": ("I", "II"), "labels": LABELS, "spec": BASE, "n_calibration": 64, **changes}
    return data_from_store(store, **arguments)


@pytest.mark.slow
@pytest.mark.promise(76)
def test_calibration_and_validation_share_no_patient(store: RecordStore) -> None:
    data = chosen(store)
    patient = dict(zip(store.uid, store.patient, strict=True))
    assert not {patient[u] for u in data.calibration_ids} & {patient[u] for u in data.validation_ids}
    assert len(data.calibration) == 64


def test_calibration_holds_every_positive_of_a_rare_label_and_the_tallest_record(store: RecordStore) -> None:
    data = chosen(store, n_calibration=128)
    rare = {str(store.uid[k]) for k in np.flatnonzero(store.labels[:, 0] == 1.0)}
    assert len(rare & set(data.calibration_ids)) >= min(len(rare), 32) - 1
    assert f"r{TALL:03d}" in data.calibration_ids


def test_clipped_incomplete_and_uncalibrated_records_do_not_calibrate(store: RecordStore) -> None:
    data = chosen(store, n_calibration=N)
    assert not {f"r{k:03d}" for k in (CLIPPED, LEADLESS, GAINLESS)} & set(data.calibration_ids)


@pytest.mark.promise(76)
def test_left_out_folds_validate_and_do_not_calibrate(store: RecordStore) -> None:
    data = chosen(store, left_out=[9, 10])
    fold = dict(zip(store.uid, store.fold, strict=True))
    assert {fold[u] for u in data.validation_ids} == {9, 10}
    assert not {fold[u] for u in data.calibration_ids} & {9, 10}


def test_choice_does_not_depend_on_the_order_of_the_store(store: RecordStore) -> None:
    order = np.random.default_rng(1).permutation(N)
    arrays = (
        "samples",
        "uid",
        "patient",
        "split",
        "source",
        "fold",
        "labels",
        "age",
        "sex_male",
        "gain_known",
        "present",
    )
    shuffled = replace(store, **{name: getattr(store, name)[order] for name in arrays})
    assert set(chosen(shuffled).calibration_ids) == set(chosen(store).calibration_ids)


def test_given_ids_are_taken_as_they_are(store: RecordStore) -> None:
    data = chosen(store, calibration_ids=["r005", "r001"])
    assert data.calibration_ids == ("r005", "r001")
    np.testing.assert_array_equal(data.calibration[1], store.millivolts([1], leads=("I", "II"))[0])


def test_given_ids_of_held_out_folds_are_refused(store: RecordStore) -> None:
    """They would carry the test patients' amplitudes into the model that is then tested on them."""
    held_out = str(store.uid[np.flatnonzero(store.fold == 9)[0]])
    assert chosen(store, calibration_ids=[held_out]).calibration_ids == (held_out,)
    with pytest.raises(ExportCalibrationError, match=f"first: {held_out}"):
        chosen(store, calibration_ids=["r001", held_out], left_out=[9, 10])


def test_leads_and_labels_are_taken_by_name(store: RecordStore) -> None:
    data = chosen(store, leads=("II", "I"), labels=("NORM", "RHS"))
    row = list(store.uid).index(data.validation_ids[0])
    np.testing.assert_array_equal(data.validation[0], store.millivolts([row], leads=("II", "I"))[0])
    np.testing.assert_array_equal(data.truth[0], store.labels[row][::-1])


def test_unknown_ids_and_labels_are_named(store: RecordStore) -> None:
    with pytest.raises(ExportCalibrationError, match="first: nobody"):
        chosen(store, calibration_ids=["r001", "nobody"])
    with pytest.raises(ExportCalibrationError, match="PH"):
        chosen(store, labels=("RHS", "PH"))


@pytest.mark.promise(9)
def test_store_of_another_front_end_is_refused(store: RecordStore) -> None:
    with pytest.raises(ExportCalibrationError, match="front-end"):
        chosen(store, spec=FrontendSpec(clip_mv=3.0))


def checked(data: ExportData, **changes) -> ExportData:
    arguments = {"n_leads": 2, "n_labels": 2, "spec": BASE, "min_calibration": 64, **changes}
    return check_data(data, **arguments)


def test_good_data_pass(store: RecordStore) -> None:
    data = chosen(store)
    assert checked(data) is data


def test_too_few_recordings_show_found_and_expected(store: RecordStore) -> None:
    with pytest.raises(ExportCalibrationError, match="found 64 calibration recordings; expected at least 256"):
        checked(chosen(store), min_calibration=256)


def test_a_set_of_clipped_recordings_is_refused(store: RecordStore) -> None:
    data = chosen(store)
    clipped = data.calibration.copy()
    clipped[:4, 0, 0] = -BASE.clip_mv
    with pytest.raises(ExportCalibrationError, match=r"4 of 64 .* reach the clip of 5 mV"):
        checked(replace(data, calibration=clipped))


def test_the_same_recording_many_times_is_not_many_recordings(store: RecordStore) -> None:
    data = chosen(store)
    again = replace(data, calibration_ids=(data.calibration_ids[0],) * len(data.calibration_ids))
    with pytest.raises(ExportCalibrationError, match="1 different; expected each once"):
        checked(again)


@pytest.mark.promise(76)
def test_a_recording_in_both_sets_is_refused(store: RecordStore) -> None:
    data = chosen(store)
    ids = (data.calibration_ids[0], *data.validation_ids[1:])
    with pytest.raises(ExportCalibrationError, match="calibrate and validate"):
        checked(replace(data, validation_ids=ids))


@pytest.mark.parametrize("part", ["calibration", "validation"])
def test_nan_and_wrong_shapes_are_refused(store: RecordStore, part: str) -> None:
    data = chosen(store)
    broken = getattr(data, part).copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ExportCalibrationError, match=f"{part}: found NaN"):
        checked(replace(data, **{part: broken}))
    with pytest.raises(ExportCalibrationError, match=f"{part}: found float32"):
        checked(replace(data, **{part: getattr(data, part)[:, :, ::2]}))


def test_recordings_at_the_clip_neither_calibrate_nor_validate(store: RecordStore) -> None:
    """The quality gate refuses them: how far INT8 saturates on them says nothing about the clinic."""
    data = chosen(store, n_calibration=8, calibration_ids=["r001"])
    assert f"r{CLIPPED:03d}" not in data.validation_ids
    assert f"r{TALL:03d}" in data.validation_ids


def test_without_left_out_folds_recordings_of_no_fold_validate_too_and_are_counted(store: RecordStore) -> None:
    fold = store.fold.copy()
    fold[:40] = 0
    data = chosen(replace(store, fold=fold))
    outside = {str(uid) for uid in store.uid[:40]} - {f"r{CLIPPED:03d}"}
    assert outside <= set(data.validation_ids)
    assert data.n_unseen == len(outside)
    assert data.held_out is None


def test_the_rule_may_be_fitted_on_left_out_recordings_of_known_gain_only(store: RecordStore) -> None:
    fold = np.where(np.arange(N) == GAINLESS, 10, store.fold)
    fold[GAINLESS + 1] = fold[GAINLESS]  # the same patient
    data = chosen(replace(store, fold=fold), left_out=[10])
    assert data.held_out is not None
    assert data.n_unseen == len(data.validation)
    refused = {uid for uid, may in zip(data.validation_ids, data.held_out, strict=True) if not may}
    assert refused == {f"r{GAINLESS:03d}"}
