"""Recorded predictions: what goes in comes back; what is damaged or does not belong together is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.evaluate.predictions import PredictionTable, load, load_all, stack_seeds


@pytest.fixture
def table() -> PredictionTable:
    logits = np.random.default_rng(0).normal(0, 3, (2, 2, 4, 3)).astype(np.float32)
    logits[1, 0, 2] = np.nan
    return PredictionTable(
        "mvae-0.5", ("12", "6"), ("RHS", "RBBB_any", "NORM"), (0, 3), np.array(["a", "b", "ü", "d"]), np.array([1, 2, 3, 9]),
        logits, {"title": "MVAE", "seconds_per_fold": [1.5, 2.0], "n_parameters": 10},
    )  # fmt: skip


def test_a_table_comes_back_as_it_was_to_half_precision(table: PredictionTable, tmp_path: Path) -> None:
    table.save(tmp_path / "mvae-0.5.npz")
    back = load(tmp_path / "mvae-0.5.npz")
    assert (back.name, back.lead_sets, back.labels, back.seeds) == (
        table.name,
        table.lead_sets,
        table.labels,
        table.seeds,
    )
    assert back.uid.tolist() == table.uid.tolist()
    assert back.fold.tolist() == [1, 2, 3, 9]
    assert back.about == table.about
    np.testing.assert_array_equal(back.logits, table.logits.astype(np.float16).astype(np.float32))
    assert back.logits.dtype == np.float32
    assert np.isnan(back.logits[1, 0, 2]).all()


def test_the_same_table_gives_the_same_bytes(table: PredictionTable, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table.save(tmp_path / name / "mvae-0.5.npz")
    assert (tmp_path / "one/mvae-0.5.npz").read_bytes() == (tmp_path / "two/mvae-0.5.npz").read_bytes()


def test_select_takes_one_label_under_one_lead_set(table: PredictionTable) -> None:
    np.testing.assert_array_equal(table.select("6", "NORM"), table.logits[:, 1, :, 2])
    assert table.has("12", "RHS")
    assert not table.has("I", "RHS")
    assert not table.has("12", "LVH")
    with pytest.raises(FormatError, match="found the lead sets 12, 6, expected also I"):
        table.select("I", "RHS")


def test_a_file_of_another_name_than_the_row_is_refused(table: PredictionTable, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"found the file name other.npz, expected mvae-0.5.npz"):
        table.save(tmp_path / "other.npz")
    table.save(tmp_path / "mvae-0.5.npz")
    (tmp_path / "mvae-0.5.npz").rename(tmp_path / "else.npz")
    (tmp_path / "mvae-0.5.json").rename(tmp_path / "else.json")
    with pytest.raises(FormatError, match=r"found the row 'mvae-0\.5', expected 'else'"):
        load(tmp_path / "else.npz")


@pytest.mark.promise(107)
@pytest.mark.parametrize("at", [30, 200, -5])
def test_a_flipped_byte_is_found(table: PredictionTable, tmp_path: Path, at: int) -> None:
    path = tmp_path / "mvae-0.5.npz"
    table.save(path)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="found SHA-256"):
        load(path)


def test_a_missing_or_broken_description_is_refused(table: PredictionTable, tmp_path: Path) -> None:
    path = tmp_path / "mvae-0.5.npz"
    table.save(path)
    text = path.with_suffix(".json").read_text()
    for broken, said in (
        ("{", "no JSON"),
        ("[]", "other fields"),
        (text.replace('"format": 1', '"format": 2'), "found format 2"),
    ):
        path.with_suffix(".json").write_text(broken)
        with pytest.raises(FormatError, match=said):
            load(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(FormatError, match="expected the description of the row"):
        load(path)


@pytest.mark.promise(107)
def test_pickled_objects_are_refused_even_with_a_right_hash(table: PredictionTable, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "mvae-0.5.npz"
    table.save(path)
    np.savez(
        path, **{key: np.array([{}], dtype=object) for key in ("lead_sets", "labels", "seeds", "uid", "fold", "logits")}
    )
    described = json.loads(path.with_suffix(".json").read_text())
    described["npz_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(described))
    with pytest.raises(FormatError, match="cannot be read as recorded predictions"):
        load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"uid": np.array(["a", "a", "b", "c"])}, "4 recordings of 3 uids"),
        ({"fold": np.array([0, 1, 2, 3])}, "found fold 0"),
        ({"fold": np.array([1.0, 1, 2, 3])}, "int \\[record\\]"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"labels": ("RHS", "NORM")}, "found logits \\(2, 2, 4, 3\\)"),
        ({"name": "../x"}, "row name"),
        ({"about": {"x": float("nan")}}, "no JSON"),
    ],
)
def test_a_table_that_cannot_be_is_refused(table: PredictionTable, change: dict[str, object], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        replace(table, **change)  # type: ignore[arg-type]


def test_a_logit_that_half_precision_cannot_hold_is_refused(table: PredictionTable) -> None:
    for value in (np.inf, 1e5):
        logits = table.logits.copy()
        logits[0, 0, 0, 0] = value
        with pytest.raises(SampleError, match="found a logit of size"):
            replace(table, logits=logits)


def test_a_folder_gives_its_rows_by_name_and_an_empty_one_is_refused(table: PredictionTable, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found no recorded predictions"):
        load_all(tmp_path)
    for name in ("b", "a"):
        replace(table, name=name).save(tmp_path / f"{name}.npz")
    assert list(load_all(tmp_path)) == ["a", "b"]


def test_seeds_of_one_row_stack_and_other_rows_do_not(make_table: Callable[..., PredictionTable]) -> None:
    first = make_table("base", 1.0)
    second = replace(first, seeds=(5, 6))
    both = stack_seeds([first, second])
    assert both.seeds == (0, 1, 5, 6)
    assert both.logits.shape[0] == 4
    with pytest.raises(FormatError, match="expected those of base"):
        stack_seeds([first, replace(second, uid=second.uid[::-1])])
