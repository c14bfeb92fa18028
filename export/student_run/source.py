"""What an export reads from a run folder: weights, labels, decision rule, card. JSON and safetensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from export.errors import ExportModelError
from lsemvae.ecg.canonical import canonical_json
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.frontend import BASE, FrontendSpec
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.rule import DecisionRule
from lsemvae.train.checkpoint import load_student

FITTED_ON_FLOAT: Final = "torch_fp32"
FITTED_ON: Final = (FITTED_ON_FLOAT, "tflite_int8", "onnx_int8")
CARD_FILES: Final = ("card.md", "curves.png")
_DECISION_ADVICE: Final = "Make it with `lsemvae calibrate RUN --data STORE`, which fits calibration and thresholds."


@dataclass(frozen=True, slots=True, eq=False)
class RunSource:
    """A trained student with what its run folder says about it.

    Attributes
    ----------
    labels
        Names of the outputs (`RHS`, whose probability stands in column `p_RHS`), in the order of the logits.
    """

    student: nn.Module
    config: Mapping[str, Any]
    labels: tuple[str, ...]
    leads: tuple[str, ...]
    frontend: FrontendSpec
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Length of the model's input."""
        return self.frontend.n_samples


@dataclass(frozen=True, slots=True)
class DecisionSource:
    """The run's `decision.json`: the rule, rows of performance for the manifest, and whose outputs the rule was fitted on."""

    rule: DecisionRule
    performance: tuple[Mapping[str, Any], ...]
    fitted_on: str = FITTED_ON_FLOAT


def load_run(run_dir: Path) -> RunSource:
    """Load the student of a run folder; NaN weights and other architectures are refused by name."""
    try:
        student, config = load_student(run_dir)
        leads = canonical_leads(config["leads"])
        frontend = FrontendSpec.from_dict(config["frontend"]) if "frontend" in config else BASE
    except (EcgError, KeyError, TypeError, RuntimeError) as error:
        raise ExportModelError(f"{run_dir} cannot be exported: {error}") from error
    run = _read_optional(run_dir / "run.json")
    source = RunSource(student, config, tuple(config["labels"]), leads, frontend, run)
    ecg = torch.zeros(1, len(source.leads), source.n_samples)
    try:
        with torch.inference_mode():
            logits, uncertainty = source.student(ecg)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportModelError(f"the student cannot take {list(ecg.shape)}: {error}") from error
    found, expected = (tuple(logits.shape), tuple(uncertainty.shape)), ((1, len(source.labels)), (1, 1))
    if found != expected:
        raise ExportModelError(
            f"the student returns shapes {found}; expected {expected} for its {len(source.labels)} labels"
        )
    return source


def load_decision(run_dir: Path, labels: tuple[str, ...]) -> DecisionSource:
    """Load `decision.json`: `{"decision": rule, "performance": rows, "fitted_on": outputs}`; the rule covers the run's labels."""
    path = run_dir / "decision.json"
    data = _read_optional(path)
    if "decision" not in data:
        raise ExportModelError(
            f"{path}: found {sorted(data) or 'no such file'}; expected a key 'decision'", advice=_DECISION_ADVICE
        )
    rule = DecisionRule.from_dict(data["decision"])
    if set(rule.calibrations) != set(labels) or set(rule.thresholds) != set(labels):
        raise ExportModelError(
            f"{path}: found calibrations for {sorted(rule.calibrations)} and thresholds for {sorted(rule.thresholds)}; "
            f"expected both for {sorted(labels)}",
            advice=_DECISION_ADVICE,
        )
    performance = tuple(data.get("performance", ()))
    canonical_json(list(performance))  # NaN is refused here, not after minutes of conversion
    fitted_on = data.get("fitted_on", FITTED_ON_FLOAT)
    if fitted_on not in FITTED_ON:
        raise ExportModelError(f"{path}: found fitted_on {fitted_on!r}; expected one of {', '.join(FITTED_ON)}")
    return DecisionSource(rule, performance, fitted_on)


def card_files(run_dir: Path) -> dict[str, bytes]:
    """Return the run's card and pictures, as far as they are there."""
    return {name: (run_dir / name).read_bytes() for name in CARD_FILES if (run_dir / name).is_file()}


def parse_json(path: Path) -> Any:
    """Return the content of a JSON file of a run folder."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportModelError(
            f"{path} is no JSON: {error}", advice="Restore the file, or make the run again."
        ) from error


def _read_optional(path: Path) -> dict[str, Any]:
    found = parse_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ExportModelError(f"{path}: found {type(found).__name__}, expected a JSON object")
    return found
