"""Gives a virtual device a clock, a radio that fails and a link: the one place where simulated time passes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

from firmware_bridge.protocol.control import decode_reply, decode_request, decode_start
from firmware_bridge.protocol.profile import Op, ReplyStatus, StartFlag
from firmware_bridge.sim.air.faults import FaultInjector, Faults, LinkAction
from firmware_bridge.sim.device.device import Notification, VirtualDevice

_LOGGER = logging.getLogger(__name__)

# How often an idle device looks at its clock (real seconds): short against the 50 ms of a frame.
_IDLE_S: Final = 0.02


class Link(Protocol):
    """The way to a connected host."""

    @property
    def mtu(self) -> int:
        """Largest attribute packet, bytes."""
        ...

    async def send(self, notification: Notification) -> None:
        """Send on a characteristic; what nobody subscribed to is dropped."""
        ...

    async def drop(self) -> None:
        """Cut the link."""
        ...


class OnEvent(Protocol):
    """Told what happens to a device: the name of the event, and figures by name."""

    def __call__(self, event: str, /, **details: Any) -> None:
        """Take note."""
        ...


class DevicePlayer:
    """Plays a device at `speed` times real time; the device's clock begins at 0 whenever it gets power.

    Parameters
    ----------
    on_event
        Told about "connected", "disconnected", "stream", "power_off", "power_on", "battery" (`percent`), "hang",
        "wake" and "disconnect"; for logs and tests. "stream" says with which sample of its source a stream begins or
        goes on (`source_index`; `resumed`), and the device's `boot_id`.
    """

    def __init__(
        self,
        device: VirtualDevice,
        *,
        faults: Faults | None = None,
        speed: float = 1.0,
        on_event: OnEvent | None = None,
    ) -> None:
        self.device = device
        self.faults = FaultInjector(faults or Faults())
        self._speed = speed
        self._on_event: OnEvent = on_event or ignore_event
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._hanging = False
        self._powered_at_s: float | None = None

    @property
    def speed(self) -> float:
        """Times real time."""
        return self._speed

    def start(self) -> None:
        """Let time pass."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="virtual-device")

    async def close(self) -> None:
        """Stop time."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def attach(self, link: Link) -> None:
        """Take up the link of a host that connected."""
        self._link = link
        self.device.link_up(mtu=link.mtu)
        self._on_event("connected")

    def detach(self, link: Link | None = None) -> None:
        """Give up the link; with `link`, only if it is still the current one."""
        if self._link is not None and link in (None, self._link):
            self._link = None
            self.device.link_down()
            self._on_event("disconnected")

    async def control(self, request: bytes) -> None:
        """Handle a write to the control characteristic."""
        if self._hanging or self._link is None:
            return
        self.device.link_up(mtu=self._link.mtu)  # the MTU may have been negotiated after the connection
        now_us = self._now_us()
        await self._send(self.device.advance(now_us))  # what was acquired while nobody listened was not sent
        answer = self.device.control(request, now_us=now_us)
        asked_to_start = request[:1] == bytes((Op.START,)) and bool(answer)
        if asked_to_start and decode_reply(answer[0].data).status is ReplyStatus.OK:
            flags = decode_start(decode_request(request).params).flags
            self._on_event(
                "stream",
                source_index=self.device.next_index,
                resumed=bool(flags & StartFlag.RESUME),
                boot_id=self.device.descriptor.boot_id,
            )
        await self._send(answer)

    async def power_off(self) -> None:
        """Take the battery out: the link is lost with the ring."""
        self.device.power_off()
        await self._without_power()

    async def set_battery(self, percent: int) -> None:
        """Set the charge of the battery, which the status tells; at 0 % the device is off until it gets another one."""
        self.device.set_battery(percent)
        self._on_event("battery", percent=percent)
        if not self.device.powered:
            await self._without_power()

    def power_on(self) -> None:
        """Put a battery in, a full one in the place of an empty one; nothing happens to a device that is on."""
        if self.device.powered:
            return
        self.device.power_on()
        self._powered_at_s = None
        self._on_event("power_on", boot_id=self.device.descriptor.boot_id)

    async def disconnect(self) -> None:
        """Cut the link; acquisition goes on."""
        self._on_event("disconnect")
        await self._drop()

    def hang(self) -> None:
        """Fall silent with the link up, as a crashed firmware does."""
        self._hanging = True
        self._on_event("hang")

    def wake(self) -> None:
        """Go on after `hang`; what was acquired meanwhile was not sent and lies in the ring."""
        self._hanging = False
        self._on_event("wake")

    async def _without_power(self) -> None:
        self._hanging = False
        self._on_event("power_off")
        await self._drop()

    async def _drop(self) -> None:
        link = self._link
        self.detach()
        if link is not None:
            await link.drop()

    async def _run(self) -> None:
        while True:
            await self._send(self.device.advance(self._now_us()))
            action = self.faults.action()
            if action is LinkAction.DISCONNECT:
                await self.disconnect()
            elif action is LinkAction.POWER_OFF:
                await self.power_off()
            elif action is LinkAction.BATTERY_DEAD:
                await self.set_battery(0)
            elif action is LinkAction.HANG:
                self.hang()
            due = self.device.next_due_us()
            wait = _IDLE_S if due is None else min(_IDLE_S, max(0.0, (due - self._now_us()) / 1e6 / self._speed))
            await asyncio.sleep(wait)

    async def _send(self, notifications: list[Notification]) -> None:
        if self._hanging:
            return
        async with self._sending:
            for notification in self.faults.apply(notifications):
                if self._link is None:
                    continue
                try:
                    await self._link.send(notification)
                except (TimeoutError, ConnectionError) as exc:
                    _LOGGER.debug("not sent on %s: %r", notification.channel.value, exc)

    def _now_us(self) -> int:
        now_s = asyncio.get_running_loop().time()
        if self._powered_at_s is None:
            self._powered_at_s = now_s
        return round((now_s - self._powered_at_s) * 1e6 * self._speed)


def ignore_event(_event: str, /, **_details: Any) -> None:
    """Take no note."""
