"""The measuring circuit of a virtual device: its signal, the calibration pulse in place of it, and its faults."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.profile import INDEX_MODULUS, NO_FAULTS, Contact, Feature, FrameFlag, SelfTestFault
from firmware_bridge.sim.device.pulse import CalibrationPulse
from firmware_bridge.sim.device.source import LSB_PV, RAIL_CODE, SignalSource

# What a virtual device can do; it has no right-leg drive.
DEFAULT_FEATURES: Final = (
    Feature.RETRANSMIT
    | Feature.RECORD
    | Feature.CALIBRATION
    | Feature.LEAD_OFF
    | Feature.DC_COUPLED
    | Feature.TIME_SYNC
)
CALIBRATION_NV: Final = 1_000_000  # 1 mV peak to peak

_SATURATED: Final = (Contact.SATURATED_1, Contact.SATURATED_2)


class FrontEnd:
    """What the electrodes, or the calibration pulse, give.

    Parameters
    ----------
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
        """Switch it on; False if it does not answer."""
        self.silent = bool(self.faults & SelfTestFault.FRONT_END)
        return not self.silent

    def span(self, first: int, n_samples: int) -> tuple[int, int, bool]:
        """Samples ``[first, stop)`` of the next block, and whether the signal ends with it."""
        stop = first + n_samples
        if self._source.loop or stop < self._source.n_samples:
            return first, stop, False
        return first, self._source.n_samples, True

    def measure(self, first: int, stop: int) -> NDArray[np.int32]:
        """Codes ``[2, stop - first]`` at the electrodes, without any pulse: a recording without a stream holds none."""
        return self._source.read(first, stop)[0]

    def read(self, first: int, stop: int) -> tuple[NDArray[np.int32], Contact, bool]:
        """Codes ``[2, stop - first]``, contact, and whether the pulse is in them; saturation is what the codes say."""
        measured, contact = self._source.read(first, stop)
        codes, pulsed = self.pulse.apply(measured, first=first)
        contact &= ~(Contact.SATURATED_1 | Contact.SATURATED_2)
        for row, bit in zip(np.abs(codes), _SATURATED, strict=True):
            contact |= bit if int(row.max()) >= RAIL_CODE else Contact(0)
        return codes, contact, pulsed

    def frame(self, first: int, stop: int, *, seq: int, flags: FrameFlag) -> LiveFrame:
        """The samples ``[first, stop)`` as a live frame, flagged if the pulse is in them."""
        codes, contact, pulsed = self.read(first, stop)
        flags |= FrameFlag.CALIBRATION if pulsed else FrameFlag(0)
        return LiveFrame(samples=codes, t0=first % INDEX_MODULUS, seq=seq, flags=flags, contact=contact)
