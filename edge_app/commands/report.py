"""What the commands that screen do with a result: store it, show it, turn it into an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_app.console import ExitCode, fit, report_error, say, say_json, strip_style

if TYPE_CHECKING:
    from edge_app.screening import ScreenResult
    from lsemvae.ecg.errors import StoreError
    from lsemvae.ecg.record import EcgRecord

#: By the outcome's text: its enumeration would load numpy, which `--help` does without.
_EXIT_CODES = {
    "DETECTED": ExitCode.OK,
    "NOT DETECTED": ExitCode.OK,
    "ABSTAIN": ExitCode.ABSTAIN,
    "ERROR": ExitCode.USER_ERROR,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a recording and its result lie."""

    path: Path
    record_id: str
    result_id: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return {"path": str(self.path), "record_id": self.record_id, "result_id": self.result_id}


def exit_code_of_result(result: ScreenResult) -> ExitCode:
    """Return the exit code of an outcome."""
    return _EXIT_CODES[result.decision.outcome.value]


def keep(record: EcgRecord, result: ScreenResult, *, folder: Path | None, operator: str) -> Kept:
    """Store a recording with its result in the data folder."""
    from edge_app.datadir import data_dir
    from edge_app.store import STORE_FILE, RecordStore

    with RecordStore(data_dir(folder) / STORE_FILE) as store:
        record_id, result_id = store.save(record, result, operator=operator)
        return Kept(path=store.path, record_id=record_id, result_id=result_id)


def show(result: ScreenResult, *, kept: Kept | None, as_json: bool, extra: Mapping[str, Any] | None = None) -> None:
    """Print a result: one JSON document, or strip, outcome, quality, timings and where the recording lies."""
    if as_json:
        say_json({**result.to_dict(), "stored": kept.to_dict() if kept else None, **(extra or {})})
        return
    for paragraph in _paragraphs(result, kept):
        say(fit(paragraph))
        say()


def show_unstored(
    result: ScreenResult, error: StoreError, *, as_json: bool, extra: Mapping[str, Any] | None = None
) -> None:
    """Print a result that the store refused: the outcome all the same, then what the store said."""
    show(result, kept=None, as_json=as_json, extra={**(extra or {}), "error": error.to_dict()})
    report_error(error, as_json=False)


def _paragraphs(result: ScreenResult, kept: Kept | None) -> list[str]:
    from edge_app.present import describe, describe_quality, describe_recording, describe_timings, draw

    paragraphs = []
    if result.record is not None:
        paragraphs += [f"{describe_recording(result.record)}\n{draw(result.record, strip_style())}"]
    if result.quality is not None:
        paragraphs += [describe_quality(result.quality)]
    paragraphs += [describe(result)]
    place = f"Stored as {kept.record_id} in {kept.path}" if kept else "Not stored."
    return [*paragraphs, f"{describe_timings(result)}\n{place}"]
