"""What a virtual device sends: bytes on one of its characteristics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Channel(Enum):
    """The characteristic that a notification belongs to."""

    LIVE = "live"
    CONTROL = "control"
    STATUS = "status"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Notification:
    """Bytes to send on a characteristic."""

    channel: Channel
    data: bytes
