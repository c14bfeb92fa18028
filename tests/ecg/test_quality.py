"""The quality gate: each fault is refused for its own reason, a good recording is not, nothing raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsemvae.ecg import (
    LEADS,
    LIMB_LEADS,
    DecisionRule,
    EcgRecord,
    Interval,
    LeadOff,
    ManifestError,
    Outcome,
    QualityThresholds,
    Reason,
    advice,
    apply,
    assess,
    choose_window,
    decide,
    measures,
)

Make = Callable[..., EcgRecord]
RNG_SEED = 11


def seconds(record: EcgRecord, start_s: float, stop_s: float) -> slice:
    return slice(round(start_s * record.fs_hz), round(stop_s * record.fs_hz))


def with_values(record: EcgRecord, row: int, part: slice, value_mv: float) -> EcgRecord:
    samples = record.samples.copy()
    samples[row, part] = np.clip(round(value_mv * 1e3 / record.lsb_uv), -32768, 32767)
    return record.with_(samples=samples)


# good recordings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fs_hz", [100.0, 128.0, 257.3, 300.0, 500.0, 1000.0])
@pytest.mark.parametrize("leads", [("I", "II"), LIMB_LEADS])
def test_good_recording_is_acceptable_at_any_rate(fs_hz: float, leads: tuple[str, ...], make_record: Make) -> None:
    report = assess(make_record(fs_hz=fs_hz, leads=leads))
    assert report.acceptable
    assert report.reasons == ()
    assert [lead.lead for lead in report.leads] == list(leads)


@pytest.mark.parametrize("lsb_uv", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("noise_mv", [0.0, 0.02])
def test_count_size_and_a_little_noise_do_not_matter(lsb_uv: float, noise_mv: float, make_record: Make) -> None:
    assert assess(make_record(lsb_uv=lsb_uv, noise_mv=noise_mv)).acceptable


def test_electrode_potential_does_not_matter(make_record: Make) -> None:
    assert assess(make_record(leads=("I", "II"), change=lambda mv: mv + np.array([[20.0], [-12.0]]))).acceptable


def test_slow_breathing_does_not_matter(make_record: Make) -> None:
    swing = 0.3 * np.sin(2 * np.pi * 0.2 * np.arange(5000) / 500)
    assert assess(make_record(leads=("I", "II"), change=lambda mv: mv + swing)).acceptable


def test_figures_are_what_they_are_called(make_record: Make) -> None:
    record = make_record(leads=("I", "II"), noise_mv=0.02)
    report = assess(record)
    filtered = apply(record, leads=("I", "II")).astype(float)
    for k, lead in enumerate(report.leads):
        assert lead.rms_mv == pytest.approx(np.sqrt(np.mean(filtered[k] ** 2)), rel=1e-4)
        assert 0.010 < lead.noise_mv < 0.022
        assert lead.flat_fraction == lead.saturated_fraction == 0.0
    assert report.details["received_s"] == report.details["duration_s"] == 10.0
    assert report.details["einthoven_mv"] == 0.0


# one fault, one reason -----------------------------------------------------------------------------------------------


@pytest.mark.promise(14)
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(("start_s", "stop_s"), [(0.0, 10.0), (0.0, 3.0), (4.1, 6.5)])
def test_flat_lead(row: int, start_s: float, stop_s: float, make_record: Make) -> None:
    record = make_record(leads=("I", "II"))
    report = assess(with_values(record, row, seconds(record, start_s, stop_s), 0.01))
    assert Reason.FLAT in report.reasons
    assert report.leads[row].reasons[0] == Reason.FLAT
    assert Reason.FLAT not in report.leads[1 - row].reasons
    assert report.leads[row].flat_fraction >= (stop_s - start_s - 0.4) / 10


def test_flat_at_any_electrode_potential(make_record: Make) -> None:
    record = make_record(leads=("I", "II"))
    assert Reason.FLAT in assess(with_values(record, 0, slice(None), 7.0)).reasons


def test_all_zeros(make_record: Make) -> None:
    report = assess(make_record(noise_mv=0.0, change=lambda mv: 0 * mv))
    assert {Reason.FLAT, Reason.AMPLITUDE, Reason.NO_BEATS} <= set(report.reasons)
    assert all(lead.flat_fraction == 1.0 for lead in report.leads)


@pytest.mark.promise(14)
@pytest.mark.parametrize("value_mv", [40.0, -40.0])
def test_saturated_at_the_int16_rail(value_mv: float, make_record: Make) -> None:
    record = make_record(leads=("I", "II"))
    report = assess(with_values(record, 1, seconds(record, 3, 3.3), value_mv))
    assert Reason.SATURATED in report.leads[1].reasons
    assert report.leads[1].saturated_fraction == pytest.approx(0.03)
    assert Reason.SATURATED not in report.leads[0].reasons


@pytest.mark.parametrize("value_mv", [3.0, -5.0])
def test_saturated_amplifier_below_the_rail(value_mv: float, make_record: Make) -> None:
    record = make_record(leads=("I", "II"))
    report = assess(with_values(record, 0, seconds(record, 3, 3.3), value_mv))
    assert Reason.SATURATED in report.leads[0].reasons


def test_a_broad_r_wave_is_not_saturation(make_record: Make) -> None:
    record = make_record(leads=("I", "II"), lsb_uv=10.0, change=lambda mv: np.where(mv > 0.7, 2.0, mv))
    assert all(lead.saturated_fraction == 0.0 for lead in assess(record).leads)


@pytest.mark.promise(14)
def test_saturated_as_the_device_reports_it(make_record: Make) -> None:
    report = assess(make_record(leads=("I", "II"), saturated=(Interval(100, 300),)))
    assert report.reasons == (Reason.SATURATED,)
    assert [lead.saturated_fraction for lead in report.leads] == [0.04, 0.04]


def test_saturation_outside_the_judged_window_does_not_count(make_record: Make) -> None:
    assert assess(make_record(seconds=20.0, saturated=(Interval(6000, 9000),))).acceptable


@pytest.mark.promise(14)
def test_lead_off(make_record: Make) -> None:
    report = assess(make_record(lead_off=(LeadOff("II", 2000, 2600),)))
    assert report.reasons == (Reason.LEAD_OFF,)


def test_lead_off_for_the_whole_recording(make_record: Make) -> None:
    report = assess(make_record(lead_off=(LeadOff("I", 0, 5000),)))
    assert report.reasons == (Reason.LEAD_OFF,)
    assert report.leads == ()


def test_lead_off_beside_a_free_window_does_not_count(make_record: Make) -> None:
    assert assess(make_record(seconds=20.0, lead_off=(LeadOff("I", 0, 1000),))).acceptable


@pytest.mark.promise(14)
@pytest.mark.parametrize("gap_ms", [50, 250, 3000])
def test_gap(gap_ms: int, make_record: Make) -> None:
    record = make_record()
    stop = 2500 + gap_ms // 2
    samples = record.samples.copy()
    samples[:, 2500:stop] = 0
    report = assess(record.with_(samples=samples, gaps=(Interval(2500, stop),)))
    assert Reason.GAP in report.reasons
    assert (Reason.TOO_SHORT in report.reasons) == (gap_ms > 100)


def test_gap_beside_a_free_window_does_not_count(make_record: Make) -> None:
    record = make_record(seconds=30.0)
    samples = record.samples.copy()
    samples[:, 1000:2000] = 0
    assert assess(record.with_(samples=samples, gaps=(Interval(1000, 2000),))).acceptable


def test_gap_and_lead_off_that_share_the_blame_are_both_named(make_record: Make) -> None:
    record = make_record(seconds=16.0)
    samples = record.samples.copy()
    samples[:, 4000:4100] = 0
    report = assess(record.with_(samples=samples, gaps=(Interval(4000, 4100),), lead_off=(LeadOff("I", 3000, 3100),)))
    assert {Reason.GAP, Reason.LEAD_OFF} & set(report.reasons)
    assert not report.acceptable


@pytest.mark.promise(14)
@pytest.mark.parametrize("length_s", [9.8, 8.0, 4.0, 0.5, 0.002])
def test_too_short(length_s: float, make_record: Make) -> None:
    report = assess(make_record(seconds=10.0).slice(0, round(500 * length_s)))
    assert Reason.TOO_SHORT in report.reasons


def test_just_long_enough(make_record: Make) -> None:
    assert assess(make_record(seconds=9.9)).acceptable


@pytest.mark.promise(14)
def test_mains_and_muscle_noise(make_record: Make) -> None:
    rng = np.random.default_rng(RNG_SEED)
    hum = 0.15 * np.sin(2 * np.pi * 50 * np.arange(5000) / 500)
    report = assess(make_record(leads=("I", "II"), change=lambda mv: mv + hum + rng.normal(0, 0.1, mv.shape)))
    assert Reason.NOISE in report.reasons
    assert all(lead.noise_mv > 0.1 for lead in report.leads)


def test_noise_figure_passes_over_qrs_complexes(make_record: Make) -> None:
    quiet = assess(make_record(leads=("I", "II"), noise_mv=0.0))
    assert all(lead.noise_mv < 0.003 for lead in quiet.leads)


@pytest.mark.promise(14)
@pytest.mark.parametrize("f_hz", [0.1, 0.3, 0.5])
def test_baseline_swing(f_hz: float, make_record: Make) -> None:
    swing = 2.5 * np.sin(2 * np.pi * f_hz * np.arange(5000) / 500)
    report = assess(make_record(leads=("I", "II"), change=lambda mv: mv + swing))
    assert Reason.BASELINE in report.reasons


@pytest.mark.promise(14)
@pytest.mark.parametrize("leads", [LIMB_LEADS, ("I", "II", "III"), ("II", "aVF", "aVL", "I")])
@pytest.mark.parametrize(("rms_mv", "violated"), [(0.045, False), (0.055, True)])
def test_einthoven_violated_by_more_than_50_uv_rms_in_any_lead(
    leads: tuple[str, ...], rms_mv: float, violated: bool, make_record: Make
) -> None:
    wave = rms_mv * np.sqrt(2) * np.sin(2 * np.pi * 3 * np.arange(5000) / 500)
    for row in range(len(leads)):
        spoilt = np.eye(len(leads))[row][:, None] * wave
        report = assess(make_record(leads=leads, noise_mv=0.0, change=lambda mv, spoilt=spoilt: mv + spoilt))
        assert (Reason.EINTHOVEN in report.reasons) == violated
        assert report.details["einthoven_mv"] == pytest.approx(rms_mv, rel=0.01)


def test_avl_and_avf_exchanged_violate_einthoven(make_record: Make) -> None:
    record = make_record()
    swapped = record.with_(leads=("I", "II", "III", "aVR", "aVF", "aVL"))
    assert assess(swapped).reasons == (Reason.EINTHOVEN,)


def test_einthoven_holds_within_rounding(make_record: Make) -> None:
    assert assess(make_record(lsb_uv=5.0)).details["einthoven_mv"] < 0.003


@pytest.mark.promise(14)
@pytest.mark.parametrize("factor", [10.0, 0.1, 1e-3])
def test_wrong_amplitude(factor: float, make_record: Make) -> None:
    assert Reason.AMPLITUDE in assess(make_record(change=lambda mv: factor * mv)).reasons


def test_amplitude_is_not_judged_where_the_gain_is_unknown(make_record: Make) -> None:
    report = assess(make_record(noise_mv=0.0, change=lambda mv: 4.5 * mv, gain_known=False))
    assert report.acceptable


@pytest.mark.promise(14)
@pytest.mark.parametrize("colour", ["white", "brown"])
@pytest.mark.parametrize("seed", range(5))
def test_no_beats_in_noise(colour: str, seed: int, make_record: Make) -> None:
    noise = np.random.default_rng(seed).normal(size=(2, 5000))
    if colour == "brown":
        noise = np.cumsum(noise, axis=-1)
    noise *= 0.1 / np.std(noise)
    assert Reason.NO_BEATS in assess(make_record(leads=("I", "II"), change=lambda mv: noise)).reasons


@pytest.mark.parametrize("f_hz", [1.0, 5.0, 10.0])
def test_no_beats_in_a_sine(f_hz: float, make_record: Make) -> None:
    wave = 0.15 * np.sin(2 * np.pi * f_hz * np.arange(5000) / 500)
    assert Reason.NO_BEATS in assess(make_record(leads=("I", "II"), change=lambda mv: 0 * mv + wave)).reasons


@pytest.mark.parametrize("rate_bpm", [40, 66, 120, 180])
def test_beats_are_seen_at_slow_and_fast_rates(
    rate_bpm: int, ecg: Callable[..., np.ndarray], make_record: Make
) -> None:
    beats = ecg(rate_bpm=rate_bpm)
    noise = np.random.default_rng(RNG_SEED).normal(0, 0.01, beats.shape)
    assert Reason.NO_BEATS not in assess(make_record(leads=("I", "II"), change=lambda mv: beats + noise)).reasons


@pytest.mark.promise(14)
@pytest.mark.parametrize("leads", [("I",), ("V1", "V2"), ("I", "V1")])
def test_missing_limb_leads(leads: tuple[str, ...]) -> None:
    record = EcgRecord(samples=np.zeros((len(leads), 5000), np.int16), lsb_uv=1, fs_hz=500, leads=leads)
    assert Reason.MISSING_LEAD in assess(record).reasons


@pytest.mark.promise(4, 14)
@pytest.mark.parametrize("fs_hz", [60.0, 99.0, 1001.0, 2000.0])
def test_rate_outside(fs_hz: float, make_record: Make) -> None:
    report = assess(make_record(fs_hz=fs_hz))
    assert report.reasons == (Reason.RATE,)


def test_chest_leads_are_judged_only_when_asked_for(make_record: Make) -> None:
    limb = make_record()
    twelve = limb.with_(samples=np.vstack([limb.samples, 0 * limb.samples]), leads=LEADS, offset_uv=())
    assert assess(twelve).acceptable
    assert assess(twelve, choose_window(twelve, leads=LEADS)).reasons == (Reason.FLAT,)


def test_reasons_follow_the_order_of_their_list(make_record: Make) -> None:
    reasons = assess(make_record(change=lambda mv: 0 * mv, noise_mv=0.0).slice(0, 4000)).reasons
    assert list(reasons) == [reason for reason in Reason if reason in reasons]


# whatever comes ------------------------------------------------------------------------------------------------------

ANY_COUNTS = hnp.arrays(
    np.int16,
    st.tuples(st.just(2), st.sampled_from([1, 2, 7, 99, 600, 1200, 2475, 2500, 2600])),
    elements=st.integers(-32768, 32767),
    fill=st.integers(-32768, 32767),
)


@pytest.mark.promise(17)
@settings(max_examples=60, deadline=None)
@given(counts=ANY_COUNTS, fs_hz=st.sampled_from([50.0, 100.0, 250.0, 257.3, 1000.0, 2000.0]), lsb=st.floats(1e-3, 1e3))
def test_never_raises_whatever_the_signal_holds(counts: np.ndarray, fs_hz: float, lsb: float) -> None:
    report = assess(EcgRecord(samples=counts, lsb_uv=lsb, fs_hz=fs_hz, leads=("I", "II")))
    assert report.acceptable == (not report.reasons)
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.promise(21)
@settings(max_examples=30, deadline=None)
@given(value=st.integers(-32768, 32767), n=st.integers(1, 6000), logit=st.floats(-50, 50))
def test_constant_recording_is_never_not_detected(value: int, n: int, logit: float) -> None:
    record = EcgRecord(samples=np.full((2, n), value, np.int16), lsb_uv=1.0, fs_hz=500.0, leads=("I", "II"))
    report = assess(record)
    assert not report.acceptable
    rule = DecisionRule(primary="x", calibrations={"x": _identity()}, thresholds={"x": 0.5})
    assert decide({"x": logit}, quality=report, uncertainty=None, rule=rule).outcome == Outcome.ABSTAIN


@pytest.mark.promise(21)
@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 4949))
def test_short_recording_is_never_acceptable(cut: int) -> None:
    samples = np.random.default_rng(cut).normal(0, 100, (2, cut)).astype(np.int16)
    assert not assess(EcgRecord(samples=samples, lsb_uv=1.0, fs_hz=500.0, leads=("I", "II"))).acceptable


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 5900), length=st.integers(1, 100))
def test_what_the_gate_accepts_the_front_end_can_use(start: int, length: int) -> None:
    rng = np.random.default_rng(RNG_SEED)
    samples = rng.normal(0, 100, (2, 6000)).astype(np.int16)
    samples[:, start : start + length] = 0
    record = EcgRecord(samples=samples, lsb_uv=1, fs_hz=500, leads=("I", "II"), gaps=(Interval(start, start + length),))
    report = assess(record)
    if not {Reason.GAP, Reason.LEAD_OFF, Reason.TOO_SHORT} & set(report.reasons):
        assert apply(record, leads=("I", "II")).shape == (2, 2500)


def _identity() -> Any:
    from lsemvae.ecg import Calibration

    return Calibration(1.0, 0.0)


@pytest.mark.parametrize("measure", ["beat_contrast", "limb_contradiction_mv"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figure_that_is_not_finite_is_a_reason(
    measure: str, value: float, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, measure, lambda *_, **__: value)
    assert Reason.NON_FINITE in assess(make_record()).reasons


@pytest.mark.parametrize("measure", ["noise_mv", "rms_mv", "flat_fraction"])
def test_lead_figure_that_is_not_finite_is_a_reason(
    measure: str, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, measure, lambda x, **__: np.full(x.shape[0], np.nan))
    report = assess(make_record())
    assert Reason.NON_FINITE in report.reasons
    assert all(Reason.NON_FINITE in lead.reasons for lead in report.leads)


# thresholds, reasons, reports ----------------------------------------------------------------------------------------

ONE_GATE_OPENED = [
    ("max_flat_fraction", 1.0, Reason.FLAT, lambda r: with_values(r, 0, slice(0, 2000), 0.0)),
    ("max_saturated_fraction", 1.0, Reason.SATURATED, lambda r: with_values(r, 0, slice(0, 150), 40.0)),
    ("max_noise_mv", 9.0, Reason.NOISE, None),
    ("max_baseline_mv", 99.0, Reason.BASELINE, None),
    ("max_rms_mv", 99.0, Reason.AMPLITUDE, None),
]


@pytest.mark.parametrize(
    ("name", "value", "reason", "spoil"), ONE_GATE_OPENED, ids=lambda v: str(v) if isinstance(v, str) else ""
)
def test_each_threshold_opens_its_own_gate(
    name: str, value: float, reason: Reason, spoil: Any, make_record: Make
) -> None:
    rng = np.random.default_rng(RNG_SEED)
    swing = 3 * np.sin(2 * np.pi * 0.3 * np.arange(5000) / 500)
    changes = {
        "max_noise_mv": lambda mv: mv + rng.normal(0, 0.2, mv.shape),
        "max_baseline_mv": lambda mv: mv + swing,
        "max_rms_mv": lambda mv: 10 * mv,
    }
    record = make_record(leads=("I", "II"), change=changes.get(name))
    record = record if spoil is None else spoil(record)
    assert reason in assess(record).reasons
    assert reason not in assess(record, thresholds=replace(QualityThresholds(), **{name: value})).reasons


def test_thresholds_round_trip() -> None:
    changed = QualityThresholds(max_noise_mv=0.2, min_duration_s=8)
    assert QualityThresholds.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    "bad", [{"more": 1.0}, {"max_noise_mv": float("nan")}, {"max_noise_mv": -1}, {"max_noise_mv": "1"}]
)
def test_thresholds_that_cannot_be_obeyed_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        QualityThresholds.from_dict({**QualityThresholds().to_dict(), **bad})


def test_a_missing_threshold_is_refused() -> None:
    values = QualityThresholds().to_dict()
    del values["max_noise_mv"]
    with pytest.raises(ManifestError, match="max_noise_mv"):
        QualityThresholds.from_dict(values)


@pytest.mark.promise(17)
@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_advice(reason: Reason) -> None:
    assert advice(reason) == advice(reason.value)
    assert advice(reason).endswith(".")
    assert str(reason) == reason.value == reason.name


def test_unknown_reason_has_none() -> None:
    with pytest.raises(ValueError, match="BORED"):
        advice("BORED")


def test_report_is_json(make_record: Make) -> None:
    report = assess(make_record(change=lambda mv: 10 * mv))
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["acceptable"] is False
    assert values["reasons"] == [reason.value for reason in report.reasons]
    assert set(values["leads"][0]) == {
        "lead", "rms_mv", "noise_mv", "baseline_mv", "flat_fraction", "saturated_fraction", "reasons",
    }  # fmt: skip


# measures ------------------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 60))), st.integers(1, 12))
def test_long_runs_equal_a_plain_loop(mask: np.ndarray, least: int) -> None:
    expected = np.zeros_like(mask)
    for row, out in zip(mask, expected, strict=True):
        start = 0
        for k in range(row.size + 1):
            if k == row.size or not row[k]:
                if k - start >= least:
                    out[start:k] = True
                start = k + 1
    np.testing.assert_array_equal(measures._long_runs(mask, least), expected)


def test_rms() -> None:
    np.testing.assert_allclose(measures.rms_mv(np.array([[3.0, -3.0], [0.0, 4.0]])), [3.0, np.sqrt(8)])


def test_drift_follows_slow_swings_and_not_beats(ecg: Callable[..., np.ndarray]) -> None:
    t_s = np.arange(2500) / 250
    slow = np.sin(2 * np.pi * 0.1 * t_s)
    got = measures.drift_mv(ecg(fs_hz=250.0) + slow, fs_hz=250.0)
    np.testing.assert_allclose(
        (got - got.mean(axis=-1, keepdims=True))[:, 300:-300], np.stack([slow, slow])[:, 300:-300], atol=0.12
    )


def test_drift_of_a_signal_shorter_than_the_average_is_its_mean() -> None:
    np.testing.assert_allclose(measures.drift_mv(np.array([[1.0, 2.0, 3.0]]), fs_hz=250.0), [[2.0, 2.0, 2.0]])


def test_beat_contrast_of_nothing_is_nothing() -> None:
    assert measures.beat_contrast(np.zeros((2, 2500)), fs_hz=250.0) == 0.0
