"""What differs between two signed bundles, for whoever decides whether the second goes to the boards that run the first.

The comparison walks the two manifests as values, so a field that this module knows nothing of is compared all the same;
and as each file's hash stands in the manifest, no difference can lie outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from lsemvae.ecg.canonical import canonical_json
from lsemvae.screen.diff.effects import effect_of, logit, performance_sentence
from lsemvae.screen.diff.golden import GoldenDiff, compare_on_golden
from lsemvae.screen.diff.rollout import rollout
from lsemvae.screen.manifest import MANIFEST_NAME, file_entry

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle

Side = Literal["a", "b"]

# Top-level fields of the manifest by section; what stands in none of them is compared under "other".
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "identity": ("schema", "id", "version", "created_utc", "signature", "min_host", "licence"),
    "meaning": ("label_statement", "intended_use", "not_for"),
    "input and front-end": ("input", "frontend"),
    "outputs": ("outputs",),
    "decision": ("decision",),
    "quality gate": ("quality",),
    "performance": ("performance",),
    "parity": ("parity",),
    "provenance": ("provenance",),
    "files": ("models", "files"),
}
OTHER: Final = "other"

# What tells one row of performance from another.
_ROW_NAME: Final = ("label", "negatives", "dataset")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes
    ----------
    path
        Where it stands, from the manifest's top-level field down.
    a, b
        The two values; None too where the field is missing on that side, which `only_in` tells apart.
    only_in
        The side that has the field, or None where both have it.
    effect
        What the difference does, in words; empty where the values say it themselves.
    """

    path: tuple[str, ...]
    a: Any
    b: Any
    only_in: Side | None = None
    effect: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the difference for JSON."""
        return {
            "field": "/".join(self.path),
            "a": self.a,
            "b": self.b,
            "only_in": self.only_in,
            "effect": self.effect or None,
        }


@dataclass(frozen=True, slots=True)
class BundleDiff:
    """All differences of two bundles, by section; sections without any are left out.

    Attributes
    ----------
    a, b
        Identity of each: id, version, time, key, size.
    label_statement
        What the results of A are statements about.
    changes
        Section to differences, in the order of `SECTIONS`.
    golden
        What both models say about A's golden recordings, or why that was not compared.
    rollout
        What the differences mean for a board that runs A, one sentence each.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    label_statement: str
    changes: Mapping[str, tuple[Change, ...]]
    golden: GoldenDiff
    rollout: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the manifests, and with them all files, are the same byte for byte."""
        return bool(self.a["manifest_sha256"] == self.b["manifest_sha256"])

    @property
    def same(self) -> tuple[str, ...]:
        """Sections without a difference."""
        return tuple(name for name in SECTIONS if name not in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "equal": self.equal,
            "a": dict(self.a),
            "b": dict(self.b),
            "label_statement": self.label_statement,
            "rollout": list(self.rollout),
            "changes": {name: [change.to_dict() for change in found] for name, found in self.changes.items()},
            "golden": self.golden.to_dict(),
        }


def diff_bundles(a: Bundle, b: Bundle) -> BundleDiff:
    """Compare two bundles that `lsemvae.screen.bundle.open_bundle` has accepted."""
    ours, theirs = (_keyed(one.manifest.to_dict()) for one in (a, b))
    found: dict[str, list[Change]] = {}
    for change in _changes((), ours, theirs):
        section = next((name for name, parts in SECTIONS.items() if change.path[0] in parts), OTHER)
        effect = "" if change.only_in else effect_of(change.path, change.a, change.b)
        found.setdefault(section, []).append(replace(change, effect=effect))
    orders = [list(one["performance"]) for one in (ours, theirs)]
    if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
        found.setdefault("performance", []).append(Change(("performance", "order of rows"), orders[0], orders[1]))
    models = [{kind: one.manifest.files[name] for kind, name in one.manifest.models.items()} for one in (a, b)]
    rules = [one.manifest.decision for one in (a, b)]
    # Where both run the same model, their raw logits are the same numbers, and the logit at which an output counts as
    # detected can be compared: what calibration and threshold do together.
    for label in rules[0].thresholds if models[0] == models[1] else ():
        if label not in rules[1].thresholds:
            continue
        cuts = [
            (logit(r.thresholds[label]) - r.calibrations[label].intercept) / r.calibrations[label].slope for r in rules
        ]
        if cuts[0] != cuts[1]:
            effect = f"{cuts[1] - cuts[0]:+.3f}, B detects {'less' if cuts[1] > cuts[0] else 'more'} often"
            path = ("decision", "cut-off on the raw logit", label)
            found.setdefault("decision", []).append(Change(path, cuts[0], cuts[1], effect=effect))
    aurocs = [
        (change.path[1].partition(",")[0], change.effect)
        for change in found.get("performance", [])
        if change.path[-1] == "auroc" and change.effect
    ]
    golden = compare_on_golden(a, b)
    return BundleDiff(
        a=_identity(a),
        b=_identity(b),
        label_statement=a.manifest.label_statement,
        changes={name: tuple(found[name]) for name in (*SECTIONS, OTHER) if found.get(name)},
        golden=golden,
        rollout=tuple(rollout(a, b, golden, performance=performance_sentence(aurocs))),
    )


def _identity(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "id": manifest.id,
        "version": manifest.version,
        "created_utc": manifest.created_utc,
        "key_id": bundle.key_id,
        "manifest_sha256": file_entry(bundle.files[MANIFEST_NAME]).sha256,
        "bytes": sum(map(len, bundle.files.values())),
    }


def _keyed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its lists of rows as mappings, so that a row is compared with its like."""
    rows: dict[str, Any] = {}
    for row in manifest["performance"]:
        name = ", ".join(str(row[key]) for key in _ROW_NAME if key in row) or "row"
        rows[name if name not in rows else f"{name} ({len(rows)})"] = {
            k: v for k, v in row.items() if k not in _ROW_NAME
        }
    outputs = {output["label"]: output for output in manifest["outputs"]}
    return {**manifest, "performance": rows, "outputs": {"order": list(outputs), "output": outputs}}


def _changes(path: tuple[str, ...], a: Any, b: Any) -> Iterator[Change]:
    """Yield every difference of two values; mappings are compared key by key, however deep they are."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in b:
                yield Change((*path, key), a[key], None, "a")
            elif key not in a:
                yield Change((*path, key), None, b[key], "b")
            else:
                yield from _changes((*path, key), a[key], b[key])
    elif canonical_json(a) != canonical_json(b):
        yield Change(path, a, b)
