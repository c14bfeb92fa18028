"""WFDB: format 16 is read here, with the wfdb package as the oracle; other formats through that package, by the same rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsemvae.ecg import (
    LEADS,
    EcgError,
    FormatError,
    LeadError,
    LengthError,
    RateError,
    SampleError,
    TruncatedError,
    UnitError,
)
from lsemvae.formats.wfdb import read_wfdb

COUNTS = np.random.default_rng(0).integers(-3000, 3000, (500, 3)).astype(np.int16)
LINE = "r.dat 16 1000/mV 16 0 {first} 0 0 {name}"


def header(*lines: str, first: str = "r 3 500 500") -> str:
    names = ("I", "II", "V1")
    body = lines or tuple(LINE.format(first=COUNTS[0, k], name=name) for k, name in enumerate(names))
    return "\n".join([first, *body]) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(text: str | None = None, data: bytes | None = None) -> Path:
        (tmp_path / "r.hea").write_text(header() if text is None else text)
        (tmp_path / "r.dat").write_bytes(COUNTS.astype("<i2").tobytes() if data is None else data)
        return tmp_path / "r.hea"

    return put


def test_plain_record(write: Any) -> None:
    record = read_wfdb(write())
    np.testing.assert_array_equal(record.samples, COUNTS.T)
    assert (record.leads, record.fs_hz, record.lsb_uv, record.record_id) == (("I", "II", "V1"), 500.0, 1.0, "r")


def test_record_name_without_suffix(write: Any) -> None:
    assert read_wfdb(write().with_suffix("")).n_samples == 500
    assert read_wfdb(write().with_suffix(".dat")).n_samples == 500


@pytest.mark.parametrize(
    ("gain", "baseline", "unit"), [(1000, 0, "mV"), (200, 17, "mV"), (1, -5, "uV"), (819.2, 0, "mV")]
)
def test_equals_the_wfdb_package(tmp_path: Path, gain: float, baseline: int, unit: str) -> None:
    wfdb = pytest.importorskip("wfdb")
    wfdb.wrsamp(
        "oracle", fs=500, units=[unit] * 12, sig_name=list(LEADS), fmt=["16"] * 12, adc_gain=[gain] * 12,
        baseline=[baseline] * 12, d_signal=np.tile(COUNTS, (1, 4)), write_dir=str(tmp_path),
    )  # fmt: skip
    oracle = wfdb.rdrecord(str(tmp_path / "oracle"))
    record = read_wfdb(tmp_path / "oracle.hea")
    to_mv = 1.0 if unit == "mV" else 1e-3
    np.testing.assert_allclose(record.to_mv(np.float64), oracle.p_signal.T * to_mv, atol=1e-9)
    assert record.leads == tuple(oracle.sig_name)
    assert record.fs_hz == oracle.fs


def test_equals_the_wfdb_package_for_signals_in_two_files(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    (tmp_path / "two.hea").write_text(
        "two 3 360 500\na.dat 16 200/mV 16 0 0 0 0 I\nb.dat 16+4 200/mV 16 0 0 0 0 II\na.dat 16 200/mV 16 0 0 0 0 V1\n"
    )
    (tmp_path / "a.dat").write_bytes(COUNTS[:, [0, 2]].astype("<i2").tobytes())
    (tmp_path / "b.dat").write_bytes(b"skip" + COUNTS[:, 1].astype("<i2").tobytes())
    record = read_wfdb(tmp_path / "two.hea")
    np.testing.assert_array_equal(record.samples, COUNTS.T)
    (tmp_path / "one.hea").write_text("one 2 360 500\na.dat 16 200/mV 16 0 0 0 0 I\na.dat 16 200/mV 16 0 0 0 0 V1\n")
    oracle = wfdb.rdrecord(str(tmp_path / "one"))
    np.testing.assert_allclose(read_wfdb(tmp_path / "one.hea").to_mv(np.float64), oracle.p_signal.T, atol=1e-9)


def test_comments_counter_frequency_and_missing_length(write: Any) -> None:
    text = "# a comment\n" + header(first="r 3 500/1000(2)") + "# Dx: 426783006\n"
    record = read_wfdb(write(text))
    assert (record.fs_hz, record.n_samples) == (500.0, 500)


def test_unit_left_out_means_millivolts(write: Any) -> None:
    assert read_wfdb(write(header().replace("1000/mV", "1000"))).lsb_uv == 1.0


def test_explicit_baseline_wins_over_adc_zero(write: Any) -> None:
    record = read_wfdb(write(header().replace("1000/mV 16 0", "1000(100)/mV 16 7")))
    np.testing.assert_array_equal(record.samples, COUNTS.T - 100)
    record = read_wfdb(write(header().replace("1000/mV 16 0", "1000/mV 16 7")))
    np.testing.assert_array_equal(record.samples, COUNTS.T - 7)


@pytest.mark.promise(24)
@pytest.mark.parametrize("missing", [1, 2, 1500, 2999, 3000])
def test_truncated_signal_file_shows_bytes_found_and_expected(write: Any, missing: int) -> None:
    data = COUNTS.astype("<i2").tobytes()
    with pytest.raises(TruncatedError, match=f"found {3000 - missing} bytes in r.dat, expected 3000"):
        read_wfdb(write(data=data[: 3000 - missing]))


def test_broken_frame_without_stated_length_is_truncated(write: Any) -> None:
    with pytest.raises(TruncatedError):
        read_wfdb(write(header(first="r 3 500"), COUNTS.astype("<i2").tobytes()[:-1]))


def test_no_samples_are_refused(write: Any) -> None:
    with pytest.raises(LengthError, match="found 0 samples"):
        read_wfdb(write(header(first="r 3 500"), b""))


def test_missing_signal_line_is_truncated(write: Any) -> None:
    with pytest.raises(TruncatedError, match=r"found 2 signal lines in r\.hea, expected 3"):
        read_wfdb(write("\n".join(header().splitlines()[:3])))


@pytest.fixture
def without_wfdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clinic, where the wfdb package is not installed."""
    monkeypatch.setitem(sys.modules, "wfdb", None)


