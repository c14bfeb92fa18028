"""Every recording ends in one of four outcomes, and a bad one never in NOT DETECTED."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsemvae.ecg.decision import Outcome
from lsemvae.ecg.errors import ADVICE, InferenceError, UnitError
from lsemvae.ecg.leads import derive_limb_leads
from lsemvae.ecg.reasons import Reason, advice
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import Interval, LeadOff
from lsemvae.ecg.source import SourceInfo
from lsemvae.screen.screener import Screener
from lsemvae.terminal.result_view import describe, describe_quality, describe_timings

Screeners = Callable[..., Screener]
Records = Callable[..., EcgRecord]


def test_detected(screener_with: Screeners, make_record: Records) -> None:
    result = screener_with(logits=(2.0, -1.0, 0.0)).screen(make_record())
    decision = result.decision
    assert decision.outcome is Outcome.DETECTED
    assert decision.probability == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert decision.interval is not None
    assert decision.interval[0] < decision.probability < decision.interval[1]
    text = describe(result)
    assert text.startswith("DETECTED: the ECG shows the pattern: right_heart_strain pattern.")
    assert "0.88 (95 % interval 0.77 to 0.94)" in text
    assert "ECG readers, not pulmonary hypertension" in text
    assert "not a diagnosis" in text


def test_not_detected(screener_with: Screeners, make_record: Records) -> None:
    result = screener_with(logits=(-2.0, 1.0, 0.0)).screen(make_record())
    assert result.decision.outcome is Outcome.NOT_DETECTED
    assert describe(result).startswith("NOT DETECTED: the ECG does not show the pattern")
    assert "does not rule out" in describe(result)


def test_abstain_by_quality_names_reason_and_remedy_and_keeps_the_probabilities(
    screener_with: Screeners, make_record: Records
) -> None:
    result = screener_with().screen(make_record(amplitude=8.0))
    assert result.decision.outcome is Outcome.ABSTAIN
    assert result.decision.reasons == ("AMPLITUDE",)
    assert result.decision.probability is None
    assert set(result.probabilities) == {"p_right_heart_strain", "p_LVH", "p_NORM"}
    text = describe(result)
    assert f"Why and what to do (AMPLITUDE): {advice(Reason.AMPLITUDE)}" in text
    assert "Probability" not in text


@pytest.mark.parametrize("answers", [{"logits": (-0.6, 0.0, 0.0)}, {"uncertainty": 0.5}], ids=["band", "uncertainty"])
def test_abstain_by_uncertainty(screener_with: Screeners, make_record: Records, answers: dict[str, Any]) -> None:
    decision = screener_with(**answers).screen(make_record()).decision
    assert decision.outcome is Outcome.ABSTAIN
    assert decision.reasons == ("UNCERTAIN",)


@pytest.mark.promise(22)
def test_whatever_fails_is_an_error_and_its_text_is_kept_out_of_the_result(
    screener_with: Screeners, make_record: Records, caplog: pytest.LogCaptureFixture
) -> None:
    result = screener_with(error=ZeroDivisionError("Jane Doe")).screen(make_record())
    assert result.decision.outcome is Outcome.ERROR
    assert result.decision.error_code == "E_ECG"
    assert "ZeroDivisionError" in describe(result)
    assert "Jane" not in describe(result) + json.dumps(result.to_dict()) + caplog.text


@pytest.mark.promise(19)
@pytest.mark.parametrize(
    "answers",
    [
        {"logits": (np.nan, 0.0, 0.0)},
        {"logits": (0.0, np.inf, 0.0)},
        {"logits": (-np.inf, 0.0, 0.0)},
        {"uncertainty": np.nan},
        {"uncertainty": np.inf},
        {"logits": (0.0, 0.0)},
        {"error": InferenceError("broken")},
    ],
    ids=str,
)
def test_a_model_without_a_usable_answer_is_an_error(
    screener_with: Screeners, make_record: Records, answers: dict[str, Any]
) -> None:
    result = screener_with(**answers).screen(make_record())
    assert result.decision.outcome is Outcome.ERROR
    assert result.decision.error_code == "E_INFERENCE"
    assert result.decision.probability is None
    assert f"What to do: {ADVICE['E_INFERENCE']}" in describe(result)


def _bad(make_record: Records) -> dict[str, tuple[EcgRecord, str]]:
    good = make_record()
    zeros = good.with_(samples=np.zeros_like(good.samples))
    constant = good.with_(samples=np.full_like(good.samples, 1234))
    clipped = good.with_(samples=np.clip(good.samples, -100, 100) * np.int16(300))
    rng = np.random.default_rng(0)
    noisy = good.with_(samples=(good.samples + rng.normal(scale=400, size=good.samples.shape)).astype(np.int16))
    holed = good.samples.copy()
    holed[:, 2500:3500] = 0
    return {
        "all zeros": (zeros, "FLAT"),
        "constant": (constant, "FLAT"),
        "saturated": (clipped, "SATURATED"),
        "noise": (noisy, "NOISE"),
        "4 seconds": (make_record(seconds=4.0), "TOO_SHORT"),
        "9 seconds": (make_record(seconds=9.0), "TOO_SHORT"),
        "one sample": (make_record(seconds=0.002), "TOO_SHORT"),
        "gap in the middle": (good.with_(samples=holed, gaps=(Interval(2500, 3500),)), "GAP"),
        "lead off": (good.with_(lead_off=(LeadOff("I", 3000, 3400),)), "LEAD_OFF"),
        "wrong unit (1000 x)": (good.with_(lsb_uv=1000.0), "AMPLITUDE"),
        "wrong unit (1/1000)": (good.with_(lsb_uv=0.001), "AMPLITUDE"),
        "rate of 50 Hz": (make_record(fs_hz=50.0), "RATE"),
        "rate of 2 kHz": (make_record(fs_hz=2000.0), "RATE"),
    }


@pytest.mark.promise(15)
@pytest.mark.parametrize(
    "name",
    [
        "all zeros", "constant", "saturated", "noise", "4 seconds", "9 seconds", "one sample", "gap in the middle",
        "lead off", "wrong unit (1000 x)", "wrong unit (1/1000)", "rate of 50 Hz", "rate of 2 kHz",
    ],
)  # fmt: skip
@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_a_bad_recording_abstains_with_its_reason_whatever_the_model_says(
    screener_with: Screeners, make_record: Records, name: str, logit: float
) -> None:
    record, reason = _bad(make_record)[name]
    result = screener_with(logits=(logit, 0.0, 0.0)).screen(record)
    assert result.decision.outcome is Outcome.ABSTAIN
    assert reason in result.decision.reasons
    json.dumps(result.to_dict(), allow_nan=False)
    assert f"({reason})" in describe(result)


def test_no_window_means_no_probabilities_and_no_run_of_the_model(
    screener_with: Screeners, make_record: Records
) -> None:
    screener = screener_with()
    result = screener.screen(make_record(seconds=4.0))
    assert result.probabilities == {}
    assert screener.runtime.calls == 0
    assert "model" not in result.timings_ms


def test_chest_leads_alone_abstain(screener_with: Screeners, make_record: Records) -> None:
    result = screener_with().screen(make_record().with_(leads=("V1", "V2")))
    assert result.decision.outcome is Outcome.ABSTAIN
    assert "MISSING_LEAD" in result.decision.reasons


def test_all_leads_of_a_12_lead_file_are_found_by_name(tflite_screener: Screener, make_record: Records) -> None:
    """The same two signals as I, II and inside six leads in another order give the same answer."""
    two = make_record()
    six = derive_limb_leads(two.samples[0], two.samples[1])
    names = ("I", "II", "III", "aVR", "aVL", "aVF")
    order = [4, 1, 5, 0, 3, 2]
    record = two.with_(
        samples=np.rint(six[order]).astype(np.int16), leads=tuple(names[k] for k in order), offset_uv=(0.0,) * 6
    )
    assert tflite_screener.screen(record).probabilities == tflite_screener.screen(two).probabilities


def test_the_whole_way_with_a_real_runtime(tflite_screener: Screener, make_record: Records) -> None:
    result = tflite_screener.screen(make_record())
    assert result.decision.outcome in (Outcome.DETECTED, Outcome.NOT_DETECTED, Outcome.ABSTAIN)
    assert result.runtime.startswith("ai_edge_litert ")
    assert list(result.timings_ms) == ["quality", "frontend", "model"]
    assert (result.model_id, result.model_version) == ("test-model", "1.2.0")
    assert "quality" in describe_timings(result)


def test_the_result_is_json_and_holds_no_samples(tflite_screener: Screener, make_record: Records) -> None:
    result = tflite_screener.screen(make_record(device="E6L-7", record_id="r1"))
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(values) == {
        "outcome", "label", "probability", "interval", "probabilities", "uncertainty", "reasons", "error_code",
        "advice", "label_statement", "output_description", "quality", "recording", "model", "timings_ms",
    }  # fmt: skip
    assert values["recording"] == {
        "id": "r1", "device": "E6L-7", "start_utc": None, "time_source": "unknown", "fs_hz": 500.0,
        "leads": ["I", "II"], "duration_s": 12.0, "received_samples": 6000, "gaps": 0,
        "source": {"driver": "", "gap_detectable": True, "calibrated": True, "timestamped": True, "authenticated": None},
    }  # fmt: skip


@pytest.mark.promise(22)
def test_a_file_that_cannot_be_read_is_an_error_result(screener_with: Screeners) -> None:
    result = screener_with().error(UnitError("found no unit"))
    assert result.decision.outcome is Outcome.ERROR
    assert result.decision.error_code == "E_UNIT"
    assert (result.record, result.quality) == (None, None)
    assert "E_UNIT: found no unit" in describe(result)


def test_quality_table_names_each_lead(tflite_screener: Screener, make_record: Records) -> None:
    good, bad = (tflite_screener.screen(make_record(amplitude=a)).quality for a in (1.0, 0.0))
    assert good is not None
    assert bad is not None
    assert describe_quality(good).splitlines()[0] == "Recording quality: acceptable"
    assert [line.split()[0] for line in describe_quality(good).splitlines()[2:]] == ["I", "II"]
    assert describe_quality(bad).splitlines()[0] == "Recording quality: not acceptable"


@pytest.mark.promise(20)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logits=st.tuples(*[st.floats(width=32)] * 3), uncertainty=st.floats(), scale=st.sampled_from([0.0, 1.0, 8.0]))
def test_only_finite_answers_on_acceptable_recordings_give_a_verdict(
    screener_with: Screeners, make_record: Records, logits: Any, uncertainty: float, scale: float
) -> None:
    decision = screener_with(logits=logits, uncertainty=uncertainty).screen(make_record(amplitude=scale)).decision
    finite = bool(np.isfinite([*logits, uncertainty]).all())
    if not finite:
        assert decision.outcome is Outcome.ERROR
    elif scale != 1.0:
        assert decision.outcome is Outcome.ABSTAIN
    else:
        assert decision.outcome is not Outcome.ERROR
    if decision.outcome in (Outcome.DETECTED, Outcome.NOT_DETECTED):
        assert decision.probability is not None
        assert 0.0 <= decision.probability <= 1.0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (SourceInfo(driver="d", gap_detectable=False), Reason.GAPS_UNKNOWN),
        (SourceInfo(driver="d", calibrated=False), Reason.UNCALIBRATED),
    ],
)
def test_what_the_source_could_not_know_abstains_however_good_the_samples(
    screener_with: Screeners, make_record: Records, source: SourceInfo, reason: Reason
) -> None:
    assert screener_with().screen(make_record()).decision.outcome is Outcome.DETECTED
    result = screener_with().screen(make_record().with_(source=source, gain_known=source.calibrated))
    assert (result.decision.outcome, result.decision.reasons) == (Outcome.ABSTAIN, (reason.value,))
