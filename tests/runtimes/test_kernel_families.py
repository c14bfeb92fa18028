"""Why kernels of two families differ: a neighbouring int8 step in one layer, seen in the layer itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsemvae.screen.bundle import Bundle
from tests.runtimes.recordings import Questions
from tests.runtimes.surgery import cut_after, quantized_convolutions, weights_onnx, weights_tflite

N_RECORDINGS = 12
XNNPACK, BUILTIN = "AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
# Share of the first layer's values: 0.1 % differ.
MOST_STEPS = 2.5e-3


def integers(content: bytes, asked: Questions, resolver: str) -> np.ndarray:
    """Run a file that was cut behind an integer layer: what the layer says of a few recordings."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    options: dict[str, Any] = {"experimental_op_resolver_type": getattr(OpResolverType, resolver)}
    interpreter = Interpreter(model_content=content, num_threads=1, **options)
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert wanted["dtype"] == np.int8
    found = []
    for record in asked.ecg[:N_RECORDINGS]:
        interpreter.set_tensor(given["index"], record[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(wanted["index"]).astype(np.int16))
    return np.stack(found)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> bytes:
    return bundle.files["model.tflite"]


def test_one_convolution_differs_by_at_most_one_step_in_few_places(model: bytes, asked: Questions) -> None:
    """XNNPACK against the builtin kernels, the same int8 input: few of the sums lie close enough to a tie."""
    cut = cut_after(model, quantized_convolutions(model)[0])
    step = np.abs(integers(cut, asked, XNNPACK) - integers(cut, asked, BUILTIN))
    assert step.max() == 1
    assert 0 < (step > 0).mean() < MOST_STEPS


def test_the_steps_travel_through_the_layers_behind(model: bytes, asked: Questions) -> None:
    shares = []
    for position in quantized_convolutions(model):
        cut = cut_after(model, position)
        shares.append((integers(cut, asked, XNNPACK) != integers(cut, asked, BUILTIN)).mean())
    assert shares == sorted(shares)
    assert shares[-1] > 10 * shares[0]


def test_all_convolutions_of_builtin_and_reference_kernels_are_equal(model: bytes, asked: Questions) -> None:
    cut = cut_after(model, quantized_convolutions(model)[-1])
    builtin, plain = (integers(cut, asked, resolver) for resolver in (BUILTIN, "BUILTIN_REF"))
    assert np.array_equal(builtin, plain)
    assert np.ptp(builtin) > 100, "found a nearly constant layer, expected one that carries something"


def test_both_files_hold_the_same_integers_and_scales(model: bytes, bundle: Bundle) -> None:
    """What is left between TFLite and ONNX is how a runtime rescales its sums."""
    tflite, onnx = weights_tflite(model), weights_onnx(bundle.files["model.onnx"])
    assert len(tflite) == len(onnx) >= 3
    for (weights, scales), (other, other_scales) in zip(tflite, onnx, strict=True):
        assert np.array_equal(weights, other)
        assert np.allclose(scales, other_scales, rtol=1e-6, atol=0.0)
