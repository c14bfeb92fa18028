"""What the difference of two bundles means for a board that runs the first and is offered the second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lsemvae.screen.manifest import MANIFEST_NAME, version_tuple

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle
    from lsemvae.screen.diff.golden import GoldenDiff


def rollout(a: Bundle, b: Bundle, golden: GoldenDiff, *, performance: str) -> Iterator[str]:
    """Yield one sentence for each consequence, the ones that stop a rollout first; `performance` is the one on the figures."""
    if a.files[MANIFEST_NAME] == b.files[MANIFEST_NAME]:
        yield "Nothing changes: the bundles are the same byte for byte."
        return
    yield from _self_tests(golden)
    yield from _acceptance(a, b)
    yield from _needs(a, b)
    yield from _meaning(a, b)
    yield from _answers(a, b, golden)
    if performance:
        yield performance


def _self_tests(golden: GoldenDiff) -> Iterator[str]:
    for side in golden.failed:
        yield f"{side.upper()} FAILS its self-test on this machine; a board like it refuses the bundle."


def _acceptance(a: Bundle, b: Bundle) -> Iterator[str]:
    """Yield what signature check and version memory make of B (`lsemvae.screen.trust`, `lsemvae.screen.ratchet`)."""
    if a.key_id != b.key_id:
        yield f"B is signed by another key ({b.key_id}, A by {a.key_id}): every board must trust it before the rollout."
    if a.manifest.id != b.manifest.id:
        yield f"B is another model ({b.manifest.id}, A is {a.manifest.id}): a board remembers its versions apart."
        return
    if a.key_id != b.key_id:
        yield "Versions are remembered for each key: a board accepts B whatever its version."
        return
    versions = a.manifest.version, b.manifest.version
    old, new = map(version_tuple, versions)
    if new < old:
        yield f"A board that has used A REFUSES B: version {versions[1]} is older than {versions[0]}."
    elif new > old:
        yield f"A board accepts B ({versions[0]} -> {versions[1]}) and refuses A from then on: there is no way back by rollout."
    else:
        yield f"Both are version {versions[0]} with different content: results will not tell which of them was used."


def _needs(a: Bundle, b: Bundle) -> Iterator[str]:
    ours, theirs = a.manifest, b.manifest
    if version_tuple(theirs.min_host) > version_tuple(ours.min_host):
        yield f"Boards with an app older than {theirs.min_host} refuse B (A: {ours.min_host})."
    if theirs.input.leads != ours.input.leads:
        yield f"B needs leads {', '.join(theirs.input.leads)}; A needs {', '.join(ours.input.leads)}."
    gone = [kind for kind in ours.models if kind not in theirs.models]
    if gone:
        yield f"B has no {' and no '.join(gone)} model: boards that have only that runtime cannot run it."


def _meaning(a: Bundle, b: Bundle) -> Iterator[str]:
    ours, theirs = a.manifest, b.manifest
    if theirs.decision.primary != ours.decision.primary:
        yield f"The outcome is about another output: {ours.decision.primary} -> {theirs.decision.primary}."
    if theirs.label_statement != ours.label_statement:
        yield "What the labels are has changed: do not pool results of A and B before reading both statements."
    if ours.performance and not theirs.performance:
        yield "B states no performance at all."
    gone = [output.column for output in ours.outputs if output.label not in theirs.labels]
    added = [output.column for output in theirs.outputs if output.label not in ours.labels]
    if gone:
        yield f"Tables lose the columns {', '.join(gone)}."
    if added:
        yield f"Tables gain the columns {', '.join(added)}."


def _answers(a: Bundle, b: Bundle, golden: GoldenDiff) -> Iterator[str]:
    if a.manifest.coeff_sha256 != b.manifest.coeff_sha256:
        yield "The front-end filters differently: the same recording becomes another input."
    if a.manifest.quality != b.manifest.quality:
        yield "The quality gate has other limits: another share of recordings gets no answer."
    if golden.not_compared:
        yield f"The models were not compared on golden recordings: {golden.not_compared}."
        return
    dp = [value for value in golden.max_dp.values() if value is not None]
    largest = f"; probabilities differ by up to {max(dp):.3f}" if dp else ""
    yield f"{len(golden.outcomes)} of A's {golden.recordings} golden recordings get another outcome{largest}."
    primary = a.manifest.decision.primary
    if golden.max_dp.get(primary) is not None and primary == b.manifest.decision.primary:
        yield f"Largest difference of the primary output {primary}: {golden.max_dp[primary]:.3f}."
