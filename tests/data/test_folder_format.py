"""The folder format of the development recordings: each clause of its README."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsemvae.data.folder import EcgFolder, decode_planes, read_shard, uncross
from lsemvae.ecg.errors import FormatError, UnitError
from lsemvae.ecg.leads import LEADS

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def encode_planes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The encoder that the README describes: first differences, zig-zag, byte planes, modulo 2**16."""
    wide = np.diff(x.astype(np.int64), axis=-1, prepend=0)
    d = ((wide + 2**15) % 2**16 - 2**15).astype(np.int64)
    zigzag = ((d << 1) ^ (d >> 63)) & 0xFFFF
    return (zigzag & 0xFF).astype(np.uint8), (zigzag >> 8).astype(np.uint8)


def write_folder(root: Path, x: np.ndarray, *, leads: tuple[str, ...] = EIGHT, unit: str = "uV", **extra: str) -> Path:
    (root / "signals").mkdir(parents=True)
    lo, hi = encode_planes(x)
    np.savez(root / "signals/a.npz", lo=lo, hi=hi, fs=500.0, scale=1.0, unit=unit, leads=np.array(leads))
    fields = [
        "uid",
        "patient",
        "split",
        "strat_fold",
        "file",
        "row",
        "gain_known",
        "heart_axis",
        "y_RHS",
        "y_MI",
        *extra,
    ]
    with (root / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fields)
        writer.writeheader()
        for k in range(len(x)):
            writer.writerow({
                "uid": f"r{k}", "patient": f"p{k % 4}-{k // 8}", "split": "train", "strat_fold": f"{k % 4 + 1}.0",
                "file": "signals/a.npz", "row": k, "gain_known": "1", "heart_axis": "MID" if k % 2 else "",
                "y_RHS": "0.0", "y_MI": "1.0" if k % 2 else "0.0", **extra,
            })  # fmt: skip
    return root


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=12), elements=st.integers(-(2**15), 2**15 - 1)
    )
)
def test_planes_decode_to_what_was_encoded_over_the_whole_int16_range(x: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_planes(*encode_planes(x)), x)


def test_eight_stored_leads_become_twelve_by_einthoven_and_goldberger(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-500, 500, (2, 8, 600)).astype(np.int16)
    folder = EcgFolder(write_folder(tmp_path / "d", x))
    record = folder.record(folder.rows[1])
    assert record.leads == LEADS
    mv = record.to_mv()
    by_name = dict(zip(record.leads, mv, strict=True))
    np.testing.assert_allclose(by_name["III"], by_name["II"] - by_name["I"], atol=1.1e-3)
    np.testing.assert_allclose(by_name["V3"], x[1, 4] * 1e-3, atol=1e-6)
    assert record.record_id == "r1"


@pytest.mark.promise(3)
def test_unknown_unit_shows_both_sides(tmp_path: Path) -> None:
    write_folder(tmp_path / "d", np.zeros((1, 8, 600), np.int16), unit="furlong")
    with pytest.raises(UnitError, match=r"found unit 'furlong', expected one of \['mV', 'uV'\]"):
        read_shard(tmp_path / "d/signals/a.npz")


@pytest.mark.promise(24)
def test_a_truncated_shard_is_refused_by_name(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "d", np.ones((1, 8, 600), np.int16)) / "signals/a.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError, match=r"a\.npz"):
        read_shard(path)


def test_a_folder_without_metadata_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no metadata\.csv") as caught:
        EcgFolder(tmp_path)
    assert "LSEMVAE_DATA" in caught.value.advice


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    folder = EcgFolder(write_folder(tmp_path / "d", np.ones((1, 8, 600), np.int16)))
    with pytest.raises(FormatError, match=r"'nope', expected one of \['train'\]"):
        folder.select("nope")


@pytest.mark.slow
@pytest.mark.needs_data
def test_the_real_folder_reads_as_its_own_reader_reads_it(ecg_data_dir: Path) -> None:
    folder = EcgFolder(ecg_data_dir)
    assert len(folder.rows) == 5095
    row = next(r for r in folder.rows if r["uid"] == "ptbxl_00001")
    record = folder.record(row)
    with np.load(ecg_data_dir / row["file"]) as z:
        raw = decode_planes(z["lo"][int(row["row"])], z["hi"][int(row["row"])])
        stored = [str(lead) for lead in z["leads"]]
    np.testing.assert_allclose(record.to_mv()[LEADS.index("V2")], raw[stored.index("V2")] * 1e-3, atol=1e-6)
    assert (record.fs_hz, record.n_samples) == (500.0, 5000)


@pytest.mark.slow
@pytest.mark.needs_data
def test_defect_crossed_avl_avf_of_cinc_2011_is_put_right_and_others_are_left_alone(ecg_data_dir: Path) -> None:
    folder = EcgFolder(ecg_data_dir)
    crossed = [r for r in folder.rows if r["source"].startswith("PhysioNet/CinC") and r["q_acceptable"] == "1.0"][:20]
    assert len(crossed) == 20
    for row in crossed:
        by_name = dict(zip((record := folder.record(row)).leads, record.to_mv(), strict=True))
        assert np.median(np.abs(by_name["aVF"] - (by_name["II"] - by_name["I"] / 2))) < 0.01, row["uid"]
    straight = np.array([[1.0, 2, 1, -1.5, 0, 1.5]]).T * np.sin(np.arange(900) / 20) * 500
    limb = ("I", "II", "III", "aVR", "aVL", "aVF")
    assert uncross(straight, limb) == limb
    assert uncross(straight, (*limb[:4], "aVF", "aVL")) == limb
