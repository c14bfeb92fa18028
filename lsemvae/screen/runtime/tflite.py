"""TFLite models: ai_edge_litert, or the older tflite_runtime with the same interface."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import BundleSelfTestError, InferenceError, RuntimeMissingError
from lsemvae.screen.runtime.contract import (
    OUTPUT_ROLES,
    RuntimeOutput,
    Signature,
    assign_outputs,
    check_dtype,
    check_input,
    check_shape,
    missing_runtime,
    read_output,
)

#: In this order; both read the same file and both have `Interpreter`.
MODULES = ("ai_edge_litert", "tflite_runtime")


class TfliteRuntime:
    """A TFLite model with one float32 input and the outputs logits and uncertainty.

    Parameters
    ----------
    content
        The bytes of the ``.tflite`` file.
    signature
        Shapes that the manifest promises.
    threads
        Threads of one inference.
    """

    def __init__(self, content: bytes, signature: Signature, threads: int = 1) -> None:
        self.name, interpreter_class = _interpreter_class()
        self.version = _version(self.name)
        self._signature = signature
        with _quiet_stderr():
            self._interpreter = interpreter_class(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()  # before get_signature_runner, which otherwise reads unset shapes
        self._input = self._checked_input()
        self._outputs = self._checked_outputs()

    def run(self, ecg: NDArray[np.float32]) -> RuntimeOutput:
        """Compute the outputs for one recording, float32 ``[1, lead, time]`` in mV."""
        check_input(ecg, self._signature)
        try:
            self._interpreter.set_tensor(self._input, ecg)
            self._interpreter.invoke()
            logits, uncertainty = (self._interpreter.get_tensor(self._outputs[role]) for role in OUTPUT_ROLES)
        except (ValueError, RuntimeError) as error:
            raise InferenceError(f"The model could not be computed: {error}") from error
        return read_output(logits, uncertainty, self._signature)

    def _checked_input(self) -> int:
        details = self._interpreter.get_input_details()
        if len(details) != 1:
            raise BundleSelfTestError(f"The model has {len(details)} inputs; expected 1.")
        check_shape("input", details[0]["shape"], self._signature.input_shape)
        check_dtype("input", details[0]["dtype"])
        return int(details[0]["index"])

    def _checked_outputs(self) -> dict[str, int]:
        """Return role to tensor index."""
        details = self._named_outputs()
        names = assign_outputs({name: detail["shape"] for name, detail in details.items()}, self._signature)
        for name, detail in details.items():
            check_dtype(f"output {name!r}", detail["dtype"])
        return {role: int(details[name]["index"]) for role, name in names.items()}

    def _named_outputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the outputs under their signature names where the file has a signature, else under tensor names."""
        if self._interpreter.get_signature_list():
            return dict(self._interpreter.get_signature_runner().get_output_details())
        return {detail["name"]: detail for detail in self._interpreter.get_output_details()}


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep the runtime from greeting the operator: it writes "INFO: Created TensorFlow Lite XNNPACK delegate" to file
    descriptor 2 from native code and offers no setting against it. What goes wrong is raised, with its text.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # the process was started without an error stream
        yield
        return
    try:
        silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(silence, 2)
        os.close(silence)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _interpreter_class() -> tuple[str, Any]:
    for module in MODULES:
        try:
            interpreter = import_module(f"{module}.interpreter")
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            raise RuntimeMissingError(f"{module} is installed but cannot be loaded: {error}.") from error
        _check_numpy(module)
        return module, interpreter.Interpreter
    raise missing_runtime(MODULES, install="lsemvae[edge]")


def _check_numpy(module: str) -> None:
    """tflite_runtime 2.14 was built for numpy 1; with numpy 2 it loads and then fails inside its first call."""
    if module == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        raise RuntimeMissingError(
            f"tflite_runtime cannot work with numpy {np.__version__}; it needs a version below 2.",
            advice="Install ai-edge-litert instead, or: pip install 'lsemvae[edge-legacy]'",
        )


def _version(module: str) -> str:
    return str(getattr(import_module(module), "__version__", "unknown"))
