"""Projections: what is made, what is refused, and that the ranges hold what other sources published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.benchmark.basis import Basis
from export.benchmark.devices import BOARDS, Device, board
from export.benchmark.errors import BenchmarkError, OutsideCalibrationError
from export.benchmark.projected.data import calibration, percent, published
from export.benchmark.projected.fit import PRECISIONS, calibration_points, fit_latency
from export.benchmark.projected.project import MAX_WEIGHTS, ZERO2W_ERROR, Projection, project
from export.benchmark.projected.ratios import (
    Parts,
    four_threads,
    jitter,
    one_thread,
    one_thread_to_four,
    per_operator,
    pi3bplus_to_pi4,
    pi3plus_to_pi4_check,
    pi4_to_pi5,
    pi4_to_pi5_check,
    spread,
)
from tools.benchmark_page import EXAMPLE_INSTRUCTIONS, EXAMPLE_WEIGHTS, generated_tables, refreshed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/benchmark.md"
REFERENCE_PATH_WEIGHTS = 123_000_000
"""The six limb-lead encoders of the published model."""


def student(device: str | Device = "pi4", **changes: object) -> Projection:
    chosen = board(device) if isinstance(device, str) else device
    asked = {
        "device": chosen, "a72_instructions": EXAMPLE_INSTRUCTIONS, "precision": "int8", "runtime": "litert",
        "weights": EXAMPLE_WEIGHTS,
    }  # fmt: skip
    return project(**(asked | changes))


def test_a_raspberry_pi_4_gets_these_figures():
    names = [figure.name for figure in student().figures]
    assert names == [
        "latency_1t_p50", "latency_4t_p50", "latency_1t_p90", "latency_1t_p99", "latency_4t_p90", "latency_4t_p99",
        "latency_1t_p50_1800mhz", "latency_4t_p50_1800mhz",
    ]  # fmt: skip


def test_four_threads_are_the_fit():
    figure = student().figure("latency_4t_p50")
    assert figure.value == pytest.approx(0.15395758 * EXAMPLE_INSTRUCTIONS / 1e6 + 0.86567385, rel=1e-6)
    assert figure.low == pytest.approx(figure.value * (1 - 0.1671 - 0.2030), rel=1e-3)
    assert figure.high == pytest.approx(figure.value * (1 + 0.1671 + 0.2030), rel=1e-3)


def test_one_thread_takes_half_of_the_constant_in_the_centre_and_all_of_it_at_the_end():
    figure = student().figure("latency_1t_p50")
    compute = 0.15395758 * EXAMPLE_INSTRUCTIONS / 1e6
    assert figure.value == pytest.approx(2.9098634 * compute + 0.86567385 / 2, rel=1e-6)
    assert figure.high == pytest.approx(3.1372131 * (compute + 0.86567385) * 1.3701, rel=1e-3)


def test_the_range_of_one_thread_holds_every_reading_of_the_constant():
    figure, fit, ratio = student().figure("latency_1t_p50"), fit_latency("int8"), one_thread_to_four("int8")
    compute, constant = fit.line.slope_ms * EXAMPLE_INSTRUCTIONS / 1e6, fit.line.constant_ms
    for r in (ratio.low, ratio.central, ratio.high):
        for reading in (r * compute, r * compute + constant, r * (compute + constant)):
            assert figure.low <= reading <= figure.high


def test_the_range_of_four_threads_holds_a_cost_for_each_operator():
    """21 operators, against 34 to 65 of the calibration models."""
    each, figure = per_operator("int8"), student().figure("latency_4t_p50")
    assert figure.low <= each.slope_ms * EXAMPLE_INSTRUCTIONS / 1e6 + 21 * each.operator_ms <= figure.high


def test_no_time_is_below_what_the_core_can_decode():
    parts = Parts(compute_ms=1.0, constant_ms=0.1, error=0.9, minsn=9.0, clock_hz=1.5e9)
    assert one_thread(parts, ratio=spread([1.1, 1.2])).low == pytest.approx(9e6 / (3 * 1.5e9) * 1e3)


def test_four_cores_decode_four_times_as_much():
    parts = Parts(compute_ms=0.5, constant_ms=0.1, error=0.9, minsn=9.0, clock_hz=1.5e9)
    assert four_threads(parts).low == pytest.approx(9e6 / (4 * 3 * 1.5e9) * 1e3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_thread_is_slower_than_the_pipeline_model_allows_at_best(precision):
    """llvm-mca's cycles are a lower bound: no cache miss, no wrong branch, no pause."""
    counts = calibration()["counts"].where(precision=precision, kernels="ruy")
    for row in counts:
        projection = student(a72_instructions=row["instructions"], precision=precision, weights=row["weights"])
        assert projection.figure("latency_1t_p50").value > row["model_cycles"] / 1.5e9 * 1e3


