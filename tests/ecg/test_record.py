"""The record: nothing can be built that would have to be guessed at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsemvae.ecg import (
    EcgRecord,
    FormatError,
    Interval,
    LeadError,
    LeadOff,
    LengthError,
    RateError,
    SampleError,
    StartTime,
    UnitError,
    record_from_physical,
)

COUNTS = np.arange(20, dtype=np.int16).reshape(2, 10)


def build(**changes: Any) -> EcgRecord:
    fields: dict[str, Any] = {"samples": COUNTS, "lsb_uv": 2.0, "fs_hz": 100.0, "leads": ("I", "II")}
    return EcgRecord(**{**fields, **changes})


@pytest.mark.promise(3)
def test_a_record_without_unit_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="lsb_uv"):
        EcgRecord(samples=COUNTS, fs_hz=100.0, leads=("I", "II"))  # type: ignore[call-arg]


def test_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        EcgRecord(COUNTS, 2.0, 100.0, ("I", "II"))  # type: ignore[misc]


@pytest.mark.promise(3)
@pytest.mark.parametrize("lsb", [None, 0, 0.0, -1.0, float("nan"), float("inf"), "1", True, 1e-6, 1e6, [1.0]])
def test_impossible_count_size_is_a_unit_error(lsb: Any) -> None:
    with pytest.raises(UnitError, match="uV per count"):
        build(lsb_uv=lsb)


@pytest.mark.promise(4)
@pytest.mark.parametrize("rate", [None, 0, -500, 49.9, 2000.1, float("nan"), float("inf"), "500", True])
def test_impossible_rate_is_a_rate_error(rate: Any) -> None:
    with pytest.raises(RateError, match="50 to 2000 Hz"):
        build(fs_hz=rate)


@pytest.mark.parametrize("rate", [50, 2000, np.float32(250.0), np.int64(500)])
def test_rates_become_float(rate: Any) -> None:
    assert type(build(fs_hz=rate).fs_hz) is float


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16, np.int8, bool])
def test_other_types_than_int16_are_refused(dtype: type) -> None:
    with pytest.raises(SampleError, match="expected int16"):
        build(samples=COUNTS.astype(dtype))


@pytest.mark.parametrize("shape", [(20,), (1, 2, 10)])
def test_other_shapes_than_lead_by_time_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SampleError, match=r"\(lead, time\)"):
        build(samples=COUNTS.reshape(shape))


@pytest.mark.promise(21)
def test_zero_samples_are_refused() -> None:
    with pytest.raises(LengthError, match="found 0 samples"):
        build(samples=COUNTS[:, :0])


@pytest.mark.parametrize("leads", [("I",), ("I", "II", "III"), ()])
def test_one_name_for_each_row(leads: tuple[str, ...]) -> None:
    with pytest.raises(LeadError, match="one name for each row"):
        build(leads=leads)


@pytest.mark.parametrize("leads", [("I", "X"), ("I", "lead i")])
def test_unknown_or_duplicate_lead_is_refused(leads: tuple[str, ...]) -> None:
    with pytest.raises(LeadError):
        build(leads=leads)


def test_names_become_canonical() -> None:
    assert build(leads=["mdc_ecg_lead_avf", "v1"]).leads == ("aVF", "V1")


def test_samples_are_a_read_only_copy() -> None:
    source = COUNTS.copy()
    record = build(samples=source)
    source[0, 0] = 99
    assert record.samples[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        record.samples[0, 0] = 1


def test_a_read_only_view_of_writable_samples_is_copied() -> None:
    source = COUNTS.copy()
    view = source[:, :]
    view.setflags(write=False)
    record = build(samples=view)
    source[0, 0] = 99
    assert record.samples[0, 0] == 0


def test_big_endian_samples_keep_their_values() -> None:
    record = build(samples=COUNTS.astype(">i2"))
    np.testing.assert_array_equal(record.samples, COUNTS)
    assert record.samples.dtype.isnative


def test_fields_are_frozen() -> None:
    with pytest.raises(AttributeError):
        build().lsb_uv = 1.0  # type: ignore[misc]


def test_durations_and_counts() -> None:
    record = build(gaps=(Interval(0, 0 + 1),), samples=np.zeros((2, 10), np.int16))
    assert (record.n_leads, record.n_samples, record.duration_s, record.received_samples) == (2, 10, 0.1, 9)


@pytest.mark.promise(6)
@given(st.lists(st.integers(0, 99), max_size=8, unique=True))
def test_received_plus_gaps_is_elapsed_time(cuts: list[int]) -> None:
    edges = sorted(cuts)
    gaps = tuple(Interval(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False))
    record = build(samples=np.zeros((2, 100), np.int16), gaps=gaps)
    assert record.received_samples + sum(g.n_samples for g in record.gaps) == record.duration_s * record.fs_hz


def test_values_inside_a_gap_are_refused() -> None:
    with pytest.raises(SampleError, match="zeros there"):
        build(gaps=(Interval(3, 5),))


@pytest.mark.parametrize("run", [(5, 11), (0, 100)])
def test_runs_beyond_the_end_are_refused(run: tuple[int, int]) -> None:
    zeros = np.zeros((2, 10), np.int16)
    for field in ("gaps", "saturated"):
        with pytest.raises(LengthError, match="at most 10"):
            build(samples=zeros, **{field: (Interval(*run),)})
    with pytest.raises(LengthError, match="at most 10"):
        build(lead_off=(LeadOff("I", *run),))


def test_overlapping_gaps_are_refused() -> None:
    with pytest.raises(LengthError, match="disjoint"):
        build(samples=np.zeros((2, 10), np.int16), gaps=(Interval(4, 6), Interval(1, 5)))


def test_touching_gaps_are_kept_and_sorted() -> None:
    record = build(samples=np.zeros((2, 10), np.int16), gaps=(Interval(4, 6), Interval(1, 4)))
    assert record.gaps == (Interval(1, 4), Interval(4, 6))


@pytest.mark.parametrize("run", [(1, 1), (2, 1), (-1, 1), (0.0, 1), ("0", 1)])
def test_empty_or_negative_runs_are_refused(run: tuple[Any, Any]) -> None:
    with pytest.raises(LengthError, match="0 <= start < stop"):
        Interval(*run)
    with pytest.raises(LengthError):
        LeadOff("I", *run)


def test_lead_off_of_a_foreign_lead_is_refused() -> None:
    with pytest.raises(LeadError, match="found lead-off for V1"):
        build(lead_off=(LeadOff("v1", 0, 1),))


def test_offsets_default_to_zero_and_must_match_the_leads() -> None:
    assert build().offset_uv == (0.0, 0.0)
    assert build(offset_uv=(1, -2.5)).offset_uv == (1.0, -2.5)
    with pytest.raises(UnitError, match="one for each lead"):
        build(offset_uv=(1.0,))
    with pytest.raises(UnitError, match="finite"):
        build(offset_uv=(1.0, float("nan")))


@pytest.mark.parametrize("changes", [{"device": None}, {"record_id": 3}, {"gain_known": "no"}, {"gain_known": 1}])
def test_texts_and_truths_have_their_types(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        build(**changes)


def test_start_time_names_its_clock() -> None:
    assert StartTime("2026-01-01T00:00:00Z").source == "unknown"
    with pytest.raises(FormatError, match="device, host, file, unknown"):
        StartTime("2026-01-01T00:00:00Z", "gps")  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        StartTime("", "host")


def test_millivolts() -> None:
    mv = build().to_mv()
    assert mv.dtype == np.float32
    np.testing.assert_allclose(mv, COUNTS * 0.002, rtol=1e-6)
    assert build().to_mv(np.float64).dtype == np.float64


def test_slice_cuts_samples_and_runs() -> None:
    record = build(
        samples=np.zeros((2, 10), np.int16),
        gaps=(Interval(1, 3), Interval(6, 8)),
        saturated=(Interval(0, 2), Interval(4, 5)),
        lead_off=(LeadOff("I", 0, 2), LeadOff("II", 5, 9)),
        start=StartTime("2026-01-01T00:00:00Z", "device"),
    )
    part = record.slice(2, 7)
    assert part.n_samples == 5
    assert part.gaps == (Interval(0, 1), Interval(4, 5))
    assert part.saturated == (Interval(2, 3),)
    assert part.lead_off == (LeadOff("II", 3, 5),)
    assert part.start is None
    assert record.slice(0, 5).start == record.start


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 3), (0, 11)])
def test_slice_outside_is_refused(start: int, stop: int) -> None:
    with pytest.raises(LengthError, match=r"0\.\.10"):
        build().slice(start, stop)


def test_with_changes_and_checks_again() -> None:
    assert build().with_(device="x").device == "x"
    with pytest.raises(UnitError):
        build().with_(lsb_uv=0)
    with pytest.raises(FormatError, match="unit"):
        build().with_(unit="mV")


def test_records_compare_by_identity() -> None:
    assert build() != build()


# physical values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "value"), [("uV", 1500.0), ("mV", 1.5), ("V", 0.0015), ("µV", 1500.0), ("μV", 1500.0)]
)
def test_units_mean_the_same_voltage(unit: str, value: float) -> None:
    record = record_from_physical(np.full((1, 4), value), unit=unit, fs_hz=250, leads=["I"])
    np.testing.assert_allclose(record.to_mv(), 1.5, rtol=1e-6)


@pytest.mark.promise(3)
@pytest.mark.parametrize("unit", [None, "", "mv", "MV", "mA", "volt", "adu", "nV", 1, ["mV"]])
def test_missing_or_unknown_unit_is_an_error_that_lists_the_known_ones(unit: Any) -> None:
    with pytest.raises(UnitError, match="expected one of uV, mV, V"):
        record_from_physical(np.ones((1, 4)), unit=unit, fs_hz=250, leads=["I"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    x = np.zeros((2, 5))
    x[1, 2] = bad
    with pytest.raises(SampleError, match="found 1 samples that are NaN or infinite"):
        record_from_physical(x, unit="mV", fs_hz=250, leads=["I", "II"])


@pytest.mark.promise(3)
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, bool, object])
def test_integer_counts_are_not_voltages(dtype: type) -> None:
    with pytest.raises(SampleError, match="floating-point"):
        record_from_physical(np.ones((1, 4), dtype), unit="mV", fs_hz=250, leads=["I"])


def test_empty_values_are_refused() -> None:
    with pytest.raises(LengthError, match="0 samples"):
        record_from_physical(np.ones((2, 0)), unit="mV", fs_hz=250, leads=["I", "II"])


def test_one_dimensional_values_are_refused() -> None:
    with pytest.raises(SampleError, match=r"\(lead, time\)"):
        record_from_physical(np.ones(4), unit="mV", fs_hz=250, leads=["I"])


@pytest.mark.parametrize(("peak_mv", "lsb_uv"), [(1.0, 1.0), (32.767, 1.0), (32.8, 2.0), (100.0, 4.0), (500.0, 16.0)])
def test_count_size_grows_until_the_signal_fits(peak_mv: float, lsb_uv: float) -> None:
    record = record_from_physical(np.array([[peak_mv, -peak_mv]]), unit="mV", fs_hz=250, leads=["I"])
    assert record.lsb_uv == lsb_uv
    np.testing.assert_allclose(record.to_mv(), [[peak_mv, -peak_mv]], atol=lsb_uv / 1000)


def test_a_value_beyond_any_count_size_is_a_unit_error() -> None:
    with pytest.raises(UnitError, match=r"Check the unit|found a value"):
        record_from_physical(np.array([[1000.0]]), unit="V", fs_hz=250, leads=["I"])
    with pytest.raises(UnitError):
        record_from_physical(np.array([[1e308]]), unit="V", fs_hz=250, leads=["I"])


def test_a_value_beyond_the_stated_count_size_is_a_unit_error() -> None:
    with pytest.raises(UnitError, match="at most 32767 uV at 1 uV per count"):
        record_from_physical(np.array([[33.0]]), unit="mV", fs_hz=250, leads=["I"], lsb_uv=1.0)


@pytest.mark.promise(7)
@given(st.floats(-30, 30))
def test_rounding_error_is_half_a_count(value_mv: float) -> None:
    record = record_from_physical(np.array([[value_mv]]), unit="mV", fs_hz=250, leads=["I"])
    assert abs(record.to_mv(np.float64)[0, 0] - value_mv) <= 0.5e-3 + 1e-12


def test_further_fields_pass_through() -> None:
    record = record_from_physical(np.ones((1, 4)), unit="mV", fs_hz=250, leads=["I"], gain_known=False, device="d")
    assert (record.gain_known, record.device) == (False, "d")
