"""Run the models of two bundles on the golden recordings of the first, and compare their answers."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lsemvae.ecg.decision import Decision, decide
from lsemvae.ecg.quality import QualityReport
from lsemvae.screen.selftest import GOLDEN_FILE, self_test

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle
    from lsemvae.screen.runtime.contract import Runtime

# Models are compared here, not recordings: each counts as acceptable.
_ACCEPTABLE: Final = QualityReport(acceptable=True, reasons=(), leads=(), details={})


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
    if len(runtimes) < 2:
        missing = (f"{name.upper()} {words}" for name, (runtime, words, _) in loaded.items() if runtime is None)
        return GoldenDiff(tests, failed, not_compared="; ".join(missing))
    taken = [(one.manifest.input.leads, one.manifest.input.n_samples, one.manifest.input.fs_hz) for one in (a, b)]
    if taken[0] != taken[1]:
        words = [f"{', '.join(leads)}, {n} samples at {fs_hz:g} Hz" for leads, n, fs_hz in taken]
        return GoldenDiff(tests, failed, not_compared=f"the models take different inputs: A {words[0]}; B {words[1]}")

    with np.load(io.BytesIO(a.files[GOLDEN_FILE]), allow_pickle=False) as archive:  # has passed the self-test
        ecg = np.asarray(archive["ecg"], dtype=np.float32)
    said: list[list[Decision]] = []
    for one, runtime in zip((a, b), runtimes, strict=True):
        decisions = []
        for row in ecg:
            output = runtime.run(row[np.newaxis])
            logits = dict(zip(one.manifest.labels, map(float, output.logits), strict=True))
            decisions.append(
                decide(logits, quality=_ACCEPTABLE, uncertainty=output.uncertainty, rule=one.manifest.decision)
            )
        said.append(decisions)

    max_dp: dict[str, float | None] = {}
    crossed: dict[str, int] = {}
    thresholds = [one.manifest.decision.thresholds for one in (a, b)]
    for label in (label for label in a.manifest.labels if label in b.manifest.labels):
        pairs = [(x.probabilities.get(label), y.probabilities.get(label)) for x, y in zip(*said, strict=True)]
        known = [abs(p - q) for p, q in pairs if p is not None and q is not None]
        # An ERROR has no probabilities, so one of them leaves no figure.
        max_dp[label] = max(known) if len(known) == len(pairs) else None
        if all(label in one for one in thresholds):
            cuts = [one[label] for one in thresholds]
            above = [
                [one.probabilities.get(label, -1.0) >= cut for one in side]
                for side, cut in zip(said, cuts, strict=True)
            ]
            crossed[label] = sum(x != y for x, y in zip(*above, strict=True))

    remarks = ["golden recordings are few: they can show that answers change, not that none does"]
    if a.manifest.coeff_sha256 != b.manifest.coeff_sha256:
        remarks.append("the front-ends differ, and B was given what A's front-end makes of the recordings")
    return GoldenDiff(
        tests=tests,
        recordings=len(ecg),
        max_dp=max_dp,
        crossed=crossed,
        outcomes=tuple(
            OutcomeChange(
                k, x.outcome.value, y.outcome.value, x.probabilities.get(x.label), y.probabilities.get(y.label)
            )
            for k, (x, y) in enumerate(zip(*said, strict=True))
            if x.outcome != y.outcome
        ),
        remarks=tuple(remarks),
    )


def _load(bundle: Bundle) -> tuple[Runtime | None, str, bool]:
    """Return the runtime as the app would choose it, how its self-test went, and whether the bundle failed it."""
    from lsemvae.ecg.errors import BundleSelfTestError, InferenceError, RuntimeMissingError
    from lsemvae.screen.runtime.load import load_runtime

    try:
        runtime = load_runtime(bundle)
        self_test(bundle, runtime)
    except RuntimeMissingError as error:
        return None, f"not tested: {error}", False
    except (BundleSelfTestError, InferenceError) as error:
        return None, f"FAILED: {error}", True
    return runtime, f"passed on {runtime.name} {runtime.version}", False
