"""Golden signals: deterministic, of our own making, and shaped like limb-lead ECGs."""

from __future__ import annotations

import io

import numpy as np
import pytest

from export.gates.golden import CASES, RAW_FS_HZ, GoldenCase, golden_arrays, golden_inputs, limb_leads_mv, npz_bytes
from lsemvae.ecg.frontend import BASE, apply_array
from lsemvae.ecg.leads import LIMB_LEADS, einthoven_residual


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_obeys_einthoven_and_sits_on_the_microvolt_grid(case: GoldenCase) -> None:
    leads_mv = limb_leads_mv(case)
    assert leads_mv.shape == (6, 5000)
    assert einthoven_residual(leads_mv, leads=LIMB_LEADS) < 1e-6
    measured_uv = leads_mv[:2].astype(np.float64) * 1000
    np.testing.assert_allclose(measured_uv, np.round(measured_uv), atol=1e-3)


def test_right_axis_case_points_down_in_lead_i_and_up_in_avf() -> None:
    leads_mv = limb_leads_mv(next(case for case in CASES if case.qrs_axis_deg > 120))
    assert abs(leads_mv[0].min()) > leads_mv[0].max()
    assert leads_mv[5].max() > abs(leads_mv[5].min())


def test_inputs_pass_the_front_end_without_clipping() -> None:
    ecg = golden_inputs(leads=("I", "II"), spec=BASE)
    assert ecg.shape == (len(CASES), 2, 2500)
    assert ecg.dtype == np.float32
    assert np.abs(ecg).max() < BASE.clip_mv
    np.testing.assert_array_equal(ecg[0], apply_array(limb_leads_mv(CASES[0]), fs_hz=RAW_FS_HZ)[:2])


def test_leads_are_chosen_by_name() -> None:
    swapped = golden_inputs(leads=("II", "I"), spec=BASE)
    np.testing.assert_array_equal(swapped[:, ::-1], golden_inputs(leads=("I", "II"), spec=BASE))


def test_equal_arrays_give_equal_bytes_that_need_no_pickle() -> None:
    ecg = golden_inputs(leads=("I", "II"), spec=BASE)
    made = [
        npz_bytes(golden_arrays(ecg=ecg, logits=np.zeros((8, 3)), uncertainty=np.zeros((8, 1)), spec=BASE))
        for _ in "ab"
    ]
    assert made[0] == made[1]
    with np.load(io.BytesIO(made[0]), allow_pickle=False) as arrays:
        assert set(arrays) == {"ecg", "logits", "uncertainty", "raw_mv", "raw_fs_hz", "frontend_out"}
        out = apply_array(arrays["raw_mv"], fs_hz=float(arrays["raw_fs_hz"]))
        np.testing.assert_array_equal(out, arrays["frontend_out"])
        assert all(
            arrays[name].dtype == np.float32 for name in ("ecg", "logits", "uncertainty", "raw_mv", "frontend_out")
        )
