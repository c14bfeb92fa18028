"""The device's clock: a line through arrivals, good to some 45 ppm over 30 s, whatever stalls and wraps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from firmware_bridge.assembly.drift import Arrivals, DriftError, fit_drift
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import INDEX_MODULUS, NO_FLAGS, FrameFlag
from lsemvae.ecg.errors import LengthError

FS_HZ = 500.0
STEP = 25
DESCRIPTOR = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000, boot_id=1)


def arrivals(
    rng: np.random.Generator, *, ppm: float = 0.0, seconds: float = 30.0, jitter: str = "interval"
) -> tuple[np.ndarray, np.ndarray]:
    """Index after each frame and arrival in us: a connection interval of 30 ms, host scheduling, and what `jitter` adds."""
    index = np.arange(STEP, round(seconds * FS_HZ) + 1, STEP)
    sent_s = index / (FS_HZ * (1 + ppm * 1e-6))
    arrived_s = sent_s + rng.uniform(0, 0.030, index.size) + rng.exponential(0.004, index.size)
    if jitter == "stalls":  # 2 % of the frames come 200 ms late
        arrived_s += (rng.random(index.size) < 0.02) * 0.2
    if jitter == "backlog":  # nothing for 2 s, then all at once
        begin_s = rng.uniform(1.0, seconds - 3.0)
        held = (sent_s >= begin_s) & (sent_s < begin_s + 2.0)
        arrived_s[held] = np.maximum(arrived_s[held], begin_s + 2.0)
    return index, np.rint(1e6 * arrived_s).astype(np.int64)


def errors_ppm(jitter: str, *, ppm: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    fits = [fit_drift(*arrivals(rng, ppm=ppm, jitter=jitter), nominal_fs_hz=FS_HZ) for _ in range(120)]
    return np.array([fit.ppm - ppm for fit in fits])


@pytest.mark.parametrize("jitter", ["interval", "stalls", "backlog"])
@pytest.mark.parametrize("ppm", [0.0, -200.0, 2000.0])
def test_the_rate_is_right_to_55_ppm_rms_with_and_without_stalls(jitter, ppm):
    """About 45 in the long run; 55 is that and the spread of 120 trials."""
    assert np.sqrt(np.mean(errors_ppm(jitter, ppm=ppm) ** 2)) < 55


def test_plain_least_squares_is_far_worse_with_stalls():
    """Why outliers are left out."""
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(60):
        index, t_us = arrivals(rng, jitter="stalls")
        plain.append((1 / (np.polyfit(index, t_us * 1e-6, 1)[0] * FS_HZ) - 1) * 1e6)
    assert np.sqrt(np.mean(np.square(plain))) > 1.5 * np.sqrt(np.mean(errors_ppm("stalls", ppm=0.0)[:60] ** 2))


def test_a_clock_200_ppm_off_is_flagged_and_a_good_one_is_not():
    rng = np.random.default_rng(2)
    off = [fit_drift(*arrivals(rng, ppm=200, jitter="stalls"), nominal_fs_hz=FS_HZ).flagged for _ in range(100)]
    good = [fit_drift(*arrivals(rng, ppm=10, jitter="stalls"), nominal_fs_hz=FS_HZ).flagged for _ in range(100)]
    assert np.mean(off) >= 0.9
    assert np.mean(good) <= 0.1


@pytest.mark.parametrize("ppm", [0, 200, -3000, 4500])
@pytest.mark.parametrize("grid_ms", [10, 25, 50])
def test_a_link_in_step_with_the_frames_hides_less_than_two_of_its_intervals(ppm, grid_ms):
    """The limit of the method: events on a grid of the host's clock, which divides the 50 ms of a frame."""
    index = np.arange(STEP, 15_001, STEP)
    sent_ms = index / (FS_HZ * (1 + ppm * 1e-6)) * 1e3
    t_us = (np.ceil(sent_ms / grid_ms + 1e-6) * grid_ms * 1e3).astype(np.int64)
    fit = fit_drift(index, t_us, nominal_fs_hz=FS_HZ)
    assert abs(fit.ppm - ppm) <= 2 * grid_ms / 30e3 * 1e6


def test_a_short_stream_is_not_flagged_for_its_jitter():
    """Over 10 s jitter alone is some 230 ppm: the standard error knows."""
    rng = np.random.default_rng(3)
    fits = [fit_drift(*arrivals(rng, seconds=10.1), nominal_fs_hz=FS_HZ) for _ in range(100)]
    assert np.mean([abs(fit.ppm) > 100 for fit in fits]) > 0.4
    assert np.mean([fit.flagged for fit in fits]) < 0.1


def test_figures_of_an_exact_clock():
    index = np.arange(STEP, 15_001, STEP)
    fit = fit_drift(index, index * 2000, nominal_fs_hz=FS_HZ)
    assert fit.fs_hz == pytest.approx(500.0, abs=1e-9)
    assert (fit.n, fit.flagged) == (index.size, False)
    assert fit.rms_ms == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("first", [INDEX_MODULUS - 1, INDEX_MODULUS - 7_000, INDEX_MODULUS - STEP])
