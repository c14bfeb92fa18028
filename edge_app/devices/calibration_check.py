"""Does a device weigh its codes as it says? Its calibration pulse, measured and held against the descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_app.link.base import Transport
from edge_app.link.client import DeviceClient, Origin
from edge_app.session.auth import Gatekeeper
from edge_app.session.run import choose_codec, start_stream
from firmware_bridge.assembly.reassembly import Assembler
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.codec import decode_frame
from firmware_bridge.protocol.control import CalibrateParams
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.errors import FrameError
from firmware_bridge.protocol.profile import (
    CALIBRATION_MAX_S,
    CALIBRATION_MIN_S,
    Feature,
    FrameFlag,
    Op,
    SampleCodec,
)
from lsemvae.ecg.errors import EcgError, LengthError, LinkError, ProtocolError

# As in PROTOCOL.md, section 10: what the device's own self-test allows.
GAIN_TOLERANCE: Final = 0.05

# The pulse is 1 Hz: three periods, of which radio and edges may cost one.
_SECONDS: Final = 3
_LEAST_S: Final = 1.0

# Where the electrodes are still in the frame: a multiplexer switches between two samples, a filter settles after it.
_EDGE_SAMPLES: Final = 10

# A square wave of any phase that was watched for a second or longer is up for 1/3 to 2/3 of that time.
_SHARE: Final = (0.3, 0.7)

# Samples further than this part of the pulse from both plateaus are edges (a 150 Hz low-pass takes 3 ms of 500 ms), or
# show that it is no square pulse: an ECG has more of them.
_PLATEAU: Final = 0.1
_OFF_PLATEAU: Final = 0.1

# How long the last flagged frame may take after the pulse has ended.
_PATIENCE_S: Final = 3.0
_TICK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """What the pulse of a device measures.

    Attributes
    ----------
    leads
        Names, in the order of the samples.
    expected_uv
        Peak to peak, as the descriptor states it.
    found_uv
        Peak to peak by lead, as measured.
    square
        By lead: whether it was a square pulse at all.
    authenticated
        Whether the device proved its key.
    """

    leads: tuple[str, ...]
    expected_uv: float
    found_uv: tuple[float, ...]
    square: tuple[bool, ...]
    authenticated: bool

    @property
    def gain_error(self) -> tuple[float, ...]:
        """By lead: found over expected, less one; 0.02 shows 2 % too much."""
        return tuple(found / self.expected_uv - 1.0 for found in self.found_uv)

    @property
    def ok(self) -> bool:
        """Whether every lead shows the pulse, within 5 %."""
        return all(self.square) and all(abs(error) <= GAIN_TOLERANCE for error in self.gain_error)


class _Collector:
    """Keeps the frames that hold samples of the pulse, and nothing else."""

    def __init__(self) -> None:
        self._assembler: Assembler | None = None
        self._n_leads = 0
        self.newest_s = 0.0

    def begin(self, descriptor: DeviceDescriptor, codec: SampleCodec) -> None:
        self._n_leads = len(descriptor.leads)
        self._assembler = Assembler(n_leads=self._n_leads, codec=codec, keep_calibration=True)

    def received(self, source: Origin, data: bytes) -> None:
        if source is not Origin.LIVE or self._assembler is None:
            return
        with suppress(FrameError):  # a frame that the radio damaged: the others are enough
            frame = decode_frame(data, n_leads=self._n_leads)
            if frame.flags & FrameFlag.CALIBRATION and self._assembler.feed(frame):
                self.newest_s = asyncio.get_running_loop().time()

    @property
    def n_samples(self) -> int:
        return 0 if self._assembler is None else self._assembler.received

    def codes(self) -> NDArray[np.int32]:
        """Return the samples of the pulse, ``[lead, time]`` in order; what is missing is left out."""
        if self._assembler is None:
            raise LengthError("calibration: found no stream, expected one")
        timeline = self._assembler.timeline()
        return timeline.codes[:, timeline.received]


async def check_calibration(
    transport: Transport, *, keys: Sequence[DeviceKey] = (), allow_unauthenticated: bool = False,
    seconds: int = _SECONDS, pace: float | None = None,
) -> CalibrationResult:  # fmt: skip
    """Have the device put its calibration pulse on every channel, and measure it; nothing is recorded.

    Parameters
    ----------
    keys, allow_unauthenticated, pace
        As for `record_session`.
    seconds
        Length of the pulse, 2 to 30 s.

    Raises
    ------
    DeviceNotAuthenticatedError
        The device proved none of `keys`, and that was not allowed.
    LinkError
        The device was not found, or the link was lost: a check is repeated, not mended.
    ProtocolError
        The device has no calibration pulse, or refuses.
    LengthError
        Less than a second of the pulse arrived.
    """
    least = CALIBRATION_MIN_S + 1
    if not least <= seconds <= CALIBRATION_MAX_S:
        raise LengthError(f"calibration: found {seconds} s, expected {least} to {CALIBRATION_MAX_S} s")
    collector = _Collector()
    client = DeviceClient(transport, on_bytes=collector.received, on_lost=lambda _reason: None)
    gatekeeper = Gatekeeper(keys, allow_unauthenticated=allow_unauthenticated)
    try:
        opened = await client.open()
        await gatekeeper.admit(client, opened)
        descriptor = opened.descriptor
        if not descriptor.features & Feature.CALIBRATION or not descriptor.calibration_nv:
            raise ProtocolError(
                "calibration: found a device without a calibration pulse, expected one",
                advice="Check the device with a signal generator instead.",
            )
        codec = choose_codec(descriptor)
        collector.begin(descriptor, codec)
        await start_stream(client, descriptor, codec=codec)
        try:
            await client.command(Op.CALIBRATE, CalibrateParams(on=True, seconds=seconds).to_bytes())
            pace = opened.info.pace or pace or 1.0
            await _until_played(client, collector, n_samples=int(seconds * descriptor.fs_hz), seconds=seconds / pace)
        finally:
            with suppress(EcgError):
                await client.request(Op.STOP)
    finally:
        await client.close()
    codes = collector.codes()
    inner = codes[:, _EDGE_SAMPLES : codes.shape[1] - _EDGE_SAMPLES]
    if inner.shape[1] < _LEAST_S * descriptor.fs_hz:
        raise LengthError(
            f"calibration: found {codes.shape[1] / descriptor.fs_hz:.1f} s of the pulse, expected over {_LEAST_S:g} s",
            advice="Hold the device nearer to the computer and repeat the check.",
        )
    pulses = [measure_pulse(lead) for lead in inner]
    return CalibrationResult(
        leads=descriptor.leads, expected_uv=descriptor.calibration_nv / 1000.0,
        found_uv=tuple(size * descriptor.lsb_uv for size, _ in pulses), square=tuple(square for _, square in pulses),
        authenticated=gatekeeper.key is not None,
    )  # fmt: skip


def measure_pulse(codes: NDArray[np.int32]) -> tuple[float, bool]:
    """Return the peak-to-peak size of a square pulse, in codes, and whether it is one.

    Parameters
    ----------
    codes
        ``[time]``, a second or more of it, of any phase: the generator of a front-end runs free.

    Returns
    -------
    tuple
        Distance of the medians above and below the middle (robust to noise and edges); whether nearly all samples lie
        on either plateau, and each holds its share of them.
    """
    values = codes.astype(np.float64)
    low, high = np.percentile(values, (10, 90))
    up = values > (low + high) / 2
    if not up.any() or up.all():
        return 0.0, False
    top, bottom = float(np.median(values[up])), float(np.median(values[~up]))
    size = top - bottom
    off = np.minimum(np.abs(values - top), np.abs(values - bottom)) > _PLATEAU * size
    share = float(np.mean(up))
    return size, bool(_SHARE[0] <= share <= _SHARE[1] and np.mean(off) <= _OFF_PLATEAU)


async def _until_played(client: DeviceClient, collector: _Collector, *, n_samples: int, seconds: float) -> None:
    """Wait until the pulse has been received, or until nothing more of it can come."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + seconds + _PATIENCE_S
    played_s = loop.time() + seconds
    while loop.time() < deadline_s and collector.n_samples < n_samples:
        if client.lost:
            raise LinkError("calibration: found the link lost, expected it to last", advice="Repeat the check.")
        if loop.time() > played_s and loop.time() - collector.newest_s > 1.0:
            return  # the rest was lost on the way
        await asyncio.sleep(_TICK_S)
