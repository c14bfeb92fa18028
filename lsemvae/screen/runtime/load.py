"""Run the model of a bundle with whichever runtime the machine has: one interface, one check of what comes out.

`load_runtime` takes ai_edge_litert, else tflite_runtime (same file, same interface); onnxruntime where it is asked for
or where the bundle holds only an ONNX model. The model is handed over as the checked bytes of the bundle, never a path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lsemvae.ecg.errors import BundleSelfTestError
from lsemvae.screen.bundle import Bundle
from lsemvae.screen.runtime.contract import Runtime, Signature

Format = Literal["tflite", "onnx"]

FORMATS: tuple[Format, ...] = ("tflite", "onnx")


def load_runtime(bundle: Bundle, *, prefer: Format | None = None, threads: int = 1) -> Runtime:
    """Load the model of a checked bundle.

    Parameters
    ----------
    bundle
        From `lsemvae.screen.bundle.open_bundle`.
    prefer
        Model format to run; None takes TFLite where the bundle has it.
    threads
        Threads of one inference. One is enough for 10 s of ECG and keeps the other cores for the link and the screen.

    Raises
    ------
    RuntimeMissingError
        No runtime for that format is installed.
    BundleSelfTestError
        The bundle has no such model, or the model does not have the inputs and outputs that the manifest promises.
    """
    format_ = prefer or _available_format(bundle)
    content = _model_bytes(bundle, format_)
    signature = signature_of(bundle)
    loader = _loader(format_)
    try:
        return loader(content, signature, threads)
    except (ValueError, RuntimeError, TypeError) as error:
        raise BundleSelfTestError(f"The {format_} model cannot be loaded on this machine: {error}") from error


def signature_of(bundle: Bundle) -> Signature:
    """Return the input and output shapes that the manifest promises."""
    return Signature(input_shape=bundle.manifest.input.shape, logits_shape=(1, len(bundle.manifest.outputs)))


def _available_format(bundle: Bundle) -> Format:
    for format_ in FORMATS:
        if format_ in bundle.manifest.models:
            return format_
    found = ", ".join(bundle.manifest.models) or "none"
    raise BundleSelfTestError(f"The manifest names models for: {found}; expected one of: {', '.join(FORMATS)}.")


def _model_bytes(bundle: Bundle, format_: Format) -> bytes:
    name = bundle.manifest.models.get(format_)
    if name is None or name not in bundle.files:
        found = ", ".join(sorted(bundle.manifest.models)) or "none"
        raise BundleSelfTestError(f"The bundle has no {format_} model; it has: {found}.")
    return bundle.files[name]


def _loader(format_: Format) -> Callable[[bytes, Signature, int], Runtime]:
    if format_ == "onnx":
        from lsemvae.screen.runtime.onnx import OnnxRuntime

        return OnnxRuntime
    from lsemvae.screen.runtime.tflite import TfliteRuntime

    return TfliteRuntime
