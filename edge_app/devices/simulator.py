"""A simulated device on the air, with somebody at its switches: lines on standard input are commands."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

from edge_app.session.live import stop_on_signals
from firmware_bridge.sim.air.radio import serve
from firmware_bridge.sim.server import COMMANDS, obey
from lsemvae.terminal.console import say, say_json_line

if TYPE_CHECKING:
    from firmware_bridge.sim.air.radio import Radio, RadioOptions
    from lsemvae.ecg.record import EcgRecord

__all__ = ["simulate_until_quit"]

_QUIT: Final = ("quit", "exit", "q")


async def simulate_until_quit(recording: EcgRecord, options: RadioOptions, *, as_json: bool) -> None:
    """Keep the device on the air until `quit` is typed or a signal ends it; each event is a line on standard output.

    Raises
    ------
    LinkError
        A package or program is missing, or another simulator of this account runs.
    """

    def told(event: str, /, **details: Any) -> None:
        if as_json:
            say_json_line({"event": event, **details})
        else:
            say(f"{event}{''.join(f' {name}={value}' for name, value in details.items())}")

    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with serve(recording, options, on_event=told) as radio:
            _introduce(recording, options, radio, as_json=as_json)
            commands = asyncio.create_task(_obey_lines(radio, stop, told))
            await stop.wait()
            commands.cancel()
            await asyncio.gather(commands, return_exceptions=True)
            if as_json:
                say_json_line({"event": "report", **radio.report()})


def _introduce(recording: EcgRecord, options: RadioOptions, radio: Radio, *, as_json: bool) -> None:
    kind = type(radio.device).__name__
    if as_json:
        say_json_line({"event": "ready", "bus": radio.bus, "name": options.shown_name, "device": kind})
        return
    source = f" of {recording.device}" if recording.device else ""
    repeats = ", repeated" if options.loop else ""
    say(
        f"{options.shown_name} is on the air ({kind}): {recording.duration_s:.0f} s{source} at {options.speed:g} x "
        f"real time{repeats}; {'with' if options.key else 'without'} a key. A simulation: no person, no device."
    )
    say("In another terminal: edge_app devices record --seconds 30")
    say(f"Commands: {', '.join(COMMANDS)}, quit")


async def _obey_lines(radio: Radio, stop: asyncio.Event, told: Any) -> None:
    """Obey what is typed. The end of standard input is no command: a simulator in the background has none."""
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
