"""Integrated gradients (Sundararajan 2017) of one logit, per measured channel and sample.

Baseline: zero mV on every channel. The front-end takes the mean away, so 0 mV is close to the isoelectric line: the input of a heart
that does nothing, the same for every recording. It is no recording that a model was trained on; its logit is reported.

Channels: the six limb leads are two measured signals and arithmetic (rank 2). Infinitely many six-lead maps belong to one
model and one recording (`lsemvae.explain.sanity.limb_identifiability` shows some), so attribution goes to what was
measured: I and II, and the chest leads. An LS-EMVAE is attributed through the derivation `six = LIMB_MATRIX @ (I, II)`; by
the chain rule channel k gets `x_k * sum_lead LIMB_MATRIX[lead, k] * mean gradient_lead`. How a time sample is shared between
I and II still belongs to this choice of two; its sum over the limb channels does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from lsemvae.ecg.errors import FormatError, InferenceError, LeadError, SampleError
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS, LIMB_MATRIX, MEASURED_LEADS
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import load_lsemvae, load_student, read_config
from lsemvae.train.run import read_object

Float32Array = npt.NDArray[np.float32]

# Points on the path. Sundararajan 2017 finds 20 to 300 enough; docs/explanation/explain.md has what 128 leave on the shipped models.
N_STEPS: Final = 128
# Of the logit's change along the path (section 5 of Sundararajan 2017).
RELATIVE_TOLERANCE: Final = 0.05
# In logits: where the logit hardly changes a share of it says nothing, and 0.05 moves a probability by 0.0125 at most.
ABSOLUTE_TOLERANCE: Final = 0.05
# Points of the path evaluated together: about 100 MB for an LS-EMVAE.
PATH_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Explained:
    """A model and the measured channels it is explained on: `I`, `II` and, for an LS-EMVAE, chest leads in canonical order."""

    model: StudentNet | LsEmvae
    channels: tuple[str, ...]
    kind: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Outputs, in the model's own order."""
        return tuple(self.model.config.labels)

    def output(self, label: str) -> int:
        """Return the position of a label among the model's outputs."""
        if label not in self.labels:
            raise FormatError(
                f"found label {label!r}, expected one of {', '.join(self.labels)}, which this model puts out",
                advice="Choose --label from the model's own outputs.",
            )
        return self.labels.index(label)

    def logits(self, channels_mv: Tensor) -> Tensor:
        """Return logits `[batch, label]` for the measured channels `[batch, channel, time]` in mV."""
        if isinstance(self.model, StudentNet):
            logits: Tensor = self.model(channels_mv)[0]
        else:
            logits = self.model(*twelve_leads(channels_mv, self.channels, self.model.config.leads))
        return logits

    def on(self, channels: Sequence[str]) -> Explained:
        """Return the same model on other channels; refused for a student, which has exactly two."""
        return explained(self.model, channels=tuple(channels))


@dataclass(frozen=True, slots=True)
class Attribution:
    """One map. `values` float32 `[channel, time]` in logits, for input in mV; their sum is `logit - baseline_logit` but for `residual`."""

    label: str
    channels: tuple[str, ...]
    values: Float32Array
    logit: float
    baseline_logit: float
    n_steps: int

    @property
    def residual(self) -> float:
        """How far the map is from complete, in logits: |sum of the map - (logit - baseline logit)|."""
        return abs(float(self.values.sum(dtype=np.float64)) - (self.logit - self.baseline_logit))

    @property
    def tolerance(self) -> float:
        """Largest residual accepted, in logits."""
        return max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * abs(self.logit - self.baseline_logit))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the map, JSON-able."""
        return {
            "label": self.label,
            "channels": list(self.channels),
            "logit": self.logit,
            "baseline_logit": self.baseline_logit,
            "completeness_residual": self.residual,
            "completeness_tolerance": self.tolerance,
            "n_steps": self.n_steps,
        }


def explained(model: StudentNet | LsEmvae, *, channels: Sequence[str] | None = None) -> Explained:
    """Return a model ready to be explained: `channels` None takes all it can have (I and II; with chest leads for an LS-EMVAE)."""
    if model.training:
        raise InferenceError(
            "found a model in training mode, expected evaluation mode: its output is drawn at random",
            advice="Call model.eval() first; load_student and load_lsemvae do.",
        )
    if isinstance(model, StudentNet):
        own = tuple(model.config.leads)
        kind, possible = "student", own
    else:
        own, kind = tuple(model.config.leads), "lsemvae"
        possible = tuple(lead for lead in LEADS if lead in own and (lead in MEASURED_LEADS or lead in CHEST_LEADS))
    chosen = possible if channels is None else tuple(channels)
    if (
        any(lead not in possible for lead in chosen)
        or not set(MEASURED_LEADS) <= set(chosen)
        or len(set(chosen)) < len(chosen)
    ):
        raise LeadError(
            f"found channels {', '.join(chosen)}, expected I and II and others of {', '.join(possible)}, each once",
            advice="Derived limb leads are no channels: they follow from I and II.",
        )
    if kind == "student" and chosen != possible:
        raise LeadError(f"found channels {', '.join(chosen)}, expected {', '.join(possible)} as the student reads them")
    return Explained(model, tuple(lead for lead in possible if lead in chosen), kind)


def open_run(run_dir: Path, *, channels: Sequence[str] | None = None) -> Explained:
    """Return the model of a run folder: a student, or an LS-EMVAE that has been fine-tuned."""
    kind = read_object(Path(run_dir) / "config.json").get("kind")
    if kind == "student":
        return explained(load_student(run_dir)[0], channels=channels)
    read_config(Path(run_dir), "lsemvae", stage="finetune")  # a pre-trained head has learned no label
    return explained(load_lsemvae(run_dir)[0], channels=channels)


def twelve_leads(channels_mv: Tensor, channels: Sequence[str], leads: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Turn measured channels `[batch, channel, time]` into all `leads` `[batch, lead, time]` and presence `[batch, lead]`.

    Linear in the input: limb leads follow from I and II (Einthoven 1912, Goldberger 1942), chest leads pass, absent ones are zero.
    """
    matrix = torch.from_numpy(channel_matrix(channels, leads)).to(channels_mv)
    present = matrix.abs().sum(1) > 0
    return torch.einsum("lc,bct->blt", matrix, channels_mv), present.expand(len(channels_mv), -1)


