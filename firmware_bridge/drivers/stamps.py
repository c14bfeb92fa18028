"""Lost samples between packets that carry a time and no index."""

from __future__ import annotations

from typing import Final

from firmware_bridge.drivers.track import MAX_GAP_S

# A clock that goes back by more is a device that was restarted, not a packet that came twice.
_MAX_BACK_S: Final = 10.0

# Time stamps are coarse (1 ms) and a device's two clocks differ; a lost packet is far above this, so less than a
# quarter of a packet is jitter.
_JITTER: Final = 0.25

REPEATED: Final = -1
IMPLAUSIBLE: Final = -2


class PacketClock:
    """Compares the time stamps of consecutive packets with the samples between them.

    Parameters
    ----------
    fs_hz
        Sampling rate.
    ticks_per_s
        Unit of the stamps.
    modulus
        Value at which the stamps wrap.
    """

    def __init__(self, fs_hz: float, *, ticks_per_s: float, modulus: int) -> None:
        self._samples_per_tick = fs_hz / ticks_per_s
        self._ticks_per_s = ticks_per_s
        self._modulus = modulus
        self._last: int | None = None

    def lost(self, stamp: int, n_samples: int) -> int:
        """Samples missing before a packet, `REPEATED` if it was here before, `IMPLAUSIBLE` if its time cannot be.

        Parameters
        ----------
        stamp
            Time of the same point of each packet (its first or its last sample).
        n_samples
            Samples between that point of the packet before and of this one, if nothing is lost.
        """
        if self._last is None:
            self._last = stamp
            return 0
        ticks = (stamp - self._last + self._modulus // 2) % self._modulus - self._modulus // 2
        if not -_MAX_BACK_S <= ticks / self._ticks_per_s <= MAX_GAP_S:
            return IMPLAUSIBLE
        if ticks <= 0:
            return REPEATED
        self._last = stamp
        missing = ticks * self._samples_per_tick - n_samples
        return round(missing) if missing > max(1.0, _JITTER * n_samples) else 0
