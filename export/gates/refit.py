"""Calibration and thresholds from the outputs of the file that ships.

Quantization moves logits a little, and a threshold that lies at the 90th percentile of the float model's negatives need not lie
there for the INT8 file. So the rule is fitted again on what the INT8 file says about recordings that the model has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.gates.outputs import Outputs
from export.student_run.data import ExportData
from export.student_run.source import FITTED_ON_FLOAT, DecisionSource
from lsemvae.ecg.rule import DecisionRule
from lsemvae.evaluate.calibrate import fit_rule


@dataclass(frozen=True, slots=True)
class Refit:
    """The decision that ships, and how it came about (`said`, one sentence for the terminal and the report)."""

    decision: DecisionSource
    records: int
    said: str

    def to_dict(self) -> dict[str, Any]:
        """Return the account for JSON."""
        return {"fitted_on": self.decision.fitted_on, "records": self.records, "said": self.said}


def settle(
    decision: DecisionSource,
    outputs: Mapping[str, Outputs],
    *,
    shipped: tuple[str, ...],
    data: ExportData,
    labels: tuple[str, ...],
) -> Refit:
    """Return the decision that ships with the files named in `shipped`, refitted where that is due and possible.

    A rule that was fitted on INT8 outputs stays as it is, and so does every rule of a float bundle. Otherwise it is fitted on
    the first shipped file's outputs over `data.held_out`; without such recordings the float rule stays, and says so.
    """
    quantized = [name for name in shipped if name.endswith("int8")]
    if not quantized:
        return Refit(decision, 0, "a float bundle keeps the run's decision rule")
    if decision.fitted_on != FITTED_ON_FLOAT:
        return Refit(decision, 0, f"the run's decision rule was fitted on {decision.fitted_on} outputs and is kept")
    if data.held_out is None or not data.held_out.any():
        return Refit(
            decision,
            0,
            "NOT REFITTED: the rule was fitted on float outputs, "
            "and no held-out recording is there to fit it on INT8 outputs",
        )
    name, rows = quantized[0], data.held_out
    rule = refitted(decision.rule, outputs[name], truth=data.truth, rows=rows, labels=labels)
    moved = abs(rule.thresholds[rule.primary] - decision.rule.thresholds[rule.primary])
    return Refit(
        replace(decision, rule=rule, fitted_on=name),
        int(rows.sum()),
        f"decision rule fitted on {name} outputs of {int(rows.sum())} held-out recordings; "
        f"the threshold of {rule.primary} moved by {moved:.4f}"
        + ("; the stated performance is that of the run's own rule" if decision.performance else ""),
    )


def refitted(
    rule: DecisionRule, outputs: Outputs, *, truth: np.ndarray, rows: np.ndarray, labels: tuple[str, ...]
) -> DecisionRule:
    """Fit a rule like `rule` on `outputs` over `rows`; an abstain band that the run chose is kept."""
    fitted = fit_rule(
        labels,
        truth[rows],
        outputs.logits[rows].astype(np.float64),
        outputs.uncertainty[rows, 0].astype(np.float64),
        primary=rule.primary,
        logit_sd=rule.interval_logit_sd,
    )
    if rule.max_uncertainty is None:  # the run does not abstain by uncertainty
        fitted = replace(fitted, max_uncertainty=None)
    if rule.abstain_band == (rule.thresholds[rule.primary],) * 2:
        return fitted
    return replace(fitted, abstain_band=rule.abstain_band)
