"""Whether the maps mean anything: two checks that they can fail, and one that shows what they cannot say.

Randomised weights (Adebayo 2018): a map that stays the same when the model has forgotten everything shows the recording, not the model.
Deletion (after Samek 2017): what the map calls important is taken away; the logit must move more than when as much is
taken away elsewhere. Identifiability: the six limb leads are rank 2, and so no map over six leads belongs to the model alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from lsemvae.ecg.errors import LeadError
from lsemvae.ecg.leads import LIMB_LEADS, LIMB_MATRIX, MEASURED_LEADS
from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.resampling import patient_weights
from lsemvae.explain.attribution import N_STEPS, PATH_BATCH, Explained, path_gradients, twelve_leads
from lsemvae.explain.summary import mean_interval, triple
from lsemvae.model.student import StudentNet

FloatArray = npt.NDArray[np.float64]

# Of the time: about what QRS complexes fill, so that a map that finds only them can take all of them away.
DELETED_PART: Final = 0.1
N_RANDOM: Final = 20
# Of |map| with the voltage held fixed, all weights random: the two share less than a tenth of the ranks' variance.
LARGEST_RANK_CORRELATION: Final = 0.3


@dataclass(frozen=True, slots=True)
class Subject:
    """One recording to check on: input `[channel, time]` in mV, its map in logits, and whose it is."""

    patient: str
    x_mv: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Randomised:
    """Rank correlation of |map| between the trained model and one with random weights; `given_voltage` with |mV| held fixed."""

    part: str
    plain: Estimate
    given_voltage: Estimate

    @property
    def passes(self) -> bool | None:
        """Whether the maps differ: the whole interval lies below the limit. None for the read-out, whose inputs stay learned."""
        return self.given_voltage.high < LARGEST_RANK_CORRELATION if self.part == "all" else None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-able."""
        return {
            "randomised": self.part,
            "rank_correlation": triple(self.plain),
            "rank_correlation_given_voltage": triple(self.given_voltage),
            "largest_accepted": LARGEST_RANK_CORRELATION,
            "passes": self.passes,
        }


