"""What is asked of one export, checked before anything slow begins."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from torch import nn

from export.convert.environment import require_target
from export.errors import ExportError
from export.gates.gates import GateThresholds
from export.int8.recipe import ALL, DEFAULT_RECIPE, QuantRecipe, load_recipe
from export.release.bundle import check_private, check_target
from export.student_run.data import ExportData, check_data, data_from_store
from export.student_run.graph import ExportGraph, build_graph
from export.student_run.identity import BundleIdentity, load_identity
from export.student_run.packaged import work_folder
from export.student_run.recordings import RECORDINGS
from export.student_run.source import DecisionSource, RunSource, card_files, load_decision, load_run
from lsemvae.data.store import RecordStore
from lsemvae.screen.manifest import version_tuple
from lsemvae.screen.runtime.contract import Signature
from lsemvae.train.run import read_json

_LOGGER = logging.getLogger(__name__)
TARGETS: Final = {"tflite": ("tflite",), "onnx": ("onnx",), "all": ("tflite", "onnx")}
_STRICT_HOST: Final = "0.3.0"
CALIBRATION_FILE: Final = "calibration_ids.json"
WORK_FOLDER: Final = "export"
LOG_FILE: Final = "convert.log"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExportRequest:
    """What somebody asks for; `export.run.export_run` says what each field means."""

    run_dir: Path
    out: Path
    data: RecordStore | ExportData
    target: str = "all"
    int8: bool = True
    recipe: str | Path = DEFAULT_RECIPE
    gates: GateThresholds = field(default_factory=GateThresholds)
    force: bool = False
    qat: bool = False
    strict: bool = False

    def recordings(self, source: RunSource) -> ExportData:
        """Return the recordings to calibrate and to judge on; from a store those that the run folder names, or a choice."""
        if isinstance(self.data, ExportData):
            return self.data
        named = self.run_dir / CALIBRATION_FILE
        return data_from_store(
            self.data,
            leads=source.leads,
            labels=source.labels,
            spec=source.frontend,
            left_out=source.run.get("folds_left_out", ()),
            calibration_ids=read_json(named) if named.is_file() else None,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExportJob:
    """One export that may begin: what was asked and what was found. `recipe` is None for a float bundle."""

    request: ExportRequest
    recipe: QuantRecipe | None
    source: RunSource
    decision: DecisionSource
    identity: BundleIdentity
    data: ExportData
    progress: Progress
    weights_dir: Path | None = None

    @property
    def run_dir(self) -> Path:
        """The run folder that is exported."""
        return self.request.run_dir

    @property
    def gates(self) -> GateThresholds:
        """The bars that the files are held against."""
        return self.request.gates

    @property
    def targets(self) -> tuple[str, ...]:
        """The formats to make, `tflite` first."""
        return TARGETS[self.request.target]

    @property
    def work(self) -> Path:
        """Folder of intermediate files: the float models and the converters' log."""
        return work_folder(self.run_dir, name=WORK_FOLDER)

    @property
    def weights(self) -> Path:
        """Run folder whose weights are converted: that of the run, or of its quantization-aware form."""
        return self.weights_dir or self.run_dir

    @property
    def log(self) -> Path:
        """Where the converters' noise goes."""
        return self.work / LOG_FILE

    @property
    def signature(self) -> Signature:
        """What every model file of the export takes and gives."""
        return Signature((1, len(self.source.leads), self.source.n_samples), (1, len(self.source.labels)))

    @property
    def shape(self) -> dict[str, int]:
        """Size of the model's input, as keyword arguments."""
        return {"n_leads": len(self.source.leads), "n_samples": self.source.n_samples}

    def graph(self, student: nn.Module) -> ExportGraph:
        """Return the graph of a student of this shape."""
        return build_graph(student, n_leads=len(self.source.leads), n_samples=self.source.n_samples)


def plan_export(request: ExportRequest, *, progress: Progress | None = None) -> ExportJob:
    """Read and check everything that an export needs; nothing is written."""
    run_dir, target, int8 = request.run_dir, request.target, request.int8
    if target not in TARGETS:
        raise ExportError(f"unknown target {target!r}; expected one of {', '.join(TARGETS)}")
    check_target(request.out, force=request.force)
    for one in TARGETS[target]:
        require_target(one, int8=int8)
    check_private(card_files(run_dir), extra=(run_dir,))
    source = load_run(run_dir)
    trainable = isinstance(request.data, RecordStore) and request.data.root != RECORDINGS
    if request.qat and not (trainable and int8):
        raise ExportError(
            "quantization-aware fine-tuning was asked for; expected an INT8 export with the record store of the run",
            advice="Name the store with --data, and leave --fp32 out.",
        )
    recipe = load_recipe(request.recipe) if int8 else None
    if recipe is not None and recipe.region == ALL:
        raise ExportError(
            f"recipe {recipe.name!r} makes INT8 inputs and outputs; expected one that keeps them float",
            advice="Use --strict-int8: it makes that form beside the one that the clinic runs.",
        )
    if request.strict and not (int8 and "tflite" in TARGETS[target]):
        raise ExportError(
            f"the strict-integer form was asked for with target {target!r}{'' if int8 else ' in float'}; "
            "expected an INT8 export with the target tflite or all"
        )
    decision = load_decision(run_dir, source.labels)
    identity = load_identity(run_dir, source.labels)
    if request.strict and version_tuple(identity.min_host) < version_tuple(_STRICT_HOST):
        identity = replace(identity, min_host=_STRICT_HOST)  # older hosts refuse the files of the strict-integer form
    data = check_data(
        request.recordings(source),
        n_leads=len(source.leads),
        n_labels=len(source.labels),
        spec=source.frontend,
        min_calibration=recipe.min_calibration_records if recipe else 0,
        min_validation=request.gates.min_validation_records,
    )
    return ExportJob(
        request=request,
        recipe=recipe,
        source=source,
        decision=decision,
        identity=identity,
        data=data,
        progress=progress or _LOGGER.info,
    )
