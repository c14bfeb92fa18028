"""The calibration pulse of a virtual device: in place of the electrodes, on every channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class CalibrationPulse:
    """Which samples of a stream hold the pulse, and their codes.

    Parameters
    ----------
    fs_mhz
        Sampling rate, mHz.
    amplitude_code
        Half of the peak-to-peak size, in codes: the pulse is +- this, half a second each.
    """

    def __init__(self, *, fs_mhz: int, amplitude_code: int) -> None:
        self._fs_mhz = fs_mhz
        self._amplitude_code = amplitude_code
        self._spans: list[tuple[int, int]] = []  # [start, stop) since START, ascending

    def on_at(self, index: int) -> bool:
        """Whether the sample at `index` holds the pulse."""
        return any(start <= index < stop for start, stop in self._spans)

    def begin(self, index: int, *, n_samples: int) -> None:
        """Pulse on `n_samples` from `index` on; one that is on begins afresh."""
        self.end(index)
        self._spans.append((index, index + n_samples))

    def end(self, index: int) -> None:
        """No pulse from `index` on."""
        self._spans = [(start, min(stop, index)) for start, stop in self._spans if start < index]

    def reset(self) -> None:
        """Forget everything: indices begin again."""
        self._spans.clear()

    def apply(self, codes: NDArray[np.int32], *, first: int) -> tuple[NDArray[np.int32], bool]:
        """Codes ``[lead, time]`` of the samples from `first` on with the pulse in place, and whether there is any."""
        stop_index = first + codes.shape[1]
        result, found = codes, False
        for start, stop in self._spans:
            low, high = max(start, first), min(stop, stop_index)
            if low < high:
                result = result.copy() if not found else result
                result[:, low - first : high - first] = self._square(low - start, high - start)
                found = True
        return result, found

    def _square(self, low: int, high: int) -> NDArray[np.int32]:
        """1 Hz: up in the first half of each second since the pulse began, down in the second."""
        half_seconds = np.arange(low, high, dtype=np.int64) * 2000 // self._fs_mhz
        return np.where(half_seconds % 2 == 0, self._amplitude_code, -self._amplitude_code).astype(np.int32)
