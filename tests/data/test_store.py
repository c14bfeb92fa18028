"""The record store: front-end output as int16, an index, splits by patient, and no leakage."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lsemvae.data.convert import convert_folder, convert_wfdb, read_patients
from lsemvae.data.labels import LABELS, label_values
from lsemvae.data.splits import check_disjoint, group_folds, held_out, patient_fold
from lsemvae.data.store import STORE_LSB_UV, open_store
from lsemvae.ecg.errors import FormatError, LeadError, TruncatedError
from lsemvae.ecg.frontend import BASE, apply_array
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from tests.data.test_folder_format import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    t = np.arange(5000) / 500
    wave = (400 * np.sin(2 * np.pi * 3 * t)).astype(np.int16)
    x = np.stack([np.stack([wave // (k + 1)] * 8) for k in range(8)]).astype(np.int16)
    return write_folder(tmp_path / "data", x)


@pytest.mark.promise(8)
def test_store_holds_front_end_output_to_half_a_unit(folder: Path, tmp_path: Path) -> None:
    store = convert_folder(folder, tmp_path / "store")
    x = store.millivolts([2], leads=("I",))[0, 0]
    row = int(str(store.uid[2])[1:])
    t = np.arange(5000) / 500
    wave = (400 * np.sin(2 * np.pi * 3 * t)).astype(np.int16) // (row + 1)
    np.testing.assert_allclose(x, apply_array(wave[None] * 1e-3, fs_hz=500)[0], atol=0.51e-3 * STORE_LSB_UV)
    assert store.index["frontend_sha256"] == BASE.sha256()


def test_leads_are_selected_by_name(folder: Path, tmp_path: Path) -> None:
    store = convert_folder(folder, tmp_path / "store")
    both = store.millivolts([0], leads=("II", "I"))
    np.testing.assert_array_equal(both[0, 0], store.millivolts([0], leads=("II",))[0, 0])
    with pytest.raises(LeadError, match="V9"):
        store.millivolts([0], leads=("V9",))


def test_a_second_conversion_never_overwrites(folder: Path, tmp_path: Path) -> None:
    convert_folder(folder, tmp_path / "store")
    with pytest.raises(FormatError, match="exists already"):
        convert_folder(folder, tmp_path / "store")


def test_a_truncated_sample_file_shows_both_sizes(folder: Path, tmp_path: Path) -> None:
    convert_folder(folder, tmp_path / "store")
    path = tmp_path / "store/samples.i16"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TruncatedError, match=r"found \d+ bytes, expected \d+"):
        open_store(tmp_path / "store")


def test_a_broken_recording_is_refused_by_name_and_the_rest_kept(folder: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((folder / "metadata.csv").read_text().splitlines()))
    rows[0]["row"] = "0"
    short = write_folder(tmp_path / "short", np.ones((1, 8, 900), np.int16))
    (folder / "signals/b.npz").write_bytes((short / "signals/a.npz").read_bytes())
    rows.append({**rows[0], "uid": "too_short", "file": "signals/b.npz"})
    with (folder / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    store = convert_folder(folder, tmp_path / "store")
    assert len(store) == 8
    assert [(r["uid"], r["code"]) for r in store.index["refused"]] == [("too_short", "E_LENGTH")]


@pytest.mark.promise(73)
def test_a_right_heart_negative_needs_a_stated_axis() -> None:
    row = {"y_RHS": "0.0", "y_RVH": "0.0", "heart_axis": ""}
    values = dict(zip(LABELS, label_values(row), strict=True))
    assert np.isnan(values["RHS"])
    assert values["RVH"] == 0
    assert label_values({**row, "heart_axis": "MID"})[LABELS.index("RHS")] == 0
    assert label_values({**row, "y_RHS": "1.0"})[LABELS.index("RHS")] == 1
    assert np.isnan(values["MI"])


@pytest.mark.promise(76)
def test_splits_are_disjoint_by_patient_or_refused() -> None:
    folds, patients = np.array([1, 1, 2, 3, 0]), ["a", "b", "c", "d", "e"]
    train, test = held_out(folds, patients, (1,))
    assert train.tolist() == [2, 3]
    assert test.tolist() == [0, 1]
    with pytest.raises(FormatError, match="1 patients in two splits"):
        held_out(folds, ["a", "b", "a", "d", "e"], (1,))
    check_disjoint(patients, np.array([0]), np.array([1]))


def test_nine_folds_in_three_groups() -> None:
    assert group_folds(list(range(1, 10)), 3) == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    with pytest.raises(FormatError, match="found 2 folds"):
        group_folds([1, 2], 3)


@pytest.mark.promise(76)
def test_a_patients_fold_is_the_same_everywhere() -> None:
    assert [patient_fold(p, n_folds=10) for p in ("a", "b", "p10000032")] == [10, 2, 9]
    counts = np.bincount([patient_fold(str(k), n_folds=10) for k in range(5000)], minlength=11)
    assert counts[0] == 0
    assert counts[1:].min() > 400


def _write_wfdb(root: Path, name: str, leads: tuple[str, ...]) -> None:
    import wfdb

    root.mkdir(parents=True, exist_ok=True)
    x = np.stack([np.sin(np.arange(5000) / (20 + k)) for k in range(len(leads))], 1)
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=x,
        fmt=["16"] * len(leads),
        write_dir=str(root),
    )


@pytest.mark.promise(1)
def test_wfdb_leads_come_by_name_also_in_mimic_order(tmp_path: Path) -> None:
    mimic = (*LIMB_LEADS[:4], "aVF", "aVL", *LEADS[6:])
    _write_wfdb(tmp_path / "w/p1000/p10000032/s1", "40689238", mimic)
    store = convert_wfdb(tmp_path / "w", tmp_path / "store")
    expected = apply_array(np.sin(np.arange(5000) / 24)[None], fs_hz=500)[0]
    np.testing.assert_allclose(store.millivolts([0], leads=("aVF",))[0, 0], expected, atol=1e-3)
    assert store.patient[0] == "p10000032"


def test_wfdb_without_a_patient_is_refused_until_one_is_given(tmp_path: Path) -> None:
    _write_wfdb(tmp_path / "w", "a", LEADS)
    with pytest.raises(FormatError, match="found no patient") as caught:
        convert_wfdb(tmp_path / "w", tmp_path / "store")
    assert "record,patient" in caught.value.advice
    (tmp_path / "p.csv").write_text("record,patient\na,anna\n")
    store = convert_wfdb(tmp_path / "w", tmp_path / "store", patients=read_patients(tmp_path / "p.csv"))
    assert store.patient.tolist() == ["anna"]


@pytest.mark.promise(26)
def test_index_is_plain_json_without_any_pickle(folder: Path, tmp_path: Path) -> None:
    convert_folder(folder, tmp_path / "store")
    index = json.loads((tmp_path / "store/index.json").read_text())
    assert index["schema"] == "lsemvae-store/2"
    with np.load(tmp_path / "store/rows.npz", allow_pickle=False) as rows:
        assert rows["labels"].shape == (8, len(LABELS))
