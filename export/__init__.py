"""From a checkpoint to a signed bundle: graph, ONNX and TFLite, INT8, gates, signature. `export_run` goes the whole way.

The names are loaded when they are first used: `import export` alone needs neither torch nor a converter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from export.errors import ExportError
    from export.gates.gates import GateThresholds
    from export.int8.recipe import load_recipe
    from export.places import find_store
    from export.run import ExportResult, default_out, export_run
    from export.student_run.data import ExportData
    from export.student_run.packaged import PACKAGED_RUN
    from export.student_run.recordings import packaged_recordings

__all__ = [
    "PACKAGED_RUN",
    "ExportData",
    "ExportError",
    "ExportResult",
    "GateThresholds",
    "default_out",
    "export_run",
    "find_store",
    "load_recipe",
    "packaged_recordings",
]

_HOMES: Final = {
    "PACKAGED_RUN": "student_run.packaged",
    "ExportData": "student_run.data",
    "ExportError": "errors",
    "ExportResult": "run",
    "GateThresholds": "gates.gates",
    "default_out": "run",
    "export_run": "run",
    "find_store": "places",
    "load_recipe": "int8.recipe",
    "packaged_recordings": "student_run.recordings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
