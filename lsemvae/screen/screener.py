"""From a recording to one of four outcomes: quality gate, front-end, model, decision."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from lsemvae.ecg import frontend, quality
from lsemvae.ecg.decision import Decision, decide, error_decision
from lsemvae.ecg.errors import EcgError, InferenceError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.source import missing_knowledge
from lsemvae.ecg.window import choose_window
from lsemvae.screen.bundle import Bundle, open_bundle
from lsemvae.screen.runtime.contract import Runtime
from lsemvae.screen.runtime.load import Format, load_runtime
from lsemvae.screen.selftest import self_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lsemvae.screen.ratchet import VersionRatchet

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenResult:
    """What was found, and everything needed to understand it later.

    Attributes
    ----------
    decision
        One of the four outcomes.
    quality
        Report of the quality gate; None where no recording could be judged.
    record
        The recording; None where there is none (a file that could not be read).
    model_id, model_version, runtime
        What computed it; `runtime` is name and version.
    label_statement
        What the result is a statement about, and what it is not.
    output_description
        Words for the primary output, from the manifest.
    columns
        Output label to the column name (``p_<label>``) its probability has in tables.
    timings_ms
        Duration of each step in milliseconds.
    """

    decision: Decision
    quality: quality.QualityReport | None
    record: EcgRecord | None
    model_id: str
    model_version: str
    runtime: str
    label_statement: str
    output_description: str
    columns: Mapping[str, str] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def probabilities(self) -> dict[str, float]:
        """Column name to calibrated probability; empty where the model was not run."""
        return {self.columns[label]: value for label, value in self.decision.probabilities.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the samples are not among them."""
        return {
            **self.decision.to_dict(),
            "probabilities": self.probabilities,
            "label_statement": self.label_statement,
            "output_description": self.output_description,
            "quality": self.quality.to_dict() if self.quality is not None else None,
            "recording": describe_record(self.record) if self.record is not None else None,
            "model": {"id": self.model_id, "version": self.model_version, "runtime": self.runtime},
            "timings_ms": {step: round(value, 3) for step, value in self.timings_ms.items()},
        }


class Screener:
    """Screens recordings with one bundle on one runtime.

    Parameters
    ----------
    bundle
        From `lsemvae.screen.bundle.open_bundle`.
    runtime
        From `lsemvae.screen.runtime.load.load_runtime`.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.runtime = runtime

    def screen(self, record: EcgRecord) -> ScreenResult:
        """Screen one recording. A recording that cannot be screened is an outcome, not an exception.

        The probabilities are computed wherever the model can be run, also where the quality gate abstains: evaluation
        needs them. They are shown to an operator only with DETECTED and NOT DETECTED.
        """
        manifest = self.bundle.manifest
        timings: dict[str, float] = {}
        report: quality.QualityReport | None = None
        try:
            with _timed(timings, "quality"):
                window = choose_window(record, leads=manifest.input.leads, duration_s=manifest.frontend.duration_s)
                report = quality.assess(record, window, thresholds=manifest.quality)
                unknown = missing_knowledge(record.source)
                if unknown:  # a recording that may lack samples or millivolts is not judged
                    report = replace(report, acceptable=False, reasons=(*report.reasons, *unknown))
            ecg_mv: np.ndarray | None = None
            try:
                with _timed(timings, "frontend"):
                    ecg_mv = frontend.apply_window(record, window, spec=manifest.frontend)
            except EcgError:
                if report.acceptable:
                    raise  # else the gate has named the reason already, and there is nothing to run the model on
            if ecg_mv is None:
                decision = decide(None, quality=report, uncertainty=None, rule=manifest.decision)
            else:
                with _timed(timings, "model"):
                    output = self.runtime.run(np.ascontiguousarray(ecg_mv[np.newaxis], dtype=np.float32))
                found, expected = len(output.logits), len(manifest.labels)
                if found != expected:
                    raise InferenceError(f"The model returned {found} logits; expected {expected}.")
                logits = dict(zip(manifest.labels, map(float, output.logits), strict=True))
                decision = decide(logits, quality=report, uncertainty=output.uncertainty, rule=manifest.decision)
        # Whatever fails is an outcome; the text may name a person, so only the type is logged.
        except Exception as error:
            _LOGGER.warning("screening ended with %s", type(error).__name__)
            decision = error_decision(error)
        return self.result(decision, record=record, report=report, timings_ms=timings)

    def error(self, error: EcgError) -> ScreenResult:
        """Return the result for a recording that could not even be read."""
        return self.result(error_decision(error), record=None, report=None, timings_ms={})

    def result(
        self,
        decision: Decision,
        *,
        record: EcgRecord | None,
        report: quality.QualityReport | None,
        timings_ms: Mapping[str, float],
    ) -> ScreenResult:
        """Put a decision together with what it was made from and by."""
        manifest = self.bundle.manifest
        return ScreenResult(
            decision=decision,
            quality=report,
            record=record,
            model_id=manifest.id,
            model_version=manifest.version,
            runtime=f"{self.runtime.name} {self.runtime.version}",
            label_statement=manifest.label_statement,
            output_description=next(output.description for output in manifest.outputs if output.primary),
            columns=MappingProxyType({output.label: output.column for output in manifest.outputs}),
            timings_ms=MappingProxyType(timings_ms),
        )


def open_screener(
    path: Path | None = None,
    *,
    trusted_keys: Sequence[bytes] | None = None,
    ratchet: VersionRatchet | None = None,
    prefer: Format | None = None,
) -> Screener:
    """Open a bundle, load its model, test both on this machine, and only then remember the version.

    Parameters
    ----------
    path, trusted_keys, ratchet
        As for `lsemvae.screen.bundle.open_bundle`.
    prefer
        As for `lsemvae.screen.runtime.load.load_runtime`.
    """
    bundle = open_bundle(path, trusted_keys=trusted_keys, ratchet=ratchet)
    runtime = load_runtime(bundle, prefer=prefer)
    self_test(bundle, runtime)
    if ratchet is not None:
        ratchet.advance(bundle.manifest.id, bundle.manifest.version, key_id=bundle.key_id)
    return Screener(bundle, runtime)


def describe_record(record: EcgRecord) -> dict[str, Any]:
    """Return what a recording is, without its samples, for JSON."""
    return {
        "id": record.record_id,
        "device": record.device,
        "start_utc": record.start.utc_iso if record.start else None,
        "time_source": record.start.source if record.start else "unknown",
        "fs_hz": record.fs_hz,
        "leads": list(record.leads),
        "duration_s": round(record.duration_s, 3),
        "received_samples": record.received_samples,
        "gaps": len(record.gaps),
        "source": record.source.to_dict(),
    }


@contextmanager
def _timed(timings_ms: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings_ms[step] = 1e3 * (time.perf_counter() - start)
