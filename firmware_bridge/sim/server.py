# mypy: allow-untyped-calls
# (Bumble's LocalLink has no annotations.)
"""The test radio as a process: ``python -m firmware_bridge.sim.server --record FILE``.

Runs a private D-Bus, a user-space org.bluez and a virtual device that replays a recording. The first line on standard
output is ``{"event": "ready", "bus": ADDRESS}``; an application started with DBUS_SYSTEM_BUS_ADDRESS set to it finds
the device through its ordinary Bluetooth code. Commands are lines on standard input: disconnect, power_off, power_on,
hang, wake, adapter_off, adapter_on, fail_connect N, report, quit; end of input or SIGTERM quits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from firmware_bridge.sim.bus import private_bus
from firmware_bridge.sim.core_device import make_device
from firmware_bridge.sim.faults import Faults
from firmware_bridge.sim.player import DevicePlayer
from firmware_bridge.sim.requirements import check_radio_requirements
from firmware_bridge.sim.source import source_from_record
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.formats import read_record

if TYPE_CHECKING:
    from firmware_bridge.sim.bluezd.daemon import Bluezd
    from firmware_bridge.sim.peripheral import BumblePeripheral

_USER_ERROR: Final = 1


@dataclass(frozen=True, slots=True)
class _Radio:
    peripheral: BumblePeripheral
    daemon: Bluezd

    async def obey(self, line: str) -> None:
        """Carry out one command."""
        name, _, argument = line.partition(" ")
        if name in ("power_off", "power_on"):
            await getattr(self.peripheral, name)()
        elif name == "disconnect":
            await self.peripheral.player.disconnect()
        elif name in ("hang", "wake"):
            getattr(self.peripheral.player, name)()
        elif name in ("adapter_on", "adapter_off"):
            self.daemon.adapter.set_powered(powered=name == "adapter_on")
        elif name == "fail_connect":
            self.daemon.connects_to_fail = int(argument)
        elif name == "report":
            _say("report", **self.report())
        else:
            _say("unknown_command", found=name)

    def report(self) -> dict[str, Any]:
        """Counters of the daemon and of the faults."""
        faults = dict(self.peripheral.player.faults.counts)
        return {"daemon": dict(self.daemon.counts), "faults": faults, "next": self.peripheral.player.device.next_index}


def main(argv: Sequence[str] | None = None) -> int:
    """Run until standard input ends; 1 if something needed is missing."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _leave)
    try:
        check_radio_requirements()
        with private_bus() as address:
            asyncio.run(_serve(options, address))
    except EcgError as exc:
        _say("error", **exc.to_dict())
        return _USER_ERROR
    return 0


def _leave(_signal: int, _frame: object) -> None:
    """End as after `quit`: the bus and its folder are put away on the way out."""
    raise SystemExit(0)


async def _serve(options: argparse.Namespace, address: str) -> None:
    from bumble.link import LocalLink

    from firmware_bridge.sim.bluezd.daemon import Bluezd
    from firmware_bridge.sim.peripheral import BumblePeripheral

    link = LocalLink()
    source = source_from_record(read_record(options.record), loop=not options.once)
    device = make_device(source, core=False if options.mirror else None)
    player = DevicePlayer(device, faults=Faults(**options.faults), speed=options.speed, on_event=_say)
    radio = _Radio(BumblePeripheral(player, link=link, name=options.name), Bluezd(link=link, mtu=options.mtu))
    await radio.daemon.start(address, with_adapter=not options.no_adapter)
    await radio.peripheral.start()
    _say("ready", bus=address)
    async for line in _lines():
        if line == "quit":
            break
        await radio.obey(line)
    _say("report", **radio.report())
    await player.close()


async def _lines() -> Any:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while raw := await reader.readline():
        yield raw.decode().strip()


def _say(event: str, **details: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.sim.server", description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, required=True, help="recording to replay (.ecg.npz, .csv, WFDB)")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--once", action="store_true", help="end the stream after the recording instead of repeating")
    parser.add_argument("--faults", type=json.loads, default={}, help='JSON, for example \'{"drop": 0.05, "seed": 2}\'')
    parser.add_argument("--mtu", type=int, default=517, help="attribute MTU that the host asks for")
    parser.add_argument("--name", default="E6L-0001", help="name in the advertisement")
    parser.add_argument(
        "--mirror", action="store_true", help="the device in Python [default: the C core, where it can be built]"
    )
    parser.add_argument("--no-adapter", action="store_true", help="a machine without a Bluetooth adapter")
    return parser


if __name__ == "__main__":
    sys.exit(main())
