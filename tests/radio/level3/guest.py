"""What a program inside the emulated machine needs beside the application: the radio process, the adapter, the service."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from dbus_fast import BusType, Message, Variant
from dbus_fast.aio import MessageBus

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV
from lsemvae.ecg.errors import LinkError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.read import read_record

# The kernel and the service have it after three seconds where the processor is free; it seldom is.
APPEARS_WITHIN_S: Final = 60.0

# Of the virtual device that wants an encrypted link; it protects nothing.
LOCKED_KEY: Final = DeviceKey(name="E6L-LOCK", secret=bytes(range(32)))


class Air:
    """The radio process (`tests.radio.level3.radio`); commands are answered one by one.

    Parameters
    ----------
    record
        What the virtual device replays.
    log
        Gets what the process says on standard error.

    Attributes
    ----------
    device
        Class of the virtual device: "CoreDevice" or "VirtualDevice".
    locked
        Address of the second device, which wants an encrypted link and has `LOCKED_KEY`.
    """

    def __init__(self, record: Path, *, log: Path) -> None:
        command = [sys.executable, "-B", "-m", "tests.radio.level3.radio", "--record", str(record)]
        command += ["--key", LOCKED_KEY.to_text()]
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        ready = self._answer()
        self.device, self.locked = str(ready["device"]), str(ready["locked"])
        self.source = read_record(record)

    def tell(self, command: str) -> dict[str, Any]:
        """Give a command; returns the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def faults(self, **faults: float) -> None:
        """Faults from now on, and none of the earlier ones."""
        self.tell(f"faults {json.dumps(faults)}")

    def unplug(self) -> None:
        """Take the adapter away."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def differing(self, record: EcgRecord, *, restarted: bool) -> int:
        """Received samples that are not the source's within one step; a restarted device began again after the gap."""
        index = np.arange(record.n_samples)
        if restarted:
            index[record.gaps[-1].stop :] -= record.gaps[-1].stop
        index %= self.source.n_samples
        rows = [self.source.leads.index(lead) for lead in ("I", "II")]
        expected = self.source.samples[rows][:, index] * self.source.lsb_uv
        offset_uv = np.array(record.offset_uv) - np.array(ELECTRODE_OFFSET_UV)
        found = record.samples * record.lsb_uv + offset_uv[:, None]
        received = np.ones(record.n_samples, dtype=bool)
        for gap in record.gaps:
            received[gap.start : gap.stop] = False
        return int((np.abs(found - expected)[:, received] > record.lsb_uv).sum())


async def adapter(*, powered: bool) -> bool:
    """Switch the adapter; False if there is none."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        body = ["org.bluez.Adapter1", "Powered", Variant("b", powered)]
        reply = await bus.call(
            Message(
                destination="org.bluez", path="/org/bluez/hci0", interface="org.freedesktop.DBus.Properties",
                member="Set", signature="ssv", body=body,
            )
        )  # fmt: skip
        return reply is not None and reply.error_name is None
    finally:
        bus.disconnect()


async def adapter_appears(within_s: float = APPEARS_WITHIN_S) -> bool:
    """Wait for an adapter and switch it on; False if there is none in time."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        with suppress(Exception):
            if await adapter(powered=True):
                return True
        await asyncio.sleep(0.5)
    return False


async def bonds() -> dict[str, dict[str, bool]]:
    """What the service says of each device it knows: paired, bonded, trusted."""
    told = ("Paired", "Bonded", "Trusted")
    found: dict[str, dict[str, bool]] = {}
    for interfaces in (await _objects()).values():
        device = interfaces.get("org.bluez.Device1")
        if device is not None:
            found[device["Address"].value] = {name: device[name].value for name in told if name in device}
    return found


async def forget_device(address: str) -> None:
    """Have the service remove a device with its keys."""
    path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
    await _call(
        Message(
            destination="org.bluez", path="/org/bluez/hci0", interface="org.bluez.Adapter1", member="RemoveDevice",
            signature="o", body=[path],
        )
    )  # fmt: skip


async def _objects() -> dict[str, dict[str, dict[str, Variant]]]:
    reply = await _call(
        Message(
            destination="org.bluez", path="/", interface="org.freedesktop.DBus.ObjectManager",
            member="GetManagedObjects",
        )
    )  # fmt: skip
    objects: dict[str, dict[str, dict[str, Variant]]] = reply.body[0]
    return objects


async def _call(message: Message) -> Message:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        reply = await bus.call(message)
    finally:
        bus.disconnect()
    if reply is None or reply.error_name is not None:
        raise LinkError(f"{message.member}: found {reply and reply.error_name}, expected an answer")
    return reply


def pids(program: str) -> list[int]:
    """Processes of a program by its name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it may end while it is looked at
            if path.read_text().strip() == program:
                found.append(int(path.parent.name))
    return found
