"""Damaged or careless data folders: each is refused by name with what was found, what was expected and advice."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lsemvae.data.cells import gain_is_known, number, whole
from lsemvae.data.convert import convert_folder
from lsemvae.data.folder import EcgFolder, read_shard, uncross
from lsemvae.data.labels import label_values
from lsemvae.data.store import open_store
from lsemvae.ecg.errors import EcgError, FormatError, LeadError, RateError, UnitError
from tests.data.test_folder_format import encode_planes, write_folder


def _folder(root: Path, n: int = 3) -> Path:
    return write_folder(root / "d", np.random.default_rng(0).integers(-300, 300, (n, 8, 5000)).astype(np.int16))


def _rewrite(folder: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> Path:
    rows = change(list(csv.DictReader((folder / "metadata.csv").read_text().splitlines())))
    with (folder / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", r"found columns \[\]\.\.\., expected also \['uid', 'file', 'row'\]"),
        (b"uid,split\nr0,train\n", r"expected also \['file', 'row'\]"),
        (b"uid,file,row\n", "found a header and 0 recordings, expected at least 1"),
        (b"uid,file,row\nr0,a.npz\n", "found recording 1 .* expected 3 cells"),
        (b"uid,file,row\nr0,a.npz,0,9,9\n", "found recording 1 .* expected 3 cells"),
        (b"uid,file,row\n,a.npz,0\n", "found recording 1 .* without uid"),
        (b"uid,file,row\nr0,a.npz,0\nr1,a.npz,1\nr0,a.npz,2\n", "found uid 'r0' more than once"),
        (b"uid,file,row\nr\xff,a.npz,0\n", "cannot be read as CSV in UTF-8 .* expected a table"),
        (b'uid,file,row\n"r0,a.npz,0\n', "cannot be read as CSV in UTF-8 .* expected a table"),
    ],
)
def test_defect_a_damaged_table_is_refused_with_both_sides_and_advice(
    tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(FormatError, match=found) as caught:
        EcgFolder(tmp_path)
    assert "ECG in a supported format" not in caught.value.advice


def test_a_table_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "metadata.csv").read_bytes())
    assert [row["uid"] for row in EcgFolder(folder).rows] == ["r0", "r1", "r2"]


def test_defect_an_empty_split_column_is_said_to_be_empty(tmp_path: Path) -> None:
    folder = _rewrite(_folder(tmp_path), lambda rows: [{**row, "split": ""} for row in rows])
    with pytest.raises(FormatError, match="'train', expected all: the column split is empty or missing"):
        EcgFolder(folder).select("train")


@pytest.mark.parametrize("row", ["-1", "3", "999"])
def test_defect_a_row_outside_its_shard_is_no_other_recording(tmp_path: Path, row: str) -> None:
    folder = EcgFolder(_folder(tmp_path))
    with pytest.raises(FormatError, match=r"found row .*, expected (0 to 2|a whole number)"):
        folder.record({**folder.rows[0], "row": row})


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"scale": np.nan}, UnitError, "found scale nan, expected uV per count, a number above 0"),
        ({"scale": 0.0}, UnitError, r"found scale 0\.0"),
        ({"scale": -1.0}, UnitError, r"found scale -1\.0"),
        ({"scale": np.ones(2)}, FormatError, "cannot be read as a shard"),
        ({"fs": np.nan}, RateError, "found sampling rate nan"),
        ({"fs": 5.0}, RateError, r"found sampling rate 5\.0"),
        ({"hi": np.zeros((3, 8, 9), np.uint8)}, FormatError, "found planes uint8 .* expected two of uint8"),
        ({"lo": np.zeros((3, 8, 5000))}, FormatError, "found planes float64 .* expected two of uint8"),
        ({"leads": np.array(["I", "II"])}, LeadError, "found 8 leads of samples and 2 names"),
        ({"leads": np.array(["I"] * 8)}, LeadError, "found lead I twice"),
    ],
)
def test_defect_a_damaged_shard_is_refused_with_both_sides(
    tmp_path: Path, change: dict[str, object], error: type[EcgError], found: str
) -> None:
    folder = EcgFolder(_folder(tmp_path))
    path = folder.root / "signals/a.npz"
    with np.load(path) as z:
        arrays = dict(z)
    np.savez(path, **{**arrays, **change})  # type: ignore[arg-type]
    with pytest.raises(error, match=found):
        folder.record(folder.rows[0])


def test_defect_flipped_bytes_of_a_compressed_shard_never_end_in_another_error(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    path = folder / "signals/a.npz"
    with np.load(path) as z:
        np.savez_compressed(path, **dict(z))
    whole_file, refused = path.read_bytes(), 0
    for place in range(0, len(whole_file), len(whole_file) // 60):
        damaged = bytearray(whole_file)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_shard(path)
        except FormatError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize("leads", [("V1",), ("I",), ("II", "V1"), ("I", "V1", "V2")])
def test_defect_a_shard_without_i_and_ii_gives_the_leads_it_has(tmp_path: Path, leads: tuple[str, ...]) -> None:
    x = np.random.default_rng(0).integers(-300, 300, (2, len(leads), 5000)).astype(np.int16)
    folder = EcgFolder(write_folder(tmp_path / "d", x, leads=leads))
    record = folder.record({**folder.rows[1], "source": "PhysioNet/CinC Challenge 2011"})
    assert record.leads == leads
    np.testing.assert_allclose(record.to_mv(), x[1] * 1e-3, atol=1e-6)


def test_defect_a_lead_is_never_renamed_where_its_partner_is_missing() -> None:
    x = np.random.default_rng(0).normal(0, 500, (3, 900))
    assert uncross(x, ("I", "II", "aVF")) == ("I", "II", "aVF")


def test_cells_are_understood_or_refused_by_name() -> None:
    row = {"uid": "r7", "a": "3.0", "b": "", "c": "x", "d": "inf", "e": "2.5", "f": "nan"}
    assert (number(row, "a"), whole(row, "a"), whole(row, "b", missing=0)) == (3.0, 3, 0)
    assert all(np.isnan(number(row, name)) for name in ("b", "f", "absent"))
    for read, column in ((number, "c"), (number, "d"), (whole, "e"), (whole, "b")):
        with pytest.raises(FormatError, match=f"r7: found {column} .*, expected") as caught:
            read(row, column)
        assert f"column {column}" in caught.value.advice


@pytest.mark.parametrize(
    ("text", "known"), [("1", True), ("True", True), ("", True), ("0", False), ("0.0", False), ("False", False)]
)
def test_defect_a_gain_that_is_false_is_not_known(text: str, known: bool) -> None:
    assert gain_is_known({"gain_known": text}) is known


@pytest.mark.parametrize("text", ["2", "0.5", "yes", "-1", "inf"])
def test_defect_a_label_is_one_zero_or_nothing(text: str) -> None:
    with pytest.raises(FormatError, match="r0: found y_MI"):
        label_values({"uid": "r0", "y_MI": text})


@pytest.mark.parametrize("column", ["strat_fold", "age", "y_MI"])
def test_defect_a_bad_cell_refuses_its_recording_and_leaves_no_samples_behind(tmp_path: Path, column: str) -> None:
    """The row after it must keep its own samples: what is refused may not have written any."""
    folder = _rewrite(
        _folder(tmp_path), lambda rows: [{"age": "60", **rows[0]}, {**rows[1], "age": "61", column: "x"}, rows[2]]
    )
    store = convert_folder(folder, tmp_path / "store")
    assert [row["uid"] for row in store.index["refused"]] == ["r1"]
    assert store.uid.tolist() == ["r0", "r2"]
    alone = convert_folder(_rewrite(_folder(tmp_path / "other"), lambda rows: [rows[2]]), tmp_path / "alone")
    np.testing.assert_array_equal(store.samples[1], alone.samples[0])


def test_defect_a_failed_conversion_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", np.ones((2, 8, 900), np.int16))
    with pytest.raises(FormatError, match=r"found 0 usable recordings \(2 refused; the first: r0: .*expected"):
        convert_folder(folder, tmp_path / "store")
    assert not list(tmp_path.glob("store*"))


@pytest.mark.parametrize(
    "damage", ["no index", "no json", "no rows", "cut rows", "no samples", "fewer", "no key", "list"]
)
def test_defect_a_damaged_store_is_refused_with_advice(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "store"
    convert_folder(_folder(tmp_path), root)
    index, rows = root / "index.json", root / "rows.npz"
    if damage == "no index":
        index.unlink()
    elif damage == "no json":
        index.write_bytes(index.read_bytes()[:-9])
    elif damage == "list":
        index.write_text("[]")
    elif damage == "no key":
        index.write_text(index.read_text().replace('"lsb_uv"', '"lsb"'))
    elif damage == "no rows":
        rows.unlink()
    elif damage == "cut rows":
        rows.write_bytes(rows.read_bytes()[:-200])
    elif damage == "no samples":
        (root / "samples.i16").unlink()
    else:
        with np.load(rows) as z:
            np.savez(rows, **{name: z[name][:2] for name in z.files})
    with pytest.raises(FormatError, match=r"store.*(found|cannot be read)") as caught:
        open_store(root)
    assert "onvert" in caught.value.advice


def test_a_store_tells_other_labels_and_other_folds_from_other_samples(tmp_path: Path) -> None:
    stores = [
        convert_folder(
            _rewrite(_folder(tmp_path / name), lambda rows, cells=cells: [{**row, **cells} for row in rows]),  # type: ignore[misc]
            tmp_path / name / "s",
        )
        for name, cells in (("a", {}), ("b", {"y_MI": "1"}), ("c", {"strat_fold": "7"}))
    ]
    assert len({store.data_hash for store in stores}) == 1
    assert len({store.rows_hash for store in stores}) == 3
    assert [store.folds_hash == stores[0].folds_hash for store in stores] == [True, True, False]
    assert open_store(stores[1].root).rows_hash == stores[1].rows_hash


def test_the_encoder_of_these_tests_is_not_the_decoder() -> None:
    lo, hi = encode_planes(np.array([[0, 1, -1, 300]], np.int16))
    assert lo.tolist() == [[0, 2, 3, 90]]
    assert hi.tolist() == [[0, 0, 0, 2]]
