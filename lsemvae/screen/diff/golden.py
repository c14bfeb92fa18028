"""What the models of two bundles say about the same golden recordings: the ones of the first bundle."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lsemvae.ecg.decision import Decision, decide
from lsemvae.ecg.quality import QualityReport

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle
    from lsemvae.screen.runtime.contract import Runtime

# Models are compared here, not recordings: each counts as acceptable.
_ACCEPTABLE = QualityReport(acceptable=True, reasons=(), leads=(), details={})


@dataclass(frozen=True, slots=True)
class OutcomeChange:
    """A golden recording (by its position) with another outcome, and the probability of each bundle's primary output."""

    recording: int
    a: str
    b: str
    p_a: float | None
    p_b: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the change for JSON."""
        return {"recording": self.recording, "a": self.a, "b": self.b, "p_a": self.p_a, "p_b": self.p_b}


@dataclass(frozen=True, slots=True)
class GoldenDiff:
    """The comparison, or why there is none.

    Attributes
    ----------
    tests
        Each bundle's own self-test on this machine, in words.
    failed
        The sides, "a" or "b", whose self-test failed: a board like this machine refuses them.
    not_compared
        Why the models were not compared; empty where they were.
    recordings
        How many golden recordings both were given.
    max_dp
        Largest |difference| of the calibrated probability by output that both have; None where one was not finite.
    crossed
        How many recordings are on the other side of the output's operating point, by output that has one on both sides.
    outcomes
        Recordings whose outcome differs, each by its own bundle's rule.
    remarks
        What to bear in mind when reading the figures.
    """

    tests: dict[str, str]
    failed: tuple[str, ...] = ()
    not_compared: str = ""
    recordings: int = 0
    max_dp: dict[str, float | None] = field(default_factory=dict)
    crossed: dict[str, int] = field(default_factory=dict)
    outcomes: tuple[OutcomeChange, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "self_test": dict(self.tests),
            "failed": list(self.failed),
            "compared": not self.not_compared,
            "reason": self.not_compared or None,
            "recordings": self.recordings,
            "max_dp": dict(self.max_dp),
            "crossed": dict(self.crossed),
            "outcomes": [change.to_dict() for change in self.outcomes],
            "remarks": list(self.remarks),
        }


def compare_on_golden(a: Bundle, b: Bundle) -> GoldenDiff:
    """Test both bundles on this machine, then run both models on A's golden recordings."""
    loaded = {name: _load(one) for name, one in (("a", a), ("b", b))}
    tests = {name: words for name, (_, words, _) in loaded.items()}
    failed = tuple(name for name, (_, _, refused) in loaded.items() if refused)
    runtimes = [runtime for runtime, _, _ in loaded.values() if runtime is not None]
    reason = _obstacle(a, b)
    if len(runtimes) < 2:
        reason = "; ".join(f"{name.upper()} {words}" for name, (runtime, words, _) in loaded.items() if runtime is None)
    if reason:
        return GoldenDiff(tests, failed, not_compared=reason)
    ecg = _golden_ecg(a)
    said_a, said_b = (_decisions(one, runtime, ecg) for one, runtime in zip((a, b), runtimes, strict=True))
    return GoldenDiff(
        tests=tests,
        recordings=len(ecg),
        max_dp=_max_dp(a, b, said_a, said_b),
        crossed=_crossed(a, b, said_a, said_b),
        outcomes=tuple(_outcome_changes(said_a, said_b)),
        remarks=_remarks(a, b),
    )


def _load(bundle: Bundle) -> tuple[Runtime | None, str, bool]:
    """Return the runtime as the app would choose it, how the bundle's self-test went, and whether the bundle failed it."""
    from lsemvae.ecg.errors import BundleSelfTestError, InferenceError, RuntimeMissingError
    from lsemvae.screen.runtime.load import load_runtime
    from lsemvae.screen.selftest import self_test

    try:
        runtime = load_runtime(bundle)
        self_test(bundle, runtime)
    except RuntimeMissingError as error:
        return None, f"not tested: {error}", False
    except (BundleSelfTestError, InferenceError) as error:
        return None, f"FAILED: {error}", True
    return runtime, f"passed on {runtime.name} {runtime.version}", False


def _obstacle(a: Bundle, b: Bundle) -> str:
    """Return why one input cannot be given to both models; empty where it can."""
    sides = [(one.manifest.input.leads, one.manifest.input.n_samples, one.manifest.input.fs_hz) for one in (a, b)]
    if sides[0] == sides[1]:
        return ""
    words = [f"{', '.join(leads)}, {n} samples at {fs_hz:g} Hz" for leads, n, fs_hz in sides]
    return f"the models take different inputs: A {words[0]}; B {words[1]}"


def _remarks(a: Bundle, b: Bundle) -> tuple[str, ...]:
    few = "golden recordings are few: they can show that answers change, not that none does"
    if a.manifest.coeff_sha256 == b.manifest.coeff_sha256:
        return (few,)
    return (few, "the front-ends differ, and B was given what A's front-end makes of the recordings")


def _golden_ecg(bundle: Bundle) -> np.ndarray:
    """Return the model inputs `[n, lead, time]` in mV of a golden file that has passed the self-test."""
    from lsemvae.screen.selftest import GOLDEN_FILE

    with np.load(io.BytesIO(bundle.files[GOLDEN_FILE]), allow_pickle=False) as archive:
        return np.asarray(archive["ecg"], dtype=np.float32)


def _decisions(bundle: Bundle, runtime: Runtime, ecg: np.ndarray) -> list[Decision]:
    said = []
    for one in ecg:
        output = runtime.run(one[np.newaxis])
        logits = dict(zip(bundle.manifest.labels, map(float, output.logits), strict=True))
        said.append(decide(logits, quality=_ACCEPTABLE, uncertainty=output.uncertainty, rule=bundle.manifest.decision))
    return said


def _shared(a: Bundle, b: Bundle) -> list[str]:
    return [label for label in a.manifest.labels if label in b.manifest.labels]


def _max_dp(a: Bundle, b: Bundle, said_a: list[Decision], said_b: list[Decision]) -> dict[str, float | None]:
    """Return the largest |dp| by output; an ERROR has no probabilities, so one of them leaves no figure."""
    largest: dict[str, float | None] = {}
    for label in _shared(a, b):
        pairs = [(x.probabilities.get(label), y.probabilities.get(label)) for x, y in zip(said_a, said_b, strict=True)]
        known = [abs(p - q) for p, q in pairs if p is not None and q is not None]
        largest[label] = max(known) if len(known) == len(pairs) else None
    return largest


def _crossed(a: Bundle, b: Bundle, said_a: list[Decision], said_b: list[Decision]) -> dict[str, int]:
    rules = (a.manifest.decision, b.manifest.decision)
    counts = {}
    for label in _shared(a, b):
        if not all(label in rule.thresholds for rule in rules):
            continue
        sides = [
            [one.probabilities.get(label, -1.0) >= rule.thresholds[label] for one in said]
            for said, rule in zip((said_a, said_b), rules, strict=True)
        ]
        counts[label] = sum(x != y for x, y in zip(*sides, strict=True))
    return counts


def _outcome_changes(said_a: list[Decision], said_b: list[Decision]) -> list[OutcomeChange]:
    return [
        OutcomeChange(k, x.outcome.value, y.outcome.value, x.probabilities.get(x.label), y.probabilities.get(y.label))
        for k, (x, y) in enumerate(zip(said_a, said_b, strict=True))
        if x.outcome != y.outcome
    ]
