"""A comparison of two bundles as lines for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lsemvae.screen.diff.compare import BundleDiff
    from lsemvae.screen.diff.golden import GoldenDiff

# Twelve hexadecimal digits tell files apart; the JSON has them whole.
_SHOWN_DIGITS: Final = 12
_HASH: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# A row that only one side has is named, not spelled out.
_LONGEST_VALUE: Final = 160
_WIDTH: Final = 116


def diff_lines(diff: BundleDiff) -> Iterator[str]:
    """Yield the comparison: who, what it means for a board, then every difference by section."""
    for side, one in (("A", diff.a), ("B", diff.b)):
        yield f"{side}: {one['id']} {one['version']}, made {one['created_utc']}, key {one['key_id']}, {one['bytes']:,} bytes"
    yield f"What the labels are: {diff.label_statement}"
    yield ""
    yield "For a board that runs A and gets B:"
    yield from (f"  {sentence}" for sentence in diff.rollout)
    for section, changes in diff.changes.items():
        yield ""
        yield section.capitalize()
        # The differences of one row stand under its name, as many in a line as fit.
        for head, group in groupby(changes, key=lambda change: change.path[:-1]):
            words = []
            for change in group:
                name = f"model for {change.path[-1]}" if change.path[0] == "models" else change.path[-1]
                effect = f" ({change.effect})" if change.effect else ""
                if change.only_in:
                    value = change.a if change.only_in == "a" else change.b
                    words.append(f"{name} only in {change.only_in.upper()}: {show(value)}")
                else:
                    words.append(f"{name} {show(change.a)} -> {show(change.b)}{effect}")
            row = " ".join(head[1:])
            if row and len(row) + sum(map(len, words)) + 2 * len(words) < _WIDTH:
                yield f"  {row}: {'; '.join(words)}"
                continue
            if row:
                yield f"  {row}"
            indent, line = "    " if row else "  ", ""
            for word in words:
                if line and len(line) + len(word) > _WIDTH:
                    yield indent + line
                    line = ""
                line = f"{line}; {word}" if line else word
            if line:
                yield indent + line
    if not diff.equal:
        yield ""
        yield from _golden_lines(diff.golden)
        yield ""
        yield f"The same in both: {', '.join(diff.same) or 'nothing'}."


def _golden_lines(golden: GoldenDiff) -> Iterator[str]:
    yield "Golden recordings"
    for side, words in golden.tests.items():
        yield f"  self-test of {side.upper()}: {words}"
    if golden.not_compared:
        yield f"  not compared: {golden.not_compared}"
        return
    yield from (f"  {remark}" for remark in golden.remarks)
    for change in golden.outcomes:
        p = [f" (p {value:.3f})" if value is not None else "" for value in (change.p_a, change.p_b)]
        yield f"  recording {change.recording}: {change.a}{p[0]} -> {change.b}{p[1]}"
    width = max(map(len, golden.max_dp), default=0)
    for label, value in golden.max_dp.items():
        crossed = (
            f", {golden.crossed[label]} of {golden.recordings} cross the threshold" if label in golden.crossed else ""
        )
        yield f"  {label:<{width}}  max |dp| {'not finite' if value is None else f'{value:.4f}'}{crossed}"


def show(value: Any) -> str:
    """Return a value in few words: hashes cut, estimates with their interval."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return f"{value[:_SHOWN_DIGITS]}..." if _HASH.fullmatch(value) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        words = ", ".join(f"{key} {show(one)}" for key, one in value.items()) or "empty"
        return words if len(words) <= _LONGEST_VALUE else words[: _LONGEST_VALUE - 3] + "..."
    if len(value) == 3 and all(isinstance(one, float) for one in value):
        return "{:.3f} ({:.3f}-{:.3f})".format(*value)
    return "[" + ", ".join(show(one) for one in value) + "]"
