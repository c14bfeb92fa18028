"""The test radio as a library: a private D-Bus, a user-space org.bluez and virtual devices on the air beside it.

`serve` runs it, its options are `RadioOptions`, and what an operator of a laboratory would do with switches and a
Faraday cage are methods of `Radio`. ``python -m firmware_bridge.sim.server`` is the same as a process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.profile import DEVICE_KEY_BYTES
from firmware_bridge.sim.air.bus import find_dbus_daemon, private_bus
from firmware_bridge.sim.air.faults import FaultInjector, Faults
from firmware_bridge.sim.air.player import DevicePlayer, OnEvent, ignore_event
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.source import SignalSource, source_from_record
from lsemvae.ecg.errors import LinkError
from lsemvae.ecg.record import EcgRecord

if TYPE_CHECKING:
    from firmware_bridge.sim.air.peripheral import BumblePeripheral
    from firmware_bridge.sim.bluezd.daemon import Bluezd

_MODULES: Final = ("bumble", "dbus_fast")
DEFAULT_NAME: Final = "E6L-0001"
# What a Raspberry Pi's BlueZ negotiates with a peer that allows it.
DEFAULT_MTU: Final = 517
LOWEST_MTU: Final = 23  # of the attribute protocol
# Random static addresses have their two highest bits set; the twins of the device count on from it.
_ADDRESS: Final = "F1:F2:F3:F4:F5:"
_LAST_OCTET: Final = 0xF6
_MOST_DEVICES: Final = 9
# A process does not know how often an earlier one was started, but a host takes an unchanged number for the same stream.
_BOOT_IDS: Final = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioOptions:
    """What is on the air.

    Attributes
    ----------
    speed
        Times real time.
    loop
        Replay the recording again after its end; otherwise the device ends the stream there.
    faults
        What the radio does to frames, and when it fails.
    name
        Advertised as far as it fits (8 bytes); None for the name in `key`, else "E6L-0001".
    key
        The device's key; None for a device that cannot prove what it is.
    core
        True for the C core of a device, False for its mirror in Python, None for the core where it can be built.
    mtu
        Attribute MTU that the host asks for.
    encrypted
        Refuse reads and writes on a link that is not encrypted, so that a host must pair.
    boot_id
        Number of the first power-on; None for one that no earlier process is likely to have had.
    devices
        So many devices of this name, at addresses that count up.
    with_adapter
        False for a machine without a Bluetooth adapter.
    bus
        Socket of the private D-Bus, so that its address is known beforehand; None for one of its own.
    """

    speed: float = 1.0
    loop: bool = True
    faults: Faults = field(default_factory=Faults)
    name: str | None = None
    key: DeviceKey | None = None
    core: bool | None = None
    mtu: int = DEFAULT_MTU
    encrypted: bool = False
    boot_id: int | None = None
    devices: int = 1
    with_adapter: bool = True
    bus: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= _MOST_DEVICES:
            raise LinkError(f"test radio: found {self.devices} devices, expected 1..{_MOST_DEVICES}")
        if not 0 < self.speed < math.inf:
            raise LinkError(f"test radio: found a speed of {self.speed:g}, expected more than 0")
        if not LOWEST_MTU <= self.mtu <= DEFAULT_MTU:
            raise LinkError(f"test radio: found an MTU of {self.mtu}, expected {LOWEST_MTU}..{DEFAULT_MTU}")

    @property
    def shown_name(self) -> str:
        """Name of the device."""
        return self.name or (self.key.name if self.key else DEFAULT_NAME)


class Radio:
    """A running test radio; its methods act on the first device unless they say otherwise.

    Attributes
    ----------
    bus
        Address of its D-Bus: what DBUS_SYSTEM_BUS_ADDRESS must be for an application to use it.
    daemon
        The user-space org.bluez.
    peripherals
        The devices on the air.
    """

    def __init__(
        self,
        bus: str,
        daemon: Bluezd,
        peripherals: tuple[BumblePeripheral, ...],
        *,
        make_impostor: Callable[[DeviceKey | None], DevicePlayer],
        on_event: OnEvent,
    ) -> None:
        self.bus = bus
        self.daemon = daemon
        self.peripherals = peripherals
        self._device = peripherals[0]
        self._genuine = peripherals[0].player
        self._make_impostor = make_impostor
        self._impostor: DevicePlayer | None = None
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def device(self) -> VirtualDevice:
        """The genuine device."""
        return self._genuine.device

    async def power_off(self) -> None:
        """Take the battery out: link, stream, ring and recordings are lost, and nothing is advertised."""
        await self._device.power_off()

    async def power_on(self) -> None:
        """Put a battery in: clock and sample numbers begin at 0 with the next START."""
        await self._device.power_on()

    async def power_cycle(self, off_s: float) -> None:
        """Switch the device off and, after so many seconds of real time, on again."""
        await self.power_off()
        await asyncio.sleep(off_s)
        await self.power_on()

    async def set_battery(self, percent: int) -> None:
        """Set the charge of the battery, %; at 0 the device is off until `power_on` gives it another one."""
        if not 0 <= percent <= 100:
            raise ValueError(f"battery: found {percent} %, expected 0..100")
        await self._device.set_battery(percent)

    async def disconnect(self) -> None:
        """Cut the link; the device goes on acquiring."""
        await self._device.player.disconnect()

    def hang(self) -> None:
        """Fall silent with the link up."""
        self._device.player.hang()

    def wake(self) -> None:
        """Go on after `hang`."""
        self._device.player.wake()

    def set_faults(self, faults: Faults) -> None:
        """Have another radio from here on; its counts begin at 0."""
        self._device.player.faults = FaultInjector(faults)

    async def impostor(self, *, on: bool, with_key: bool = True) -> None:
        """Let another device answer under name and address of the first one, or give them back.

        It describes itself in the same words, has none of its bonds, and another key or (`with_key` False) none.
        """
        await self._end_impostor()
        if on:
            other = DeviceKey(name=DEFAULT_NAME, secret=secrets.token_bytes(DEVICE_KEY_BYTES))
            self._impostor = self._make_impostor(other if with_key else None)
            self._impostor.start()
        await self._device.impersonate(self._impostor)
        self._on_event("impostor", on=on)

    def set_adapter(self, *, powered: bool) -> None:
        """Switch the host's adapter on or off."""
        self.daemon.adapter.set_powered(powered=powered)

    def fail_connects(self, n: int) -> None:
        """Abort the next `n` attempts of the host to connect."""
        self.daemon.connects_to_fail = n

    def accept_pairing(self, *, accept: bool) -> None:
        """Say whether the devices agree to a pairing request."""
        for peripheral in self.peripherals:
            peripheral.accepts_pairing = accept

    def forget_bonds(self) -> None:
        """Have the devices lose their keys, as after a reset."""
        for peripheral in self.peripherals:
            peripheral.forget_bonds()

    def report(self) -> dict[str, Any]:
        """Return counts of the daemon and of the faults, and the device's next sample."""
        faults = dict(self._genuine.faults.counts)
        return {"daemon": dict(self.daemon.counts), "faults": faults, "next": self.device.next_index}

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside what comes next, for example a `power_cycle`; it ends with the radio."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end_impostor()
        await self._genuine.close()
        for twin in self.peripherals[1:]:
            await twin.player.close()
        self.daemon.bus.disconnect()

    async def _end_impostor(self) -> None:
        impostor, self._impostor = self._impostor, None
        if impostor is not None:
            await impostor.close()


