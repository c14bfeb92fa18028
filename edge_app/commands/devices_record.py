"""`edge_app devices record` and `stream`: the signal of a device, with or without keeping it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Optional

import typer

from edge_app.commands.options import (
    AllowUnauthenticated,
    DeviceName,
    DriverName,
    DriverOptions,
    LsbUv,
    SerialPath,
    Simulated,
    driver_choice,
)
from lsemvae.terminal.console import fit, reports_errors, say, say_json, say_progress, strip_style
from lsemvae.terminal.options import DataDir, Json

if TYPE_CHECKING:
    from edge_app.session.events import SessionResult
    from lsemvae.ecg.record import EcgRecord

_MAX_S: Final = 600.0

Seconds = Annotated[float, typer.Option("--seconds", min=1.0, max=_MAX_S, help="Length of the recording.")]
LogFile = Annotated[
    Optional[Path],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--log", help="Also write a notification log, for a fault report. It holds the ECG."),
]
ReplayFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--replay", help="Take a notification log for the device."),
]
Speed = Annotated[float, typer.Option("--speed", min=0.1, max=50.0, help="Times real time, with --replay.")]
OutFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="Also write the recording to this file, .ecg.npz."),
]


@reports_errors
def record(
    seconds: Seconds = 30.0,
    device: DeviceName = None,
    serial: SerialPath = None,
    driver: DriverName = None,
    lsb_uv: LsbUv = None,
    driver_option: DriverOptions = None,
    log: LogFile = None,
    replay: ReplayFile = None,
    speed: Speed = 1.0,
    out: OutFile = None,
    allow_unauthenticated: AllowUnauthenticated = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    simulated: Simulated = None,
) -> None:
    """Record from a device and store the recording; nothing is screened."""
    from edge_app import visit
    from edge_app.commands.live_view import LiveView
    from edge_app.devices.ways import REPLAYED_DIR, folder_for, logged, replayed_record, way_to
    from lsemvae.ecg.errors import StoreError
    from lsemvae.screen.datadir import data_dir as choose

    if out is not None and out.exists():  # before a person has sat still for nothing
        raise StoreError(f"{out} exists already; nothing was recorded.", advice="Choose another name with --out.")
    home = choose(data_dir)
    choice = driver_choice(driver, lsb_uv=lsb_uv, options=driver_option, replay=replay, simulated=simulated)
    if choice is not None and replay is not None:
        played, note = replayed_record(choice, replay, seconds=seconds)
        if note:
            say_progress(note)
        _keep(played, None, folder=home / REPLAYED_DIR, out=out, as_json=as_json)
        return
    way = way_to(device=device, serial=serial, driver=choice, replay=replay, speed=speed, simulated=simulated)
    folder = folder_for(way, home)
    wish = way.wish(seconds=seconds, data_dir=home, allow_unauthenticated=allow_unauthenticated)
    with logged(way, log) as link:
        for line in (way.note, f"Looking for {device if choice and device else way.label} ..."):
            if line:
                say_progress(line)
        with LiveView(way.label) as view:
            recorded = visit.record(link, wish, folder=folder, watch=view.watch)
    session = recorded.session
    if choice is not None:
        for event in session.events:
            say_progress(f"{event.kind.value}: {event.message}")
    _keep(session.record, session, folder=folder, out=out, as_json=as_json, played=way.replayed)
    recorded.discard_spool()


@reports_errors
def stream(
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, max=_MAX_S, help="How long to watch.")] = 60.0,
    device: DeviceName = None,
    serial: SerialPath = None,
    allow_unauthenticated: AllowUnauthenticated = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    simulated: Simulated = None,
) -> None:
    """Watch the signal of a six-lead device; nothing is kept."""
    import asyncio

    from edge_app.commands.live_view import LiveView
    from edge_app.devices.ways import way_to
    from edge_app.session.loop import run, stop_on_signals
    from edge_app.session.report import describe_link, session_dict
    from edge_app.session.run import Session
    from lsemvae.screen.datadir import data_dir as choose

    way = way_to(device=device, serial=serial, simulated=simulated)
    wish = way.wish(seconds=seconds, data_dir=choose(data_dir), allow_unauthenticated=allow_unauthenticated)

    async def watch() -> SessionResult:
        stop = asyncio.Event()
        with LiveView(way.label) as view, stop_on_signals(stop):
            return await Session(way.transport, wish, sink=None, watch=view.watch, stop=stop).run()

    for line in (way.note, f"Looking for {way.label} ... (Ctrl-C ends)"):
        if line:
            say_progress(line)
    session = run(watch())
    if as_json:
        say_json({"simulated": way.simulated, "session": session_dict(session)})
        return
    _say_remarks(session, played=False)
    say(describe_link(session))


def _keep(
    record: EcgRecord, session: SessionResult | None, *, folder: Path, out: Path | None, as_json: bool, played: bool = False
) -> None:  # fmt: skip
    """Store a recording, write the file that was asked for, say both."""
    from edge_app.session.report import describe_link, describe_source, session_dict
    from edge_app.visit import keep
    from lsemvae.formats.npz import write_npz
    from lsemvae.screen.datadir import store_error
    from lsemvae.screen.screener import describe_record
    from lsemvae.terminal.result_view import describe_recording, draw

    kept = keep(record, None, folder=folder)
    if out is not None:
        try:
            write_npz(out, record)
        except OSError as error:
            raise store_error("write", out, error) from error
    if as_json:
        say_json(
            {
                "recording": describe_record(record),
                "session": session_dict(session) if session is not None else None,
                "stored": kept.to_dict(),
                "file": None if out is None else str(out),
            }
        )
        return
    say(fit(describe_recording(record)))
    say(draw(record, strip_style()))
    say(fit(describe_source(record.source)))
    if session is not None and session.descriptor is not None:
        say(fit(describe_link(session)))
        _say_remarks(session, played=played)
    say(f"Stored as {kept.record_id} in {kept.path}; not screened.")
    if out is not None:
        say(f"Wrote {out}")


def _say_remarks(session: SessionResult, *, played: bool) -> None:
    from edge_app.session.report import remarks

    for remark in remarks(session.events, played=played):
        say_progress(remark)
