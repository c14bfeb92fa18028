"""What the difference of two bundles means for a board that runs the first and is offered the second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lsemvae.screen.manifest import MANIFEST_NAME, version_tuple

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle
    from lsemvae.screen.diff.golden import GoldenDiff
    from lsemvae.screen.manifest import Manifest


def rollout(a: Bundle, b: Bundle, golden: GoldenDiff, *, performance: str) -> Iterator[str]:
    """Yield one sentence for each consequence, the ones that stop a rollout first.

    `performance` is the sentence on the stated figures. Why a board accepts or refuses B stands in `lsemvae.screen.trust`
    and `lsemvae.screen.ratchet`.
    """
    if a.files[MANIFEST_NAME] == b.files[MANIFEST_NAME]:
        yield "Nothing changes: the bundles are the same byte for byte."
        return
    for side in golden.failed:
        yield f"{side.upper()} FAILS its self-test on this machine; a board like it refuses the bundle."
    ours, theirs = a.manifest, b.manifest
    old, new = version_tuple(ours.version), version_tuple(theirs.version)
    if a.key_id != b.key_id:
        yield f"B is signed by another key ({b.key_id}, A by {a.key_id}): every board must trust it before the rollout."
    if ours.id != theirs.id:
        yield f"B is another model ({theirs.id}, A is {ours.id}): a board remembers its versions apart."
    elif a.key_id != b.key_id:
        yield "Versions are remembered for each key: a board accepts B whatever its version."
    elif new < old:
        yield f"A board that has used A REFUSES B: version {theirs.version} is older than {ours.version}."
    elif new > old:
        yield (
            f"A board accepts B ({ours.version} -> {theirs.version}) and refuses A from then on: "
            "there is no way back by rollout."
        )
    else:
        yield f"Both are version {ours.version} with different content: results will not tell which of them was used."
    if version_tuple(theirs.min_host) > version_tuple(ours.min_host):
        yield f"Boards with an app older than {theirs.min_host} refuse B (A: {ours.min_host})."
    if theirs.input.leads != ours.input.leads:
        yield f"B needs leads {', '.join(theirs.input.leads)}; A needs {', '.join(ours.input.leads)}."
    gone = [kind for kind in ours.models if kind not in theirs.models]
    if gone:
        yield f"B has no {' and no '.join(gone)} model: boards that have only that runtime cannot run it."
    yield from _answers(ours, theirs, golden)
    if performance:
        yield performance


def _answers(ours: Manifest, theirs: Manifest, golden: GoldenDiff) -> Iterator[str]:
    """Yield what becomes of the answers: what they are about, and how many are others."""
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
    if ours.coeff_sha256 != theirs.coeff_sha256:
        yield "The front-end filters differently: the same recording becomes another input."
    if ours.quality != theirs.quality:
        yield "The quality gate has other limits: another share of recordings gets no answer."
    if golden.not_compared:
        yield f"The models were not compared on golden recordings: {golden.not_compared}."
        return
    dp = [value for value in golden.max_dp.values() if value is not None]
    largest = f"; probabilities differ by up to {max(dp):.3f}" if dp else ""
    yield f"{len(golden.outcomes)} of A's {golden.recordings} golden recordings get another outcome{largest}."
    primary = ours.decision.primary
    if golden.max_dp.get(primary) is not None and primary == theirs.decision.primary:
        yield f"Largest difference of the primary output {primary}: {golden.max_dp[primary]:.3f}."