@pytest.mark.usefixtures("without_wfdb")
@pytest.mark.parametrize("form", ["212", "80", "32", "516", "16x2", "16:3", "8"])
def test_other_formats_are_refused_with_advice_where_the_library_is_missing(write: Any, form: str) -> None:
    with pytest.raises(FormatError, match=f"found signal format '{form}' in r.hea, expected 16") as caught:
        read_wfdb(write(header().replace("r.dat 16 ", f"r.dat {form} ")))
    assert "Convert" in caught.value.advice
    assert "lsemvae[train]" in caught.value.advice


@pytest.mark.usefixtures("without_wfdb")
def test_segments_are_refused_with_advice_where_the_library_is_missing(write: Any, tmp_path: Path) -> None:
    write()
    (tmp_path / "whole.hea").write_text("whole/2 3 500 1000\nr 500\nr 500\n")
    with pytest.raises(FormatError, match=r"found a record in 2 segments in whole\.hea, expected 16") as caught:
        read_wfdb(tmp_path / "whole")
    assert "Convert" in caught.value.advice


@pytest.mark.usefixtures("without_wfdb")
def test_format_16_needs_no_library(write: Any) -> None:
    np.testing.assert_array_equal(read_wfdb(write()).samples, COUNTS.T)


@pytest.mark.parametrize("form", ["x", "", "16 and more"])
def test_signal_format_that_is_none_is_refused_with_advice(write: Any, form: str) -> None:
    with pytest.raises((FormatError, LeadError, UnitError)) as caught:
        read_wfdb(write(header().replace("r.dat 16 ", f"r.dat {form} ")))
    assert caught.value.advice


def _write_with_the_library(root: Path, name: str, form: str, **fields: Any) -> Any:
    wfdb = pytest.importorskip("wfdb")
    values = {"adc_gain": [200.0] * 3, "baseline": [0, 10, -7], "units": ["mV"] * 3, "sig_name": ["I", "II", "V1"]}
    counts = np.clip(COUNTS, -2000, 2000)
    wfdb.wrsamp(name, fs=360, fmt=[form] * 3, d_signal=counts, write_dir=str(root), **{**values, **fields})
    return wfdb.rdrecord(str(root / name)).p_signal.T


@pytest.mark.parametrize("form", ["212", "24", "32"])
def test_other_formats_equal_the_library(tmp_path: Path, form: str) -> None:
    expected_mv = _write_with_the_library(tmp_path, "r", form)
    record = read_wfdb(tmp_path / "r.hea")
    assert (record.leads, record.fs_hz, record.record_id) == (("I", "II", "V1"), 360.0, "r")
    np.testing.assert_allclose(record.to_mv(np.float64), expected_mv, atol=0.0005)