@pytest.mark.promise(122)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_published_medians_lie_inside_the_projected_ranges(precision):
    for point in calibration_points(precision):
        figure = student(a72_instructions=point.instructions, precision=precision, weights=point.weights).figure(
            "latency_4t_p50"
        )
        assert figure.low <= point.published_ms <= figure.high


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_raspberry_pi_5_figure_of_another_runtime_lies_inside_its_range(precision):
    """MobileNet v2 under ExecuTorch, which went into no fit of instructions."""
    row = calibration()["counts"].one(model="mobilenet-v2-1.0-224", precision=precision, kernels="xnnpack")
    known = published()["pi5_executorch"].one(model="mobilenet-v2-1.0-224", precision=precision)["pi5_ms"]
    figure = student("pi5", a72_instructions=row["instructions"], precision=precision, weights=row["weights"]).figure(
        "latency_4t_p50"
    )
    assert figure.low <= known <= figure.high


def test_published_thread_ratios():
    ratio = one_thread_to_four("int8")
    assert (round(ratio.low, 2), round(ratio.central, 2), round(ratio.high, 2)) == (2.53, 2.91, 3.14)


def test_published_jitter():
    p90, p99 = jitter("p90"), jitter("p99")
    assert (p90.models, round(p90.central, 2), round(p90.high, 2)) == (94, 1.08, 1.33)
    assert round(p99.central, 2) == 2.67


def test_jitter_is_named_as_that_of_others():
    figure = student().figure("latency_1t_p99")
    assert "no property of this model" in figure.note
    assert figure.value == pytest.approx(student().figure("latency_1t_p50").value * jitter("p99").central)


def test_the_pi5_ratio_covers_its_check():
    assert pi4_to_pi5_check("int8") == pytest.approx(17 / 4.01)
    for precision in PRECISIONS:
        ratio = pi4_to_pi5(precision, threads=4)
        assert ratio.low <= pi4_to_pi5_check(precision) <= ratio.high


def test_at_the_high_end_a_raspberry_pi_5_gains_on_the_constant_by_its_clock_alone():
    fit, ratio = fit_latency("int8"), pi4_to_pi5("int8", threads=4)
    compute = fit.line.slope_ms * EXAMPLE_INSTRUCTIONS / 1e6
    expected = (compute / ratio.low + fit.line.constant_ms * 1.5 / 2.4) * (1 + student("pi5").error)
    assert student("pi5").figure("latency_4t_p50").high == pytest.approx(expected)


def test_a_raspberry_pi_5_at_another_clock_is_scaled_by_it():
    slow = student(replace(board("pi5"), clock_hz=1.2e9)).figure("latency_4t_p50")
    assert slow.value == pytest.approx(2 * student("pi5").figure("latency_4t_p50").value)


def test_a_zero_2_w_is_a_slower_3b_plus():
    ratio = pi3bplus_to_pi4("int8", threads=4)
    pi4, zero = (student(name).figure("latency_4t_p50") for name in ("pi4", "zero2w"))
    assert zero.value == pytest.approx(pi4.value * ratio.central * 1.4)
    assert zero.high == pytest.approx(pi4.high * ratio.central * 1.4 * (1 + ZERO2W_ERROR))


