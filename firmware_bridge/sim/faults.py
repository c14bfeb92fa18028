"""What a bad radio does to live frames, from a seed: the same seed gives the same faults."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from firmware_bridge.sim.device import Channel, Notification


class LinkAction(Enum):
    """What happens to the link, or to the device, after a frame."""

    DISCONNECT = "disconnect"
    POWER_OFF = "power_off"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults, how often.

    Attributes
    ----------
    drop, corrupt, swap, duplicate, delay
        Probability per live frame; `swap` sends it after the next one, `delay` after the next `delay_frames`.
    disconnect_at, power_off_at, hang_at
        Number of the live frame (1 = first) after which the link is cut, the device loses power, or falls silent with
        the link up.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    swap: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_frames: int = 5
    disconnect_at: int | None = None
    power_off_at: int | None = None
    hang_at: int | None = None
    seed: int = 1


class FaultInjector:
    """Applies faults to what a device sends; control and status pass, as the link layer acknowledges them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._held: list[tuple[int, Notification]] = []
        self._frames = 0
        self.counts: Counter[str] = Counter()

    def apply(self, notifications: Iterable[Notification]) -> list[Notification]:
        """What leaves the antenna."""
        sent: list[Notification] = []
        for notification in notifications:
            sent.extend(self._one(notification) if notification.channel is Channel.LIVE else [notification])
        return sent

    def action(self) -> LinkAction | None:
        """What is due by now; each is reported once."""
        due = self._due()
        if due is not None:
            self.counts[due.value] += 1
        return due

    def _due(self) -> LinkAction | None:
        at = {
            LinkAction.DISCONNECT: self._faults.disconnect_at,
            LinkAction.POWER_OFF: self._faults.power_off_at,
            LinkAction.HANG: self._faults.hang_at,
        }
        reached = (action for action, frame in at.items() if frame is not None and self._frames >= frame)
        return next((action for action in reached if not self.counts[action.value]), None)

    def _one(self, notification: Notification) -> list[Notification]:
        if self._due() is not None:
            return []  # acquired in the same moment, but the link is gone
        self._frames += 1
        kind = self._draw()
        self.counts[kind] += 1
        if kind == "drop":
            return self._released()
        if kind in ("swap", "delay"):
            wait = 1 if kind == "swap" else self._faults.delay_frames
            released = self._released()
            self._held.append((self._frames + wait, notification))
            return released
        if kind == "corrupt":
            notification = Notification(notification.channel, self._flip_bit(notification.data))
        copies = [notification] * (2 if kind == "duplicate" else 1)
        return [*copies, *self._released()]

    def _draw(self) -> str:
        point = self._random.random()
        for kind in ("drop", "corrupt", "swap", "duplicate", "delay"):
            point -= getattr(self._faults, kind)
            if point < 0:
                return kind
        return "clean"

    def _flip_bit(self, data: bytes) -> bytes:
        bit = self._random.randrange(len(data) * 8)
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    def _released(self) -> list[Notification]:
        ready = [notification for due, notification in self._held if due <= self._frames]
        self._held = [(due, notification) for due, notification in self._held if due > self._frames]
        return ready
