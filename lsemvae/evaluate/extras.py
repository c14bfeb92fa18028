"""Inputs of the report that other commands record: checked when read; one that is not there is named, never made up.

::

    pareto.json           [{"name", "n_parameters", "int8_kib", "latency_ms", "auroc": {label: [value, low, high]}}]
    decoder.json          [{"name", "r2": {lead: [value, low, high]}, "n"}]
    latent.npz            uid [record], twelve [record, d], six [record, d]; nothing pickled
    cv-predictions.csv    uid, outcome: outcomes of the bundles on held-out recordings, for abstention
    expected.json         row names, or {"name", "group", "title"}: what the evidence table should hold
"""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lsemvae.ecg.errors import FormatError, LeadError
from lsemvae.ecg.leads import LEADS
from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.tables import ExpectedRow, expected_rows

KNOWN = {
    "pareto.json": "size and latency of exported models",
    "decoder.json": "reconstruction by lead",
    "latent.npz": "summaries of the shared latent",
    "cv-predictions.csv": "outcomes of the bundles, for abstention rates",
    "expected.json": "the rows that the table should hold",
}
_ADVICE = "Record the file again with the command that makes it, or leave it out."
T = TypeVar("T")


@dataclass(frozen=True)
class ParetoRow:
    """One exported model; size and latency are None where not measured."""

    name: str
    n_parameters: int | None
    int8_kib: float | None
    latency_ms: float | None
    auroc: Mapping[str, Estimate]


@dataclass(frozen=True)
class DecoderRow:
    """R2 by lead of one model, and on how many recordings."""

    name: str
    r2: Mapping[str, Estimate]
    n: int | None


@dataclass(frozen=True)
class Latent:
    """Summaries float64 `[record, d]` from twelve and from six leads."""

    uid: np.ndarray
    twelve: np.ndarray
    six: np.ndarray


@dataclass(frozen=True)
class Extras:
    """What was found; None for what was not. `unused` names files that the report does not know."""

    pareto: tuple[ParetoRow, ...] | None = None
    decoder: tuple[DecoderRow, ...] | None = None
    latent: Latent | None = None
    outcomes: Mapping[str, str] | None = None
    expected: tuple[ExpectedRow, ...] | None = None
    unused: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Return the names of the inputs that were not there."""
        found = (self.pareto, self.decoder, self.latent, self.outcomes, self.expected)
        return [name for name, value in zip(KNOWN, found, strict=True) if value is None]


def find_extras(places: Sequence[Path]) -> dict[str, Path]:
    """Return files by name from files, folders (only the known names in them) and patterns; two of one name are refused."""
    found: dict[str, Path] = {}
    paths: list[Path] = []
    for place in places:
        if place.is_dir():
            paths += (place / name for name in KNOWN if (place / name).is_file())
        elif place.is_file():
            paths.append(place)
        elif any(mark in place.name for mark in "*?[") and place.parent.is_dir():
            paths += sorted(path for path in place.parent.glob(place.name) if path.is_file())
        else:
            raise FormatError(f"{place}: found no such file or folder, expected an extra", advice=_ADVICE)
    for path in paths:
        if found.setdefault(path.name, path).resolve() != path.resolve():
            raise FormatError(
                f"found {path} and {found[path.name]}, expected one {path.name}", advice="Name one of them."
            )
    return found


def read_extras(places: Sequence[Path]) -> Extras:
    """Read and check every known file among `places`."""
    found = find_extras(places)

    def read(name: str, reader: Callable[[Path], T]) -> T | None:
        return reader(found[name]) if name in found else None

    return Extras(
        pareto=read("pareto.json", read_pareto),
        decoder=read("decoder.json", read_decoder),
        latent=read("latent.npz", read_latent),
        outcomes=read("cv-predictions.csv", read_outcomes),
        expected=read("expected.json", lambda path: expected_rows(_json(path))),
        unused=tuple(sorted(name for name in found if name not in KNOWN)),
    )


def read_pareto(path: Path) -> tuple[ParetoRow, ...]:
    """Read the rows of pareto.json."""
    return tuple(
        ParetoRow(
            name=str(row["name"]),
            n_parameters=row.get("n_parameters"),
            int8_kib=_positive(row, "int8_kib", path),
            latency_ms=_positive(row, "latency_ms", path),
            auroc=_estimates(row.get("auroc"), path),
        )
        for row in _rows(path)
    )


def read_decoder(path: Path) -> tuple[DecoderRow, ...]:
    """Read the rows of decoder.json; leads by their canonical names."""
    rows = tuple(DecoderRow(str(row["name"]), _estimates(row.get("r2"), path), row.get("n")) for row in _rows(path))
    if strange := sorted({lead for row in rows for lead in row.r2} - set(LEADS)):
        raise LeadError(f"{path}: found leads {strange}, expected some of {', '.join(LEADS)}")
    return tuple(replace(row, r2={lead: row.r2[lead] for lead in LEADS if lead in row.r2}) for row in rows)


def read_latent(path: Path) -> Latent:
    """Read the arrays of latent.npz; twelve and six share one space."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            missing = [key for key in ("uid", "twelve", "six") if key not in archive]
            if missing:
                raise FormatError(f"{path}: found arrays {archive.files}, expected also {missing}", advice=_ADVICE)
            uid, twelve, six = archive["uid"].astype(str), archive["twelve"].astype(float), archive["six"].astype(float)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: cannot be read as latent summaries ({error})", advice=_ADVICE) from error
    if twelve.shape != six.shape or twelve.ndim != 2 or len(twelve) != len(uid) or min(twelve.shape, default=0) < 2:
        raise FormatError(
            f"{path}: found uid {uid.shape}, twelve {twelve.shape}, six {six.shape}, expected [record] and two [record, d], d >= 2",
            advice=_ADVICE,
        )
    if not (np.isfinite(twelve).all() and np.isfinite(six).all()):
        raise FormatError(f"{path}: found summaries that are not finite, expected finite ones", advice=_ADVICE)
    return Latent(uid, twelve, six)


