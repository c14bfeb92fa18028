"""The latency gate decides on figures; how the figures come out on this machine is not tested."""

from __future__ import annotations

import numpy as np
import pytest

from export.errors import ExportGateError
from export.gates.latency import Latency, measure, require_latency

SLOW = Latency("tflite", fp32_p10_ms=1.0, fp32_p50_ms=1.0, int8_p10_ms=1.5, int8_p50_ms=1.5)


@pytest.mark.promise(84)
def test_slower_int8_is_stopped_with_both_figures() -> None:
    with pytest.raises(ExportGateError, match=r"INT8 1\.500 ms and fp32 1\.000 ms \(ratio 1\.50\).*at most 1"):
        require_latency(SLOW, max_ratio=1.0)


def test_no_bar_and_a_met_bar_let_it_through() -> None:
    assert require_latency(SLOW, max_ratio=None) is SLOW
    assert require_latency(SLOW, max_ratio=1.5) is SLOW


def test_a_figure_that_is_no_number_is_stopped() -> None:
    broken = Latency("onnx", fp32_p10_ms=float("nan"), fp32_p50_ms=1.0, int8_p10_ms=1.0, int8_p50_ms=1.0)
    with pytest.raises(ExportGateError):
        require_latency(broken, max_ratio=1.0)


def test_both_models_run_in_turns_and_the_basis_is_stated() -> None:
    order: list[str] = []

    def run(name: str):
        return lambda ecg: (order.append(name), ecg)

    found = measure("tflite", fp32=run("fp32"), int8=run("int8"), ecg=np.zeros((1, 2, 4), np.float32))
    assert order[::2] == ["fp32"] * (len(order) // 2)
    assert order[1::2] == ["int8"] * (len(order) // 2)
    assert found.to_dict()["basis"] == "MEASURED"
