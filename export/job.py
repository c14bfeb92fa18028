"""What is asked of one export, checked before anything slow begins."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from export.convert.environment import require_target
from export.errors import ExportError
from export.gates.gates import GateThresholds
from export.int8.recipe import ALL, QuantRecipe, load_recipe
from export.release.bundle import check_private, check_target
from export.student_run.data import ExportData, check_data, data_from_store
from export.student_run.identity import BundleIdentity, load_identity
from export.student_run.packaged import work_folder
from export.student_run.recordings import RECORDINGS
from export.student_run.source import DecisionSource, RunSource, card_files, load_decision, load_run
from lsemvae.data.store import RecordStore
from lsemvae.screen.manifest_parts import version_tuple
from lsemvae.screen.runtime.contract import Signature
from lsemvae.train.run import read_json

_LOGGER = logging.getLogger(__name__)
TARGETS: Final = {"tflite": ("tflite",), "onnx": ("onnx",), "all": ("tflite", "onnx")}
_STRICT_HOST: Final = "0.3.0"
CALIBRATION_FILE: Final = "calibration_ids.json"
WORK_FOLDER: Final = "export"
LOG_FILE: Final = "convert.log"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class ExportJob:
    """One export: where from, where to, what with. `recipe` is None for a float bundle.

    `store` is there where the recordings came from one: quantization-aware fine-tuning (`qat`) trains on it.
    """

    run_dir: Path
    out: Path
    targets: tuple[str, ...]
    recipe: QuantRecipe | None
    source: RunSource
    decision: DecisionSource
    identity: BundleIdentity
    data: ExportData
    gates: GateThresholds
    force: bool
    progress: Progress
    store: RecordStore | None = None
    qat: bool = False
    strict: bool = False
    weights_dir: Path | None = None

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


def plan_export(
    run_dir: Path,
    *,
    target: str,
    int8: bool,
    out: Path,
    data: RecordStore | ExportData,
    recipe: str | Path,
    gates: GateThresholds,
    force: bool,
    progress: Progress | None,
    qat: bool = False,
    strict: bool = False,
) -> ExportJob:
    """Read and check everything that an export needs; nothing is written."""
    if target not in TARGETS:
        raise ExportError(f"unknown target {target!r}; expected one of {', '.join(TARGETS)}")
    check_target(out, force=force)
    for one in TARGETS[target]:
        require_target(one, int8=int8)
    check_private(card_files(run_dir), extra=(run_dir,))
    source = load_run(run_dir)
    store = data if isinstance(data, RecordStore) else None
    if qat and (store is None or not int8 or store.root == RECORDINGS):
        raise ExportError(
            "quantization-aware fine-tuning was asked for; expected an INT8 export with the record store of the run",
            advice="Name the store with --data, and leave --fp32 out.",
        )
    chosen = load_recipe(recipe) if int8 else None
    if chosen is not None and chosen.region == ALL:
        raise ExportError(
            f"recipe {chosen.name!r} makes INT8 inputs and outputs; expected one that keeps them float",
            advice="Use --strict-int8: it makes that form beside the one that the clinic runs.",
        )
    if strict and not (int8 and "tflite" in TARGETS[target]):
        raise ExportError(
            f"the strict-integer form was asked for with target {target!r}{'' if int8 else ' in float'}; "
            "expected an INT8 export with the target tflite or all"
        )
    return ExportJob(
        run_dir=run_dir,
        out=out,
        targets=TARGETS[target],
        recipe=chosen,
        source=source,
        decision=load_decision(run_dir, source.labels),
        identity=_for_hosts(load_identity(run_dir, source.labels), strict=strict),
        data=_checked_data(run_dir, data, source, chosen, min_validation=gates.min_validation_records),
        gates=gates,
        force=force,
        progress=progress or _LOGGER.info,
        store=store,
        qat=qat,
        strict=strict,
    )


def _for_hosts(identity: BundleIdentity, *, strict: bool) -> BundleIdentity:
    """Hosts before 0.3.0 refuse the files of the strict-integer form: the bundle says so by its minimum host version."""
    if strict and version_tuple(identity.min_host) < version_tuple(_STRICT_HOST):
        return replace(identity, min_host=_STRICT_HOST)
    return identity


def _checked_data(
    run_dir: Path,
    data: RecordStore | ExportData,
    source: RunSource,
    recipe: QuantRecipe | None,
    *,
    min_validation: int,
) -> ExportData:
    if isinstance(data, RecordStore):
        data = _from_store(run_dir, data, source)
    return check_data(
        data,
        n_leads=len(source.leads),
        n_labels=len(source.labels),
        spec=source.frontend,
        min_calibration=recipe.min_calibration_records if recipe else 0,
        min_validation=min_validation,
    )


def _from_store(run_dir: Path, store: RecordStore, source: RunSource) -> ExportData:
    chosen = run_dir / CALIBRATION_FILE
    return data_from_store(
        store,
        leads=source.leads,
        labels=source.labels,
        spec=source.frontend,
        left_out=source.run.get("folds_left_out", ()),
        calibration_ids=read_json(chosen) if chosen.is_file() else None,
    )
