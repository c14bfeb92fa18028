"""The fit of published Raspberry Pi 4 latencies: reproduced from the figures in the repository, checked on others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.data import (
    CALIBRATION_SCHEMA,
    PUBLISHED_SCHEMA,
    Store,
    calibration,
    published,
    read_store,
)
from export.benchmark.projected.fit import (
    DOWNWARD_REACH,
    PRECISIONS,
    CalibrationPoint,
    Predictor,
    calibration_points,
    downward_check,
    fit_latency,
    fit_line,
    held_out,
)
from export.benchmark.projected.ratios import per_operator

ROOM = Path(__file__).resolve().parents[2] / "export/benchmark/projected"


def raw(name: str, table: str) -> list[dict]:
    found = json.loads((ROOM / name).read_text(encoding="utf-8"))["tables"][table]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def straight(slope: float, constant: float) -> list[CalibrationPoint]:
    return [
        replace(point, published_ms=slope * point.instructions / 1e6 + constant) for point in calibration_points("int8")
    ]


@pytest.mark.promise(122)
def test_documented_int8_fit_is_reproduced():
    fit = fit_latency("int8")
    assert len(fit.points) == 13
    assert fit.line.slope_ms == pytest.approx(0.154, abs=0.0005)
    assert fit.line.constant_ms == pytest.approx(0.87, abs=0.005)
    assert fit.loo_rms == pytest.approx(0.064, abs=0.0005)
    assert fit.loo_worst == pytest.approx(0.167, abs=0.0005)


def test_int8_fit_by_another_way_from_the_files():
    """Normal equations of weighted least squares, on the JSON as it lies there."""
    p50 = {(row["model"], row["precision"]): row["p50_ms"] for row in raw("published.json", "pi4_percentiles")}
    counts = [r for r in raw("calibration.json", "counts") if r["precision"] == "int8" and r["kernels"] == "ruy"]
    x = np.array([row["instructions"] / 1e6 for row in counts])
    y = np.array([p50[row["model"], "int8"] for row in counts])
    w = 1 / y**2
    mean_x, mean_y = (w @ x) / w.sum(), (w @ y) / w.sum()
    slope = (w @ ((x - mean_x) * (y - mean_y))) / (w @ (x - mean_x) ** 2)
    line = fit_latency("int8").line
    assert line.slope_ms == pytest.approx(slope, rel=1e-9)
    assert line.constant_ms == pytest.approx(mean_y - slope * mean_x, rel=1e-9)


def test_leaving_one_out_really_leaves_it_out():
    fit = fit_latency("int8")
    first, rest = fit.points[0], fit.points[1:]
    line = fit_line(rest, predictor=Predictor.INSTRUCTIONS)
    assert fit.left_out[0] == pytest.approx(line.at(first.instructions / 1e6) / first.published_ms - 1)
    assert abs(fit.left_out[0]) > abs(fit.residuals[0])


@pytest.mark.promise(122)
@pytest.mark.parametrize(
    ("precision", "predictor", "expected"),
    [
        ("int8", Predictor.INSTRUCTIONS, {"mobilenet-v1-1.0-224": 27.7, "mobilenet-v2-1.0-224": 18.4}),
        ("int8", Predictor.CYCLES, {"mobilenet-v1-1.0-224": 24.2, "mobilenet-v2-1.0-224": 16.9}),
        ("fp32", Predictor.INSTRUCTIONS, {"mobilenet-v1-1.0-224": 68.7, "mobilenet-v2-1.0-224": 41.1}),
        ("fp32", Predictor.CYCLES, {"mobilenet-v1-1.0-224": 69.2, "mobilenet-v2-1.0-224": 43.0}),
    ],
)
def test_held_out_xnnpack_figures(precision, predictor, expected):
    assert {check.model: round(check.predicted_ms, 1) for check in held_out(precision, predictor=predictor)} == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_held_out_errors_lie_inside_the_range_that_is_printed(precision):
    assert all(abs(check.error) <= fit_latency(precision).loo_worst for check in held_out(precision))


def test_held_out_figures_are_of_no_kernel_that_was_fitted():
    fitted = {row["instructions"] for row in calibration()["counts"].where(kernels="ruy")}
    used = {row["instructions"] for row in calibration()["counts"].where(kernels="xnnpack")}
    assert not fitted & used


def test_macs_alone_are_rejected():
    fit = fit_latency("int8", predictor=Predictor.MACS)
    assert fit.loo_rms == pytest.approx(0.29, abs=0.005)
    assert fit.loo_worst == pytest.approx(0.59, abs=0.006)
    assert fit.loo_rms > 4 * fit_latency("int8").loo_rms


def test_cycles_of_the_pipeline_model_do_as_well_as_instructions():
    fit = fit_latency("int8", predictor=Predictor.CYCLES)
    assert fit.loo_rms == pytest.approx(0.067, abs=0.0005)
    assert fit.loo_worst == pytest.approx(0.161, abs=0.0005)


def test_small_int8_models_follow_from_the_large_ones():
    two, three = fit_latency("int8").downward
    assert (two.models_used, three.models_used) == (11, 9)
    assert two.reach == pytest.approx(2.39, abs=0.005)
    assert three.reach == pytest.approx(4.29, abs=0.005)
    assert two.worst == pytest.approx(0.110, abs=0.0005)
    assert three.worst == pytest.approx(0.203, abs=0.0005)
    assert fit_latency("int8").downward_worst == three.worst


def test_small_fp32_models_do_not():
    fit = fit_latency("fp32")
    assert not fit.reaches_down
    assert fit.downward_worst > 0.6
    assert fit.domain_minsn == fit.calibrated_minsn


def test_int8_domain_reaches_as_far_below_the_smallest_model_as_every_check_went():
    fit = fit_latency("int8")
    assert fit.reaches_down
    assert fit.domain_minsn == pytest.approx((3.740123, 185.251701))
    assert fit.reach == min(check.reach for check in fit.downward) > DOWNWARD_REACH


def test_a_check_that_reaches_less_than_it_should_carry_does_not_hold():
    points = calibration_points("int8")
    check = downward_check(points, factor=1.01, predictor=Predictor.INSTRUCTIONS)
    assert check.reach < DOWNWARD_REACH
    assert not check.holds


def test_a_check_with_large_errors_does_not_hold():
    points = list(calibration_points("int8"))
    points[0] = replace(points[0], published_ms=points[0].published_ms / 2)
    assert not downward_check(points, factor=2.0, predictor=Predictor.INSTRUCTIONS).holds


def test_a_straight_line_is_found_again():
    line = fit_line(straight(0.2, 1.5), predictor=Predictor.INSTRUCTIONS)
    assert (line.slope_ms, line.constant_ms) == (pytest.approx(0.2), pytest.approx(1.5))


def test_no_other_line_has_smaller_relative_errors():
    points, line = calibration_points("int8"), fit_latency("int8").line

    def cost(slope: float, constant: float) -> float:
        return sum(((slope * p.instructions / 1e6 + constant) / p.published_ms - 1) ** 2 for p in points)

    best = cost(line.slope_ms, line.constant_ms)
    for slope, constant in ((1.01, 1.0), (0.99, 1.0), (1.0, 1.05), (1.0, 0.95)):
        assert cost(line.slope_ms * slope, line.constant_ms * constant) > best


def test_the_fit_follows_its_data():
    twice = [replace(point, published_ms=2 * point.published_ms) for point in calibration_points("int8")]
    line = fit_line(twice, predictor=Predictor.INSTRUCTIONS)
    assert line.slope_ms == pytest.approx(2 * fit_latency("int8").line.slope_ms)


def test_the_constant_follows_the_number_of_operators():
    """INT8: a cost for each operator beats one constant, so the constant is paid operator by operator."""
    each = per_operator("int8")
    assert each.operator_ms == pytest.approx(0.019, abs=0.0005)
    assert each.loo_rms == pytest.approx(0.047, abs=0.0005)
    assert each.loo_worst == pytest.approx(0.092, abs=0.0005)
    assert each.loo_rms < fit_latency("int8").loo_rms


def test_an_unknown_precision_shows_both_sides():
    with pytest.raises(BenchmarkError, match=r"found the precision 'fp16', expected one of int8, fp32"):
        calibration_points("fp16")


@pytest.mark.promise(122)
def test_published_figures_name_their_source():
    for store in (calibration(), published()):
        for table in store.tables.values():
            source = store.sources[table.source]
            assert source.title
            assert source.machine
        assert set(store.sources) == {table.source for table in store.tables.values()}


def test_each_published_table_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    assert [name for name in published().tables if f'"{name}"' not in code] == []


@pytest.mark.parametrize("name", ["calibration.json", "published.json"])
def test_figures_are_positive_numbers(name):
    content = json.loads((ROOM / name).read_text(encoding="utf-8"))
    numbers = [cell for table in content["tables"].values() for row in table["rows"] for cell in row]
    numbers = [cell for cell in numbers if isinstance(cell, int | float)]
    assert numbers
    assert all(0 < cell < 1e9 for cell in numbers)


def store_text(**changes: object) -> str:
    source = {"title": "t", "version": None, "machine": "m", "url": None, "date": None}
    content = {
        "schema": PUBLISHED_SCHEMA,
        "sources": {"s": source},
        "tables": {"t": {"source": "s", "columns": ["a", "b"], "rows": [["x", 1], ["x", 2]]}},
    }
    return json.dumps(content | changes)


def small_store() -> Store:
    return read_store(store_text(), schema=PUBLISHED_SCHEMA)


def test_figures_of_another_schema_are_refused():
    with pytest.raises(BenchmarkError, match=r"found figures of schema 'lsemvae-published/1', expected"):
        read_store(store_text(), schema=CALIBRATION_SCHEMA)


def test_a_row_of_the_wrong_length_is_refused():
    tables = {"t": {"source": "s", "columns": ["a", "b"], "rows": [["x"]]}}
    with pytest.raises(BenchmarkError, match=r"found the row \['x'\], expected 2 cells"):
        read_store(store_text(tables=tables), schema=PUBLISHED_SCHEMA)


def test_a_table_without_its_source_is_refused():
    tables = {"t": {"source": "nobody", "columns": ["a"], "rows": [["x"]]}}
    with pytest.raises(BenchmarkError, match=r"found the source 'nobody', expected one of s"):
        read_store(store_text(tables=tables), schema=PUBLISHED_SCHEMA)


def test_rows_are_asked_for_exactly():
    table = small_store()["t"]
    assert table.one(b=2)["a"] == "x"
    with pytest.raises(BenchmarkError, match=r"found 2 rows .* expected one"):
        table.one(a="x")
    with pytest.raises(BenchmarkError, match=r"found no row"):
        table.where(a="y")
