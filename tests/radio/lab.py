# mypy: allow-untyped-calls
# (Bumble's LocalLink has no annotations.)
"""A Bluetooth laboratory in the test's own event loop: bus, bluetoothd and devices that the test holds in its hands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from bumble import hci
from bumble.controller import Controller
from bumble.core import AdvertisingData
from bumble.device import Device, DeviceConfiguration
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

from edge_app.link.ble import scan as ble_scan
from firmware_bridge.sim.air.bus import BUS_VARIABLE, find_dbus_daemon
from firmware_bridge.sim.air.peripheral import BumblePeripheral
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.bluezd.daemon import Bluezd
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.source import source_from_record
from lsemvae.ecg.record import record_from_physical

_T = TypeVar("_T")
FIRST, SECOND, STRANGER = "F1:F2:F3:F4:F5:F6", "F1:F2:F3:F4:F5:F7", "F1:F2:F3:F4:F5:F8"
_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/>{denied}</policy>
</busconfig>
"""
# The devices here advertise ten times a second.
_SECOND_LOOK_S = 0.25
_NO_BLUEZ = '<deny send_destination="org.bluez"/>'


class Bus:
    """A system bus that can be killed and started again at the same address."""

    def __init__(self, folder: Path, *, bluez_denied: bool = False) -> None:
        self._socket = folder / "bus"
        self._configuration = folder / "bus.conf"
        denied = _NO_BLUEZ if bluez_denied else ""
        self._configuration.write_text(_CONFIGURATION.format(path=self._socket, denied=denied))
        self.address = f"unix:path={self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [find_dbus_daemon(), f"--config-file={self._configuration}", "--print-address=1", "--nofork"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdout is not None
            process.send_signal(signal.SIGKILL)
            process.stdout.close()
            process.wait()
        self._socket.unlink(missing_ok=True)


class Lab:
    """What a test can do to the air, the service and the bus."""

    def __init__(self, bus: Bus, link: LocalLink, daemon: Bluezd) -> None:
        self.bus = bus
        self.daemon = daemon
        self._link = link
        self._players: list[DevicePlayer] = []

    async def device(
        self, *, name: str = "E6L-0001", address: str = FIRST, encrypted: bool = False
    ) -> BumblePeripheral:
        """Switch a device on."""
        signal_uv = np.random.default_rng(0).normal(0, 100, (2, 5000))
        record = record_from_physical(signal_uv, unit="uV", fs_hz=500.0, leads=("I", "II"))
        player = DevicePlayer(make_device(source_from_record(record), core=False))
        peripheral = BumblePeripheral(player, link=self._link, name=name, address=address, encrypted=encrypted)
        await peripheral.start()
        self._players.append(player)
        return peripheral

    async def stranger(self, name: str) -> None:
        """Switch a device on that no driver knows."""
        controller = Controller(name, link=self._link)
        configuration = DeviceConfiguration(
            name=name, address=hci.Address(STRANGER), advertising_interval_min=100, advertising_interval_max=100
        )
        device = Device.from_config_with_hci(configuration, controller, AsyncPipeSink(controller))
        fields = [(AdvertisingData.Type.FLAGS, bytes([6])), (AdvertisingData.Type.COMPLETE_LOCAL_NAME, name.encode())]
        device.advertising_data = bytes(AdvertisingData([(int(kind), data) for kind, data in fields]))
        await device.power_on()
        await device.start_advertising(auto_restart=False)

    async def close(self) -> None:
        for player in self._players:
            await player.close()
        await self.daemon.crash()


@asynccontextmanager
async def laboratory(*, with_adapter: bool = True, bluez_denied: bool = False) -> AsyncIterator[Lab]:
    """A running laboratory without devices; the process's system bus is its bus meanwhile."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        bus = Bus(Path(folder), bluez_denied=bluez_denied)
        patch.setitem(os.environ, BUS_VARIABLE, bus.address)
        patch.setattr(ble_scan, "SECOND_LOOK_S", _SECOND_LOOK_S)
        bus.start()
        link = LocalLink()
        lab = Lab(bus, link, Bluezd(link=link))
        try:
            await lab.daemon.start(bus.address, with_adapter=with_adapter)
            yield lab
        finally:
            await lab.close()
            bus.kill()


def run(scenario: Coroutine[Any, Any, _T], *, seconds: float = 60.0) -> _T:
    """Run a scenario that must end."""
    return asyncio.run(asyncio.wait_for(scenario, seconds))
