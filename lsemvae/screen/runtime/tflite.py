"""TFLite models: ai_edge_litert, or the older tflite_runtime with the same interface."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, Literal

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

# In this order; both read the same file and both have `Interpreter`.
MODULES: Final = ("ai_edge_litert", "tflite_runtime")

Kernels = Literal["xnnpack", "builtin", "reference"]
# Which operators compute. XNNPACK is what runs in the clinic; the reference kernels are plain C++ loops: slow, the same everywhere.
KERNELS: Final[tuple[Kernels, ...]] = ("xnnpack", "builtin", "reference")
_RESOLVERS: Final = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


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
    kernels
        One of `KERNELS`; others than the first are for comparing.
    """

    def __init__(self, content: bytes, signature: Signature, threads: int = 1, *, kernels: Kernels = "xnnpack") -> None:
        self.name, self._interpreter = open_interpreter(content, threads=threads, kernels=kernels)
        self.version = str(getattr(import_module(self.name), "__version__", "unknown"))
        self._signature = signature
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise BundleSelfTestError(f"The model has {len(inputs)} inputs; expected 1.")
        check_shape("input", inputs[0]["shape"], signature.input_shape)
        check_dtype("input", inputs[0]["dtype"])
        self._input = int(inputs[0]["index"])
        # Under their signature names where the file has a signature, else under tensor names.
        if self._interpreter.get_signature_list():
            outputs = dict(self._interpreter.get_signature_runner().get_output_details())
        else:
            outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        names = assign_outputs({name: detail["shape"] for name, detail in outputs.items()}, signature)
        for name, detail in outputs.items():
            check_dtype(f"output {name!r}", detail["dtype"])
        self._outputs = {role: int(outputs[name]["index"]) for role, name in names.items()}

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


def open_interpreter(content: bytes, *, threads: int = 1, kernels: Kernels = "xnnpack") -> tuple[str, Any]:
    """Return the module that serves and its interpreter of a `.tflite` file, ready to compute.

    Raises
    ------
    RuntimeMissingError
        No such module is installed, or it cannot be loaded here.
    ValueError, RuntimeError
        The content is no model, as the module says it.
    """
    module, interpreter_class = _interpreter_class()
    chosen = {}
    if kernels != "xnnpack":
        resolver = import_module(f"{module}.interpreter").OpResolverType
        chosen["experimental_op_resolver_type"] = getattr(resolver, _RESOLVERS[kernels])
    with _quiet_stderr():
        interpreter = interpreter_class(model_content=content, num_threads=threads, **chosen)
        interpreter.allocate_tensors()  # before get_signature_runner, which otherwise reads unset shapes
    return module, interpreter


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
        if module == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
            # Version 2.14 was built for numpy 1; with numpy 2 it loads and then fails inside its first call.
            raise RuntimeMissingError(
                f"tflite_runtime cannot work with numpy {np.__version__}; it needs a version below 2.",
                advice="Install ai-edge-litert instead, or: pip install 'lsemvae[edge-legacy]'",
            )
        return module, interpreter.Interpreter
    raise missing_runtime(MODULES, install="lsemvae[edge]")
