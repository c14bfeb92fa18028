"""`edge_app run`, `demo` and `recover`: from a device to an outcome, and back from a crash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_app.commands.options import AllowUnauthenticated, DeviceName, Operator
from edge_app.visit import keep
from lsemvae.terminal.console import ExitCode, exit_code_of, reports_errors, say, say_json, say_progress
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, screener_for
from lsemvae.terminal.result_view import exit_code_of_result, show, show_unstored

if TYPE_CHECKING:
    from edge_app.link.base import Transport
    from edge_app.session.live import Leftover, LiveRecording
    from lsemvae.screen.screener import Screener

#: 10 s are needed; two more leave room for a late contact. Beyond 30 s a person no longer sits still.
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 10.0, 12.0, 30.0

Seconds = Annotated[float, typer.Option("--seconds", min=MIN_SECONDS, max=MAX_SECONDS, help="Length of the recording.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before recording.")]
Speed = Annotated[float, typer.Option("--speed", min=0.1, max=50.0, help="Times real time.")]
#: For a simulated device on the air that plays faster than real time: without it, its samples come too early to be true.
Pace = Annotated[float, typer.Option("--pace", min=0.1, max=50.0, hidden=True, help="Speed of a simulated device.")]


@reports_errors
def run(
    device: DeviceName = None,
    seconds: Seconds = DEFAULT_SECONDS,
    bundle: BundlePath = None,
    as_json: Json = False,
    yes: Yes = False,
    operator: Operator = "",
    data_dir: DataDir = None,
    trust: Trust = None,
    allow_unauthenticated: AllowUnauthenticated = False,
    pace: Pace = 1.0,
) -> None:
    """Record from a six-lead Bluetooth device that proves its key, and screen it."""
    screener = screener_for(bundle, trust=trust, data_dir=data_dir)
    if not yes:
        typer.confirm("Electrodes attached, person sitting still. Record now?", abort=True, err=True)
    from edge_app.devices.ways import bluetooth

    transport = bluetooth(device)
    _mention_interrupted(data_dir)
    say_progress(f"Looking for {device or 'a six-lead device'} ...")
    _record_and_report(
        transport, screener, seconds=seconds, folder=data_dir, operator=operator, as_json=as_json,
        allow_unauthenticated=allow_unauthenticated, pace=pace,
    )  # fmt: skip


@reports_errors
def demo(
    speed: Speed = 4.0,
    bundle: BundlePath = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    trust: Trust = None,
) -> None:
    """Play a real ECG through a virtual device and screen it."""
    from edge_app.demo import DEMO_DIR, demo_recording, demo_transport
    from lsemvae.screen.datadir import data_dir as choose

    folder = choose(data_dir) / DEMO_DIR
    screener = screener_for(bundle, trust=trust, data_dir=folder)
    recording = demo_recording()
    transport = demo_transport(recording, speed=speed)
    if not as_json:
        say(f"Playing {recording.duration_s:.0f} s of leads I and II ({recording.device}) at {speed:g} x real time.")
    _record_and_report(
        transport, screener, seconds=recording.duration_s, folder=folder, operator="demo", as_json=as_json,
        allow_unauthenticated=True, pace=speed, played=True,
    )  # fmt: skip


@reports_errors
def recover(
    bundle: BundlePath = None,
    as_json: Json = False,
    operator: Operator = "",
    data_dir: DataDir = None,
    trust: Trust = None,
) -> None:
    """Bring back what a crash kept out of the store."""
    from edge_app.session.live import leftovers
    from lsemvae.screen.datadir import data_dir as choose

    found = list(leftovers(choose(data_dir)))
    screener = screener_for(bundle, trust=trust, data_dir=data_dir) if found else None
    reports = [
        _bring_back(item, screener, folder=data_dir, operator=operator) for item in found if screener is not None
    ]
    if as_json:
        say_json({"recovered": reports})
    elif not reports:
        say("Nothing to recover.")
    for report in [] if as_json else reports:
        say(f"{report['spool']}: {report['summary']}")
    if any("error" in report for report in reports):
        raise typer.Exit(ExitCode.USER_ERROR)


def _record_and_report(
    transport: Transport, screener: Screener, *, seconds: float, folder: Path | None, operator: str, as_json: bool,
    allow_unauthenticated: bool, pace: float, played: bool = False,
) -> None:  # fmt: skip
    """Record, screen, show, store. The outcome is shown even where it cannot be stored; the safety copy then stays."""
    from edge_app.commands.live_view import LiveView
    from edge_app.session.live import record_live
    from edge_app.session.report import remarks, session_dict
    from lsemvae.ecg.errors import StoreError
    from lsemvae.screen.datadir import data_dir as choose

    try:
        with LiveView("Recording") as view:
            live = record_live(
                transport, seconds=seconds, data_dir=choose(folder), on_progress=view.on_progress,
                on_frame=view.on_frame, allow_unauthenticated=allow_unauthenticated, pace=pace,
            )  # fmt: skip
    except BaseException:  # a second Ctrl-C included
        _mention_interrupted(folder)
        raise
    for message in remarks(live.session.events, played=played):
        say_progress(message)
    record = live.session.record
    result = screener.screen(record)
    try:
        kept = keep(record, result, folder=folder, operator=operator)
    except StoreError as error:
        show_unstored(result, error, as_json=as_json, extra={"session": session_dict(live.session)})
        say_progress(_what_is_left(live))
        raise typer.Exit(exit_code_of(error)) from error
    live.discard_spool()
    show(result, kept=kept, as_json=as_json, extra={"session": session_dict(live.session)})
    raise typer.Exit(exit_code_of_result(result))


def _what_is_left(live: LiveRecording) -> str:
    if live.spool_whole:
        return f"The recording is safe in {live.spool}; bring it back with: edge_app recover"
    return (
        f"The safety copy {live.spool} is not complete either. Write down the outcome, free some space on the disk, and "
        "bring back what there is with: edge_app recover"
    )


def _mention_interrupted(folder: Path | None) -> None:
    from edge_app.session.live import waiting
    from lsemvae.screen.datadir import data_dir as choose

    count = waiting(choose(folder))
    if count:
        say_progress(f"{count} interrupted recording(s) wait to be stored; bring them back with: edge_app recover")


def _bring_back(item: Leftover, screener: Screener, *, folder: Path | None, operator: str) -> dict[str, Any]:
    """Store and screen what a safety copy holds; remove it only when the store has it, or when it never had a sample."""
    from lsemvae.ecg.errors import StoreError

    if item.empty:
        item.spool.unlink(missing_ok=True)
        return {"spool": str(item.spool), "summary": "no sample had been received; removed"}
    if item.recovered is None:
        error = item.error.to_dict() if item.error is not None else {}
        return {"spool": str(item.spool), "summary": f"holds no recording ({error.get('message', '')})", "error": error}
    record = item.recovered.record
    result = screener.screen(record)
    try:
        kept = keep(record, result, folder=folder, operator=operator)
    except StoreError as refusal:  # the next one may fare better
        summary = f"not stored ({refusal}) What to do: {refusal.advice}"
        return {"spool": str(item.spool), "summary": summary, "error": refusal.to_dict()}
    item.spool.unlink(missing_ok=True)
    outcome = result.decision.outcome.value
    summary = f"{record.duration_s:.1f} s recovered as {kept.record_id}: {outcome}"
    return {"spool": str(item.spool), "summary": summary, "outcome": outcome, **kept.to_dict()}
