"""Pairing over BlueZ: LE Secure Connections without display and buttons ("Just Works").

bluetoothd pairs only where an agent answers for the user. Without one, a read that needs encryption is never answered.
The agent here agrees to one device, while that is being connected, and to no other.

Just Works keeps listeners out, but does not say who is at the other end: that is what the key on the device's case is
for (AUTHENTICATE). So a bond that the device has lost may be replaced without asking anybody.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final

from bleak.exc import BleakDBusError
from dbus_fast import DBusError, Variant
from dbus_fast.annotations import DBusObjectPath, DBusSignature, DBusStr, DBusUInt16, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method

from edge_app.link.ble.bus import ADAPTER, DEVICE, BluezBus
from edge_app.link.radio_errors import PairingError

_LOGGER = logging.getLogger(__name__)

# The security manager of either side gives up after 30 s (Core Specification, volume 3, part H, 3.4).
PAIR_S: Final = 35.0
_AGENT_PATH: Final = "/org/e6l/agent"
_MANAGER_PATH: Final = "/org/bluez"
_MANAGER: Final = "org.bluez.AgentManager1"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_REJECTED: Final = "org.bluez.Error.Rejected"
_TRUE: Final = Variant("b", True)  # noqa: FBT003 (the library's signature)
_ALREADY: Final = "org.bluez.Error.AlreadyExists"
# What Pair ends with when the other side, or the link under it, does not want.
_REFUSALS: Final = (
    "org.bluez.Error.AuthenticationFailed",
    "org.bluez.Error.AuthenticationCanceled",
    "org.bluez.Error.AuthenticationRejected",
    "org.bluez.Error.AuthenticationTimeout",
)
# A plain None is not understood where annotations are evaluated late.
_Nothing = Annotated[None, DBusSignature("")]


class PairingAgent(ServiceInterface):
    """Answers bluetoothd for one device; it has no display and no buttons, so it can only agree or not."""

    def __init__(self, device_path: str) -> None:
        super().__init__("org.bluez.Agent1")
        self._device_path = device_path

    @dbus_method()
    def Release(self) -> _Nothing:  # noqa: N802 (BlueZ's name)
        """Do nothing: bluetoothd does not need the agent any more."""

    @dbus_method()
    def Cancel(self) -> _Nothing:  # noqa: N802 (BlueZ's name)
        """Do nothing: what was asked does not matter any more."""

    @dbus_method()
    def RequestAuthorization(self, device: DBusObjectPath) -> _Nothing:  # noqa: N802 (BlueZ's name)
        """Agree to a pairing that the device began."""
        self._only_ours(device)

    @dbus_method()
    def AuthorizeService(self, device: DBusObjectPath, _uuid: DBusStr) -> _Nothing:  # noqa: N802 (BlueZ's name)
        """Agree to the use of a service."""
        self._only_ours(device)

    @dbus_method()
    def RequestConfirmation(self, _device: DBusObjectPath, _passkey: DBusUInt32) -> _Nothing:  # noqa: N802
        """Refuse: nobody can compare two numbers here."""
        raise DBusError(_REJECTED, "no display")

    @dbus_method()
    def RequestPinCode(self, _device: DBusObjectPath) -> DBusStr:  # noqa: N802 (BlueZ's name)
        """Refuse: PINs belong to older Bluetooth, and there is nobody to type one."""
        raise DBusError(_REJECTED, "no keyboard")

    @dbus_method()
    def RequestPasskey(self, _device: DBusObjectPath) -> DBusUInt32:  # noqa: N802 (BlueZ's name)
        """Refuse: there is nobody to type it."""
        raise DBusError(_REJECTED, "no keyboard")

    @dbus_method()
    def DisplayPinCode(self, _device: DBusObjectPath, _pin: DBusStr) -> _Nothing:  # noqa: N802 (BlueZ's name)
        """Refuse: there is no display."""
        raise DBusError(_REJECTED, "no display")

    @dbus_method()
    def DisplayPasskey(self, _device: DBusObjectPath, _passkey: DBusUInt32, _entered: DBusUInt16) -> _Nothing:  # noqa: N802
        """Do nothing: there is no display."""

    def _only_ours(self, device: str) -> None:
        if device != self._device_path:
            raise DBusError(_REJECTED, "another device")


@asynccontextmanager
async def agent_for(bus: BluezBus, device_path: str) -> AsyncIterator[None]:
    """Answer for one device as long as the block runs.

    The agent is the default one meanwhile, because bleak connects over a bus connection of its own; a desktop's agent
    is the default again afterwards.
    """
    bus.export(_AGENT_PATH, PairingAgent(device_path))
    try:
        await bus.call(_MANAGER_PATH, _MANAGER, "RegisterAgent", "os", (_AGENT_PATH, "NoInputNoOutput"))
        try:
            await bus.call(_MANAGER_PATH, _MANAGER, "RequestDefaultAgent", "o", (_AGENT_PATH,))
            yield
        finally:
            with suppress(BleakDBusError, OSError, EOFError):
                await bus.call(_MANAGER_PATH, _MANAGER, "UnregisterAgent", "o", (_AGENT_PATH,))
    finally:
        bus.unexport(_AGENT_PATH)


async def pair(bus: BluezBus, device_path: str) -> bool:
    """Pair with a connected device unless that was done before, and trust it; return whether it was paired just now."""
    paired = not (await bus.device(device_path)).get("Paired", False)
    if paired:
        try:
            await bus.call(device_path, DEVICE, "Pair", seconds=PAIR_S)
            _LOGGER.info("paired with %s", device_path)
        except TimeoutError as exc:
            raise PairingError(f"pairing: found no answer in {PAIR_S:g} s, expected one") from exc
        except BleakDBusError as exc:
            if exc.dbus_error in _REFUSALS:
                said = str(exc.dbus_error_details or exc.dbus_error)
                raise PairingError(f"pairing: found a refusal ({said}), expected the device to agree") from exc
            if exc.dbus_error != _ALREADY:
                raise
    await bus.call(device_path, _PROPERTIES, "Set", "ssv", (DEVICE, "Trusted", _TRUE))
    return paired


async def is_bonded(bus: BluezBus, device_path: str) -> bool:
    """Return whether BlueZ keeps keys of the device."""
    device = await bus.device(device_path)
    return bool(device.get("Bonded", device.get("Paired", False)))


async def forget(bus: BluezBus, device_path: str) -> None:
    """Remove a device with its keys; it is there again as soon as a scan sees it."""
    adapter_path = device_path.rpartition("/")[0]
    await bus.call(adapter_path, ADAPTER, "RemoveDevice", "o", (device_path,))
