"""Each value of a bundle's manifest that the screener uses: changed there, it changes what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsemvae.ecg import Calibration, DecisionRule, EcgRecord, FrontendSpec, QualityThresholds, apply, derive_limb_leads
from lsemvae.ecg.decision import Outcome
from lsemvae.ecg.errors import BundleHostError, BundleSelfTestError, ManifestError
from lsemvae.ecg.rule import sigmoid
from lsemvae.screen.runtime.load import load_runtime
from lsemvae.screen.screener import Screener
from lsemvae.screen.selftest import self_test
from tests.bundles import HOST, LABELS, N_SAMPLES, QUALITY, RULE, SPEC, FakeRuntime

Records = Callable[..., EcgRecord]


@pytest.fixture
def screener(builder: Any, tmp_path: Path) -> Callable[..., Screener]:
    """A screener of the small bundle with some parts of its manifest changed; its model answers as told."""

    def build(changes: dict[str, Any] | None = None, **answers: Any) -> Screener:
        builder.changes = changes or {}
        return Screener(builder.open(tmp_path / f"b{len(list(tmp_path.iterdir()))}"), FakeRuntime(**answers))

    return build


def test_no_value_of_the_small_bundle_is_a_default() -> None:
    """Else a screener that ignores the bundle would pass every other test."""
    for value, default in ((SPEC, FrontendSpec()), (QUALITY, QualityThresholds())):
        same = [f.name for f in fields(value) if getattr(value, f.name) == getattr(default, f.name)]
        assert same == (["n_samples"] if value is SPEC else [])  # the small models take 2,500 samples
    assert len({(c.slope, c.intercept) for c in RULE.calibrations.values()}) == len(set(RULE.thresholds.values())) == 3
    assert 0.0 not in {*RULE.abstain_band, RULE.max_uncertainty, RULE.interval_logit_sd}


# quality -------------------------------------------------------------------------------------------------------------


def _spoilt(make_record: Records, what: str) -> EcgRecord:
    """A recording that fails by one limit where that limit is strict, and by no other."""
    record = make_record()
    t_s = np.arange(record.n_samples) / record.fs_hz
    mv = record.to_mv(np.float64)
    if what == "flat":
        mv[0, 1000:1900] = mv[0, 1000]  # 1.8 s of the window of 9.6 s: 19 %
    elif what == "saturated":
        mv[1, 600:650] = 3.0  # 0.1 s: 1 %
    elif what == "noise":
        mv += np.random.default_rng(1).normal(scale=0.035, size=mv.shape)
    elif what == "drift":
        mv += 0.4 * np.sin(2 * np.pi * 0.15 * t_s)
    elif what == "contradiction":
        six = derive_limb_leads(mv[0], mv[1])
        six[2] += 0.02 * np.sin(2 * np.pi * 3 * t_s)
        counts = np.rint(six / (record.lsb_uv * 1e-3)).astype(np.int16)
        return record.with_(samples=counts, leads=("I", "II", "III", "aVR", "aVL", "aVF"), offset_uv=())
    return record.with_(samples=np.rint(mv / (record.lsb_uv * 1e-3)).astype(np.int16))


@pytest.mark.parametrize(
    ("name", "loose", "strict", "what", "reason"),
    [
        ("min_duration_s", 10.0, 12.5, "", "TOO_SHORT"),
        ("max_flat_fraction", 0.3, 0.05, "flat", "FLAT"),
        ("max_saturated_fraction", 0.05, 0.001, "saturated", "SATURATED"),
        ("max_noise_mv", 0.06, 0.02, "noise", "NOISE"),
        ("max_baseline_mv", 1.9, 0.4, "drift", "BASELINE"),
        ("max_einthoven_mv", 0.049, 0.005, "contradiction", "EINTHOVEN"),
        ("min_rms_mv", 0.05, 0.3, "", "AMPLITUDE"),
        ("max_rms_mv", 0.44, 0.05, "", "AMPLITUDE"),
        ("min_beat_contrast", 2.7, 500.0, "", "NO_BEATS"),
    ],
)
def test_each_quality_threshold_is_the_bundle_s(
    screener: Any, make_record: Records, name: str, loose: float, strict: float, what: str, reason: str
) -> None:
    record = _spoilt(make_record, what)
    wide = replace(QUALITY, **{name: loose})
    if what == "flat":  # a level that is held away from the baseline counts as a limit of the device, too
        wide = replace(wide, max_saturated_fraction=0.3)
    narrow = replace(wide, **{name: strict})
    passed = screener({"quality": wide.to_dict()}).screen(record).decision
    refused = screener({"quality": narrow.to_dict()}).screen(record).decision
    assert (passed.outcome, passed.reasons) == (Outcome.DETECTED, ())
    assert (refused.outcome, refused.reasons) == (Outcome.ABSTAIN, (reason,))


def test_every_quality_threshold_has_its_test() -> None:
    (mark,) = test_each_quality_threshold_is_the_bundle_s.pytestmark
    assert {row[0] for row in mark.args[1]} == {f.name for f in fields(QualityThresholds)}


# front-end and input -------------------------------------------------------------------------------------------------


def _parts(spec: FrontendSpec, leads: tuple[str, ...] = ("I", "II")) -> dict[str, Any]:
    """The parts of the manifest that say what the model is shown."""
    return {
        "frontend": {**spec.to_dict(), "coeff_sha256": spec.sha256()},
        "input": {
            "leads": list(leads), "fs_hz": spec.fs_hz, "n_samples": spec.n_samples, "unit": "mV", "dtype": "float32",
            "shape": [1, len(leads), spec.n_samples], "name": "ecg",
        },
    }  # fmt: skip


OTHER_FRONT_ENDS = {
    "fs_hz": 245.0,
    "n_samples": 2400,
    "pass_low_hz": 0.8,
    "pass_high_hz": 30.0,
    "stop_high_hz": 60.0,
    "attenuation_db": 25.0,
    "resample_db": 40.0,
    "clip_mv": 0.3,
    "edges": "mirror",
}


@pytest.mark.parametrize("name", OTHER_FRONT_ENDS)
def test_each_field_of_the_front_end_is_the_bundle_s(screener: Any, make_record: Records, name: str) -> None:
    record = make_record()
    spec = replace(SPEC, **{name: OTHER_FRONT_ENDS[name]})
    shown = []
    for each in (SPEC, spec):
        one = screener(_parts(each))
        assert one.screen(record).decision.outcome is Outcome.DETECTED
        shown.append(one.runtime.seen[0])
        np.testing.assert_array_equal(shown[-1], apply(record, leads=("I", "II"), spec=each))
    assert shown[0].shape != shown[1].shape or np.abs(shown[0] - shown[1]).max() > 1e-5


def test_every_field_of_the_front_end_has_its_test() -> None:
    assert set(OTHER_FRONT_ENDS) | {"name"} == {f.name for f in fields(FrontendSpec)}


@pytest.mark.parametrize("change", [{"name": "other"}, {"coeff_sha256": "0" * 64}, {"edges": "mirror"}], ids=str)
def test_a_front_end_that_is_not_the_hashed_one_is_refused(screener: Any, change: dict[str, str]) -> None:
    parts = _parts(SPEC)
    with pytest.raises(ManifestError, match="front-end hash"):
        screener({"frontend": {**parts["frontend"], **change}})


@pytest.mark.parametrize("leads", [("II", "I"), ("aVF", "aVL"), ("III", "aVR", "I")])
def test_leads_and_their_order_are_the_bundle_s(screener: Any, make_record: Records, leads: tuple[str, ...]) -> None:
    one = screener(_parts(SPEC, leads))
    record = make_record()
    one.screen(record)
    assert one.runtime.seen.shape == (1, len(leads), N_SAMPLES)
    np.testing.assert_array_equal(one.runtime.seen[0], apply(record, leads=leads, spec=SPEC))


def test_gate_and_model_are_given_the_window_of_the_bundle_s_front_end(screener: Any, make_record: Records) -> None:
    """Flat behind 7.5 s: a front-end of 7.4 s neither shows nor judges that; one of 9.6 s does both."""
    record = make_record()
    samples = record.samples.copy()
    samples[:, 3750:] = samples[:, 3749:3750]
    short = replace(SPEC, n_samples=1924)
    outcomes = [screener(_parts(spec)).screen(record.with_(samples=samples)).decision for spec in (short, SPEC)]
    assert [outcome.outcome for outcome in outcomes] == [Outcome.DETECTED, Outcome.ABSTAIN]
    assert outcomes[1].reasons == ("FLAT",)


# outputs and decision ------------------------------------------------------------------------------------------------


def _outputs(labels: tuple[str, ...], primary: str) -> list[dict[str, Any]]:
    return [
        {"label": label, "column": f"p_{label}", "primary": label == primary, "description": f"words for {label}"}
        for label in labels
    ]


def test_labels_are_in_the_bundle_s_order(screener: Any, make_record: Records) -> None:
    turned = (LABELS[2], LABELS[0], LABELS[1])
    logits = (2.0, -3.0, 0.5)
    expected = [
        {label: sigmoid(RULE.calibrations[label].apply(value)) for label, value in zip(order, logits, strict=True)}
        for order in (LABELS, turned)
    ]
    results = [
        screener({"outputs": _outputs(order, LABELS[0])}, logits=logits).screen(make_record())
        for order in (LABELS, turned)
    ]
    assert [dict(result.decision.probabilities) for result in results] == [pytest.approx(one) for one in expected]
    assert [result.decision.outcome for result in results] == [Outcome.DETECTED, Outcome.NOT_DETECTED]
    assert set(results[1].probabilities) == {f"p_{label}" for label in LABELS}


def test_the_primary_output_is_the_bundle_s(screener: Any, make_record: Records) -> None:
    changes = {"outputs": _outputs(LABELS, "LVH"), "decision": replace(RULE, primary="LVH").to_dict()}
    result = screener(changes, logits=(2.0, -3.0, 0.0)).screen(make_record())
    assert (result.decision.label, result.decision.outcome) == ("LVH", Outcome.NOT_DETECTED)
    assert result.output_description == "words for LVH"


def _decided(screener: Any, record: EcgRecord, rule: DecisionRule, **answers: Any) -> Any:
    return screener({"decision": rule.to_dict()}, **answers).screen(record).decision


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("calibration", [Calibration(0.9, 0.4), Calibration(0.8, 0.1)], ids=["slope", "intercept"])
def test_each_calibration_is_the_bundle_s(
    screener: Any, make_record: Records, label: str, calibration: Calibration
) -> None:
    rule = replace(RULE, calibrations={**RULE.calibrations, label: calibration})
    logits = dict(zip(LABELS, (2.0, 1.0, -1.0), strict=True))
    found = _decided(screener, make_record(), rule, logits=tuple(logits.values())).probabilities
    assert found == pytest.approx({name: sigmoid(rule.calibrations[name].apply(x)) for name, x in logits.items()})
    assert found[label] != pytest.approx(sigmoid(RULE.calibrations[label].apply(logits[label])))


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ({"thresholds": {**RULE.thresholds, LABELS[0]: 0.9}}, "DETECTED", "NOT DETECTED"),  # p is 0.881
        ({"abstain_band": (0.85, 0.9)}, "DETECTED", "ABSTAIN"),
        ({"abstain_band": (0.881, 0.9)}, "DETECTED", "DETECTED"),
        ({"abstain_band": (0.88, 0.8805)}, "DETECTED", "DETECTED"),
        ({"max_uncertainty": 0.1}, "DETECTED", "ABSTAIN"),
    ],
    ids=str,
)
def test_operating_point_band_and_uncertainty_limit_are_the_bundle_s(
    screener: Any, make_record: Records, change: dict[str, Any], before: str, after: str
) -> None:
    answers = {"logits": (2.0, 0.0, 0.0), "uncertainty": 0.2}
    assert _decided(screener, make_record(), RULE, **answers).outcome == before
    assert _decided(screener, make_record(), replace(RULE, **change), **answers).outcome == after


def test_without_an_uncertainty_limit_none_is_asked_for(screener: Any, make_record: Records) -> None:
    unsure = {"logits": (2.0, 0.0, 0.0), "uncertainty": 9.0}
    assert _decided(screener, make_record(), RULE, **unsure).outcome is Outcome.ABSTAIN
    assert _decided(screener, make_record(), replace(RULE, max_uncertainty=None), **unsure).outcome is Outcome.DETECTED


def test_the_interval_is_as_wide_as_the_bundle_says(screener: Any, make_record: Records) -> None:
    for sd in (0.2, 0.7):
        found = _decided(screener, make_record(), replace(RULE, interval_logit_sd=sd), logits=(2.0, 0.0, 0.0)).interval
        assert found == pytest.approx((sigmoid(2.0 - 1.96 * sd), sigmoid(2.0 + 1.96 * sd)))


def test_every_field_of_the_decision_has_its_test() -> None:
    tested = {"primary", "calibrations", "thresholds", "abstain_band", "max_uncertainty", "interval_logit_sd"}
    assert tested == {f.name for f in fields(DecisionRule)}


# identity, models, self-test, host -----------------------------------------------------------------------------------


def test_the_result_names_the_bundle_s_model_and_statement(screener: Any, make_record: Records) -> None:
    changes = {"id": "another", "version": "4.5.6", "label_statement": "Statements of another kind."}
    result = screener(changes).screen(make_record())
    assert (result.model_id, result.model_version) == ("another", "4.5.6")
    assert result.to_dict()["label_statement"] == "Statements of another kind."


@pytest.mark.parametrize(("kind", "name"), [("tflite", "ai_edge_litert"), ("onnx", "onnxruntime")])
def test_the_model_is_the_file_that_the_bundle_names(builder: Any, tmp_path: Path, kind: str, name: str) -> None:
    builder.changes = {"models": {kind: f"model.{kind}"}}
    assert load_runtime(builder.open(tmp_path / "b")).name == name


@pytest.mark.parametrize(
    ("error", "tolerance", "passes"), [(0.02, 0.03, True), (0.02, 0.01, False), (0.04, 0.05, True)]
)
def test_the_golden_tolerance_is_the_bundle_s(
    builder: Any, tmp_path: Path, error: float, tolerance: float, passes: bool
) -> None:
    builder.changes = {"parity": {"golden_tolerance": tolerance}}
    bundle = builder.open(tmp_path / "b")
    runtime = load_runtime(bundle)

    class Off:
        name, version = runtime.name, runtime.version

        def run(self, ecg: np.ndarray) -> Any:
            output = runtime.run(ecg)
            return replace(output, logits=output.logits + np.float32(error))

    if passes:
        assert self_test(bundle, Off()).logit_tolerance == tolerance
        return
    with pytest.raises(BundleSelfTestError, match=f"allowed is {tolerance:g}"):
        self_test(bundle, Off())


def test_the_front_end_of_the_self_test_is_the_bundle_s(builder: Any, tmp_path: Path) -> None:
    builder.changes = _parts(replace(SPEC, edges="mirror"))  # the golden file was made with the other ends
    bundle = builder.open(tmp_path / "b")
    with pytest.raises(BundleSelfTestError, match="front-end"):
        self_test(bundle, load_runtime(bundle))


def test_the_minimum_host_is_the_bundle_s(builder: Any, tmp_path: Path) -> None:
    assert builder.open(tmp_path / "same").manifest.min_host == HOST
    builder.changes = {"min_host": "0.1.1"}
    with pytest.raises(BundleHostError, match=r"needs version 0\.1\.1 of this app; this is version 0\.1\.0"):
        builder.open(tmp_path / "newer")
