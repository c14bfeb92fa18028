"""The test radio as a process: ``python -m firmware_bridge.sim.server --record FILE``.

Runs a private D-Bus, a user-space org.bluez and a virtual device that replays a recording. The first line on standard
output is ``{"event": "ready", "bus": ADDRESS, ...}``; an application started with DBUS_SYSTEM_BUS_ADDRESS set to it
finds the device through its ordinary Bluetooth code. Each further line is an event, "stream" among them: with which
sample of the recording (`source_index`) a stream begins. Commands are lines on standard input, see `COMMANDS`; end of
input or SIGTERM quits.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.air.faults import Faults, FaultsError
from firmware_bridge.sim.air.radio import (
    DEFAULT_MTU,
    DEFAULT_NAME,
    Radio,
    RadioOptions,
    check_radio_requirements,
    serve,
)
from firmware_bridge.sim.process import device_parser, end_on_sigterm, say
from lsemvae.ecg.errors import EcgError
from lsemvae.formats.read import read_record

_USER_ERROR: Final = 1
_PROBABILITIES: Final = ("drop", "corrupt", "swap", "duplicate", "delay", "garbage")

Command = Callable[[Radio, str], Awaitable[None] | None]


def _on(argument: str) -> bool:
    if argument not in ("on", "off"):
        raise ValueError(argument)
    return argument == "on"


def _power_cycle(radio: Radio, argument: str) -> None:
    off_s = float(argument)
    if not 0 <= off_s < math.inf:
        raise ValueError(argument)
    radio.spawn(radio.power_cycle(off_s))


COMMANDS: Final[Mapping[str, tuple[str, Command]]] = MappingProxyType(
    {
        "disconnect": ("cut the link", lambda radio, _: radio.disconnect()),
        "power_off": ("take the battery out", lambda radio, _: radio.power_off()),
        "power_on": ("put a battery in", lambda radio, _: radio.power_on()),
        "power_cycle": ("SECONDS: off, and on again", _power_cycle),
        "battery": ("PERCENT", lambda radio, text: radio.set_battery(int(text))),
        "battery_dead": ("the battery is empty", lambda radio, _: radio.set_battery(0)),
        "hang": ("fall silent with the link up", lambda radio, _: radio.hang()),
        "wake": ("go on after hang", lambda radio, _: radio.wake()),
        "faults": ("JSON: another radio from here on", lambda radio, text: radio.set_faults(_faults(text))),
        "impostor": (
            "on | nokey | off: another device of this name and address",
            lambda radio, text: radio.impostor(on=text == "nokey" or _on(text), with_key=text != "nokey"),
        ),
        "adapter_off": ("switch the adapter off", lambda radio, _: radio.set_adapter(powered=False)),
        "adapter_on": ("switch it on", lambda radio, _: radio.set_adapter(powered=True)),
        "fail_connect": ("N: abort the next N connections", lambda radio, text: radio.fail_connects(int(text))),
        "service_crash": ("end the Bluetooth service without a word", lambda radio, _: radio.daemon.crash()),
        "service_stop": ("stop it in good order", lambda radio, _: radio.daemon.stop()),
        "service_restart": ("start it again after either", lambda radio, _: radio.daemon.restart()),
        "pairing": ("on | off: whether the device agrees", lambda radio, text: radio.accept_pairing(accept=_on(text))),
        "forget_bonds": ("the device loses its bonds", lambda radio, _: radio.forget_bonds()),
        "report": ("say the counts", lambda radio, _: say("report", **radio.report())),
    }
)


async def obey(radio: Radio, line: str) -> str | None:
    """Carry out one line; return what is wrong with it, if anything is."""
    name, _, argument = line.strip().partition(" ")
    if name not in COMMANDS:
        return f"found {name!r}, expected one of: {', '.join(COMMANDS)}"
    try:
        work = COMMANDS[name][1](radio, argument.strip())
        if work is not None:
            await work
    except (ValueError, TypeError) as exc:
        return f"{name}: found {argument!r} ({exc}), expected {COMMANDS[name][0]}"
    except Exception as exc:  # Bumble and the bus raise anything; a laboratory goes on after a command out of place
        return f"{name}: {exc!r}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run until standard input ends; 1 if something needed is missing."""
    parser = _parser()
    given = parser.parse_args(argv)
    end_on_sigterm()
    try:
        check_radio_requirements()
        chances = {name: getattr(given, name) for name in (*_PROBABILITIES, "seed") if getattr(given, name) is not None}
        options = RadioOptions(
            speed=given.speed,
            loop=not given.once,
            faults=dataclasses.replace(given.faults, **chances),
            name=given.name,
            key=None if given.key is None else DeviceKey.parse(given.key),
            core=given.core,
            mtu=given.mtu,
            encrypted=given.encrypted,
            devices=given.devices,
            with_adapter=not given.no_adapter,
            bus=given.bus,
        )
        asyncio.run(_serve(given.record, options))
    except FaultsError as exc:
        parser.error(str(exc))
    except EcgError as exc:
        say("error", **exc.to_dict())
        return _USER_ERROR
    return 0


async def _serve(record: Path, options: RadioOptions) -> None:
    async with serve(read_record(record), options, on_event=say) as radio:
        say("ready", bus=radio.bus, name=options.shown_name, device=type(radio.device).__name__)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while raw := await reader.readline():
            line = raw.decode(errors="replace").strip()
            if line == "quit":
                break
            if line and (wrong := await obey(radio, line)):
                say("unknown_command", found=line, message=wrong)
        say("report", **radio.report())


def _faults(text: str) -> Faults:
    """Return faults from JSON; the error is a TypeError or ValueError."""
    return Faults(**json.loads(text or "{}"))


def _faults_option(text: str) -> Faults:
    try:
        return _faults(text)
    except (TypeError, ValueError) as exc:
        raise argparse.ArgumentTypeError(f"found {text} ({exc}), expected JSON of known faults") from exc


def _parser() -> argparse.ArgumentParser:
    commands = "; ".join(f"{name} ({what})" for name, (what, _command) in COMMANDS.items())
    parser = device_parser(
        "firmware_bridge.sim.server",
        description=__doc__.splitlines()[0],
        epilog=f"Lines on standard input: {commands}; quit.",
    )
    parser.add_argument("--once", action="store_true", help="end the stream after the recording instead of repeating")
    parser.add_argument("--name", help=f"name in the advertisement [default: that of the key, else {DEFAULT_NAME}]")
    parser.add_argument("--encrypted", action="store_true", help="refuse a link without encryption")
    parser.add_argument("--devices", type=int, default=1, help="so many devices of the same name")
    parser.add_argument("--bus", type=Path, metavar="PATH", help="socket of the D-Bus [default: one of its own]")
    parser.add_argument("--mtu", type=int, default=DEFAULT_MTU, help="attribute MTU that the host asks for")
    parser.add_argument("--no-adapter", action="store_true", help="a machine without a Bluetooth adapter")
    for name in _PROBABILITIES:
        parser.add_argument(f"--{name}", type=float, metavar="P", help=f"probability per frame of: {name}")
    parser.add_argument("--seed", type=int, help="of the faults")
    parser.add_argument(
        "--faults", type=_faults_option, default=Faults(), help="JSON, for example '{\"disconnect_at\": 60}'"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
