"""A result for the person who holds the device: in plain words, as JSON, and as an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lsemvae.terminal.console import ExitCode, fit, report_error, say, say_json, strip_style

if TYPE_CHECKING:
    from lsemvae.ecg.errors import StoreError
    from lsemvae.ecg.quality import QualityReport
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.screen.screener import ScreenResult
    from lsemvae.terminal.strip import StripStyle

# Said with every outcome, whatever the model: an ECG screen never replaces the clinician.
DISCLAIMER: Final = "Screening aid, not a diagnosis."

# The strip shows lead II, the lead that rhythm strips show; where it was not recorded, the first lead.
STRIP_LEAD: Final = "II"

# By the outcome's text: its enumeration would load numpy, which `--help` does without.
_HEADLINES: Final = {
    "DETECTED": "the ECG shows the pattern: {what}.",
    "NOT DETECTED": "the ECG does not show the pattern: {what}.",
    "ABSTAIN": "no result, because the recording does not allow one.",
    "ERROR": "no result, because something failed.",
}

_EXIT_CODES: Final = {
    "DETECTED": ExitCode.OK,
    "NOT DETECTED": ExitCode.OK,
    "ABSTAIN": ExitCode.ABSTAIN,
    "ERROR": ExitCode.USER_ERROR,
}


def exit_code_of_result(result: ScreenResult) -> ExitCode:
    """Return the exit code of an outcome."""
    return _EXIT_CODES[result.decision.outcome.value]


def show(
    result: ScreenResult, *, kept: Mapping[str, str] | None, as_json: bool, extra: Mapping[str, Any] | None = None
) -> None:
    """Print a result: one JSON document, or strip, outcome, quality, timings and where the recording lies."""
    if as_json:
        say_json({**result.to_dict(), "stored": kept, **(extra or {})})
        return
    paragraphs = []
    if result.record is not None:
        paragraphs += [f"{describe_recording(result.record)}\n{draw(result.record, strip_style())}"]
    if result.quality is not None:
        paragraphs += [describe_quality(result.quality)]
    place = f"Stored as {kept['record_id']} in {kept['path']}" if kept else "Not stored."
    for paragraph in [*paragraphs, describe(result), f"{describe_timings(result)}\n{place}"]:
        say(fit(paragraph))
        say()


def show_unstored(
    result: ScreenResult, error: StoreError, *, as_json: bool, extra: Mapping[str, Any] | None = None
) -> None:
    """Print a result that the store did not keep: the outcome first, then the error of the store."""
    show(result, kept=None, as_json=as_json, extra={**(extra or {}), "error": error.to_dict()})
    report_error(error, as_json=False)


def describe(result: ScreenResult) -> str:
    """Return the outcome, what it means, why, and what to do, as lines of text."""
    from lsemvae.ecg.reasons import advice

    decision = result.decision
    outcome = decision.outcome.value
    lines = [f"{outcome}: {_HEADLINES[outcome].format(what=result.output_description)}"]
    if decision.probability is not None:
        interval = ""
        if decision.interval is not None:
            interval = f" (95 % interval {decision.interval[0]:.2f} to {decision.interval[1]:.2f})"
        lines += [f"Probability of the pattern: {decision.probability:.2f}{interval}"]
    if outcome == "ABSTAIN":
        lines += [f"Why and what to do ({reason}): {advice(reason)}" for reason in decision.reasons]
    else:
        if outcome == "ERROR":
            lines += [f"{decision.error_code}: {'; '.join(decision.reasons)}"]
        lines += [f"What to do: {decision.advice}"]
    return "\n".join([*lines, f"Meaning: {result.label_statement}", DISCLAIMER])


def describe_quality(report: QualityReport) -> str:
    """Return the quality gate's finding on each lead, as a table."""
    head = f"{'lead':<5}{'rms mV':>8}{'noise mV':>10}{'drift mV':>10}  remarks"
    verdict = "acceptable" if report.acceptable else "not acceptable"
    lines = [f"Recording quality: {verdict}", head]
    for lead in report.leads:
        remarks = ", ".join(lead.reasons) or "ok"
        lines.append(f"{lead.lead:<5}{lead.rms_mv:>8.3f}{lead.noise_mv:>10.3f}{lead.baseline_mv:>10.3f}  {remarks}")
    return "\n".join(lines)


def describe_timings(result: ScreenResult) -> str:
    """Return how long each step took."""
    steps = ", ".join(f"{step} {value:.1f} ms" for step, value in result.timings_ms.items())
    return f"Computed by {result.model_id} {result.model_version} on {result.runtime}: {steps or 'nothing was run'}"


def describe_recording(record: EcgRecord) -> str:
    """Return in one line what was recorded."""
    missing = record.n_samples - record.received_samples
    lost = f", {missing / record.fs_hz:.2f} s lost in {len(record.gaps)} gaps" if record.gaps else ""
    source = f" from {record.device}" if record.device else ""
    return f"Recording{source}: {record.duration_s:.1f} s, {record.fs_hz:g} Hz, leads {', '.join(record.leads)}{lost}"


def draw(record: EcgRecord, style: StripStyle) -> str:
    """Draw the rhythm lead of a recording, with its baseline taken off; gaps stay blank."""
    import numpy as np

    from lsemvae.terminal.strip import render_strip

    row = record.leads.index(STRIP_LEAD) if STRIP_LEAD in record.leads else 0
    signal_mv = record.to_mv()[row].astype(np.float64)
    received = np.ones(record.n_samples, dtype=bool)
    for gap in record.gaps:
        received[gap.start : gap.stop] = False
    if received.any():
        signal_mv -= np.median(signal_mv[received])
    signal_mv[~received] = np.nan
    return render_strip(signal_mv, fs_hz=record.fs_hz, lead=record.leads[row], style=style)
