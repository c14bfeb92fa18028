"""EchoNext's layout: arrays of z-scored leads, one file for each part of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsemvae.data.cohort import convert_cohort, read_cohort
from lsemvae.data.signals import ArraySignals
from lsemvae.ecg.errors import FormatError, TruncatedError
from lsemvae.ecg.frontend import apply_array
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS
from tests.data.test_cohort import HEAD, TASKS, N, beats_mv, rows_of, write_cohort

MEAN = tuple(np.linspace(-5, 5, 12))
STD = (32.0, 31.0, 30.0, 28.0, 27.0, 26.0, 38.0, 53.0, 57.0, 50.0, 45.0, 39.0)
LSB_UV = 4.88


def z_scores(x_mv: np.ndarray) -> np.ndarray:
    """What EchoNext ships of `[record, lead, time]` mV: counts, z-scored by lead, as float64 `[record, 1, time, lead]`."""
    counts = np.moveaxis(x_mv, 1, 2) * 1e3 / LSB_UV
    return ((counts - np.array(MEAN)) / np.array(STD))[:, None]


def array_signals(root: Path, **changes: object) -> ArraySignals:
    keys: dict[str, object] = {
        "files": {"train": root / "train.npy", "val": root / "val.npy"}, "part": "split", "fs_hz": 250.0,
        "leads": LEADS, "mean": MEAN, "std": STD, "lsb_uv": LSB_UV, **changes,
    }  # fmt: skip
    return ArraySignals(**keys)  # type: ignore[arg-type]


def echonext_text() -> str:
    return (
        (HEAD + TASKS)
        .replace('{ kind = "wfdb", root = "signals", column = "path" }', "{ kind = \"npy\", part = \"split\", files = "
            "{ train = \"train.npy\", val = \"val.npy\" }, fs_hz = 250, "
            f"mean = {list(map(float, MEAN))}, std = {list(STD)}, lsb_uv = {LSB_UV} }}")
        .replace('uid = "uid"', 'uid = "uid"\nsplit = "split"')
    )  # fmt: skip


@pytest.fixture
def echonext(tmp_path: Path) -> Path:
    """Two parts whose rows alternate in the table."""
    x = np.stack([beats_mv(k, 2500, 250.0) for k in range(N)])
    rows = [{**row, "split": "val" if k % 3 == 1 else "train"} for k, row in enumerate(rows_of())]
    path = write_cohort(tmp_path / "en", echonext_text(), rows)
    for part in ("train", "val"):
        chosen = [k for k, row in enumerate(rows) if row["split"] == part]
        np.save(path.parent / f"{part}.npy", z_scores(x[chosen]))
    return path


def test_row_i_of_an_array_is_the_i_th_row_of_its_part(echonext: Path, tmp_path: Path) -> None:
    store = convert_cohort(echonext, tmp_path / "store")
    assert store.split.tolist() == ["val" if k % 3 == 1 else "train" for k in range(N)]
    for k in range(N):
        expected = apply_array(beats_mv(k, 2500, 250.0), fs_hz=250)
        np.testing.assert_allclose(store.millivolts([k])[0], expected, atol=1.5e-3, err_msg=f"row {k}")


def test_limb_leads_are_derived_from_i_and_ii_and_chest_leads_kept(tmp_path: Path) -> None:
    """In EchoNext III and aV* were filtered apart: what they hold does not matter, what I and II hold does."""
    x = beats_mv(4, 2500, 250.0)
    broken = x.copy()
    broken[2:6] += np.random.default_rng(0).normal(0, 0.2, (4, 2500))
    record = array_signals(tmp_path).record(z_scores(broken[None])[0, 0], uid="e")
    assert record.leads == LIMB_LEADS + CHEST_LEADS
    np.testing.assert_allclose(record.to_mv(np.float64), x, atol=1.1e-3)
    kept = array_signals(tmp_path, derive_limb=False).record(z_scores(broken[None])[0, 0], uid="e")
    np.testing.assert_allclose(kept.to_mv(np.float64), broken, atol=1.1e-3)


def test_an_array_of_another_length_is_refused(echonext: Path, tmp_path: Path) -> None:
    path = echonext.parent / "val.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(FormatError, match=r"val.npy: found 3 recordings, expected 4, the rows of .* with split = val"):
        convert_cohort(echonext, tmp_path / "store")


def test_constants_of_other_data_are_refused_by_the_limb_leads(echonext: Path, tmp_path: Path) -> None:
    text = echonext.read_text()
    echonext.write_text(text.replace(str(list(STD)), str(list(STD[::-1]))))
    with pytest.raises(FormatError, match="found III further from II - I with the constants") as caught:
        convert_cohort(echonext, tmp_path / "store")
    assert "check = false" in caught.value.advice
    echonext.write_text(echonext.read_text().replace("lsb_uv", "check = false, lsb_uv"))
    assert len(convert_cohort(echonext, tmp_path / "store")) == N


def test_an_array_is_mapped_not_read_and_never_unpickled(echonext: Path, tmp_path: Path) -> None:
    np.save(echonext.parent / "val.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(TruncatedError, match=r"val.npy: cannot be read as .npy"):
        convert_cohort(echonext, tmp_path / "store")
    (echonext.parent / "val.npy").write_bytes((echonext.parent / "train.npy").read_bytes()[:-100])
    with pytest.raises(TruncatedError, match=r"val.npy: cannot be read as .npy"):
        convert_cohort(echonext, tmp_path / "store")
    np.save(echonext.parent / "val.npy", np.zeros((4, 2500, 8)))
    with pytest.raises(FormatError, match=r"found float64 \(4, 2500, 8\), expected floating-point"):
        convert_cohort(echonext, tmp_path / "store")
    (echonext.parent / "val.npy").unlink()
    with pytest.raises(FormatError, match=r"val.npy: found no such file") as caught:
        convert_cohort(echonext, tmp_path / "store")
    assert "--data" in caught.value.advice


def test_a_part_without_a_file_is_refused(echonext: Path, tmp_path: Path) -> None:
    table = echonext.parent / "table.csv"
    table.write_text(table.read_text().replace("val", "test", 1))
    with pytest.raises(FormatError, match=r"table.csv, line 3: found split 'test', expected one of train, val"):
        convert_cohort(echonext, tmp_path / "store")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("lsb_uv = 4.88", "lsb_uv = 0", "lsb_uv: found 0, expected numbers above 0"),
        ("fs_hz = 250", "fs_hz = nan", "fs_hz: found nan, expected a finite number"),
        (", part = \"split\"", "", "part: found nothing beside 2 files"),
        ("mean = [", "mean = [1, ", "mean: found .*expected a list of 12 finite numbers"),
        ("fs_hz = 250", 'leads = ["I", "I"], fs_hz = 250', "leads: found I, I, expected known lead names"),
        ('files = { train = "train.npy", val = "val.npy" }', "files = {}", "files: found {}"),
    ],
)  # fmt: skip
def test_an_array_that_is_not_described_is_refused(tmp_path: Path, old: str, new: str, found: str) -> None:
    text = echonext_text()
    assert old in text
    with pytest.raises(FormatError, match=found):
        read_cohort(write_cohort(tmp_path, text.replace(old, new, 1), rows_of()))
