"""The measuring circuit of a virtual device: its signal, the calibration pulse in place of it, its clock and its faults."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.profile import INDEX_MODULUS, NO_FAULTS, Contact, FrameFlag, SelfTestFault
from firmware_bridge.sim.device.source import LSB_PV, RAIL_CODE, SignalSource

_SATURATED: Final = (Contact.SATURATED_1, Contact.SATURATED_2)
_US_TIMES_MHZ: Final = 1_000_000_000  # microseconds in a second x millihertz in a hertz


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
        """Return whether the sample at `index` holds the pulse."""
        return any(start <= index < stop for start, stop in self._spans)

    def begin(self, index: int, *, n_samples: int) -> None:
        """Put the pulse on `n_samples` from `index` on; one that is on begins afresh."""
        self.end(index)
        self._spans.append((index, index + n_samples))

    def end(self, index: int) -> None:
        """End the pulse before sample `index`."""
        self._spans = [(start, min(stop, index)) for start, stop in self._spans if start < index]

    def reset(self) -> None:
        """Forget every pulse: indices begin at 0 again."""
        self._spans.clear()

    def apply(self, codes: NDArray[np.int32], *, first: int) -> tuple[NDArray[np.int32], bool]:
        """Return codes ``[lead, time]`` of the samples from `first` on with the pulse in place, and whether there is any."""
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
        """Return the codes of a pulse of 1 Hz: + in the first half of each second since it began, - in the second."""
        half_seconds = np.arange(low, high, dtype=np.int64) * 2000 // self._fs_mhz
        return np.where(half_seconds % 2 == 0, self._amplitude_code, -self._amplitude_code).astype(np.int32)


class FrontEnd:
    """Converter of both leads, fed by the electrodes or by the calibration pulse.

    Parameters
    ----------
    source
        What the electrodes give.
    calibration_nv
        Peak-to-peak size of the pulse, nV.

    Attributes
    ----------
    faults
        What is broken: FRONT_END (it does not answer), MEMORY, CALIBRATION.
    silent
        The last attempt to use it failed.
    """

    def __init__(self, source: SignalSource, *, calibration_nv: int) -> None:
        self.fs_mhz = round(source.fs_hz * 1000)
        self.faults = NO_FAULTS
        self.silent = False
        amplitude = min(RAIL_CODE, (calibration_nv * 1000 + LSB_PV) // (2 * LSB_PV))
        self.pulse = CalibrationPulse(fs_mhz=self.fs_mhz, amplitude_code=amplitude)
        self._source = source

    def start(self) -> bool:
        """Switch it on; return False if it does not answer."""
        self.silent = bool(self.faults & SelfTestFault.FRONT_END)
        return not self.silent

    def time_us(self, index: int, *, start_us: int) -> int:
        """Return the device time of sample `index`, us, rounded half up in integers as a microcontroller does.

        Parameters
        ----------
        start_us
            Device time of sample 0, us.
        """
        return start_us + (index * _US_TIMES_MHZ + self.fs_mhz // 2) // self.fs_mhz

    def span(self, first: int, n_samples: int) -> tuple[int, int, bool]:
        """Return the samples ``[first, stop)`` of the next block, and whether the signal ends with it."""
        stop = first + n_samples
        if self._source.loop or stop < self._source.n_samples:
            return first, stop, False
        return first, self._source.n_samples, True

    def measure(self, first: int, stop: int) -> NDArray[np.int32]:
        """Return the codes ``[2, stop - first]`` at the electrodes, without any pulse: a recording without a stream holds none."""
        return self._source.read(first, stop)[0]

    def read(self, first: int, stop: int) -> tuple[NDArray[np.int32], Contact, bool]:
        """Return codes ``[2, stop - first]``, contact, and whether the pulse is in them; saturation is what the codes say."""
        measured, contact = self._source.read(first, stop)
        codes, pulsed = self.pulse.apply(measured, first=first)
        contact &= ~(Contact.SATURATED_1 | Contact.SATURATED_2)
        for row, bit in zip(np.abs(codes), _SATURATED, strict=True):
            contact |= bit if int(row.max()) >= RAIL_CODE else Contact(0)
        return codes, contact, pulsed

    def frame(self, first: int, stop: int, *, seq: int, flags: FrameFlag) -> LiveFrame:
        """Return the samples ``[first, stop)`` as a live frame, flagged if the pulse is in them."""
        codes, contact, pulsed = self.read(first, stop)
        flags |= FrameFlag.CALIBRATION if pulsed else FrameFlag(0)
        return LiveFrame(samples=codes, t0=first % INDEX_MODULUS, seq=seq, flags=flags, contact=contact)
