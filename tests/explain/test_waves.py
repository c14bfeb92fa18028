"""P, QRS and T: where they are known by construction, and against LUDB's cardiologists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsemvae.ecg.errors import SampleError
from lsemvae.explain.waves import WAVES, Wave, delineate, find_beats, frontal_vector, wave_codes
from tests.explain.ludb_waves import measure, recordings, reference_waves
from tests.explain.toy import FS_HZ, SHAPES, ecg


def test_waves_of_a_synthetic_ecg_are_where_they_were_put() -> None:
    data = ecg(5, seed=2)
    for x in data.x:
        waves = delineate(x, fs_hz=FS_HZ)
        for kind, (centre, sd, _) in SHAPES.items():
            found = [w for w in waves if w.kind == kind]
            assert len(found) == len(data.beats)
            for wave, beat in zip(found, data.beats, strict=True):
                middle = beat + centre * FS_HZ
                assert abs(wave.peak - middle) <= 4
                assert wave.onset < middle - sd * FS_HZ < middle + sd * FS_HZ < wave.offset


def test_without_p_waves_none_is_found() -> None:
    for x in ecg(3, with_p=False).x:
        assert {w.kind for w in delineate(x, fs_hz=FS_HZ)} == {"QRS", "T"}


def test_waves_that_keep_no_distance_to_qrs_are_no_p_waves() -> None:
    data = ecg(1, seed=1, with_p=False, n_samples=2500)
    t = np.arange(2500) / FS_HZ
    flutter = 0.1 * np.sin(2 * np.pi * 5.3 * t + 2 * np.sin(0.9 * t))  # 5.3 waves a second, not in step with the beats
    waves = delineate(data.x[0] + flutter[None].astype(np.float32), fs_hz=FS_HZ)
    assert not [w for w in waves if w.kind == "P"]


def test_qrs_does_not_depend_on_gain_or_axis() -> None:
    x = ecg(1, seed=3).x[0]
    marks = [(w.onset, w.offset) for w in delineate(x, fs_hz=FS_HZ) if w.kind == "QRS"]
    assert marks == [(w.onset, w.offset) for w in delineate(0.5 * x, fs_hz=FS_HZ) if w.kind == "QRS"]
    vector = frontal_vector(x)
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    turned = turn @ vector
    i_ii = np.stack([turned[0], (np.sqrt(3.0) * turned[1] + turned[0]) / 2])
    assert marks == [(w.onset, w.offset) for w in delineate(i_ii, fs_hz=FS_HZ) if w.kind == "QRS"]


def test_the_frontal_vector_is_einthovens_triangle() -> None:
    angle = np.radians(40.0)  # lead I at 0 degrees, II at 60: projections of one vector of 1 mV
    vector = frontal_vector([[np.cos(angle)], [np.cos(angle - np.radians(60.0))]])
    assert np.allclose(vector[:, 0], [np.cos(angle), np.sin(angle)])


def test_a_pause_does_not_hide_a_small_beat() -> None:
    x = ecg(1, seed=8, n_samples=2500).x[0].copy()
    beat = 900
    x[:, beat - 20 : beat + 20] *= 0.35
    assert any(abs(k - beat) < 15 for k in find_beats(frontal_vector(x), fs_hz=FS_HZ))


def test_nothing_is_found_where_nothing_is() -> None:
    assert delineate(np.zeros((2, 2500)), fs_hz=FS_HZ) == ()


def test_codes_fill_the_record_and_qrs_wins() -> None:
    waves = (Wave("P", 5, 8, 12), Wave("QRS", 10, 15, 20), Wave("T", 19, 25, 30))
    codes = wave_codes(waves, n_samples=40)
    assert [WAVES[c] for c in codes[[0, 5, 10, 20, 21, 30, 31]]] == ["between", "P", "QRS", "QRS", "T", "T", "between"]


def test_one_lead_is_refused() -> None:
    with pytest.raises(SampleError, match="expected \\(2, time\\)"):
        delineate(np.zeros((1, 100)), fs_hz=FS_HZ)


def test_reference_marks_of_two_leads_are_joined_where_they_overlap() -> None:
    marks = np.array([[0, 1, 100, 110, 130], [1, 1, 96, 112, 128], [1, 1, 500, 510, 530], [5, 1, 300, 310, 320]])
    marks = np.vstack([marks, [0, 1, 0, 900, 0]])  # a peak without boundaries
    found = reference_waves(marks)
    assert [(w.onset, w.offset) for w in found] == [(48, 65), (250, 265)]


@pytest.mark.slow
def test_agreement_with_the_cardiologists_of_ludb(ecg_data_dir: Path) -> None:
    agreement = measure(recordings(ecg_data_dir))
    assert agreement.found["QRS"] + agreement.missed["QRS"] == 557
    for kind, sensitivity, precision in (("P", 0.98, 0.87), ("QRS", 0.99, 0.98), ("T", 0.97, 0.97)):
        assert agreement.sensitivity(kind) >= sensitivity
        assert agreement.precision(kind) >= precision
        assert min(agreement.sample_rates(kind)) >= 0.8
    for kind, limit_ms in (("P", 8), ("QRS", 8), ("T", 20)):
        assert np.median(np.abs(agreement.onset_ms[kind])) <= limit_ms
        assert np.median(np.abs(agreement.offset_ms[kind])) <= limit_ms
