# mypy: allow-untyped-calls
# (Bumble's LocalLink has no annotations.)
"""The air of the emulated machine: ``python -m firmware_bridge.sim.vm.radio --record FILE``, inside the guest.

One Bumble controller becomes the machine's adapter through the kernel's /dev/vhci, another one belongs to the virtual
device; between them is a link in this process. The first line on standard output is ``{"event": "ready", ...}``; commands are
lines on standard input: faults JSON, disconnect, power_off, power_on, hang, wake, report, quit. Each is
answered with a line. When standard input ends the adapter is unplugged.
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

from firmware_bridge.sim.core_device import make_device
from firmware_bridge.sim.faults import FaultInjector, Faults
from firmware_bridge.sim.peripheral import BumblePeripheral
from firmware_bridge.sim.player import DevicePlayer
from firmware_bridge.sim.source import source_from_record
from lsemvae.ecg.formats import read_record

# The kernel uses both as soon as an adapter claims them, and Bumble's controller has them in part only.
_UNCLAIMED: Final = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING


class _Radio:
    def __init__(self, player: DevicePlayer, peripheral: BumblePeripheral) -> None:
        self._player = player
        self._peripheral = peripheral

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
        elif command != "report":
            return {"event": "unknown_command", "found": command}
        return {"event": command, "faults": dict(self._player.faults.counts), "next": self._player.device.next_index}


def main(argv: Sequence[str] | None = None) -> int:
    """Run until standard input ends."""
    asyncio.run(_serve(_parser().parse_args(argv)))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    link = LocalLink()
    device = make_device(source_from_record(read_record(options.record)))
    player = DevicePlayer(device, speed=options.speed)
    peripheral = BumblePeripheral(player, link=link, name=options.name)
    await peripheral.start()
    # Last: the kernel resets an adapter as soon as it appears and gives it up for good if the answer takes seconds.
    async with await open_transport("vhci") as transport:
        adapter = Controller("adapter", host_source=transport.source, host_sink=transport.sink, link=link)
        adapter.le_features &= ~_UNCLAIMED
        radio = _Radio(player, peripheral)
        _say({"event": "ready", "device": type(device).__name__})
        async for line in _lines():
            command, _, argument = line.partition(" ")
            if command == "quit":
                break
            _say(await radio.obey(command, argument))
    await player.close()


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
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.sim.vm.radio", description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, required=True, help="recording to replay (.ecg.npz, .csv, WFDB)")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--name", default="E6L-0001", help="name in the advertisement")
    return parser


if __name__ == "__main__":
    sys.exit(main())
