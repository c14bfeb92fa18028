"""Two named recipes for teaching a student: weights of the loss terms, schedule, and what the teacher is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from lsemvae.data.augment import AugmentSpec
from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import TrainConfig

DISTILL: Final = TrainConfig(
    epochs=30,
    batch=64,
    lr=3e-3,
    weight_decay=2e-2,
    extra={"soft": 0.5, "temperature": 2.0, "posterior": 0.01, "measuring": 0.3},
)

# For a long run with `PATIENT_OPTIONS`. Set from the literature; no fold of any data chose it.
#
# Hinton 2015: the labels weigh less than the softened teacher. Beyer 2022: the teacher answers on the very view that
# the student sees, and the schedule is long. Cho 2019: a larger teacher is no better one for a small student, so it
# stays the teacher of the chain. The average of weights spans about ten epochs.
PATIENT: Final = TrainConfig(
    epochs=120,
    batch=64,
    lr=3e-3,
    weight_decay=2e-2,
    ema=0.998,
    extra={"bce": 0.3, "soft": 1.0, "temperature": 2.0, "posterior": 0.01, "feature": 0.3, "measuring": 0.3},
)

_VIEWS: Final = ("cached", "augmented")
_ADVICE: Final = "See DistillOptions in lsemvae/train/recipes.py for what may be combined."


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillOptions:
    """How a distillation is done beside its weights and schedule: what the teacher sees, and which recordings join.

    Attributes
    ----------
    teacher_view
        `cached`: the teacher answers once per recording, as stored. `augmented`: on each view that the student sees.
    views
        With `augmented`: 0 draws a fresh view every time, n draws n views of each recording and takes them in turn.
    feature_match
        `cosine` or `standardized` (mean square in standard deviations of the teacher's channels).
    unlabelled
        Recordings without a fold and without labels join as rows that only the teacher speaks of.
    augment
        Strengths of the augmentation.
    """

    teacher_view: str = "cached"
    views: int = 0
    feature_match: str = "cosine"
    unlabelled: bool = False
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    def __post_init__(self) -> None:
        for name, allowed in (("teacher_view", _VIEWS), ("feature_match", ("cosine", "standardized"))):
            if getattr(self, name) not in allowed:
                raise FormatError(
                    f"found {name} {getattr(self, name)!r}, expected one of {', '.join(allowed)}", advice=_ADVICE
                )
        if self.views < 0 or (self.views and self.teacher_view == "cached"):
            raise FormatError(
                f"found {self.views} views of a {self.teacher_view} teacher, expected 0, or some augmented",
                advice=_ADVICE,
            )


# A bank of twelve views asks the teacher a tenth as often as 120 epochs of fresh ones would.
PATIENT_OPTIONS: Final = DistillOptions(teacher_view="augmented", views=12)


_RECIPES: Final = {"quick": (DISTILL, DistillOptions()), "patient": (PATIENT, PATIENT_OPTIONS)}


def recipe_of(
    name: str, *, views: int | None = None, feature: float | None = None, unlabelled: bool = False
) -> tuple[TrainConfig, DistillOptions]:
    """Return the recipe `quick` or `patient`, with what is asked for in place of its own.

    Views or a feature weight put the teacher on the augmented view.
    """
    if name not in _RECIPES:
        raise FormatError(
            f"found the recipe {name!r}, expected one of {', '.join(_RECIPES)}",
            advice="Choose --recipe: quick for a first look, patient for a student that is to be used.",
        )
    train, options = _RECIPES[name]
    if feature is not None:
        train = replace(train, extra={**train.extra, "feature": feature})
    on_views = views is not None or bool(feature)
    return train, replace(
        options,
        unlabelled=unlabelled,
        views=options.views if views is None else views,
        teacher_view="augmented" if on_views else options.teacher_view,
    )
