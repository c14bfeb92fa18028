"""The gate and the front-end on real recordings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lsemvae.ecg import EcgRecord, Reason, apply, apply_array, assess, bandpass, derive_limb_leads, einthoven_residual

NOTES = ("q_baseline_drift", "q_static_noise", "q_burst_noise", "q_electrode_problem")


def decode(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    word = lo.astype(np.uint16) | (hi.astype(np.uint16) << 8)
    step = ((word >> 1) ^ (0 - (word & 1)).astype(np.uint16)).astype(np.uint16).view(np.int16)
    return np.cumsum(step, axis=-1, dtype=np.int16)


def load(root: Path, shard: str, n: int) -> list[tuple[dict[str, str], EcgRecord]]:
    """The first n recordings of a shard with their metadata."""
    with np.load(root / "signals" / f"{shard}.npz", allow_pickle=False) as arrays:
        counts = decode(arrays["lo"][:n], arrays["hi"][:n])
        leads, lsb_uv, fs_hz = [str(lead) for lead in arrays["leads"]], float(arrays["scale"]), float(arrays["fs"])
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if Path(row["file"]).stem == shard and int(row["row"]) < n]
    return [
        (row, EcgRecord(samples=counts[int(row["row"])], lsb_uv=lsb_uv, fs_hz=fs_hz, leads=tuple(leads)))
        for row in rows
    ]


@pytest.fixture
def ptbxl(ecg_data_dir: Path) -> list[tuple[dict[str, str], EcgRecord]]:
    return load(ecg_data_dir, "ptbxl_00", 200)


@pytest.mark.slow
@pytest.mark.promise(16)
def test_at_most_five_percent_of_recordings_without_a_note_are_refused(
    ptbxl: list[tuple[dict[str, str], EcgRecord]],
) -> None:
    clean = [record for row, record in ptbxl if all(row[note] in ("", "0", "0.0") for note in NOTES)]
    assert len(clean) > 100
    refused = [record for record in clean if not assess(record).acceptable]
    assert len(refused) <= 0.05 * len(clean)


def test_noise_alone_in_place_of_each_recording_is_refused(ptbxl: list[tuple[dict[str, str], EcgRecord]]) -> None:
    rng = np.random.default_rng(0)
    for _, record in ptbxl[:40]:
        noise = record.with_(samples=rng.normal(0, 100, record.samples.shape).astype(np.int16))
        assert Reason.NO_BEATS in assess(noise).reasons


@pytest.mark.slow
def test_flat_recordings_of_the_challenge_are_refused(ecg_data_dir: Path) -> None:
    for row, record in load(ecg_data_dir, "cinc2011_00", 300):
        limb = record.samples[:6]
        if np.ptp(limb, axis=1).max() == 0:
            assert not assess(record).acceptable, row["uid"]


def test_limb_leads_of_ptbxl_are_of_rank_two(ecg_data_dir: Path) -> None:
    for _, record in load(ecg_data_dir, "ptbxl12_00", 3):
        assert record.n_leads == 12
        assert einthoven_residual(record.to_mv(np.float64), leads=record.leads) < 0.05


def test_front_end_of_derived_leads_equals_derived_front_end(ptbxl: list[tuple[dict[str, str], EcgRecord]]) -> None:
    for _, record in ptbxl[:10]:
        i, ii = apply(record, leads=("I", "II")).astype(float)
        six = apply(record, leads=("I", "II", "III", "aVR", "aVL", "aVF"))
        if np.abs(six).max() < 5:
            np.testing.assert_allclose(six, derive_limb_leads(i, ii), atol=2e-6)


def test_mirrored_and_point_symmetric_ends_differ_only_near_the_ends(
    ptbxl: list[tuple[dict[str, str], EcgRecord]],
) -> None:
    _, record = ptbxl[0]
    mv = record.to_mv(np.float64)[:2, ::2]
    inner = slice(533, -533)
    from lsemvae.ecg import FrontendSpec

    odd, mirror = (bandpass(mv, spec=FrontendSpec(edges=edges)) for edges in ("odd", "mirror"))
    np.testing.assert_allclose(odd[:, inner], mirror[:, inner], atol=1e-12)
    assert apply_array(record.to_mv(), fs_hz=500).shape == (record.n_leads, 2500)
