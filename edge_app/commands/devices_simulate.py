"""`edge_app devices simulate`: a six-lead device on the air of a simulated radio, for the other commands of this account."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from lsemvae.terminal.console import reports_errors, say, say_json_line
from lsemvae.terminal.options import Json

if TYPE_CHECKING:
    import asyncio

    from firmware_bridge.sim.air.radio import Radio, RadioOptions
    from lsemvae.ecg.record import EcgRecord

_NAME: Final = "E6L-SIM"
_QUIT: Final = ("quit", "exit", "q")

RecordFile = Annotated[
    Optional[Path],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--record", help="Recording to play: .ecg.npz, .csv, WFDB or DICOM [default: that of the demo]."),
]
Probability = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of packets that meet this fault.")]


@reports_errors
def simulate(
    record: RecordFile = None,
    speed: Annotated[float, typer.Option("--speed", min=0.1, max=50.0, help="Times real time.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End the stream after the recording, do not repeat it.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name of the device; 8 bytes are advertised.")] = _NAME,
    key: Annotated[bool, typer.Option("--key/--no-key", help="Whether the device can prove what it is.")] = True,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="Refuse a link without encryption.")] = False,
    devices: Annotated[int, typer.Option("--devices", min=1, max=9, help="So many devices of this name.")] = 1,
    mtu: Annotated[int, typer.Option("--mtu", min=23, max=517, help="Attribute MTU of the link.")] = 517,
    core: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--core/--mirror", help="Device in C or in Python [default: C where a compiler is there]."),
    ] = None,
    drop: Probability = 0.0,
    corrupt: Probability = 0.0,
    swap: Probability = 0.0,
    duplicate: Probability = 0.0,
    delay: Probability = 0.0,
    garbage: Probability = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the faults.")] = 0,
    as_json: Json = False,
) -> None:
    """Put a device on the air that plays a real ECG; the other commands find it. Needs no Bluetooth."""
    from edge_app.demo import demo_recording
    from edge_app.devices.simulated_radio import bus_socket, simulated_key
    from edge_app.session.loop import run
    from firmware_bridge.sim.air.faults import Faults
    from firmware_bridge.sim.air.radio import RadioOptions
    from lsemvae.formats.read import read_record

    recording = demo_recording() if record is None else read_record(record)
    faults = Faults(drop=drop, corrupt=corrupt, swap=swap, duplicate=duplicate, delay=delay, garbage=garbage, seed=seed)
    options = RadioOptions(
        speed=speed, loop=not once, faults=faults, name=name, key=simulated_key(name) if key else None, core=core,
        mtu=mtu, encrypted=encrypted, devices=devices, bus=bus_socket(),
    )  # fmt: skip
    run(_until_quit(recording, options, as_json=as_json))


async def _until_quit(recording: EcgRecord, options: RadioOptions, *, as_json: bool) -> None:
    """Keep the device on the air until `quit` is typed or a signal ends it; each event is a line on standard output.

    Raises
    ------
    LinkError
        A package or program is missing, or another simulator of this account runs.
    """
    import asyncio

    from edge_app.session.loop import stop_on_signals
    from firmware_bridge.sim.air.radio import serve
    from firmware_bridge.sim.server import COMMANDS

    def told(event: str, /, **details: Any) -> None:
        if as_json:
            say_json_line({"event": event, **details})
        else:
            say(f"{event}{''.join(f' {name}={value}' for name, value in details.items())}")

    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with serve(recording, options, on_event=told) as radio:
            kind = type(radio.device).__name__
            if as_json:
                say_json_line({"event": "ready", "bus": radio.bus, "name": options.shown_name, "device": kind})
            else:
                source = f" of {recording.device}" if recording.device else ""
                repeats = ", repeated" if options.loop else ""
                say(
                    f"{options.shown_name} is on the air ({kind}): {recording.duration_s:.0f} s{source} at "
                    f"{options.speed:g} x real time{repeats}; {'with' if options.key else 'without'} a key. A simulation: "
                    "no person, no device."
                )
                say("In another terminal: edge_app devices record --seconds 30")
                say(f"Commands: {', '.join(COMMANDS)}, quit")
            commands = asyncio.create_task(_obey_lines(radio, stop, told))
            await stop.wait()
            commands.cancel()
            await asyncio.gather(commands, return_exceptions=True)
            if as_json:
                say_json_line({"event": "report", **radio.report()})


async def _obey_lines(radio: Radio, stop: asyncio.Event, told: Callable[..., None]) -> None:
    """Obey what is typed. The end of standard input is no command: a simulator in the background has none."""
    import asyncio

    from firmware_bridge.sim.server import obey

    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (OSError, ValueError):  # /dev/null, a file: nobody types there
        return
    try:
        while raw := await reader.readline():
            line = raw.decode(errors="replace").strip()
            if line in _QUIT:
                stop.set()
            elif line and (wrong := await obey(radio, line)):
                told("unknown_command", message=wrong)
    finally:
        transport.close()
