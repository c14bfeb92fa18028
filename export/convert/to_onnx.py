"""The folded graph as ONNX: opset 18, static batch, node names by region, nothing about the builder."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import torch

from export.convert.environment import require
from export.convert.noise import noise_to
from export.errors import ExportModelError
from export.student_run.graph import ExportGraph, example_input

OPSET: Final = 18
INPUT_NAME: Final = "ecg"
OUTPUT_NAMES: Final = ("logits", "uncertainty")
PRODUCER: Final = "lsemvae"
_SCOPES: Final = "pkg.torch.onnx.name_scopes"


def export_onnx(graph: ExportGraph, out: Path, *, n_leads: int, n_samples: int, log: Path) -> Path:
    """Write `graph` as a float32 `.onnx` file and return its path.

    Node names begin with `encoder/`, `head/` or `other/`. Metadata, doc strings and stack traces are removed: they
    double the file and name the folders of the machine that built it.
    """
    require("onnx")
    require("onnxscript")
    with noise_to(log):
        program = torch.onnx.export(
            graph,
            (example_input(n_leads=n_leads, n_samples=n_samples),),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise ExportModelError(f"torch.onnx returned no program; its words are in {log}")
    model = program.model_proto
    for index, node in enumerate(model.graph.node):
        # The module path of each node, as the exporter recorded it.
        recorded = (ast.literal_eval(entry.value) for entry in node.metadata_props if entry.key == _SCOPES)
        scopes: list[str] = next(recorded, [])
        region = next((name for name in ("encoder", "head") if f"student.{name}" in scopes), "other")
        node.name = f"{region}/{node.op_type}_{index}"
    strip_metadata(model)
    import onnx

    onnx.checker.check_model(model, full_check=True)
    out.write_bytes(model.SerializeToString(deterministic=True))
    return out


def strip_metadata(model: Any) -> None:
    """Remove everything from an ONNX model that does not change what it computes."""
    graph = model.graph
    for entry in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, model]:
        entry.doc_string = ""
        del entry.metadata_props[:]
    model.producer_name, model.producer_version, graph.name = PRODUCER, "", "student"
