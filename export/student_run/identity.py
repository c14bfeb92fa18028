"""Who a bundle says it is, and for what it may be used: the manifest's texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from export.errors import ExportModelError
from export.student_run.source import parse_json
from lsemvae.data.tasks import BUILT_IN
from lsemvae.ecg.errors import EcgError
from lsemvae.screen.manifest import version_tuple
from lsemvae.train.run import tasks_of

IDENTITY_FILE: Final = "bundle.json"
_READERS: Final = (
    "Every output is a statement that ECG readers made from the same ECG (PTB-XL). None is pulmonary hypertension, "
    "an echocardiogram finding or a catheter finding."
)
_OWN_LABELS: Final = (
    "The outputs were learned from labels that the owner of the training data supplied, "
    "who alone can say what they mean."
)
_INTENDED_USE: Final = (
    "Research and development: screening of resting limb-lead ECGs of adults for right-heart-strain statements. "
    "Not a medical device, not a diagnosis."
)
_OWN_USE: Final = (
    "Research and development: screening of resting ECGs for what the owner of the training data labelled. "
    "Not a medical device, not a diagnosis."
)
_NOT_FOR: Final = (
    "diagnosis or treatment decisions",
    "children",
    "recordings with paced rhythm",
    "reconstructed or interpolated leads",
)


@dataclass(frozen=True, slots=True)
class BundleIdentity:
    """Texts of the manifest; `bundle.json` in a run folder overrides any of them."""

    id: str = "lsemvae-student"
    version: str = "0.1.0"
    min_host: str = "0.1.0"
    intended_use: str = _INTENDED_USE
    label_statement: str = _READERS
    not_for: tuple[str, ...] = _NOT_FOR
    licence: str = "Apache-2.0"
    descriptions: Mapping[str, str] = field(default_factory=lambda: dict(BUILT_IN.descriptions))

    def describe(self, label: str) -> str:
        """Return what a 1 of a label means, or its name where the task set does not say."""
        return self.descriptions.get(label) or label


# What `bundle.json` may override.
_TEXTS: Final = tuple(entry.name for entry in fields(BundleIdentity) if entry.name != "descriptions")


def load_identity(run_dir: Path, labels: Sequence[str]) -> BundleIdentity:
    """Return the texts for a run: a cohort's own statement where it brought one, and `bundle.json` has the last word.

    What no manifest could hold is refused here, not after minutes of conversion.
    """
    tasks = tasks_of(run_dir)
    if not set(labels) <= set(tasks.label_names):
        identity = BundleIdentity(intended_use=_OWN_USE, label_statement=_OWN_LABELS)
    elif tasks.statement == BUILT_IN.statement:
        identity = BundleIdentity()
    else:
        identity = BundleIdentity(
            intended_use=_OWN_USE, label_statement=tasks.statement, descriptions=tasks.descriptions
        )
    path = run_dir / IDENTITY_FILE
    if not path.is_file():
        return identity
    values = parse_json(path)
    known = set(_TEXTS)
    if not isinstance(values, dict) or not set(values) <= known:
        raise ExportModelError(f"{path}: found {sorted(values)}; expected some of {sorted(known)}")
    texts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    identity = replace(identity, **texts)
    said = {name: getattr(identity, name) for name in _TEXTS if name != "not_for"}
    bad = [name for name, value in said.items() if not isinstance(value, str) or not value.strip()]
    if bad or not isinstance(identity.not_for, tuple) or not all(isinstance(text, str) for text in identity.not_for):
        raise ExportModelError(
            f"{path}: found no text for {', '.join(bad) or 'not_for'}; expected texts, and a list of texts for not_for"
        )
    try:
        version_tuple(identity.version)
        version_tuple(identity.min_host)
    except EcgError as error:
        raise ExportModelError(f"{path}: {error}") from error
    return identity