def test_segments_equal_the_library(tmp_path: Path) -> None:
    expected_mv = _write_with_the_library(tmp_path, "r", "16")
    (tmp_path / "whole.hea").write_text("whole/2 3 360 1000\nr 500\nr 500\n")
    record = read_wfdb(tmp_path / "whole")
    np.testing.assert_allclose(record.to_mv(np.float64), np.tile(expected_mv, 2), atol=0.0005)


def test_gain_that_a_segment_leaves_out_is_refused(write: Any, tmp_path: Path) -> None:
    write(header().replace("1000/mV", "0"))
    (tmp_path / "whole.hea").write_text("whole/2 3 500 1000\nr 500\nr 500\n")
    with pytest.raises(UnitError, match=r"found gain '0' in r\.hea"):
        read_wfdb(tmp_path / "whole")


@pytest.mark.parametrize("line", ["../r 500", "r", "r many", "sub/r 500"])
def test_segment_that_is_none_beside_the_header_is_refused(write: Any, tmp_path: Path, line: str) -> None:
    write()
    (tmp_path / "whole.hea").write_text(f"whole/1 3 500 500\n{line}\n")
    with pytest.raises(FormatError, match="lines of segment and samples"):
        read_wfdb(tmp_path / "whole")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"sig_name": ["I", "II", "RESP"]}, LeadError),
        ({"sig_name": ["I", "II", "i"]}, LeadError),
        ({"units": ["mV", "mV", "mmHg"]}, UnitError),
        ({"units": ["mmHg"] * 3}, UnitError),
    ],
)
@pytest.mark.parametrize("form", ["16", "212"])
def test_rules_are_the_same_whoever_reads(tmp_path: Path, form: str, fields: dict[str, Any], error: type) -> None:
    _write_with_the_library(tmp_path, "r", form, **fields)
    with pytest.raises(error):
        read_wfdb(tmp_path / "r")


@pytest.mark.parametrize("form", ["16", "212"])
def test_missing_gain_and_rate_are_refused_whoever_reads(tmp_path: Path, form: str) -> None:
    _write_with_the_library(tmp_path, "r", form)
    text = (tmp_path / "r.hea").read_text()
    (tmp_path / "r.hea").write_text(text.replace("200.0", "0"))
    with pytest.raises(UnitError, match=r"never guessed|expected counts per unit"):
        read_wfdb(tmp_path / "r")
    (tmp_path / "r.hea").write_text(text.replace("r 3 360 500", "r 3"))
    with pytest.raises(RateError):
        read_wfdb(tmp_path / "r")


