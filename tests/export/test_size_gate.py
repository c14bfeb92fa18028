"""The size gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.errors import ExportGateError
from export.gates.gates import GateThresholds, require_bundle_size, require_size
from export.run import export_run


def test_sizes_up_to_the_bar_pass_and_larger_ones_are_stopped(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(bytes(1000))
    assert require_size(path, most=1000) == path
    assert require_size(path, most=None) == path
    with pytest.raises(ExportGateError, match=r"m\.tflite: found 1 KiB; expected at most 1 KiB"):
        require_size(path, most=999)
    assert require_bundle_size(10, most=10) == 10
    assert require_bundle_size(10, most=None) == 10
    with pytest.raises(ExportGateError, match="found a bundle of"):
        require_bundle_size(11, most=10)


@pytest.mark.slow
@pytest.mark.promise(117)
@pytest.mark.parametrize("bar", [{"max_int8_bytes": 100}, {"max_bundle_bytes": 100}])
def test_a_model_or_bundle_that_is_too_large_leaves_no_bundle(
    run_copy: Path, export_data, tmp_path: Path, bar: dict
) -> None:
    gates = replace(GateThresholds(), max_latency_ratio=None, **bar)
    with pytest.raises(ExportGateError, match="expected at most 0 KiB"):
        export_run(run_copy, target="onnx", out=tmp_path / "out" / "b", data=export_data, gates=gates)
    assert not (tmp_path / "out").exists()


def test_the_bars_of_a_small_board_are_the_defaults() -> None:
    assert (GateThresholds().max_int8_bytes, GateThresholds().max_bundle_bytes) == (300 * 1024, 1024 * 1024)
