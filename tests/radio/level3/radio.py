# mypy: allow-untyped-calls
# (Bumble's LocalLink has no annotations.)
"""The air of the emulated machine: ``python -m tests.radio.level3.radio --record FILE``, inside the guest.

One Bumble controller becomes the machine's adapter through the kernel's /dev/vhci, another one belongs to the virtual
device; between them is a link in this process. With ``--key`` there is a second device, which has that key and refuses a
link without encryption; it is off until "locked on" switches it on and the other one off. The first line on standard
output is ``{"event": "ready", ...}``; commands are lines on standard input: faults JSON, disconnect, power_off, power_on,
hang, wake, forget_bonds, locked on|off, report, quit. Each is answered with a line. When standard input ends the adapter is
unplugged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

from bumble import hci
from bumble.controller import Controller
from bumble.link import LocalLink
from bumble.transport import open_transport

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.air.faults import FaultInjector, Faults
from firmware_bridge.sim.air.peripheral import BumblePeripheral
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.source import SignalSource, source_from_record
from lsemvae.formats.read import read_record

# The kernel uses both as soon as an adapter claims them, and Bumble's controller has them in part only.
_UNCLAIMED: Final = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING

_LOCKED_ADDRESS: Final = "F1:F2:F3:F4:F5:F7"


class _Radio:
    def __init__(self, open_device: BumblePeripheral, locked: BumblePeripheral | None) -> None:
        self._open = self._peripheral = open_device
        self._locked = locked

    @property
    def _player(self) -> DevicePlayer:
        return self._peripheral.player

    async def obey(self, command: str, argument: str) -> dict[str, Any]:
        """Carry out one command; returns the answer."""
        if command == "faults":
            self._player.faults = FaultInjector(Faults(**json.loads(argument or "{}")))
        elif command == "disconnect":
            await self._player.disconnect()
        elif command in ("power_off", "power_on"):
            await getattr(self._peripheral, command)()
        elif command in ("hang", "wake"):
            getattr(self._player, command)()
        elif command == "forget_bonds":
            self._peripheral.forget_bonds()
        elif command == "locked" and self._locked is not None and argument in ("on", "off"):
            await self._peripheral.power_off()
            self._peripheral = self._locked if argument == "on" else self._open
            await self._peripheral.power_on()
        elif command != "report":
            return {"event": "unknown_command", "found": command}
        return {"event": command, "faults": dict(self._player.faults.counts), "next": self._player.device.next_index}


def main(argv: Sequence[str] | None = None) -> int:
    """Run until standard input ends."""
    asyncio.run(_serve(_parser().parse_args(argv)))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    link = LocalLink()
    source = source_from_record(read_record(options.record))
    device = make_device(source)
    peripheral = BumblePeripheral(DevicePlayer(device, speed=options.speed), link=link, name=options.name)
    await peripheral.start()
    locked = None if options.key is None else await _start_locked(source, DeviceKey.parse(options.key), options, link)
    # Last: the kernel resets an adapter as soon as it appears and gives it up for good if the answer takes seconds.
    async with await open_transport("vhci") as transport:
        adapter = Controller("adapter", host_source=transport.source, host_sink=transport.sink, link=link)
        adapter.le_features &= ~_UNCLAIMED
        radio = _Radio(peripheral, locked)
        _say({"event": "ready", "device": type(device).__name__, "locked": _LOCKED_ADDRESS if locked else None})
        async for line in _lines():
            command, _, argument = line.partition(" ")
            if command == "quit":
                break
            _say(await radio.obey(command, argument))
    for one in (peripheral, locked):
        if one is not None:
            await one.player.close()


async def _start_locked(
    source: SignalSource, key: DeviceKey, options: argparse.Namespace, link: LocalLink
) -> BumblePeripheral:
    device = make_device(source, key=key)
    device.power_off()
    player = DevicePlayer(device, speed=options.speed)
    locked = BumblePeripheral(player, link=link, name=key.name, address=_LOCKED_ADDRESS, encrypted=True)
    await locked.start()
    return locked


async def _lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while raw := await reader.readline():
        yield raw.decode().strip()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.radio.level3.radio", description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, required=True, help="recording to replay (.ecg.npz, .csv, WFDB)")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--key", help="text of the QR code of a second device, which wants an encrypted link")
    parser.add_argument("--name", default="E6L-0001", help="name in the advertisement")
    return parser


if __name__ == "__main__":
    sys.exit(main())