def read_outcomes(path: Path) -> dict[str, str]:
    """Read outcome by uid from a table of predictions (`lsemvae evaluate --predictions`)."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        columns = list(reader.fieldnames or ())
        if not {"uid", "outcome"} <= set(columns):
            raise FormatError(f"{path}: found columns {columns[:6]}, expected uid and outcome", advice=_ADVICE)
        found = {row["uid"]: row["outcome"] for row in reader}
    if strange := sorted(set(found.values()) - {"DETECTED", "NOT DETECTED", "ABSTAIN", "ERROR"}):
        raise FormatError(f"{path}: found outcomes {strange[:3]}, expected the four outcomes", advice=_ADVICE)
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: found a file that is no JSON ({error}), expected some", advice=_ADVICE) from error


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = _json(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and r.get("name") for r in rows):
        raise FormatError(f"{path}: found no list of objects with a name, expected one", advice=_ADVICE)
    return rows


def _positive(row: Mapping[str, Any], key: str, path: Path) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise FormatError(
            f"{path}: found {key} {value!r} of {row['name']}, expected a number above 0 or null", advice=_ADVICE
        )
    return float(value)


def _estimates(values: Any, path: Path) -> dict[str, Estimate]:
    """Return figures from `{name: [value, low, high]}`; a name with null, or with null as value, is left out."""
    if not isinstance(values, dict):
        raise FormatError(f"{path}: found {values!r}, expected an object of [value, low, high]", advice=_ADVICE)
    out = {}
    for name, three in values.items():
        if three is None or (isinstance(three, list) and three[:1] == [None]):
            continue
        numbers = isinstance(three, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in three)
        if not numbers or len(three) != 3 or three[1] > three[2]:
            raise FormatError(
                f"{path}: found {name}: {three!r}, expected [value, low, high] with low <= high", advice=_ADVICE
            )
        out[name] = Estimate(*map(float, three))
    return out