def test_an_index_that_wraps_does_not_change_the_fit(first):
    index, t_us = arrivals(np.random.default_rng(4), ppm=150)
    plain = fit_drift(index, t_us, nominal_fs_hz=FS_HZ)
    assert fit_drift((index + first) % INDEX_MODULUS, t_us, nominal_fs_hz=FS_HZ) == plain


@pytest.mark.parametrize("ppm", [-8000, 8000, 100_000])
def test_a_clock_beyond_5000_ppm_is_an_error_that_shows_both_rates(ppm):
    index, t_us = arrivals(np.random.default_rng(5), ppm=ppm)
    with pytest.raises(DriftError, match=r"found \d+\.\d+ samples/s .*expected 500 within 5000 ppm") as caught:
        fit_drift(index, t_us, nominal_fs_hz=FS_HZ)
    assert caught.value.code == "E_PROTOCOL"
    assert "time axis" in caught.value.advice


@pytest.mark.parametrize(
    ("index", "t_us"),
    [([], []), ([25] * 5, range(5)), (range(0, 4000, 25), range(0, 8_000_000, 50_000)), ([1, 2, 3], [1, 2])],
    ids=["none", "few", "short", "unequal"],
)
def test_too_little_to_tell_is_an_error_not_a_number(index, t_us):
    with pytest.raises(LengthError, match=r"found .*expected"):
        fit_drift(list(index), list(t_us), nominal_fs_hz=FS_HZ)


def test_arrivals_of_a_long_stream_take_bounded_memory_and_tell_the_same_rate():
    kept = Arrivals()
    for number in range(100_000):
        kept.add(number * STEP % INDEX_MODULUS, round(number * 50_000 * (1 - 120e-6)))
    assert len(kept) < 4096
    fit = kept.fit(nominal_fs_hz=FS_HZ)
    assert fit is not None
    assert fit.ppm == pytest.approx(120, abs=0.1)


def stream(recording: Recording, *, t0_us: int, ppm: float, seconds: float, skip: tuple[int, int] = (0, 0)) -> None:
    """Frames on time of a device that is `ppm` fast; those from `skip` come at the end, as retransmissions."""
    late = []
    for first in range(0, round(seconds * FS_HZ), STEP):
        lost = skip[0] <= first < skip[1]
        flags = FrameFlag.RETRANSMITTED if lost else NO_FLAGS
        raw = encode_frame(LiveFrame(samples=np.ones((2, STEP), dtype=np.int32), t0=first, flags=flags))
        arrival_us = t0_us + round((first + STEP) / FS_HZ / (1 + ppm * 1e-6) * 1e6)
        if lost:
            late.append(raw)
        else:
            recording.feed_bytes(raw, arrival_us)
    for raw in late:
        assert recording.feed_bytes(raw, t0_us + round(seconds * 1.1e6)) is not None


def test_retransmissions_are_no_arrivals():
    recording = Recording()
    recording.begin(DESCRIPTOR, t_us=5_000_000)
    stream(recording, t0_us=5_000_000, ppm=300, seconds=12, skip=(1000, 3000))
    fit = recording.drift()
    assert fit is not None
    assert fit.ppm == pytest.approx(300, abs=1)
    assert recording.gaps() == ()


def test_a_restart_of_the_device_starts_a_new_fit():
    recording = Recording()
    recording.begin(DESCRIPTOR, t_us=0)
    stream(recording, t0_us=0, ppm=-400, seconds=11)
    before = recording.drift()
    recording.begin(dataclasses.replace(DESCRIPTOR, boot_id=2), at=7000, t_us=14_000_000)
    stream(recording, t0_us=14_200_000, ppm=-350, seconds=15)
    after = recording.drift()
    assert before is not None
    assert after is not None
    assert (round(before.ppm), round(after.ppm)) == (-400, -350)


def test_pace_is_taken_out_of_a_simulation():
    recording = Recording()
    recording.begin(DESCRIPTOR, t_us=0, pace=10.0)
    for first in range(0, 10_000, STEP):
        raw = encode_frame(LiveFrame(samples=np.ones((2, STEP), dtype=np.int32), t0=first))
        assert recording.feed_bytes(raw, (first + STEP) * 200) is not None
    fit = recording.drift()
    assert fit is not None
    assert fit.ppm == pytest.approx(0, abs=0.1)


def test_without_host_times_or_before_10_s_there_is_no_fit():
    recording = Recording()
    assert recording.drift() is None
    recording.begin(DESCRIPTOR)
    stream(recording, t0_us=0, ppm=0, seconds=12)
    assert recording.drift() is None
    timed = Recording()
    timed.begin(DESCRIPTOR, t_us=0)
    stream(timed, t0_us=0, ppm=0, seconds=9)
    assert timed.drift() is None


def test_a_record_keeps_the_described_rate_and_its_samples_whatever_the_clock():
    """Nothing is resampled within a record."""
    records = []
    for ppm in (0, 3000):
        recording = Recording()
        recording.begin(DESCRIPTOR, t_us=0)
        stream(recording, t0_us=0, ppm=ppm, seconds=12)
        records.append(recording.to_record())
    assert records[0].fs_hz == records[1].fs_hz == FS_HZ
    np.testing.assert_array_equal(records[0].samples, records[1].samples)