@pytest.mark.parametrize("form", ["16", "212"])
def test_missing_samples_are_refused_whoever_reads(tmp_path: Path, form: str) -> None:
    counts = COUNTS.copy() // 4
    counts[7, 1] = -32768 if form == "16" else -2048
    wfdb = pytest.importorskip("wfdb")
    wfdb.wrsamp(
        "r", fs=360, units=["mV"] * 3, sig_name=["I", "II", "V1"], fmt=[form] * 3, adc_gain=[200.0] * 3,
        baseline=[0] * 3, d_signal=counts, write_dir=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(SampleError, match=r"found 1 missing samples in r\.hea"):
        read_wfdb(tmp_path / "r")


def test_record_name_may_hold_a_dot(tmp_path: Path) -> None:
    (tmp_path / "visit.1.hea").write_text(header(first="visit.1 3 500 500"))
    (tmp_path / "r.dat").write_bytes(COUNTS.astype("<i2").tobytes())
    assert read_wfdb(tmp_path / "visit.1").record_id == "visit.1"


@pytest.mark.parametrize("gain", ["0/mV", "-1/mV", "x", "1000/"])
def test_gain_that_is_none_is_refused(write: Any, gain: str) -> None:
    with pytest.raises(UnitError):
        read_wfdb(write(header().replace("1000/mV", gain)))


@pytest.mark.promise(3)
@pytest.mark.parametrize("unit", ["mmHg", "MV", "NU", "mv"])
def test_unit_that_is_no_voltage_is_refused(write: Any, unit: str) -> None:
    with pytest.raises(UnitError, match="expected one of uV, mV, V"):
        read_wfdb(write(header().replace("/mV", f"/{unit}")))


def test_different_gains_are_counted_anew(write: Any) -> None:
    path = write(header().replace("1000/mV", "819.2/mV", 1))
    record = read_wfdb(path)
    expected_mv = COUNTS.T / np.array([[819.2], [1000.0], [1000.0]])
    np.testing.assert_allclose(record.to_mv(np.float64), expected_mv, atol=0.0005)
    wfdb = pytest.importorskip("wfdb")
    np.testing.assert_allclose(wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T, expected_mv, atol=1e-9)


def test_equal_gains_keep_their_counts(write: Any) -> None:
    record = read_wfdb(write(header().replace("1000/mV", "819.2/mV")))
    np.testing.assert_array_equal(record.samples, COUNTS.T)
    assert record.lsb_uv == 1000 / 819.2


@pytest.mark.promise(2)
@pytest.mark.parametrize("name", ["MLII", "ECG", "Resp", "II"])
def test_wrong_or_repeated_lead_is_refused(write: Any, name: str) -> None:
    with pytest.raises(LeadError):
        read_wfdb(write(header().replace(" V1\n", f" {name}\n")))


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ("r 3", RateError),
        ("r 3 0 500", RateError),
        ("r 3 99999 500", RateError),
        ("r 3 fast 500", FormatError),
        ("r 3 500 many", FormatError),
        ("r", FormatError),
        ("r x 500", FormatError),
        ("r/2 3 500 500", FormatError),
        ("r 0 500 500", LeadError),
    ],
)
def test_first_line_that_cannot_be_used(write: Any, first: str, error: type) -> None:
    with pytest.raises(error):
        read_wfdb(write(header(first=first)))


def test_signal_line_without_lead_name_is_refused(write: Any) -> None:
    with pytest.raises(LeadError, match="lead name last"):
        read_wfdb(write(header().replace(" V1\n", "\n")))


@pytest.mark.parametrize("name", ["../r.dat", "/etc/passwd", "sub/r.dat", ".."])
def test_signal_file_elsewhere_is_refused(write: Any, name: str) -> None:
    with pytest.raises(FormatError, match="expected a file beside"):
        read_wfdb(write(header().replace("r.dat", name)))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"found no header 'x\.hea'"):
        read_wfdb(tmp_path / "x")
    (tmp_path / "x.hea").write_text(header())
    with pytest.raises(FormatError, match=r"found no signal file 'r\.dat'") as caught:
        read_wfdb(tmp_path / "x")
    assert "two files" in caught.value.advice


def test_missing_samples_are_refused(write: Any) -> None:
    counts = COUNTS.copy()
    counts[7, 1] = -32768
    with pytest.raises(SampleError, match="found 1 missing samples"):
        read_wfdb(write(data=counts.astype("<i2").tobytes()))


def test_counts_that_overflow_about_their_baseline_are_counted_anew(write: Any) -> None:
    record = read_wfdb(write(header().replace("1000/mV", "1000(32000)/mV")))
    np.testing.assert_allclose(record.to_mv(np.float64), (COUNTS.T - 32000.0) / 1000, atol=0.001)


def test_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r 2 500\na.dat 16 1000/mV 16 0 0 0 0 I\nb.dat 16 1000/mV 16 0 0 0 0 II\n")
    (tmp_path / "a.dat").write_bytes(bytes(20))
    (tmp_path / "b.dat").write_bytes(bytes(22))
    with pytest.raises(LengthError, match="different lengths"):
        read_wfdb(tmp_path / "r.hea")


@pytest.mark.promise(25)
@pytest.mark.parametrize("seed", range(60))
def test_damaged_header_is_an_ecg_error_or_reads(write: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(header().encode())
    for position in rng.integers(0, len(data), 3):
        data[position] = int(rng.integers(32, 127))
    path = write()
    path.write_bytes(bytes(data))
    try:
        record = read_wfdb(path)
    except EcgError:
        return
    assert record.n_samples > 0


def test_too_large_header_is_refused(write: Any) -> None:
    with pytest.raises(FormatError, match="expected at most"):
        read_wfdb(write("#" * (1 << 20) + "\n" + header()))
