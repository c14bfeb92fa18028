"""Run the model of a bundle with whichever runtime the machine has: one interface, one check of what comes out.

`load_runtime` takes the first format of the bundle whose runtime is installed: TFLite with ai_edge_litert, else tflite_runtime
(same file, same interface), then ONNX with onnxruntime. The model is handed over as the checked bytes of the bundle, never a path.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal

from lsemvae.ecg.errors import BundleSelfTestError
from lsemvae.screen.bundle import Bundle
from lsemvae.screen.runtime import onnx, tflite
from lsemvae.screen.runtime.contract import Runtime, Signature

Format = Literal["tflite", "onnx"]

FORMATS: Final[tuple[Format, ...]] = ("tflite", "onnx")
_MODULES: Final = {"tflite": tflite.MODULES, "onnx": onnx.MODULES}


def load_runtime(bundle: Bundle, *, prefer: Format | None = None, threads: int = 1) -> Runtime:
    """Load the model of a checked bundle.

    Parameters
    ----------
    bundle
        From `lsemvae.screen.bundle.open_bundle`.
    prefer
        Model format to run; None takes the first of `FORMATS` that the bundle has and whose runtime is installed here.
    threads
        Threads of one inference. One is enough for 10 s of ECG and keeps the other cores for the link and the screen.

    Raises
    ------
    RuntimeMissingError
        No runtime for that format is installed.
    BundleSelfTestError
        The bundle has no such model, or the model does not have the inputs and outputs that the manifest promises.
    """
    models = bundle.manifest.models
    there = [format_ for format_ in FORMATS if format_ in models]
    if prefer is None and not there:
        found = ", ".join(models) or "none"
        raise BundleSelfTestError(f"The manifest names models for: {found}; expected one of: {', '.join(FORMATS)}.")
    installed = [format_ for format_ in there if any(find_spec(module) for module in _MODULES[format_])]
    chosen = prefer or (installed or there)[0]
    name = models.get(chosen)
    if name is None or name not in bundle.files:
        found = ", ".join(sorted(models)) or "none"
        raise BundleSelfTestError(f"The bundle has no {chosen} model; it has: {found}.")
    return load_model(bundle.files[name], chosen, signature_of(bundle), threads=threads)


def load_model(
    content: bytes, format_: Format, signature: Signature, *, threads: int = 1, kernels: tflite.Kernels = "xnnpack"
) -> Runtime:
    """Load the bytes of a model file, as a bundle's model is loaded; `kernels` (`tflite.KERNELS`) is for TFLite only."""
    try:
        if format_ == "onnx":
            return onnx.OnnxRuntime(content, signature, threads)
        return tflite.TfliteRuntime(content, signature, threads, kernels=kernels)
    except (ValueError, RuntimeError, TypeError) as error:
        raise BundleSelfTestError(f"The {format_} model cannot be loaded on this machine: {error}") from error


def signature_of(bundle: Bundle) -> Signature:
    """Return the input and output shapes that the manifest promises."""
    return Signature(input_shape=bundle.manifest.input.shape, logits_shape=(1, len(bundle.manifest.outputs)))
