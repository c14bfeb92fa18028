"""Input of the preset `paper`: 12 leads x 5,000 samples at 500 Hz, each lead filtered and scaled to mean 0 and sd 1.

The filters are those that the published preparation gets from NeuroKit2's default cleaning (research notes on arXiv 2503.13470): a
Butterworth high-pass of order 5 at 0.5 Hz, forward and backward, then a moving average over one period of 50 Hz (10 samples), forward and
backward. The average halves what lies above about 20 Hz: gain 0.88 at 10 Hz, 0.41 at 25 Hz, 0.06 at 40 Hz. R waves lose a third.

Two differences from the published preparation: a rate other than 500 Hz is resampled (there the first 5,000 samples are taken at any
rate), and a strip that is shorter than 10 s is refused (there it is filled with zeros).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import signal

from lsemvae.ecg.errors import LengthError, SampleError
from lsemvae.ecg.leads import LEADS
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.resample import resample

FS_HZ: Final = 500.0
N_SAMPLES: Final = 5000
HIGH_PASS_HZ: Final = 0.5
ORDER: Final = 5
BOXCAR: Final = 10  # samples: one period of 50 Hz
FLAT_MV: Final = 1e-6  # an sd below it is a lead without signal: no scale can be found

FloatArray = npt.NDArray[np.float64]


def cleaned(x_mv: npt.ArrayLike, *, fs_hz: float) -> FloatArray:
    """Return the first 10 s of `[lead, time]` mV at 500 Hz, high-passed and smoothed, in mV."""
    x = resample(x_mv, fs_in_hz=fs_hz, fs_out_hz=FS_HZ)
    if x.shape[-1] < N_SAMPLES:
        raise LengthError(
            f"found {x.shape[-1] / FS_HZ:g} s, expected at least {N_SAMPLES / FS_HZ:g} s",
            advice="Leave strips out that are shorter than 10 s.",
        )
    high_pass = signal.butter(ORDER, HIGH_PASS_HZ, "highpass", fs=FS_HZ, output="sos")
    x = signal.sosfiltfilt(high_pass, x[..., :N_SAMPLES])
    return np.asarray(signal.filtfilt(np.full(BOXCAR, 1 / BOXCAR), [1.0], x))


def paper_input(x_mv: npt.ArrayLike, *, fs_hz: float) -> npt.NDArray[np.float32]:
    """Return float32 `[lead, 5000]` of `[lead, time]` mV, each lead with mean 0 and sd 1 (n - 1 in the divisor).

    A lead without signal is an error, as the published preparation drops such recordings.
    """
    x = cleaned(x_mv, fs_hz=fs_hz)
    sd = x.std(-1, ddof=1, keepdims=True)
    flat = np.flatnonzero(sd[..., 0] < FLAT_MV)
    if len(flat):
        raise SampleError(
            f"found leads without signal in rows {flat.tolist()}, expected a voltage in each",
            advice="Leave this recording out, as the published preparation does.",
        )
    return ((x - x.mean(-1, keepdims=True)) / sd).astype(np.float32)


def paper_input_of(
    record: EcgRecord, *, leads: tuple[str, ...] = LEADS
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a recording as input `[lead, 5000]` in the order of `leads`, chosen by name, and which of them it has.

    An absent lead is zero. Gaps are bridged by a straight line, as the published preparation does with missing samples.
    """
    present = np.array([lead in record.leads for lead in leads])
    mine = [lead for lead in leads if lead in record.leads]
    if not mine:
        raise SampleError(f"found leads {', '.join(record.leads)}, expected one of {', '.join(leads)}")
    x = np.asarray(record.to_mv(np.float64))
    received = np.ones(record.n_samples, dtype=bool)
    for gap in record.gaps:
        received[gap.start : gap.stop] = False
    if not received.any():
        raise SampleError("found no received sample, expected a recording")
    where, missing = np.flatnonzero(received), np.flatnonzero(~received)
    for row in x:
        row[missing] = np.interp(missing, where, row[where])
    out = np.zeros((len(leads), N_SAMPLES), np.float32)
    out[present] = paper_input(x[[record.leads.index(lead) for lead in mine]], fs_hz=record.fs_hz)
    return out, present
