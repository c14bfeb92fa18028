"""Which converters are installed here, and clear words when one is not."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Final

from export.errors import ExportDependencyError

TARGET_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "tflite": ("litert_torch", "ai_edge_litert"),
    "tflite-int8": ("litert_quantizer",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "onnx-int8": (),
}
_DISTRIBUTIONS: Final = (
    "torch",
    "litert-torch",
    "litert-converter",
    "litert-quantizer",
    "ai-edge-litert",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "numpy",
)


def require(package: str) -> None:
    """Raise ExportDependencyError unless `package` can be imported."""
    if importlib.util.find_spec(package) is None:
        raise ExportDependencyError(
            f"the export needs the package {package!r}, which is not installed "
            f"(this is Python {platform.python_version()} on {platform.system()} {platform.machine()})"
        )


def require_target(target: str, *, int8: bool) -> None:
    """Raise ExportDependencyError unless every package for `target` (`tflite` or `onnx`) is there."""
    for package in TARGET_PACKAGES[target] + (TARGET_PACKAGES[f"{target}-int8"] if int8 else ()):
        require(package)


def versions() -> dict[str, str]:
    """Return the versions of the converters that are installed, by distribution name."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
