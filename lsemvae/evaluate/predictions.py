"""Held-out logits of one row of the evidence table, as recorded once and read by every figure.

::

    <name>.npz     lead_sets, labels, seeds, uid, fold, logits (float16 [seed, lead_set, record, label]); nothing pickled
    <name>.json    name, format, SHA-256 of the npz, and `about`: what was run, how, with which code

Truth is not in these files: `lsemvae.evaluate.truth` joins it by uid from a folder's metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.formats.whole import write_whole

LEAD_SETS: Final = ("12", "6", "I+II", "I")
FORMAT: Final = 1
# Largest float16; a logit beyond it is a model that has blown up.
MAX_ABS_LOGIT: Final = 65504.0

_KEYS: Final = ("lead_sets", "labels", "seeds", "uid", "fold", "logits")
_ADVICE: Final = "Copy both files of the row again (.npz and .json), or run the row again."


@dataclass(frozen=True)
class PredictionTable:
    """Held-out logits of one model recipe.

    Attributes
    ----------
    name
        Name of the row and stem of its files.
    lead_sets, labels, seeds
        Meaning of the axes of `logits`.
    uid, fold
        Recording `[record]` (str) and the fold it belongs to (int, from 1); each model scores folds it has not seen.
    logits
        float32 `[seed, lead_set, record, label]`; NaN where not run.
    about
        JSON: group, title, n_parameters, budget, seconds per fold, command, git revision, versions, note.
    """

    name: str
    lead_sets: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    uid: np.ndarray
    fold: np.ndarray
    logits: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or self.name != Path(self.name).name or self.name.startswith("."):
            raise FormatError(
                f"found the row name {self.name!r}, expected one that can be a file name",
                advice="Use letters, digits, dashes and dots.",
            )
        for axis in ("lead_sets", "labels", "seeds"):
            values = tuple(getattr(self, axis))
            object.__setattr__(self, axis, values)
            if not values or len(set(values)) != len(values):
                raise FormatError(
                    f"{self.name}: found {axis} {list(values)}, expected at least one, each once", advice=_ADVICE
                )
        object.__setattr__(self, "uid", np.asarray(self.uid, dtype=str))
        object.__setattr__(self, "fold", np.asarray(self.fold))
        object.__setattr__(self, "logits", np.asarray(self.logits, dtype=np.float32))
        uid, fold = self.uid, self.fold
        if uid.ndim != 1 or fold.shape != uid.shape or not np.issubdtype(fold.dtype, np.integer):
            raise FormatError(
                f"{self.name}: found uid {uid.shape} and fold {fold.dtype} {fold.shape}, expected [record] and int [record]",
                advice=_ADVICE,
            )
        if len(np.unique(uid)) != len(uid) or not len(uid):
            raise FormatError(
                f"{self.name}: found {len(uid)} recordings of {len(np.unique(uid))} uids, expected some, each uid once",
                advice=_ADVICE,
            )
        if (fold < 1).any():
            raise FormatError(
                f"{self.name}: found fold {int(fold.min())}, expected folds from 1",
                advice="Only recordings of a fold can be held out: leave the others out of the table.",
            )
        expected = (len(self.seeds), len(self.lead_sets), len(uid), len(self.labels))
        if self.logits.shape != expected:
            raise FormatError(
                f"{self.name}: found logits {self.logits.shape}, expected [seed, lead_set, record, label] {expected}",
                advice=_ADVICE,
            )
        largest = float(np.nanmax(np.abs(self.logits), initial=0.0))
        if not math.isfinite(largest) or largest > MAX_ABS_LOGIT:
            raise SampleError(
                f"{self.name}: found a logit of size {largest}, expected at most {MAX_ABS_LOGIT:.0f} (NaN where not run)",
                advice="The model has diverged: train it again.",
            )
        _json_of(self)

    def select(self, lead_set: str, label: str) -> np.ndarray:
        """Return logits float32 `[seed, record]` of one label under one lead set; FormatError where the row has no such axis."""
        for wanted, found, axis in ((lead_set, self.lead_sets, "lead set"), (label, self.labels, "label")):
            if wanted not in found:
                raise FormatError(
                    f"{self.name}: found the {axis}s {', '.join(found)}, expected also {wanted}",
                    advice=f"Ask for a {axis} that this row has, or run the row with it.",
                )
        return np.asarray(self.logits[:, self.lead_sets.index(lead_set), :, self.labels.index(label)])

    def has(self, lead_set: str, label: str) -> bool:
        """Return whether the row holds any finite logit of `label` under `lead_set`."""
        if lead_set not in self.lead_sets or label not in self.labels:
            return False
        return bool(np.isfinite(self.select(lead_set, label)).any())

    def save(self, path: Path) -> None:
        """Write `path` (`<name>.npz`) and `<name>.json` beside it; each is there as a whole or not at all."""
        path = Path(path)
        if path.name != f"{self.name}.npz":
            raise FormatError(
                f"found the file name {path.name}, expected {self.name}.npz",
                advice="Name the file after the row: the table is read by file name.",
            )
        out = BytesIO()
        np.savez_compressed(
            out,
            lead_sets=np.array(self.lead_sets),
            labels=np.array(self.labels),
            seeds=np.array(self.seeds, dtype=np.int64),
            uid=self.uid,
            fold=self.fold.astype(np.int16),
            logits=self.logits.astype(np.float16),
        )
        packed = out.getvalue()
        body = _json_of(self, sha256=hashlib.sha256(packed).hexdigest())
        write_whole(path, packed)
        write_whole(path.with_suffix(".json"), body.encode("utf-8"))


def load(path: Path) -> PredictionTable:
    """Read `<name>.npz` and `<name>.json`; FormatError says what is missing, damaged or does not belong together."""
    path = Path(path)
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise FormatError(f"{beside}: found no such file, expected the description of the row", advice=_ADVICE)
    try:
        described = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or no JSON
        raise FormatError(f"{beside}: found a file that is no JSON ({error})", advice=_ADVICE) from error
    fields = {"format", "name", "npz_sha256", "about"}
    if not isinstance(described, dict) or set(described) != fields or not isinstance(described["about"], dict):
        raise FormatError(f"{beside}: found other fields, expected {sorted(fields)}", advice=_ADVICE)
    if described["format"] != FORMAT:
        raise FormatError(
            f"{beside}: found format {described['format']!r}, expected {FORMAT}",
            advice="Read the file with the program version that wrote it.",
        )
    if not path.is_file():
        raise FormatError(f"{path}: found no such file, expected recorded predictions (.npz)", advice=_ADVICE)
    packed = path.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if described["npz_sha256"] != digest:
        raise FormatError(
            f"{path}: found SHA-256 {digest[:16]}, expected {str(described['npz_sha256'])[:16]} as its .json says",
            advice=_ADVICE,
        )
    if described["name"] != path.stem:
        raise FormatError(f"{path}: found the row {described['name']!r}, expected {path.stem!r}", advice=_ADVICE)
    try:
        with np.load(BytesIO(packed), allow_pickle=False) as archive:
            if missing := [key for key in _KEYS if key not in archive]:
                raise FormatError(
                    f"{path}: found arrays {sorted(archive.files)}, expected also {missing}", advice=_ADVICE
                )
            arrays = {key: archive[key] for key in _KEYS}
    except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: cannot be read as recorded predictions ({error})", advice=_ADVICE) from error
    return PredictionTable(
        name=path.stem,
        lead_sets=tuple(str(x) for x in arrays["lead_sets"]),
        labels=tuple(str(x) for x in arrays["labels"]),
        seeds=tuple(int(x) for x in arrays["seeds"]),
        uid=arrays["uid"],
        fold=arrays["fold"],
        logits=arrays["logits"],
        about=described["about"],
    )


def load_all(folder: Path) -> dict[str, PredictionTable]:
    """Read every row in a folder by name, in the order of names; FormatError where there is none."""
    folder = Path(folder)
    paths = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if not paths:
        raise FormatError(
            f"{folder}: found no recorded predictions, expected files <row>.npz with <row>.json",
            advice="Point --predictions to the folder that the table's runner wrote.",
        )
    return {path.stem: load(path) for path in paths}


def stack_seeds(tables: Sequence[PredictionTable]) -> PredictionTable:
    """Return one table from several that hold different seeds of the same row; everything else must agree.

    `about` is the first one's.
    """
    first = tables[0]
    for other in tables[1:]:
        same = (other.name, other.lead_sets, other.labels) == (first.name, first.lead_sets, first.labels)
        if not same or not np.array_equal(other.uid, first.uid) or not np.array_equal(other.fold, first.fold):
            raise FormatError(
                f"found the row {other.name} with other recordings, folds, leads or labels, expected those of {first.name}",
                advice="Stack seeds of one row only.",
            )
    return PredictionTable(
        name=first.name,
        lead_sets=first.lead_sets,
        labels=first.labels,
        seeds=tuple(seed for table in tables for seed in table.seeds),
        uid=first.uid,
        fold=first.fold,
        logits=np.concatenate([table.logits for table in tables]),
        about=first.about,
    )


def _json_of(table: PredictionTable, *, sha256: str = "") -> str:
    body = {"format": FORMAT, "name": table.name, "npz_sha256": sha256, "about": table.about}
    try:
        return json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise FormatError(
            f"{table.name}: found an `about` that is no JSON ({error}), expected plain values",
            advice="Use text, finite numbers, lists and objects in `about`.",
        ) from error
