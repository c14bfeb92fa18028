"""One visit: a recording is made, screened and stored; what a crash interrupted is brought back.

No terminal here: commands, a screen and a phone call the same steps and show what they return. A store that refuses costs
no outcome: it is returned with the refusal, and the safety copy stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsemvae.ecg.errors import StoreError
from lsemvae.screen.datadir import data_dir

if TYPE_CHECKING:
    from edge_app.link.base import Port, Transport
    from edge_app.session.events import Watch
    from edge_app.session.recorder import Recorded
    from edge_app.session.wish import Wish
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.screen.screener import Screener, ScreenResult


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a recording and its result lie; without an id of a result the recording was not screened."""

    path: Path
    record_id: str
    result_id: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        result = {} if self.result_id is None else {"result_id": self.result_id}
        return {"path": str(self.path), "record_id": self.record_id, **result}


@dataclass(frozen=True, slots=True)
class VisitResult:
    """What a visit ends with.

    Attributes
    ----------
    kept
        Where recording and result lie; None where they were not stored.
    refusal
        Why the store did not take them.
    recorded
        The recording with its safety copy; None for one that was read from a file.
    """

    result: ScreenResult
    kept: Kept | None = None
    refusal: StoreError | None = None
    recorded: Recorded | None = None

    @property
    def left(self) -> str:
        """What is left of a recording that the store refused, for the operator; empty where nothing is to be said."""
        if self.refusal is None or self.recorded is None:
            return ""
        if self.recorded.spool_whole:
            return f"The recording is safe in {self.recorded.spool}; bring it back with: edge_app recover"
        return (
            f"The safety copy {self.recorded.spool} is not complete either. Write down the outcome, free some space on the "
            "disk, and bring back what there is with: edge_app recover"
        )


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """What became of one interrupted recording.

    Attributes
    ----------
    summary
        In words.
    outcome
        Text of the outcome; None where nothing could be screened or stored.
    error
        Why not, as plain values; None where all went well.
    """

    spool: Path
    summary: str
    outcome: str | None = None
    kept: Kept | None = None
    error: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "spool": str(self.spool),
            "summary": self.summary,
            **({} if self.error is None else {"error": self.error}),
            **({} if self.outcome is None else {"outcome": self.outcome}),
            **({} if self.kept is None else self.kept.to_dict()),
        }


def keep(record: EcgRecord, result: ScreenResult | None, *, folder: Path | None, operator: str = "") -> Kept:
    """Store a recording, with its result if it was screened, in the data folder.

    Raises
    ------
    StoreError
        The store, the disk or the text of a field does not allow it.
    """
    from edge_app.store.records import STORE_FILE, ClinicStore

    try:
        with ClinicStore(data_dir(folder) / STORE_FILE) as store:
            if result is None:
                return Kept(path=store.path, record_id=store.save_record(record))
            record_id, result_id = store.save(record, result, operator=operator)
            return Kept(path=store.path, record_id=record_id, result_id=result_id)
    except (OSError, UnicodeError) as error:
        raise StoreError(f"The record store refused: {error}.") from error


def judge(
    record: EcgRecord, screener: Screener, *, folder: Path | None, operator: str = "", store: bool = True
) -> VisitResult:
    """Screen a recording and store both, unless `store` says not to."""
    result = screener.screen(record)
    if not store:
        return VisitResult(result=result)
    try:
        return VisitResult(result=result, kept=keep(record, result, folder=folder, operator=operator))
    except StoreError as error:
        return VisitResult(result=result, refusal=error)


def record(link: Transport | Port, wish: Wish, *, folder: Path | None, watch: Watch | None = None) -> Recorded:
    """Record what `wish` says; Ctrl-C ends early and keeps what was received.

    A program with an event loop of its own awaits `edge_app.session.recorder.recording` instead.

    Raises
    ------
    EcgError
        Nothing was recorded.
    """
    from edge_app.session import recorder

    return recorder.record(link, wish, data_dir=data_dir(folder), watch=watch)


def conclude(recorded: Recorded, screener: Screener, *, folder: Path | None, operator: str = "") -> VisitResult:
    """Screen and store a finished recording, and remove its safety copy once the store has it."""
    outcome = judge(recorded.session.record, screener, folder=folder, operator=operator)
    if outcome.kept is not None:
        recorded.discard_spool()
    return replace(outcome, recorded=recorded)


def interrupted(folder: Path | None) -> int:
    """Count the recordings that were interrupted and wait to be brought back."""
    from edge_app.session.recorder import waiting

    return waiting(data_dir(folder))


def bring_back(
    folder: Path | None, open_screener: Callable[[], Screener], *, operator: str = ""
) -> Iterator[BroughtBack]:
    """Store and screen what safety copies hold, and yield what became of each.

    A copy is removed only when the store has it, or when it never had a sample. What one cannot give does not hold up the
    next.

    Parameters
    ----------
    open_screener
        Called once, and only if there is a safety copy.
    """
    from edge_app.session.recorder import leftovers

    found = list(leftovers(data_dir(folder)))
    if not found:
        return
    screener = open_screener()
    for item in found:
        if item.empty:
            item.spool.unlink(missing_ok=True)
            yield BroughtBack(item.spool, "no sample had been received; removed")
            continue
        if item.recovered is None:
            error = item.error.to_dict() if item.error is not None else {}
            yield BroughtBack(item.spool, f"holds no recording ({error.get('message', '')})", error=error)
            continue
        record = item.recovered.record
        outcome = judge(record, screener, folder=folder, operator=operator)
        if outcome.kept is None:
            refusal = outcome.refusal or StoreError("nothing was stored")
            summary = f"not stored ({refusal}) What to do: {refusal.advice}"
            yield BroughtBack(item.spool, summary, error=refusal.to_dict())
            continue
        item.spool.unlink(missing_ok=True)
        text = outcome.result.decision.outcome.value
        summary = f"{record.duration_s:.1f} s recovered as {outcome.kept.record_id}: {text}"
        yield BroughtBack(item.spool, summary, outcome=text, kept=outcome.kept)