def channel_matrix(channels: Sequence[str], leads: Sequence[str]) -> Float32Array:
    """Return `[lead, channel]`: how each lead is made of the measured channels; a row of zeros is a lead that is absent."""
    matrix = np.zeros((len(leads), len(channels)), np.float32)
    for row, lead in enumerate(leads):
        if lead in LIMB_LEADS:
            weights = LIMB_MATRIX[LIMB_LEADS.index(lead)]
            for name, weight in zip(MEASURED_LEADS, weights, strict=True):
                matrix[row, list(channels).index(name)] = weight
        elif lead in channels:
            matrix[row, list(channels).index(lead)] = 1.0
    return matrix


def attribute(x_mv: npt.ArrayLike, *, explained: Explained, label: str, n_steps: int = N_STEPS) -> Attribution:
    """Return integrated gradients of one recording.

    Parameters
    ----------
    x_mv
        Front-end output `[channel, time]` in mV, rows as `explained.channels`.
    explained, label
        The model, and which of its outputs.
    n_steps
        Points of the Gauss-Legendre rule along the path.

    Raises
    ------
    InferenceError
        If the map misses the logit's change by more than 5 % of it and more than 0.05.
    """
    given = np.asarray(x_mv, dtype=np.float32)
    if given.ndim != 2 or given.shape[0] != len(explained.channels):
        raise LeadError(
            f"found samples of shape {given.shape}, expected ({len(explained.channels)}, time) "
            f"for the channels {', '.join(explained.channels)}"
        )
    if not np.isfinite(given).all():
        raise SampleError("found samples that are not finite, expected finite ones")
    x, output = torch.from_numpy(given)[None], explained.output(label)
    values = path_gradients(x, explained=explained, output=output, n_steps=n_steps) * given
    with torch.no_grad():
        logits = explained.logits(torch.cat([x, torch.zeros_like(x)]))[:, output].tolist()
    found = Attribution(label, explained.channels, values.astype(np.float32), logits[0], logits[1], n_steps)
    if not np.isfinite(found.values).all() or not np.isfinite([found.logit, found.baseline_logit]).all():
        raise InferenceError(f"found an attribution of {found.label} that is not finite, expected finite numbers")
    if found.residual > found.tolerance:
        raise InferenceError(
            f"found an attribution of {found.label} that misses the change of the logit "
            f"({found.logit - found.baseline_logit:+.3f}) by {found.residual:.3f}, expected at most {found.tolerance:.3f}",
            advice=f"Take more steps along the path than {found.n_steps} (--steps {4 * found.n_steps}).",
        )
    return found


def path_gradients(x: Tensor, *, explained: Explained, output: int, n_steps: int = N_STEPS) -> Float32Array:
    """Return the mean gradient along the straight path from zero to `x` `[1, channel, time]`: `[channel, time]` in logits per mV."""
    rule = IntegratedGradients(explained.logits, multiply_by_inputs=False)
    gradients = rule.attribute(
        x, baselines=torch.zeros_like(x), target=output, n_steps=n_steps, internal_batch_size=min(PATH_BATCH, n_steps)
    )
    return np.asarray(gradients.detach()[0].numpy(), dtype=np.float32)