def check_radio_requirements() -> None:
    """Raise a `LinkError` that names what the test radio needs and this machine lacks: the extra ``sim``, dbus-daemon."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        message = f"test radio: found no module {', '.join(missing)}, expected {', '.join(_MODULES)}"
        raise LinkError(message, advice="Install the extra: pip install 'lsemvae[sim]'.")
    find_dbus_daemon()


@asynccontextmanager
async def serve(
    recording: EcgRecord | SignalSource, options: RadioOptions | None = None, *, on_event: OnEvent | None = None
) -> AsyncIterator[Radio]:
    """Run a test radio whose device replays `recording`.

    Parameters
    ----------
    on_event
        Told about everything that `DevicePlayer` tells of the first device, and about "impostor"; of further devices
        with ``device=ADDRESS``.

    Raises
    ------
    LinkError
        Something needed is missing, or `options.bus` cannot be used.
    """
    check_radio_requirements()
    told: OnEvent = on_event or ignore_event
    chosen = options or RadioOptions()
    source = recording if isinstance(recording, SignalSource) else source_from_record(recording, loop=chosen.loop)
    with ExitStack() as stack:
        bus = await asyncio.to_thread(stack.enter_context, private_bus(chosen.bus))
        radio = _build(bus, source, chosen, on_event=told)
        try:
            await radio.daemon.start(bus, with_adapter=chosen.with_adapter)
            for peripheral in radio.peripherals:
                await peripheral.start()
            yield radio
        finally:
            await radio.close()


def _build(bus: str, source: SignalSource, options: RadioOptions, *, on_event: OnEvent) -> Radio:
    from bumble.link import LocalLink

    from firmware_bridge.sim.air.peripheral import BumblePeripheral
    from firmware_bridge.sim.bluezd.daemon import Bluezd

    link = LocalLink()  # type: ignore[no-untyped-call]
    boot_id = secrets.randbelow(_BOOT_IDS) if options.boot_id is None else options.boot_id

    def player(key: DeviceKey | None, *, boot_id: int, faults: Faults, on_event: OnEvent) -> DevicePlayer:
        device = make_device(source, core=options.core, key=key, boot_id=boot_id)
        return DevicePlayer(device, faults=faults, speed=options.speed, on_event=on_event)

    def peripheral(number: int) -> BumblePeripheral:
        address = f"{_ADDRESS}{_LAST_OCTET + number:02X}"
        told: OnEvent = partial(on_event, device=address) if number else on_event
        playing = player(options.key, boot_id=boot_id, faults=options.faults, on_event=told)
        return BumblePeripheral(
            playing, link=link, name=options.shown_name, address=address, encrypted=options.encrypted
        )

    peripherals = tuple(peripheral(number) for number in range(options.devices))

    def impostor(key: DeviceKey | None) -> DevicePlayer:
        """Return another device that says the same of itself as the first one does now."""
        told: OnEvent = partial(on_event, impostor=True)
        genuine = radio.device.descriptor
        return player(key, boot_id=genuine.boot_id, faults=Faults(), on_event=told)

    radio = Radio(bus, Bluezd(link=link, mtu=options.mtu), peripherals, make_impostor=impostor, on_event=on_event)
    return radio
