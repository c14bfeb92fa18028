"""`edge_app run`, `demo` and `recover`: from a device to an outcome, and back from a crash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, Optional

import typer

from edge_app.commands.options import (
    AllowUnauthenticated,
    DeviceName,
    DriverName,
    DriverOptions,
    LsbUv,
    Operator,
    SerialPath,
    driver_choice,
)
from edge_app.commands.screen import end_with
from lsemvae.terminal.console import ExitCode, reports_errors, say, say_json, say_progress
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, screener_for

if TYPE_CHECKING:
    from edge_app.link.base import Port, Transport
    from edge_app.session.wish import Wish
    from lsemvae.screen.screener import Screener

# 10 s are needed; two more leave room for a late contact. Beyond 30 s a person no longer sits still.
MIN_SECONDS: Final = 10.0
DEFAULT_SECONDS: Final = 12.0
MAX_SECONDS: Final = 30.0

Seconds = Annotated[float, typer.Option("--seconds", min=MIN_SECONDS, max=MAX_SECONDS, help="Length of the recording.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before recording.")]
Speed = Annotated[float, typer.Option("--speed", min=0.1, max=50.0, help="Times real time.")]
# Other than `devices record`, a screening takes a simulated radio only where it is told to.
OnlySimulated = Annotated[
    bool, typer.Option("--simulated/--real", help="Simulated radio (edge_app devices simulate), or the machine's.")
]
# For a simulated device on the air that plays faster than real time: without it, its samples come too early to be true.
Pace = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--pace", min=0.1, max=50.0, hidden=True, help="Speed of a simulated device."),
]


@reports_errors
def run(
    device: DeviceName = None,
    serial: SerialPath = None,
    driver: DriverName = None,
    lsb_uv: LsbUv = None,
    driver_option: DriverOptions = None,
    seconds: Seconds = DEFAULT_SECONDS,
    bundle: BundlePath = None,
    as_json: Json = False,
    yes: Yes = False,
    operator: Operator = "",
    data_dir: DataDir = None,
    trust: Trust = None,
    allow_unauthenticated: AllowUnauthenticated = False,
    simulated: OnlySimulated = False,
    pace: Pace = None,
) -> None:
    """Record from a device and screen the recording; a six-lead device must prove its key."""
    from edge_app.devices.ways import folder_for, way_to
    from lsemvae.screen.datadir import data_dir as choose

    choice = driver_choice(driver, lsb_uv=lsb_uv, options=driver_option, simulated=simulated)
    screener = screener_for(bundle, trust=trust, data_dir=data_dir)
    if not yes:
        typer.confirm("Electrodes attached, person sitting still. Record now?", abort=True, err=True)
    way = way_to(device=device, serial=serial, driver=choice, simulated=simulated)
    home = choose(data_dir)
    wish = way.wish(seconds=seconds, data_dir=home, allow_unauthenticated=allow_unauthenticated, pace=pace)
    folder = folder_for(way, home)
    if way.note:
        say_progress(way.note)
    _mention_interrupted(folder)
    place = f"{way.label} ..." if device or serial or driver else "a six-lead device ..."
    say_progress(f"Looking for {place}")
    _visit(way.link, wish, screener, folder=folder, operator=operator, as_json=as_json)


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
    from edge_app.session.wish import Wish
    from lsemvae.screen.datadir import data_dir as choose

    folder = choose(data_dir) / DEMO_DIR
    screener = screener_for(bundle, trust=trust, data_dir=folder)
    recording = demo_recording()
    if not as_json:
        say(f"Playing {recording.duration_s:.0f} s of leads I and II ({recording.device}) at {speed:g} x real time.")
    wish = Wish(seconds=recording.duration_s, allow_unauthenticated=True, pace=speed)
    link = demo_transport(recording, speed=speed)
    _visit(link, wish, screener, folder=folder, operator="demo", as_json=as_json, played=True)


@reports_errors
def recover(
    bundle: BundlePath = None,
    as_json: Json = False,
    operator: Operator = "",
    data_dir: DataDir = None,
    trust: Trust = None,
) -> None:
    """Bring back what a crash kept out of the store."""
    from edge_app.visit import bring_back

    def open_screener() -> Screener:
        return screener_for(bundle, trust=trust, data_dir=data_dir)

    reports = list(bring_back(data_dir, open_screener, operator=operator))
    if as_json:
        say_json({"recovered": [report.to_dict() for report in reports]})
    elif not reports:
        say("Nothing to recover.")
    for report in [] if as_json else reports:
        say(f"{report.spool}: {report.summary}")
    if any(report.error is not None for report in reports):
        raise typer.Exit(ExitCode.USER_ERROR)


def _visit(
    link: Transport | Port, wish: Wish, screener: Screener, *, folder: Path, operator: str, as_json: bool,
    played: bool = False,
) -> NoReturn:  # fmt: skip
    """Record, screen, store, show. The outcome is shown even where it cannot be stored; the safety copy then stays."""
    from edge_app import visit
    from edge_app.commands.live_view import LiveView
    from edge_app.session.report import remarks, session_dict

    try:
        with LiveView("Recording") as view:
            recorded = visit.record(link, wish, folder=folder, watch=view.watch)
    except BaseException:  # a second Ctrl-C included
        _mention_interrupted(folder)
        raise
    for message in remarks(recorded.session.events, played=played):
        say_progress(message)
    outcome = visit.conclude(recorded, screener, folder=folder, operator=operator)
    end_with(outcome, as_json=as_json, extra={"session": session_dict(recorded.session)})


def _mention_interrupted(folder: Path) -> None:
    from edge_app.visit import interrupted

    count = interrupted(folder)
    if count:
        say_progress(f"{count} interrupted recording(s) wait to be stored; bring them back with: edge_app recover")
