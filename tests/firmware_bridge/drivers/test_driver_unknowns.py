"""What a driver cannot know lowers what may be concluded: one heart, sent in each device's bytes, screened with the shipped bundle."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from firmware_bridge.drivers import Driver, hativ, make, movesense, polar
from firmware_bridge.drivers.viatom_er3 import LSB_UV as ER3_LSB_UV
from firmware_bridge.drivers.viatom_frames import NOTIFY_UUID
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.protocol.profile import DESCRIPTOR_UUID, LIVE_UUID
from lsemvae.ecg.decision import Outcome
from lsemvae.ecg.reasons import Reason
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.resample import resample
from lsemvae.ecg.runs import StartTime
from lsemvae.screen.bundle import open_bundle
from lsemvae.screen.runtime.load import load_runtime
from lsemvae.screen.screener import Screener
from lsemvae.screen.trust import load_trusted_keys
from tests.firmware_bridge.drivers import driver_bytes

Feed = Callable[[Driver, np.ndarray], None]  # heart in microvolt [2, time] at the driver's rate
SECONDS = 12


@pytest.fixture(scope="module")
def screener() -> Screener:
    bundle = open_bundle(None, trusted_keys=load_trusted_keys())
    return Screener(bundle, load_runtime(bundle))


@pytest.fixture(scope="module")
def heart_uv(screener: Screener) -> np.ndarray:
    """Leads I and II of the recording that the bundle brings along, 500 Hz."""
    golden = np.load(io.BytesIO(screener.bundle.files["golden.npz"]), allow_pickle=False)
    assert float(golden["raw_fs_hz"]) == 500.0
    ten_s = golden["raw_mv"][:2].astype(np.float64) * 1000
    return np.concatenate([ten_s, ten_s[:, ::-1]], axis=1)[:, : SECONDS * 500]


def codes(heart_uv: np.ndarray, lsb_uv: float) -> list[list[int]]:
    return np.rint(heart_uv / lsb_uv).astype(int).tolist()


def blocks(n_samples: int, size: int) -> range:
    return range(0, n_samples - size + 1, size)


def feed_e6l(driver: Driver, x: np.ndarray) -> None:
    descriptor = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=400_000)
    driver.feed(DESCRIPTOR_UUID, encode_descriptor(descriptor), 0)
    driver.begin()
    samples = np.rint(x / descriptor.lsb_uv).astype(np.int32)
    for at in blocks(x.shape[1], 25):
        driver.feed(
            LIVE_UUID, encode_frame(LiveFrame(samples=samples[:, at : at + 25], t0=at, seq=at // 25)), at * 2000
        )


def feed_ads1293(driver: Driver, x: np.ndarray) -> None:
    driver.feed("", driver_bytes.ads1293([*codes(x, 0.1), [0] * x.shape[1]]), 0)


def feed_ads1292r(driver: Driver, x: np.ndarray) -> None:
    driver.feed("", driver_bytes.ads1292r(codes(x[:1], 1.0)[0]), 0)


def feed_viatom(driver: Driver, x: np.ndarray) -> None:
    row = codes(x[:1], driver.info.lsb_uv or 1.0)[0]
    for at in blocks(len(row), 60):
        driver.feed(NOTIFY_UUID, driver_bytes.viatom_rt(row[at : at + 60]), at * 8000)


def feed_er3(driver: Driver, x: np.ndarray, *, index_step: int = 125) -> None:
    rows = codes(x, ER3_LSB_UV)
    for at in blocks(x.shape[1], 125):
        four = [[0] * 125, *(row[at : at + 125] for row in rows), [0] * 125]
        driver.feed(NOTIFY_UUID, driver_bytes.er3_packed(four, index=at // 125 * index_step), at * 4000)


def feed_er3_without_index(driver: Driver, x: np.ndarray) -> None:
    feed_er3(driver, x, index_step=1)


def feed_hativ(driver: Driver, x: np.ndarray) -> None:
    rows = codes(x, 0.5)
    for at in blocks(x.shape[1], 20):
        driver.feed(hativ.ECG_UUID, driver_bytes.hativ([row[at : at + 20] for row in rows]), at * 4000)


def feed_polar(driver: Driver, x: np.ndarray) -> None:
    row = codes(x[:1], 1.0)[0]
    for at in blocks(len(row), 60):
        stamp = round((at + 59) / 130 * 1e9)
        driver.feed(polar.DATA_UUID, driver_bytes.polar(row[at : at + 60], t_ns=stamp), at * 7692)


def feed_movesense(driver: Driver, x: np.ndarray) -> None:
    row = codes(x[:1], movesense.LSB_UV)[0]
    for at in blocks(len(row), 16):
        driver.feed(movesense.NOTIFY_UUID, driver_bytes.movesense(row[at : at + 16], t_ms=at * 5), at * 5000)


def record_of(driver: Driver, feed: Feed, heart_uv: np.ndarray) -> EcgRecord:
    fs_hz = driver.info.fs_hz
    feed(driver, heart_uv if fs_hz == 500 else resample(heart_uv, fs_in_hz=500.0, fs_out_hz=fs_hz))
    return driver.to_record(start=StartTime("2026-01-01T00:00:00Z", "host"), device="test")


UNKNOWN = [
    ("protocentral-ads1293", {}, feed_ads1293, {Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED}),
    ("protocentral-ads1293", {"lsb_uv": 0.1}, feed_ads1293, {Reason.GAPS_UNKNOWN}),
    ("protocentral-ads1292r", {}, feed_ads1292r, {Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED, Reason.MISSING_LEAD}),
    ("viatom", {}, feed_viatom, {Reason.GAPS_UNKNOWN, Reason.MISSING_LEAD}),
    ("viatom-er3", {}, feed_er3_without_index, {Reason.GAPS_UNKNOWN}),
    ("hativ", {}, feed_hativ, {Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED}),
    ("hativ", {"lsb_uv": 0.5}, feed_hativ, {Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED}),
    ("hativ", {"lsb_uv": 0.5, "order": "interleaved"}, feed_hativ, {Reason.GAPS_UNKNOWN}),
    ("polar-h10", {}, feed_polar, {Reason.MISSING_LEAD}),
    ("movesense", {}, feed_movesense, {Reason.MISSING_LEAD}),
]


@pytest.mark.promise(132)
@pytest.mark.parametrize(
    ("name", "options", "feed", "expected"), UNKNOWN, ids=lambda v: str(v) if isinstance(v, str | dict) else ""
)
def test_what_is_not_known_makes_the_screen_abstain(
    screener: Screener, heart_uv: np.ndarray, name: str, options: dict[str, object], feed: Feed, expected: set[Reason]
):
    record = record_of(make(name, **options), feed, heart_uv)
    result = screener.screen(record)
    assert result.decision.outcome is Outcome.ABSTAIN
    judged = {Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED, Reason.MISSING_LEAD}
    assert judged & set(result.decision.reasons) == expected
    assert record.gain_known is (Reason.UNCALIBRATED not in expected)
    assert record.source.gap_detectable is (Reason.GAPS_UNKNOWN not in expected)


@pytest.mark.promise(132)
@pytest.mark.parametrize(("name", "feed"), [("e6l", feed_e6l), ("viatom-er3", feed_er3)])
def test_the_same_heart_from_a_device_that_knows_all_is_not_held_back(
    screener: Screener, heart_uv: np.ndarray, name: str, feed: Feed
):
    record = record_of(make(name), feed, heart_uv)
    result = screener.screen(record)
    assert result.decision.outcome in (Outcome.DETECTED, Outcome.NOT_DETECTED)
    assert record.source.calibrated
    assert record.source.gap_detectable


@pytest.mark.parametrize(("name", "feed"), [("e6l", feed_e6l), ("viatom-er3", feed_er3)])
def test_the_heart_arrives_in_microvolts(heart_uv: np.ndarray, name: str, feed: Feed):
    driver = make(name)
    record = record_of(driver, feed, heart_uv)
    found_uv = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    sent_uv = heart_uv
    if driver.info.fs_hz != 500:
        sent_uv = resample(heart_uv, fs_in_hz=500.0, fs_out_hz=driver.info.fs_hz)
    tolerance_uv = (driver.info.lsb_uv or 0) / 2 + record.lsb_uv / 2 + 1e-6
    assert np.abs(found_uv - sent_uv[:, : record.n_samples]).max() <= tolerance_uv
