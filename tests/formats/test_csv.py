"""CSV: unit and rate are stated or the file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsemvae.ecg import (
    FormatError,
    LeadError,
    LengthError,
    RateError,
    SampleError,
    StartTime,
    TruncatedError,
    UnitError,
)
from lsemvae.formats.csv import read_csv

HEAD = "# fs_hz=500\n# unit=mV\n"
BODY = "I,II\n0.1,0.2\n0.3,0.4\n-0.5,0.6\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(text: str | bytes) -> Path:
        path = tmp_path / "x.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_plain_file(write: Any) -> None:
    record = read_csv(write(HEAD + BODY))
    assert (record.leads, record.fs_hz, record.n_samples) == (("I", "II"), 500.0, 3)
    np.testing.assert_allclose(record.to_mv(), [[0.1, 0.3, -0.5], [0.2, 0.4, 0.6]], atol=1e-6)


def test_all_keys(write: Any) -> None:
    keys = (
        "# start=2026-01-31T12:00:00Z\n# gain_known=false\n# device = E6L\n"
        "#record_id=r=1\n# a comment\n# other=ignored\n"
    )
    record = read_csv(write(HEAD + keys + BODY))
    assert record.start == StartTime("2026-01-31T12:00:00Z", "file")
    assert (record.gain_known, record.device, record.record_id) == (False, "E6L", "r=1")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + BODY,
        (HEAD + BODY).replace("\n", "\r\n"),
        HEAD + "\n" + BODY.replace("\n", "\n\n"),
        HEAD + BODY.replace(",", " , "),
        HEAD + BODY.replace("I,II", '"I","II"'),
        HEAD + BODY.rstrip("\n"),
    ],
    ids=["bom", "crlf", "blank lines", "blanks", "quotes", "no last newline"],
)
def test_ways_of_writing_the_same(text: str, write: Any) -> None:
    np.testing.assert_allclose(read_csv(write(text)).to_mv(), [[0.1, 0.3, -0.5], [0.2, 0.4, 0.6]], atol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1e-3), ("mV", 1.0), ("V", 1e3)])
def test_unit_of_the_file_or_the_caller(unit: str, factor: float, write: Any) -> None:
    values = np.array([[100.0, 300.0], [200.0, -400.0]]) / 1000 / factor
    body = "I,II\n" + "".join(f"{a!r},{b!r}\n" for a, b in values.tolist())
    for record in (
        read_csv(write(f"# unit={unit}\n# fs_hz=500\n{body}")),
        read_csv(write("# fs_hz=500\n" + body), unit=unit),
    ):
        np.testing.assert_allclose(record.to_mv(), values.T * factor, atol=1e-3)


@pytest.mark.promise(3)
def test_missing_unit_is_refused(write: Any) -> None:
    with pytest.raises(UnitError, match=r"found no unit in x.csv, expected a line '# unit=mV'"):
        read_csv(write("# fs_hz=500\n" + BODY))


@pytest.mark.promise(3)
@pytest.mark.parametrize("unit", ["mv", "", "adu", "mmHg"])
def test_wrong_unit_is_refused(unit: str, write: Any) -> None:
    with pytest.raises(UnitError, match="expected one of uV, mV, V"):
        read_csv(write(f"# fs_hz=500\n# unit={unit}\n" + BODY))


@pytest.mark.promise(4)
def test_missing_rate_is_refused(write: Any) -> None:
    with pytest.raises(RateError, match="found no rate"):
        read_csv(write("# unit=mV\n" + BODY))


@pytest.mark.promise(4)
@pytest.mark.parametrize("rate", ["fast", "", "nan", "0", "-500", "1e9"])
def test_wrong_rate_is_refused(rate: str, write: Any) -> None:
    with pytest.raises(RateError):
        read_csv(write(f"# unit=mV\n# fs_hz={rate}\n" + BODY))


def test_file_and_caller_must_agree(write: Any) -> None:
    path = write(HEAD + BODY)
    assert read_csv(path, fs_hz=500, unit="mV").fs_hz == 500
    with pytest.raises(FormatError, match=r"found fs_hz 500.0 in the file and 250 from the caller"):
        read_csv(path, fs_hz=250)
    with pytest.raises(FormatError, match="found unit 'mV' in the file and 'uV'"):
        read_csv(path, unit="uV")


def test_rate_from_the_time_column(write: Any) -> None:
    rows = "".join(f"{k / 257.3:.3f},0.1,0.2\n" for k in range(2573))
    record = read_csv(write("# unit=mV\ntime_s,I,II\n" + rows))
    assert record.fs_hz == pytest.approx(257.3, rel=1e-4)
    assert record.leads == ("I", "II")


def test_time_column_is_passed_over_where_the_rate_is_stated(write: Any) -> None:
    record = read_csv(write(HEAD + "I,time_s,II\n0.1,5,0.2\n0.3,5.002,0.4\n"))
    assert (record.fs_hz, record.leads, record.n_samples) == (500.0, ("I", "II"), 2)


def test_lost_samples_in_the_time_column_do_not_vanish(write: Any) -> None:
    times = [k / 500 for k in range(1000) if not 400 <= k < 420]
    rows = "".join(f"{t:.3f},0.1\n" for t in times)
    with pytest.raises(RateError, match="uneven times"):
        read_csv(write("# unit=mV\ntime_s,I\n" + rows))


def _timed(times: list[float], head: str = HEAD) -> str:
    return head + "time_s,I,II\n" + "".join(f"{t:.4f},0.1,0.2\n" for t in times)


@pytest.mark.parametrize("fs_hz", [250, 512, 1000])
def test_a_stated_rate_that_the_time_column_contradicts_is_refused(fs_hz: int, write: Any) -> None:
    text = _timed([k / 500 for k in range(500)], head=f"# fs_hz={fs_hz}\n# unit=mV\n")
    with pytest.raises(RateError, match=f"stated rate of {fs_hz} Hz and times at 500 Hz") as caught:
        read_csv(write(text))
    assert "never guessed" in caught.value.advice


@pytest.mark.parametrize("drift", [-2e-4, 0.0, 2e-4])
def test_a_stated_rate_agrees_with_times_of_another_crystal(drift: float, write: Any) -> None:
    assert read_csv(write(_timed([k / 500 * (1 + drift) for k in range(5000)]))).fs_hz == 500.0


def test_lost_samples_do_not_vanish_even_where_the_rate_is_stated(write: Any) -> None:
    with pytest.raises(RateError, match="uneven times") as caught:
        read_csv(write(_timed([k / 500 for k in range(1000) if not 400 <= k < 403])))
    assert "Samples are missing" in caught.value.advice


def test_a_time_that_is_no_number_is_uneven(write: Any) -> None:
    text = _timed([k / 500 for k in range(9)]).replace("0.0080,", "nan,")
    with pytest.raises(RateError, match="uneven times"):
        read_csv(write(text))


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_columns_parted_by_another_mark_are_named_and_not_called_truncated(mark: str, end: str, write: Any) -> None:
    with pytest.raises(FormatError, match="parted by") as caught:
        read_csv(write(HEAD + f"I{mark}II\n0,12{mark}0,33\n0,14{mark}0,31{end}"))
    assert not isinstance(caught.value, TruncatedError)
    assert "points in the numbers" in caught.value.advice


@pytest.mark.parametrize("content", [b"\x00\x01" * 500, b"x" * 5000, b"<html>" + b"a b " * 400])
def test_what_is_no_table_is_refused_in_few_words(content: bytes, write: Any) -> None:
    with pytest.raises(FormatError) as caught:
        read_csv(write(content))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("times", [(0.0,), (0.0, 0.0), (1.0, 0.0)])
def test_times_that_do_not_rise_are_refused(times: tuple[float, ...], write: Any) -> None:
    rows = "".join(f"{t},0.1\n" for t in times)
    with pytest.raises(RateError, match="two rising times"):
        read_csv(write("# unit=mV\ntime_s,I\n" + rows))


@pytest.mark.promise(2)
@pytest.mark.parametrize("names", ["I,X", "I,I", "I,lead i", "0.1,0.2", "I,"])
def test_wrong_lead_names_are_refused(names: str, write: Any) -> None:
    with pytest.raises(LeadError):
        read_csv(write(HEAD + BODY.replace("I,II", names)))


def test_no_lead_at_all_is_refused(write: Any) -> None:
    with pytest.raises(LeadError, match="no lead name"):
        read_csv(write("# unit=mV\ntime_s\n0\n1\n"))


@pytest.mark.parametrize("text", ["", HEAD, "# only\n", HEAD + "I,II\n"])
def test_no_samples_are_refused(text: str, write: Any) -> None:
    with pytest.raises(LengthError, match=r"found (0 samples|no row)"):
        read_csv(write(text))


@pytest.mark.promise(21)
@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e400"])
def test_values_that_are_not_finite_are_refused(value: str, write: Any) -> None:
    with pytest.raises(SampleError, match="NaN or infinite"):
        read_csv(write(HEAD + BODY.replace("0.3", value)))


@pytest.mark.parametrize("value", ["x", "", "0.1.2", "0,1", "0x10", "1_000"])
def test_values_that_are_no_numbers_are_refused(value: str, write: Any) -> None:
    with pytest.raises(FormatError):
        read_csv(write(HEAD + BODY.replace("0.3", value)))


def test_row_of_another_length_names_the_row(write: Any) -> None:
    with pytest.raises(FormatError, match=r"found 1 numbers in row 2 of x\.csv, expected 2"):
        read_csv(write(HEAD + "I,II\n1,2\n3\n4,5\n"))


@pytest.mark.promise(24)
def test_truncated_last_row_says_so(write: Any) -> None:
    with pytest.raises(TruncatedError, match="found 1 numbers in the last row"):
        read_csv(write(HEAD + "I,II\n0.1,0.2\n0.3"))


def test_bytes_that_are_no_text_are_refused(write: Any) -> None:
    with pytest.raises(FormatError, match="UTF-8"):
        read_csv(write(b"\xff\xfe\x00I"))


@pytest.mark.parametrize("line", ["# unit=uV\n", "# fs_hz=500\n"])
def test_a_key_stated_twice_is_refused(line: str, write: Any) -> None:
    with pytest.raises(FormatError, match="twice"):
        read_csv(write(HEAD + line + BODY))


@pytest.mark.parametrize("value", ["yes", "1", ""])
def test_gain_known_is_true_or_false(value: str, write: Any) -> None:
    with pytest.raises(FormatError, match="expected true or false"):
        read_csv(write(HEAD + f"# gain_known={value}\n" + BODY))


def test_too_large_file_is_refused_unread(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsemvae.formats.csv.MAX_CSV_BYTES", 10)
    with pytest.raises(FormatError, match="expected at most 10"):
        read_csv(write(HEAD + BODY))
