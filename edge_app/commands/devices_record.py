"""`edge_app devices record` and `stream`: the signal of a device, with or without keeping it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from edge_app.commands.options import AllowUnauthenticated, DeviceName, SerialPath, Simulated
from lsemvae.terminal.console import fit, reports_errors, say, say_json, say_progress, strip_style
from lsemvae.terminal.options import DataDir, Json

if TYPE_CHECKING:
    from edge_app.devices.ways import Way
    from edge_app.session.events import SessionResult
    from edge_app.session.live import LiveRecording
    from lsemvae.ecg.record import EcgRecord

_MAX_S = 600.0

Seconds = Annotated[float, typer.Option("--seconds", min=1.0, max=_MAX_S, help="Length of the recording.")]
DriverName = Annotated[
    Optional[str],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--driver", help="Driver of another maker's device, see docs/devices.md [default: e6l]."),
]
LsbUv = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--lsb-uv", help="Weight of one code in uV, where the driver cannot know it."),
]
DriverOptions = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--driver-option", metavar="NAME=VALUE", help="Parameter of the driver; may be given several times."),
]
LogFile = Annotated[
    Optional[Path],  # noqa: UP045
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
    _check_free(out)
    name = _driver_of(driver, replay)
    if name is not None:
        _record_driver(
            name, seconds=seconds, device=device, serial=serial, lsb_uv=lsb_uv, options=driver_option or [], log=log,
            replay=replay, out=out, as_json=as_json, data_dir=data_dir, simulated=simulated,
        )  # fmt: skip
        return
    _only_for_drivers(lsb_uv, driver_option)
    from edge_app.devices.ways import folder_for, keys_for, logged, way_to
    from lsemvae.screen.datadir import data_dir as choose

    way = way_to(device=device, serial=serial, replay=replay, speed=speed, simulated=simulated)
    home = choose(data_dir)
    with logged(way, log) as transport:
        live = _recorded(
            way, transport, seconds=seconds, folder=folder_for(way, home), keys=keys_for(way, home),
            allow=allow_unauthenticated or way.replayed,
        )  # fmt: skip
    _keep(
        live.session.record, folder=folder_for(way, home), out=out, session=live.session, as_json=as_json,
        played=way.replayed,
    )  # fmt: skip
    live.discard_spool()


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
    from edge_app.devices.ways import keys_for, way_to
    from edge_app.session.loop import run
    from edge_app.session.report import describe_link, session_dict
    from lsemvae.screen.datadir import data_dir as choose

    way = way_to(device=device, serial=serial, simulated=simulated)
    keys = keys_for(way, choose(data_dir))
    session = run(_watch(way, seconds=seconds, keys=keys, allow=allow_unauthenticated))
    if as_json:
        say_json({"simulated": way.simulated, "session": session_dict(session)})
        return
    _say_remarks(session, played=False)
    say(describe_link(session))


def _recorded(way: Way, transport: Any, *, seconds: float, folder: Path, keys: Any, allow: bool) -> LiveRecording:
    from edge_app.commands.live_view import LiveView
    from edge_app.session.live import record_live

    say_progress(f"Looking for {way.label} ...")
    with LiveView(way.label) as view:
        return record_live(
            transport, seconds=seconds, data_dir=folder, on_progress=view.on_progress, on_frame=view.on_frame,
            keys=keys, allow_unauthenticated=allow, pace=way.pace, device=way.device,
        )  # fmt: skip


async def _watch(way: Way, *, seconds: float, keys: Any, allow: bool) -> SessionResult:
    import asyncio

    from edge_app.commands.live_view import LiveView
    from edge_app.session import record_session
    from edge_app.session.live import stop_on_signals

    say_progress(f"Looking for {way.label} ... (Ctrl-C ends)")
    stop = asyncio.Event()
    with LiveView(way.label) as view, stop_on_signals(stop):
        return await record_session(
            way.transport, seconds=seconds, on_progress=view.on_progress, on_frame=view.on_frame, stop=stop,
            keys=keys, allow_unauthenticated=allow, pace=way.pace, device=way.device,
        )  # fmt: skip


def _record_driver(
    name: str, *, seconds: float, device: str | None, serial: str | None, lsb_uv: float | None, options: list[str],
    log: Path | None, replay: Path | None, out: Path | None, as_json: bool, data_dir: Path | None,
    simulated: bool | None,
) -> None:  # fmt: skip
    """Record through a driver of another maker's protocol, from the device or from a log of it."""
    from edge_app.commands.live_view import LiveView
    from edge_app.devices.driver_recording import driver_from, record_from, replayed_record
    from edge_app.devices.ways import REPLAYED_DIR, is_address
    from lsemvae.screen.datadir import data_dir as choose

    if simulated:
        raise typer.BadParameter(f"--simulated: the simulated device speaks E6L, not {name}.")
    driver = driver_from(name, lsb_uv=lsb_uv, options=options)
    if not driver.info.quality.calibrated:
        say_progress(
            f"Note: {name} does not know what a code is worth: measure it and state --lsb-uv. Until then nothing is judged."
        )
    if replay is not None:
        from edge_app.link.log.file import read_log

        record = replayed_record(driver, read_log(replay), seconds=seconds, label=f"replay of {replay.name}")
        _keep(record, folder=choose(data_dir) / REPLAYED_DIR, out=out, session=None, as_json=as_json)
        return
    say_progress(f"Looking for {device or driver.info.title} ...")
    with LiveView(driver.info.title) as view:
        result = record_from(
            driver, seconds=seconds, serial=serial, address=device if is_address(device) else None,
            device=None if is_address(device) else device, log=log,
            on_seconds=lambda done_s: view.on_seconds(done_s, target_s=seconds),
        )  # fmt: skip
    for event in result.events:
        say_progress(f"{event.kind.value}: {event.message}")
    _keep(result.record, folder=choose(data_dir), out=out, session=None, as_json=as_json)


