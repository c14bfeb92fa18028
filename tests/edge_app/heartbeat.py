"""A heartbeat, a virtual device that replays it, and a comparison with what was recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV, SignalSource, source_from_uv
from lsemvae.ecg.record import EcgRecord

FS_HZ = 500.0


def heartbeat_uv(n: int, fs_hz: float = FS_HZ) -> np.ndarray:
    """Leads I and II [2, time] in microvolt: P, QRS and T every 0.8 s, with 3 uV of noise."""
    phase = (np.arange(n) / fs_hz) % 0.8 - 0.3

    def wave(height: float, centre: float, width: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((phase - centre) / width) ** 2)

    beat = wave(0.12, -0.16, 0.022) + wave(-0.1, -0.025, 0.009) + wave(1, 0, 0.01) + wave(0.3, 0.24, 0.045)
    return np.stack([700 * beat, 1100 * beat]) + np.random.default_rng(0).normal(0, 3, (2, n))


@pytest.fixture(scope="session")
def signal_uv() -> np.ndarray:
    return heartbeat_uv(7000)


@pytest.fixture
def source(signal_uv) -> SignalSource:
    return source_from_uv(signal_uv, fs_hz=FS_HZ)


@pytest.fixture
def equals_source(signal_uv) -> Callable[..., None]:
    """Check that every received sample is the source's, within one step of the record."""

    def check(record: EcgRecord) -> None:
        expected = signal_uv[:, np.arange(record.n_samples) % signal_uv.shape[1]]
        offset_uv = np.array(record.offset_uv) - np.array(ELECTRODE_OFFSET_UV)
        found = record.samples * record.lsb_uv + offset_uv[:, None]
        received = np.ones(record.n_samples, dtype=bool)
        for gap in record.gaps:
            received[gap.start : gap.stop] = False
        assert received.any()
        assert np.abs(found - expected)[:, received].max() <= record.lsb_uv

    return check