@dataclass(frozen=True, slots=True)
class Deletion:
    """Change of the logit, absolute, when a tenth of the time is replaced: the most attributed, as much elsewhere, the largest."""

    fill: str
    attributed: Estimate
    elsewhere: Estimate
    largest: Estimate
    over_elsewhere: Estimate
    over_largest: Estimate

    @property
    def passes(self) -> bool:
        """Whether the attributed tenth moves the logit more than a tenth of the same shape elsewhere, interval and all."""
        return self.over_elsewhere.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-able; changes in logits."""
        names = ("attributed", "elsewhere", "largest", "over_elsewhere", "over_largest")
        figures = {name: triple(getattr(self, name)) for name in names}
        return {"filled_with": self.fill, "deleted_part": DELETED_PART, **figures, "passes": self.passes}


def randomised_weights(
    subjects: Sequence[Subject], *, explained: Explained, label: str, part: str, n_steps: int = N_STEPS, seed: int = 0
) -> Randomised:
    """Compare each map with that of a copy of the model whose `part` (`read_out` or `all`) has random weights."""
    other = with_random_weights(explained, part=part, seed=seed)
    output = explained.output(label)
    plain, given = [], []
    for subject in subjects:
        gradients = path_gradients(
            torch.from_numpy(subject.x_mv)[None], explained=other, output=output, n_steps=n_steps
        )
        a, b, size = (average_ranks(np.abs(v)) for v in (subject.values, gradients * subject.x_mv, subject.x_mv))
        ab, a_size, b_size = correlation(a, b), correlation(a, size), correlation(b, size)
        plain.append(ab)
        given.append((ab - a_size * b_size) / float(np.sqrt((1 - a_size**2) * (1 - b_size**2))))
    weights = _weights(subjects, seed)
    return Randomised(part, mean_interval(plain, weights=weights), mean_interval(given, weights=weights))


def with_random_weights(explained: Explained, *, part: str, seed: int = 0) -> Explained:
    """Return a copy whose read-out, or everything, is as before training; weights without an initialiser of their own are shuffled."""
    model = copy.deepcopy(explained.model)
    last = model.head.logits if isinstance(model, StudentNet) else model.head.read_out.logits
    chosen: nn.Module = {"read_out": last, "all": model}[part]
    reset: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in chosen.modules():
            if callable(initialise := getattr(module, "reset_parameters", None)):
                initialise()
                reset |= {id(p) for p in module.parameters(recurse=False)}
        for parameter in chosen.parameters():
            if id(parameter) not in reset:
                shuffled = parameter.detach().flatten()[torch.randperm(parameter.numel())]
                parameter.data.copy_(shuffled.view_as(parameter))
    return replace(explained, model=model.eval())


def deletion(
    subjects: Sequence[Subject], *, explained: Explained, label: str, fill: str, seed: int = 0, n_random: int = N_RANDOM
) -> Deletion:
    """Replace a tenth of the samples on all channels by `fill`: `baseline` (0 mV) or `line` (straight across each gap).

    Elsewhere: the same samples shifted round the recording by random amounts, so that stretches are as long as the attributed ones.
    Largest: the tenth with the largest voltage, which needs no model to find.
    """
    output, rng = explained.output(label), np.random.default_rng(seed)
    changes = []
    for subject in subjects:
        x = subject.x_mv
        n = x.shape[1]
        mask = most(np.abs(subject.values).sum(0))
        shifted = [np.roll(mask, int(k)) for k in rng.integers(n // 20, n - n // 20, n_random)]
        masks = [mask, most(np.abs(x).sum(0)), *shifted]
        batch = np.stack([x, *(without(x, m, fill=fill) for m in masks)])
        with torch.no_grad():
            logits = explained.logits(torch.from_numpy(batch))[:, output].double().numpy()
        moved = np.abs(logits[1:] - logits[0])
        changes.append((float(moved[0]), float(moved[2:].mean()), float(moved[1])))
    attributed, elsewhere, largest = np.array(changes).T
    weights = _weights(subjects, seed)
    figures = (attributed, elsewhere, largest, attributed - elsewhere, attributed - largest)
    return Deletion(fill, *(mean_interval(values, weights=weights) for values in figures))


def most(weight: npt.NDArray[Any], part: float = DELETED_PART) -> npt.NDArray[np.bool_]:
    """Return the part of the samples `[time]` with the largest weight."""
    mask = np.zeros(weight.size, dtype=np.bool_)
    mask[np.argsort(-weight, kind="stable")[: round(part * weight.size)]] = True
    return mask


def without(x_mv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], *, fill: str) -> npt.NDArray[np.float32]:
    """Return `[channel, time]` with the samples of `mask` at 0 mV (`baseline`) or on straight lines between their neighbours (`line`)."""
    out = x_mv.copy()
    if fill == "baseline":
        out[:, mask] = 0.0
        return out
    if fill != "line":
        raise ValueError(f"found fill {fill!r}, expected baseline or line")
    time = np.arange(mask.size)
    for row in out:
        row[mask] = np.interp(time[mask], time[~mask], row[~mask])
    return out


@dataclass(frozen=True, slots=True)
class LimbSplit:
    """Maps over six limb leads that one model has on one recording, by how its limb leads are computed from two of them.

    `shares` of |attribution| by pair and lead; `channel_difference` is how far the maps differ once carried to I and II, as part
    of the largest value there.
    """

    shares: dict[str, dict[str, float]]
    channel_difference: float

    @property
    def largest_difference(self) -> float:
        """Largest difference of one lead's share between two maps that are equally right."""
        table = np.array([list(row.values()) for row in self.shares.values()])
        return float(np.ptp(table, axis=0).max())

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-able."""
        return {
            "shares_by_pair": {pair: {k: round(v, 4) for k, v in row.items()} for pair, row in self.shares.items()},
            "largest_difference_of_a_share": round(self.largest_difference, 4),
            "relative_difference_on_i_and_ii": self.channel_difference,
        }


LIMB_PAIRS: Final = (("I", "II"), ("II", "III"), ("aVR", "aVL"), ("I", "aVF"))


def limb_identifiability(
    x_mv: npt.NDArray[np.float32], *, explained: Explained, label: str, n_steps: int = N_STEPS
) -> LimbSplit:
    """Return six-lead maps of one LS-EMVAE, equally right and different, and their one map on I and II.

    A model that first computes its limb leads from two of them, `Q = LIMB_MATRIX @ inv(rows of the pair) @ pick the pair`, gives the same
    output on every recording that obeys Einthoven's law. Its gradient is `Q.T @ gradient`: another map over six leads. On I and II all
    of them are `LIMB_MATRIX.T @ gradient`, because `Q @ LIMB_MATRIX = LIMB_MATRIX`.
    """
    if isinstance(explained.model, StudentNet):
        raise LeadError("found a student, which reads I and II, expected a model that reads six limb leads")
    leads = tuple(explained.model.config.leads)
    rows = [leads.index(lead) for lead in LIMB_LEADS]
    full, present = twelve_leads(torch.from_numpy(x_mv)[None], explained.channels, leads)

    def logits(x: Tensor) -> Tensor:
        out: Tensor = explained.model(x, present[:1].expand(len(x), -1))
        return out

    rule = IntegratedGradients(logits, multiply_by_inputs=False)
    found = rule.attribute(
        full,
        baselines=torch.zeros_like(full),
        target=explained.output(label),
        n_steps=n_steps,
        internal_batch_size=min(PATH_BATCH, n_steps),
    )
    gradient = found.detach()[0, rows].double().numpy()
    six, two = full[0, rows].double().numpy(), x_mv[: len(MEASURED_LEADS)].astype(np.float64)
    shares, on_two = {}, []
    for pair in (None, *LIMB_PAIRS):
        carried = gradient if pair is None else _through(pair).T @ gradient
        part = np.abs(six * carried).sum(1)
        name = "as the model reads them" if pair is None else f"from {pair[0]} and {pair[1]}"
        shares[name] = dict(zip(LIMB_LEADS, (part / part.sum()).tolist(), strict=True))
        on_two.append(two * (LIMB_MATRIX.T @ carried))
    spread = np.ptp(np.stack(on_two), axis=0).max() / np.abs(on_two[0]).max()
    return LimbSplit(shares, float(spread))


def _through(pair: tuple[str, str]) -> FloatArray:
    """Return `[six, six]`: all limb leads from two of them, given all six."""
    rows = [LIMB_LEADS.index(lead) for lead in pair]
    pick = np.zeros((2, len(LIMB_LEADS)))
    pick[[0, 1], rows] = 1.0
    return LIMB_MATRIX @ np.linalg.inv(LIMB_MATRIX[rows]) @ pick


def average_ranks(values: npt.NDArray[Any]) -> FloatArray:
    """Return ranks from 1 of all values, flattened; equal values share the mean of their ranks (Spearman 1904)."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place.ravel()], dtype=np.float64)


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation; NaN where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _weights(subjects: Sequence[Subject], seed: int) -> FloatArray:
    return patient_weights(np.array([s.patient for s in subjects]), seed=seed).astype(np.float64)
