"""ONNX models with onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

#: Severity 3 = errors only: the start-up warnings about an unknown CPU vendor tell an operator nothing.
_LOG_ERRORS_ONLY = 3

_FLOAT_TENSOR = "tensor(float)"


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
            raise missing_runtime(["onnxruntime"], install="lsemvae[edge-onnx]") from error
        self.version = str(onnxruntime.__version__)
        self._signature = signature
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=_options(onnxruntime, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions share no base class below Exception
            raise BundleSelfTestError(f"The onnx model cannot be loaded on this machine: {error}") from error
        self._input = self._checked_input()
        self._outputs = self._checked_outputs()

    def run(self, ecg: NDArray[np.float32]) -> RuntimeOutput:
        """Compute the outputs for one recording, float32 ``[1, lead, time]`` in mV."""
        check_input(ecg, self._signature)
        try:
            logits, uncertainty = self._session.run(self._outputs, {self._input: ecg})
        except Exception as error:  # as above
            raise InferenceError(f"The model could not be computed: {error}") from error
        return read_output(logits, uncertainty, self._signature)

    def _checked_input(self) -> str:
        nodes = self._session.get_inputs()
        if len(nodes) != 1:
            raise BundleSelfTestError(f"The model has {len(nodes)} inputs; expected 1.")
        check_shape("input", nodes[0].shape, self._signature.input_shape)
        _check_float("input", nodes[0].type)
        return str(nodes[0].name)

    def _checked_outputs(self) -> list[str]:
        """Return the output names in the order of `OUTPUT_ROLES`."""
        nodes = self._session.get_outputs()
        names = assign_outputs({node.name: node.shape for node in nodes}, self._signature)
        for node in nodes:
            _check_float(f"output {node.name!r}", node.type)
        return [names[role] for role in OUTPUT_ROLES]


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    if not has_vnni(_cpuinfo()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: str) -> bool:
    """Return whether a processor adds INT8 products in 32 bits, from the text of its `/proc/cpuinfo`.

    x86 without VNNI adds pairs of them in 16 bits, which overflow: there the slower kernels are asked for, which do not. With
    VNNI these would take three times as long for the same bits. Elsewhere the setting means nothing.
    """
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _check_float(what: str, type_: str) -> None:
    if type_ != _FLOAT_TENSOR:
        raise BundleSelfTestError(f"The model's {what} is {type_}; expected {_FLOAT_TENSOR}.")
