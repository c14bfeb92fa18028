"""What START began: the sample clock of a virtual device and its counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmware_bridge.protocol.profile import INDEX_MODULUS

_US_TIMES_MHZ: Final = 1_000_000_000  # microseconds in a second x millihertz in a hertz


def time_of(index: int, *, start_us: int, fs_mhz: int) -> int:
    """Device time of sample `index`, microseconds, rounded half up in integers as a microcontroller does."""
    return start_us + (index * _US_TIMES_MHZ + fs_mhz // 2) // fs_mhz


@dataclass(slots=True)
class Stream:
    """Sample clock and counters of a stream.

    Attributes
    ----------
    n_samples
        Samples per lead in a frame.
    lost_before
        Frames before the next one were not sent.
    """

    stream_id: int
    start_us: int
    fs_mhz: int
    n_samples: int
    next_index: int = 0
    seq: int = 0
    sent: int = 0
    overrun: int = 0
    lost_before: bool = False
    running: bool = True

    @property
    def due_us(self) -> int:
        """Device time at which the next frame is complete."""
        return self.time_us(self.next_index + self.n_samples)

    def time_us(self, index: int) -> int:
        """Device time of a sample."""
        return time_of(index, start_us=self.start_us, fs_mhz=self.fs_mhz)

    def acquired(self, *, stop: int, sent: bool, last: bool) -> None:
        """Count a frame that ends before sample `stop`."""
        self.next_index, self.seq, self.running = stop, (self.seq + 1) & 0xFFFF, not last
        self.lost_before = not sent
        self.sent += sent
        self.overrun += not sent

    def unwrap(self, index: int) -> int:
        """Sample that `index` (modulo 2^32) means: the nearest one to the newest, so one ahead is not one long gone."""
        ahead = (index - self.next_index) % INDEX_MODULUS
        return self.next_index + (ahead if ahead < INDEX_MODULUS // 2 else ahead - INDEX_MODULUS)
