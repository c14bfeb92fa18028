"""What a bad radio does to live and bulk frames, from a seed: the same seed gives the same faults."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Final

from firmware_bridge.sim.device.device import Channel, Notification

# Control and status are short and acknowledged: what a radio loses are frames.
_FAULTY: Final = (Channel.LIVE, Channel.BULK)
# Fits every link (MTU 23).
_GARBAGE_BYTES: Final = 20
# Each frame meets one of them at most.
_KINDS: Final = ("drop", "corrupt", "swap", "duplicate", "delay", "garbage")


class FaultsError(ValueError):
    """Probabilities that no radio can have."""


class LinkAction(Enum):
    """What happens to the link, or to the device, after a frame."""

    DISCONNECT = "disconnect"
    POWER_OFF = "power_off"
    HANG = "hang"
    BATTERY_DEAD = "battery_dead"


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults, how often.

    Attributes
    ----------
    drop, corrupt, swap, duplicate, delay
        Probability per live or bulk frame; `swap` sends it after the next one, `delay` after the next `delay_frames`.
    garbage
        Probability per such frame that random bytes follow it, on any characteristic.
    disconnect_at, power_off_at, hang_at, battery_dead_at
        Number of the live frame (1 = first) after which the link is cut, the device loses power, falls silent with the
        link up, or has an empty battery.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    swap: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    garbage: float = 0.0
    delay_frames: int = 5
    disconnect_at: int | None = None
    power_off_at: int | None = None
    hang_at: int | None = None
    battery_dead_at: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        shares = [getattr(self, kind) for kind in _KINDS]
        if min(shares) < 0 or sum(shares) > 1:
            raise FaultsError(f"faults: found probabilities {shares}, expected none below 0 and 1 in all at most")


class FaultInjector:
    """Faults in what a device sends; control and status pass, as the link layer acknowledges them.

    Attributes
    ----------
    counts
        Frames by what became of them ("clean", "drop", ...; live ones, and bulk ones as "bulk_clean", ...), packets of
        "garbage" by characteristic ("garbage_live", ...), and link actions.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._held: list[tuple[int, Notification]] = []
        self._frames = 0
        self._live_frames = 0
        self.counts: Counter[str] = Counter()

    def apply(self, notifications: Iterable[Notification]) -> list[Notification]:
        """Return what leaves the antenna."""
        sent: list[Notification] = []
        for notification in notifications:
            if notification.channel not in _FAULTY:
                sent.append(notification)
                continue
            if self._due() is not None:
                continue  # acquired in the same moment, but the link is gone
            live = notification.channel is Channel.LIVE
            self._frames += 1
            self._live_frames += live
            point = self._random.random()
            kinds = zip(_KINDS, accumulate(getattr(self._faults, kind) for kind in _KINDS), strict=True)
            kind = next((kind for kind, upper in kinds if point < upper), "clean")
            self.counts[kind if live else f"bulk_{kind}"] += 1
            due = [held for at, held in self._held if at <= self._frames]
            self._held = [(at, held) for at, held in self._held if at > self._frames]
            if kind in ("swap", "delay"):
                wait = 1 if kind == "swap" else self._faults.delay_frames
                self._held.append((self._frames + wait, notification))
            elif kind == "corrupt":
                changed = bytearray(notification.data)
                bit = self._random.randrange(len(changed) * 8)
                changed[bit // 8] ^= 1 << bit % 8
                sent.append(Notification(notification.channel, bytes(changed)))
            elif kind != "drop":
                sent += [notification] * (2 if kind == "duplicate" else 1)
            if kind == "garbage":
                channel = self._random.choice(list(Channel))
                self.counts[f"garbage_{channel.value}"] += 1
                sent.append(Notification(channel, self._random.randbytes(self._random.randint(1, _GARBAGE_BYTES))))
            sent += due
        return sent

    def action(self) -> LinkAction | None:
        """Return what is due by now; each is reported once."""
        due = self._due()
        if due is not None:
            self.counts[due.value] += 1
        return due

    def _due(self) -> LinkAction | None:
        at = {
            LinkAction.DISCONNECT: self._faults.disconnect_at,
            LinkAction.POWER_OFF: self._faults.power_off_at,
            LinkAction.HANG: self._faults.hang_at,
            LinkAction.BATTERY_DEAD: self._faults.battery_dead_at,
        }
        reached = (action for action, frame in at.items() if frame is not None and self._live_frames >= frame)
        return next((action for action in reached if not self.counts[action.value]), None)
