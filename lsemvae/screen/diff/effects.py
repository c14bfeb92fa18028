"""Words for what a difference in one field of the manifest does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

# Said of two estimates of which each lies inside the other's interval: between these, no difference is claimed.
INSIDE: Final = "inside each other's interval"
_ESTIMATES: Final = ("auroc", "sensitivity", "specificity")


def effect_of(path: tuple[str, ...], a: Any, b: Any) -> str:
    """Return what the difference of one field does, in words; empty where the values say it themselves."""
    match path:
        case ("decision", "thresholds", _):
            moved = logit(b) - logit(a)
            return f"{moved:+.3f} on the logit scale, B asks for a {'higher' if moved > 0 else 'lower'} probability"
        case ("decision", "max_uncertainty"):
            return _stricter(_or_inf(b) < _or_inf(a))
        case ("decision", "abstain_band"):
            sizes = [
                logit(high) - logit(low) if 0 < low < high < 1 else (0.0 if low == high else math.inf)
                for low, high in (a, b)
            ]
            if sizes[0] == sizes[1] == 0:
                return "both bands are empty: nobody abstains by the band"
            return f"width on the logit scale {sizes[0]:.3f} -> {sizes[1]:.3f}"
        case ("decision", "interval_logit_sd"):
            return f"intervals {abs(b / a - 1):.1%} {'wider' if b > a else 'narrower'}" if a else "B states an interval"
        case ("quality", name):
            return _stricter((b < a) if name.startswith("max_") else (b > a))
        case ("performance", _, name) if name in _ESTIMATES and _is_estimate(a) and _is_estimate(b):
            if a[1] <= b[0] <= a[2] and b[1] <= a[0] <= b[2]:
                return INSIDE
            if max(a[1], b[1]) <= min(a[2], b[2]):
                return "intervals overlap"
            return f"intervals apart, B {'higher' if b[0] > a[0] else 'lower'}"
        case ("files", _, "bytes"):
            return f"{b - a:+,} bytes"
    return ""


def _stricter(stricter: bool) -> str:  # noqa: FBT001 - the one thing it says
    return "stricter: more recordings without an answer" if stricter else "looser: fewer recordings without an answer"


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


def _is_estimate(value: Any) -> bool:
    """Whether a value is `[estimate, low, high]`."""
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value)


def performance_sentence(aurocs: Sequence[tuple[str, str]]) -> str:
    """Return one sentence on the AUROCs that both bundles state, given as (label, effect); empty where there is none."""
    if not aurocs:
        return ""
    inside = sum(effect == INSIDE for _, effect in aurocs)
    sides = [
        (word, [label for label, effect in aurocs if effect.endswith(f"B {word.lower()}")])
        for word in ("LOWER", "higher")
    ]
    apart = "; ".join(f"B is {word} beyond the intervals for {', '.join(labels)}" for word, labels in sides if labels)
    return f"AUROC: {len(aurocs)} rows differ, {inside} of them {INSIDE}; {apart or 'none has its intervals apart'}."


def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p / (1 - p))