def test_other_published_ratios_lie_inside_the_margin_of_the_zero_2_w():
    for threads in (1, 4):
        ratio = pi3bplus_to_pi4("int8", threads=threads)
        for found in (ratio.low, ratio.high, pi3plus_to_pi4_check().low, pi3plus_to_pi4_check().high):
            assert abs(found / ratio.central - 1) <= ZERO2W_ERROR


def test_a_faster_clock_shortens_the_compute_part_alone():
    slow, fast = (student().figure(f"latency_4t_p50{suffix}").value for suffix in ("", "_1800mhz"))
    constant = fit_latency("int8").line.constant_ms
    assert fast - constant == pytest.approx((slow - constant) * 1.5 / 1.8)


def test_a_board_at_another_clock_is_projected_at_that_clock():
    at_1800 = student(device=replace(board("pi4"), clock_hz=1.8e9))
    assert at_1800.figure("latency_1t_p50").value == pytest.approx(student().figure("latency_1t_p50_1800mhz").value)
    assert all("1800mhz" not in figure.name for figure in at_1800.figures)


@pytest.mark.promise(122)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": REFERENCE_PATH_WEIGHTS}, r"found 123,000,000 weights, expected 1 to 20,000,000"),
        ({"weights": 0}, r"found 0 weights"),
        ({"batch": 2}, r"found a batch of 2, expected 1"),
        ({"precision": "fp16"}, r"found the precision 'fp16', expected one of int8, fp32"),
        ({"runtime": "onnx"}, r"found the runtime 'onnx', expected one of litert, tflite"),
        ({"runtime": "torch"}, r"found the runtime 'torch'"),
        ({"a72_instructions": 3_740_000}, r"found 3.74 million instructions an inference, expected 3.74 to 185"),
        ({"a72_instructions": 185_300_000}, r"found 185.30 million instructions"),
        ({"a72_instructions": 0}, r"found 0.00 million instructions"),
        ({"a72_instructions": 5_271_838, "precision": "fp32"}, r"found 5.27 million .* expected 9.09 to 233"),
        ({"operators": ["CONV_2D", "BATCH_MATMUL"]}, r"found the operators BATCH_MATMUL"),
    ],
)
def test_outside_the_calibration_nothing_is_projected(changes, message):
    with pytest.raises(OutsideCalibrationError, match=message) as caught:
        student(**changes)
    assert str(caught.value).startswith("no projection: ")
    assert "board" in caught.value.advice


def test_an_unknown_board_is_refused():
    with pytest.raises(OutsideCalibrationError, match=r"found the board 'pi9', expected one of pi4, pi5, zero2w"):
        student(device=replace(board("pi4"), name="pi9"))


@pytest.mark.parametrize("minsn", [3.74013, 185.2517])
def test_the_edges_of_the_domain_are_inside(minsn):
    assert student(a72_instructions=round(minsn * 1e6)).figures


def test_operators_of_a_convolutional_net_are_accepted():
    known = ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL", "PAD", "RESHAPE", "TRANSPOSE"]
    assert student(operators=known).figures == student().figures


def test_below_the_smallest_model_the_range_is_wider_and_says_so():
    inside, below = student(a72_instructions=8_933_134), student(a72_instructions=8_933_133)
    assert below.extrapolated
    assert not inside.extrapolated
    assert below.error - inside.error == pytest.approx(fit_latency("int8").downward_worst)
    assert any(note.startswith("Extrapolated") for note in below.notes)
    assert not any(note.startswith("Extrapolated") for note in inside.notes)


def test_more_weights_than_any_calibration_model_are_pointed_out():
    assert any("4,209,088" in note for note in student(weights=MAX_WEIGHTS).notes)
    assert not any("4,209,088" in note for note in student(weights=4_209_088).notes)


