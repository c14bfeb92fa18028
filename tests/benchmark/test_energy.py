"""Energy: an estimate from published power, set against what board and display draw anyway."""

from __future__ import annotations

import json
import math

import pytest

from export.benchmark.basis import Basis, Figure
from export.benchmark.devices import board
from export.benchmark.errors import BenchmarkError, OutsideCalibrationError
from export.benchmark.projected.energy import Energy, display_power_w, estimate_energy, wall_power_w
from export.benchmark.projected.project import Projection, project


def projection(device: str = "pi4") -> Projection:
    return project(
        device=board(device), a72_instructions=4_846_846, precision="int8", runtime="litert", weights=134_925
    )


def figure(energy: Energy, name: str) -> Figure:
    return next(found for found in energy.figures if found.name == name)


def test_gross_is_latency_times_wall_power():
    latency, found = projection().figure("latency_4t_p50"), estimate_energy(projection())
    gross = figure(found, "energy_gross_per_inference")
    assert gross.unit == "mJ"
    assert gross.value == pytest.approx(latency.value * 5.83)
    assert gross.low == pytest.approx(latency.low * 5.83 * 0.7)
    assert gross.high == pytest.approx(latency.high * 5.83 * 1.3)


def test_net_leaves_the_idle_board_out():
    latency, found = projection().figure("latency_4t_p50"), estimate_energy(projection())
    assert figure(found, "energy_net_per_inference").value == pytest.approx(latency.value * (5.83 - 2.94))


def test_idle_and_display_during_a_recording():
    found = estimate_energy(projection(), recording_s=10)
    assert figure(found, "energy_idle_per_recording").value == pytest.approx(29.4)
    assert figure(found, "energy_display_per_recording").value == pytest.approx(10.0)
    assert figure(estimate_energy(projection(), recording_s=30), "energy_idle_per_recording").value == pytest.approx(
        88.2
    )


def test_published_display_currents():
    display = display_power_w()
    assert (display.low, display.value, display.high) == (
        pytest.approx(0.325), pytest.approx(1.0), pytest.approx(2.525),
    )  # fmt: skip


def test_board_and_display_outweigh_an_inference_a_thousandfold():
    found = estimate_energy(projection())
    anyway = figure(found, "energy_idle_per_recording").low + figure(found, "energy_display_per_recording").low
    assert anyway * 1e3 > 1000 * figure(found, "energy_gross_per_inference").high


def test_mean_power_follows_the_pause_between_screenings():
    often, seldom = (
        figure(estimate_energy(projection(), screening_every_min=minutes), "mean_power_of_inference")
        for minutes in (1.0, 10.0)
    )
    net = figure(estimate_energy(projection()), "energy_net_per_inference").value
    assert often.unit == "mW"
    assert often.value == pytest.approx(net / 60)
    assert often.value == pytest.approx(10 * seldom.value)


def test_a_given_display_is_no_assumption():
    given, assumed = estimate_energy(projection(), display_w=4.0), estimate_energy(projection())
    power = figure(given, "power_display")
    assert (power.low, power.value, power.high) == (4.0, 4.0, 4.0)
    assert not any("assumption" in note for note in given.notes)
    assert any("assumption" in note for note in assumed.notes)


def test_a_board_without_display():
    assert figure(estimate_energy(projection(), display_w=0.0), "energy_display_per_recording").value == 0


@pytest.mark.parametrize("name", ["pi5", "zero2w"])
def test_boards_without_published_power_get_no_energy(name):
    with pytest.raises(OutsideCalibrationError, match=rf"found the board '{name}', expected 'pi4'") as caught:
        estimate_energy(projection(name))
    assert "power meter" in caught.value.advice


@pytest.mark.parametrize(
    "asked",
    [
        {"screening_every_min": 0.0},
        {"screening_every_min": math.nan},
        {"recording_s": -1.0},
        {"recording_s": math.inf},
        {"display_w": -1.0},
        {"display_w": math.nan},
    ],
)
def test_senseless_durations_and_powers_are_refused(asked):
    with pytest.raises(BenchmarkError, match=r"found .* expected"):
        estimate_energy(projection(), **asked)


def test_all_is_projected_and_says_that_nothing_was_metered():
    found = estimate_energy(projection())
    assert {each.basis for each in found.figures} == {Basis.PROJECTED}
    assert all(each.low <= each.value <= each.high for each in found.figures)
    assert "nothing was metered" in found.notes[0]


def test_evidence_is_json_with_sources():
    found = json.loads(json.dumps(estimate_energy(projection()).evidence()))
    assert found["power_w"] == {"load_mean": 5.83, "idle_before_run": 2.94}
    assert set(found["sources"]) == {"mlperf-v1.0-power-krai", "pi-forum-display"}
    assert wall_power_w("load_mean") == 5.83
