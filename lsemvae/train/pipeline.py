"""The whole chain of one student: pre-train, fine-tune, distil, each stage resumable in its own run folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.splits import group_folds, held_out
from lsemvae.data.store import RecordStore
from lsemvae.model.config import TrainConfig
from lsemvae.train.distill import distill
from lsemvae.train.finetune import FINETUNE, finetune
from lsemvae.train.loop import Report
from lsemvae.train.pretrain import PRETRAIN, pretrain
from lsemvae.train.recipes import DISTILL, DistillOptions

# Nine folds in three groups: each model is tested on a third it has never seen, and three chains fit into an hour.
N_CV_GROUPS: Final = 3


# Epochs of the stages in a smoke test.
QUICK: Final = (1, 2, 15)


@dataclass(frozen=True, slots=True)
class Budget:
    """Epochs of the three stages, fixed beforehand and the same for every fold."""

    pretrain: TrainConfig = PRETRAIN
    finetune: TrainConfig = FINETUNE
    distill: TrainConfig = DISTILL
    options: DistillOptions = field(default_factory=DistillOptions)

    def quick(self) -> Budget:
        """Return a budget of few epochs for a smoke test; the student needs some, or no decision rule can be fitted."""
        few = [
            replace(stage, epochs=n)
            for stage, n in zip((self.pretrain, self.finetune, self.distill), QUICK, strict=True)
        ]
        return Budget(few[0], few[1], few[2], self.options)

    def seeded(self, seed: int) -> Budget:
        """Return the same budget with another seed."""
        own = [replace(stage, seed=seed) for stage in (self.pretrain, self.finetune, self.distill)]
        return Budget(own[0], own[1], own[2], self.options)


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """One cross-validation group: the folds left out, and row indices into the store."""

    name: str
    left_out: tuple[int, ...]
    train: np.ndarray
    test: np.ndarray


def fold_plans(store: RecordStore, n_groups: int = N_CV_GROUPS) -> list[FoldPlan]:
    """Return cross-validation groups over the store's stratified folds; no patient is in two of them."""
    folds = store.fold.astype(int)
    plans = []
    for left_out in group_folds([int(f) for f in folds if f > 0], n_groups):
        train, test = held_out(folds, [str(p) for p in store.patient], left_out)
        plans.append(FoldPlan("folds-" + "-".join(map(str, left_out)), left_out, train, test))
    return plans


def train_chain(
    store: RecordStore,
    out: Path,
    rows: np.ndarray,
    *,
    budget: Budget,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
) -> Path:
    """Run the three stages in `out/pretrain`, `out/finetune`, `out/student`; return the student's run folder."""
    stages = {name: out / name for name in ("pretrain", "finetune", "student")}
    common = {"left_out": left_out, "report": report}
    pretrain(store, stages["pretrain"], rows, train=budget.pretrain, **common)  # type: ignore[arg-type]
    finetune(store, stages["pretrain"], stages["finetune"], rows, train=budget.finetune, **common)  # type: ignore[arg-type]
    distill(store, stages["finetune"], stages["student"], rows, train=budget.distill, options=budget.options, **common)  # type: ignore[arg-type]
    return stages["student"]