@given(
    device=st.sampled_from(sorted(BOARDS)),
    instructions=st.integers(4_466_568, 185_251_701),
    more=st.floats(1.0, 1.5),
)
def test_ranges_hold_their_value_and_grow_with_the_model(device, instructions, more):
    small = student(device, a72_instructions=instructions)
    large = student(device, a72_instructions=min(int(instructions * more), 185_251_701))
    for figure, other in zip(small.figures, large.figures, strict=True):
        assert 0 < figure.low <= figure.value <= figure.high
        assert figure.value <= other.value
    assert small.figure("latency_4t_p50").value <= small.figure("latency_1t_p50").value


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_figure_is_projected_and_has_range_and_note(name):
    projection = student(name)
    assert {figure.basis for figure in projection.figures} == {Basis.PROJECTED}
    assert all(figure.note and figure.low is not None and figure.high is not None for figure in projection.figures)
    assert projection.section("model.tflite").to_dict()["basis"] == "PROJECTED"


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_evidence_is_complete_json(name):
    found = json.loads(json.dumps(student(name).evidence(), allow_nan=False))
    assert found["basis"] == "PROJECTED"
    assert found["fit"]["models"] == 13
    assert found["fit"]["leave_one_out_worst"] == pytest.approx(0.167, abs=0.0005)
    assert found["fit"]["domain_minsn"] == pytest.approx([3.740123, 185.251701])
    assert {check["published_ms"] for check in found["held_out"]} == {24, 17}
    assert "mlperf-v1.0-open-krai" in found["sources"]
    assert found["ratios"]["one_thread_to_four"]["models"] == 9


def test_notes_say_what_was_not_done():
    text = " ".join(student().notes)
    for said in ("No Raspberry Pi 4 was used", "no time of the emulator", "Not covered", "throttling", "Bluetooth"):
        assert said in text


def test_the_page_shows_the_tables_as_they_are():
    page = PAGE.read_text(encoding="utf-8")
    assert refreshed(page) == page, "run: python -m tools.benchmark_page"
    assert {name for name in generated_tables() if f"<!-- table: {name} -->" not in page} == set()


def test_the_sentences_of_the_page_hold():
    page, fit, fp32 = PAGE.read_text(encoding="utf-8"), fit_latency("int8"), fit_latency("fp32")
    threads, p90, p99 = one_thread_to_four("int8"), jitter("p90"), jitter("p99")
    pi5 = {threads: pi4_to_pi5("int8", threads=threads) for threads in (1, 4)}
    pi3 = {threads: pi3bplus_to_pi4("int8", threads=threads) for threads in (1, 4)}
    for said in (
        f"T4[ms] = {fit.line.slope_ms:.3f} * Minsn + {fit.line.constant_ms:.2f}",
        f"{EXAMPLE_INSTRUCTIONS:,} instructions and {EXAMPLE_WEIGHTS:,} weights",
        f"fitted to {len(fit.points)} INT8 MobileNets",
        f"are {threads.low:.2f} to {threads.high:.2f} for INT8 (median {threads.central:.2f})",
        f"{threads.central:.2f} * S + b / 2",
        f"p90: {p90.central:.2f}, at most {p90.high:.2f}; p99: {p99.central:.2f}, at most {p99.high:.2f}",
        f"{pi5[4].low:.1f} to {pi5[4].high:.1f} with four, {pi5[1].low:.1f} to {pi5[1].high:.1f} with one",
        f"{pi3[4].low:.2f} to {pi3[4].high:.2f} with four, {pi3[1].low:.2f} to {pi3[1].high:.2f} with one",
        f"MobileNet v2 under ExecuTorch ({pi4_to_pi5_check('int8'):.2f})",
        f"INT8: {fit.domain_minsn[0]:.2f} to {fit.domain_minsn[1]:.0f} million; "
        f"fp32: {fp32.domain_minsn[0]:.2f} to {fp32.domain_minsn[1]:.0f} million",
        f"({percent(fit.downward_worst)})",
        f"({per_operator('int8').operator_ms:.3f} ms each",
    ):
        assert said in page, said


def test_a_stale_table_is_noticed():
    stale = "<!-- table: held_out -->\nold\n<!-- end -->\n"
    assert refreshed(stale) != stale
    assert refreshed(refreshed(stale)) == refreshed(stale)


def test_a_table_that_is_not_made_is_refused():
    with pytest.raises(BenchmarkError, match=r"found the table 'nothing', expected one of"):
        refreshed("<!-- table: nothing -->\n<!-- end -->")
