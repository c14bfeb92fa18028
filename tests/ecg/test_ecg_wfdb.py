"""WFDB format 16: the wfdb package is the oracle."""

from __future__ import annotations

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
from lsemvae.formats.wfdb import read_wfdb16

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
    record = read_wfdb16(write())
    np.testing.assert_array_equal(record.samples, COUNTS.T)
    assert (record.leads, record.fs_hz, record.lsb_uv, record.record_id) == (("I", "II", "V1"), 500.0, 1.0, "r")


def test_record_name_without_suffix(write: Any) -> None:
    assert read_wfdb16(write().with_suffix("")).n_samples == 500
    assert read_wfdb16(write().with_suffix(".dat")).n_samples == 500


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
    record = read_wfdb16(tmp_path / "oracle.hea")
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
    record = read_wfdb16(tmp_path / "two.hea")
    np.testing.assert_array_equal(record.samples, COUNTS.T)
    (tmp_path / "one.hea").write_text("one 2 360 500\na.dat 16 200/mV 16 0 0 0 0 I\na.dat 16 200/mV 16 0 0 0 0 V1\n")
    oracle = wfdb.rdrecord(str(tmp_path / "one"))
    np.testing.assert_allclose(read_wfdb16(tmp_path / "one.hea").to_mv(np.float64), oracle.p_signal.T, atol=1e-9)


def test_comments_counter_frequency_and_missing_length(write: Any) -> None:
    text = "# a comment\n" + header(first="r 3 500/1000(2)") + "# Dx: 426783006\n"
    record = read_wfdb16(write(text))
    assert (record.fs_hz, record.n_samples) == (500.0, 500)


def test_unit_left_out_means_millivolts(write: Any) -> None:
    assert read_wfdb16(write(header().replace("1000/mV", "1000"))).lsb_uv == 1.0


def test_explicit_baseline_wins_over_adc_zero(write: Any) -> None:
    record = read_wfdb16(write(header().replace("1000/mV 16 0", "1000(100)/mV 16 7")))
    np.testing.assert_array_equal(record.samples, COUNTS.T - 100)
    record = read_wfdb16(write(header().replace("1000/mV 16 0", "1000/mV 16 7")))
    np.testing.assert_array_equal(record.samples, COUNTS.T - 7)


@pytest.mark.parametrize("missing", [1, 2, 1500, 2999, 3000])
def test_truncated_signal_file_shows_bytes_found_and_expected(write: Any, missing: int) -> None:
    data = COUNTS.astype("<i2").tobytes()
    with pytest.raises(TruncatedError, match=f"found {3000 - missing} bytes in r.dat, expected 3000"):
        read_wfdb16(write(data=data[: 3000 - missing]))


def test_broken_frame_without_stated_length_is_truncated(write: Any) -> None:
    with pytest.raises(TruncatedError):
        read_wfdb16(write(header(first="r 3 500"), COUNTS.astype("<i2").tobytes()[:-1]))


def test_no_samples_are_refused(write: Any) -> None:
    with pytest.raises(LengthError, match="found 0 samples"):
        read_wfdb16(write(header(first="r 3 500"), b""))


def test_missing_signal_line_is_truncated(write: Any) -> None:
    with pytest.raises(TruncatedError, match=r"found 2 signal lines in r\.hea, expected 3"):
        read_wfdb16(write("\n".join(header().splitlines()[:3])))


@pytest.mark.parametrize("form", ["212", "80", "32", "516", "16x2", "16:3", "8", "x"])
def test_other_formats_are_refused_with_advice(write: Any, form: str) -> None:
    with pytest.raises(FormatError, match=f"found signal format '{form}'") as caught:
        read_wfdb16(write(header().replace("r.dat 16 ", f"r.dat {form} ")))
    assert "Convert" in caught.value.advice


@pytest.mark.parametrize("gain", ["0/mV", "-1/mV", "x", "1000/"])
def test_gain_that_is_none_is_refused(write: Any, gain: str) -> None:
    with pytest.raises(UnitError):
        read_wfdb16(write(header().replace("1000/mV", gain)))


@pytest.mark.parametrize("unit", ["mmHg", "MV", "NU", "mv"])
def test_unit_that_is_no_voltage_is_refused(write: Any, unit: str) -> None:
    with pytest.raises(UnitError, match="expected one of uV, mV, V"):
        read_wfdb16(write(header().replace("/mV", f"/{unit}")))


def test_different_gains_are_refused(write: Any) -> None:
    with pytest.raises(UnitError, match=r"found count sizes \[0.5, 1.0\] uV") as caught:
        read_wfdb16(write(header().replace("1000/mV", "2000/mV", 1)))
    assert "same gain" in caught.value.advice


@pytest.mark.parametrize("name", ["MLII", "ECG", "Resp", "II"])
def test_wrong_or_repeated_lead_is_refused(write: Any, name: str) -> None:
    with pytest.raises(LeadError):
        read_wfdb16(write(header().replace(" V1\n", f" {name}\n")))


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
        read_wfdb16(write(header(first=first)))


def test_signal_line_without_lead_name_is_refused(write: Any) -> None:
    with pytest.raises(FormatError, match="lead name last"):
        read_wfdb16(write(header().replace(" V1\n", "\n")))


@pytest.mark.parametrize("name", ["../r.dat", "/etc/passwd", "sub/r.dat", ".."])
def test_signal_file_elsewhere_is_refused(write: Any, name: str) -> None:
    with pytest.raises(FormatError, match="expected a file beside"):
        read_wfdb16(write(header().replace("r.dat", name)))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"found no header 'x\.hea'"):
        read_wfdb16(tmp_path / "x")
    (tmp_path / "x.hea").write_text(header())
    with pytest.raises(FormatError, match=r"found no signal file 'r\.dat'") as caught:
        read_wfdb16(tmp_path / "x")
    assert "two files" in caught.value.advice


def test_missing_samples_are_refused(write: Any) -> None:
    counts = COUNTS.copy()
    counts[7, 1] = -32768
    with pytest.raises(SampleError, match="found 1 missing samples"):
        read_wfdb16(write(data=counts.astype("<i2").tobytes()))


def test_baseline_that_overflows_is_refused(write: Any) -> None:
    with pytest.raises(SampleError, match="at most 32767"):
        read_wfdb16(write(header().replace("1000/mV", "1000(32000)/mV")))


def test_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r 2 500\na.dat 16 1000/mV 16 0 0 0 0 I\nb.dat 16 1000/mV 16 0 0 0 0 II\n")
    (tmp_path / "a.dat").write_bytes(bytes(20))
    (tmp_path / "b.dat").write_bytes(bytes(22))
    with pytest.raises(LengthError, match="different lengths"):
        read_wfdb16(tmp_path / "r.hea")


@pytest.mark.parametrize("seed", range(60))
def test_damaged_header_is_an_ecg_error_or_reads(write: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(header().encode())
    for position in rng.integers(0, len(data), 3):
        data[position] = int(rng.integers(32, 127))
    path = write()
    path.write_bytes(bytes(data))
    try:
        record = read_wfdb16(path)
    except EcgError:
        return
    assert record.n_samples > 0


def test_too_large_header_is_refused(write: Any) -> None:
    with pytest.raises(FormatError, match="expected at most"):
        read_wfdb16(write("#" * (1 << 20) + "\n" + header()))
