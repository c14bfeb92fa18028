"""ONNX models with onnxruntime on the CPU."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import BundleSelfTestError, InferenceError
from lsemvae.screen.runtime.contract import (
    OUTPUT_ROLES,
    RuntimeOutput,
    Signature,
    assign_outputs,
    check_input,
    check_shape,
    missing_runtime,
    read_output,
)
from lsemvae.screen.runtime.onnx_options import session_options

MODULES: Final = ("onnxruntime",)
_FLOAT_TENSOR: Final = "tensor(float)"


class OnnxRuntime:
    """An ONNX model with one float32 input and the outputs logits and uncertainty.

    Parameters
    ----------
    content
        The bytes of the ``.onnx`` file.
    signature
        Shapes that the manifest promises.
    threads
        Threads of one inference.
    """

    name = "onnxruntime"

    def __init__(self, content: bytes, signature: Signature, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise missing_runtime(MODULES, install="lsemvae[edge-onnx]") from error
        self.version = str(onnxruntime.__version__)
        self._signature = signature
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=session_options(onnxruntime, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions share no base class below Exception
            raise BundleSelfTestError(f"The onnx model cannot be loaded on this machine: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            raise BundleSelfTestError(f"The model has {len(inputs)} inputs; expected 1.")
        check_shape("input", inputs[0].shape, signature.input_shape)
        names = assign_outputs({node.name: node.shape for node in outputs}, signature)
        for what, node in (("input", inputs[0]), *((f"output {node.name!r}", node) for node in outputs)):
            if node.type != _FLOAT_TENSOR:
                raise BundleSelfTestError(f"The model's {what} is {node.type}; expected {_FLOAT_TENSOR}.")
        self._input = str(inputs[0].name)
        self._outputs = [names[role] for role in OUTPUT_ROLES]

    def run(self, ecg: NDArray[np.float32]) -> RuntimeOutput:
        """Compute the outputs for one recording, float32 ``[1, lead, time]`` in mV."""
        check_input(ecg, self._signature)
        try:
            logits, uncertainty = self._session.run(self._outputs, {self._input: ecg})
        except Exception as error:  # as above
            raise InferenceError(f"The model could not be computed: {error}") from error
        return read_output(logits, uncertainty, self._signature)