def _keep(
    record: EcgRecord, *, folder: Path, out: Path | None, session: SessionResult | None, as_json: bool, played: bool = False
) -> None:  # fmt: skip
    """Store a recording, write the file that was asked for, say both."""
    from edge_app.session.report import session_dict
    from edge_app.store.records import STORE_FILE, RecordStore

    with RecordStore(folder / STORE_FILE) as store:
        record_id, path = store.save_record(record), store.path
    if out is not None:
        _write(out, record)
    if as_json:
        from lsemvae.screen.screener import describe_record

        say_json(
            {
                "recording": describe_record(record),
                "session": session_dict(session) if session is not None else None,
                "stored": {"record_id": record_id, "path": str(path)},
                "file": None if out is None else str(out),
            }
        )
        return
    _show(record, session, played=played)
    say(f"Stored as {record_id} in {path}; not screened.")
    if out is not None:
        say(f"Wrote {out}")


def _show(record: EcgRecord, session: SessionResult | None, *, played: bool) -> None:
    from edge_app.session.report import describe_link, describe_source
    from lsemvae.terminal.result_view import describe_recording, draw

    say(fit(describe_recording(record)))
    say(draw(record, strip_style()))
    say(fit(describe_source(record.source)))
    if session is not None:
        say(fit(describe_link(session)))
        _say_remarks(session, played=played)


def _say_remarks(session: SessionResult, *, played: bool) -> None:
    from edge_app.session.report import remarks

    for remark in remarks(session.events, played=played):
        say_progress(remark)


def _write(out: Path, record: EcgRecord) -> None:
    from lsemvae.formats.npz import write_npz
    from lsemvae.screen.datadir import store_error

    try:
        write_npz(out, record)
    except OSError as error:
        raise store_error("write", out, error) from error


def _check_free(out: Path | None) -> None:
    """Refuse before a person has sat still for nothing."""
    from lsemvae.ecg.errors import StoreError

    if out is not None and out.exists():
        raise StoreError(f"{out} exists already; nothing was recorded.", advice="Choose another name with --out.")


def _driver_of(driver: str | None, replay: Path | None) -> str | None:
    """Name of a driver of another maker's protocol, as asked for or as a log says; None for the own profile."""
    from edge_app.link.log.file import E6L_DRIVER, read_log

    logged = read_log(replay).driver if replay is not None else None
    if driver is not None and logged is not None and driver != logged:
        from lsemvae.ecg.errors import FormatError

        raise FormatError(f"found a log of driver {logged}, expected {driver}", advice="Leave --driver out.")
    name = driver or logged or E6L_DRIVER
    return None if name == E6L_DRIVER else name


def _only_for_drivers(lsb_uv: float | None, options: list[str] | None) -> None:
    if lsb_uv is not None or options:
        raise typer.BadParameter("--lsb-uv and --driver-option need --driver: a six-lead device states its own scale.")
