"""One window, chosen once: the gate judges exactly the stretch that the model sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsemvae.ecg import (
    BASE,
    LEADS,
    EcgRecord,
    FrontendSpec,
    Interval,
    LeadOff,
    LengthError,
    QualityThresholds,
    Reason,
    apply,
    apply_window,
    assess,
    choose_window,
)

Make = Callable[..., EcgRecord]
I_II = ("I", "II")
SHORT = FrontendSpec(name="eight seconds", n_samples=2000)


def with_gap(record: EcgRecord, start: int, stop: int) -> EcgRecord:
    samples = record.samples.copy()
    samples[:, start:stop] = 0
    return record.with_(samples=samples, gaps=(Interval(start, stop),))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gap=st.integers(0, 14_000), length=st.integers(1, 900), seed=st.integers(0, 99))
def test_what_lies_outside_the_stretch_changes_neither_verdict_nor_input(
    make_record: Make, gap: int, length: int, seed: int
) -> None:
    record = with_gap(make_record(leads=I_II, seconds=30.0), gap, min(15_000, gap + length))
    window = choose_window(record, leads=I_II)
    assert window.enough
    assert window.stretch is not None
    spoilt = np.random.default_rng(seed).integers(-32768, 32767, record.samples.shape).astype(np.int16)
    spoilt[:, window.stretch.start : window.stretch.stop] = record.samples[
        :, window.stretch.start : window.stretch.stop
    ]
    spoilt[:, record.gaps[0].start : record.gaps[0].stop] = 0
    other = record.with_(samples=spoilt)
    assert choose_window(other, leads=I_II) == window
    assert assess(other, window) == assess(record, window)
    np.testing.assert_array_equal(apply_window(other, window), apply_window(record, window))


@pytest.mark.parametrize("at", [0, 2500, 4999])
def test_each_second_of_the_window_is_judged_and_seen(make_record: Make, at: int) -> None:
    record = with_gap(make_record(leads=I_II, seconds=30.0), 3000, 3100)
    window = choose_window(record, leads=I_II)
    samples = record.samples.copy()
    samples[:, window.start + at] = 32767
    other = record.with_(samples=samples)
    assert assess(other, window).leads != assess(record, window).leads
    assert (apply_window(other, window) != apply_window(record, window)).any()


@pytest.mark.parametrize("start_s", [None, 7.4])
def test_gate_measures_the_very_samples_that_the_model_gets(make_record: Make, start_s: float | None) -> None:
    record = make_record(leads=I_II, seconds=30.0, noise_mv=0.02)
    window = choose_window(record, leads=I_II, start_s=start_s)
    seen_mv = apply_window(record, window).astype(np.float64)
    assert [lead.rms_mv for lead in assess(record, window).leads] == pytest.approx(
        np.sqrt(np.mean(seen_mv**2, axis=-1)), rel=1e-5
    )


def test_what_the_filter_carries_into_the_window_is_judged(make_record: Make) -> None:
    record = make_record(leads=I_II, seconds=20.0)
    samples = record.samples.copy()
    samples[:, 5001:5600] = 32000  # a step right behind the window: the filter smears it into the last two seconds
    report = assess(record.with_(samples=samples))
    assert Reason.AMPLITUDE in report.reasons
    assert assess(record).acceptable


def test_window_is_as_long_as_the_front_end_says(make_record: Make) -> None:
    record = make_record(seconds=10.0)
    samples = record.samples.copy()
    samples[:, 4100:] = samples[:, 4099:4100]  # flat behind 8.2 s
    record = record.with_(samples=samples)
    assert (
        choose_window(record, duration_s=SHORT.duration_s).start,
        choose_window(record, duration_s=SHORT.duration_s).stop,
    ) == (0, 4000)
    limits = QualityThresholds(min_duration_s=7.9)
    assert Reason.FLAT in assess(record, choose_window(record, duration_s=BASE.duration_s), thresholds=limits).reasons
    assert assess(record, choose_window(record, duration_s=SHORT.duration_s), thresholds=limits).acceptable


def test_lead_off_of_a_lead_that_the_model_does_not_take_is_no_reason(make_record: Make) -> None:
    limb = make_record()
    record = limb.with_(
        samples=np.vstack([limb.samples, limb.samples]),
        leads=LEADS,
        offset_uv=(),
        lead_off=(LeadOff("V1", 0, 5000),),
    )
    assert assess(record, choose_window(record, leads=I_II)).acceptable
    twelve = choose_window(record, leads=LEADS)
    assert (twelve.judged, twelve.stretch) == (LEADS, None)
    assert assess(record, twelve).reasons == (Reason.LEAD_OFF,)
    with pytest.raises(LengthError, match=r"found at most 0\.00 s"):
        apply_window(record, twelve)


def test_every_recorded_limb_lead_is_judged_and_chest_leads_that_the_model_takes(make_record: Make) -> None:
    record = make_record().with_(leads=("I", "II", "III", "V1", "V2", "V3"))
    assert choose_window(record, leads=("I", "V2")).judged == ("I", "II", "III", "V2")


def test_without_a_long_enough_stretch_the_longest_is_judged_and_none_is_shown(make_record: Make) -> None:
    record = with_gap(make_record(seconds=15.0), 2000, 3000)
    record = record.with_(lead_off=(LeadOff("I", 6000, 6100),))
    window = choose_window(record)
    assert (window.start, window.stop, window.enough) == (3000, 6000, False)
    assert len(assess(record, window).leads) == 6
    with pytest.raises(LengthError, match=r"found at most 6\.00 s .* expected 9\.90 s \(gaps: 1, lead-off: 1\)"):
        apply_window(record, window)


def test_apply_is_the_window_of_choose_window(make_record: Make) -> None:
    record = with_gap(make_record(seconds=30.0), 4000, 4100)
    np.testing.assert_array_equal(
        apply(record, leads=("aVF", "I")), apply_window(record, choose_window(record, leads=("aVF", "I")))
    )


def test_of_several_stretches_that_are_long_enough_the_first_is_taken(make_record: Make) -> None:
    record = with_gap(make_record(leads=I_II, seconds=30.0), 7_000, 7_100)
    assert (choose_window(record, leads=I_II).start, choose_window(record, leads=I_II).stop) == (0, 5_000)
    early = with_gap(make_record(leads=I_II, seconds=30.0), 1_000, 1_100)
    assert choose_window(early, leads=I_II).start == 1_100
