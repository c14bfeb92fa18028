"""A real ECG from a virtual device over a bad radio to a record: repaired by retransmission, or from the device's memory."""

from __future__ import annotations

import numpy as np
import pytest

from edge_app.demo import demo_recording
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.bulk import (
    BulkAssembler,
    RecordArmParams,
    RecordReadParams,
    decode_record_id,
    decode_record_list_reply,
    decode_recording,
    encode_record_list,
)
from firmware_bridge.protocol.control import Reply, Request, StartParams, decode_reply, decode_stop_reply
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.profile import Op
from firmware_bridge.sim.air.faults import FaultInjector, Faults
from firmware_bridge.sim.device.device import Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import SignalSource, source_from_record
from lsemvae.ecg import assess

SECONDS = 28
RADIO = Faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02, seed=4)
PPM = 200
READS = 4


class Bench:
    """Host and device on one table, with the device's clock running `PPM` fast."""

    def __init__(self, source: SignalSource) -> None:
        self.device = VirtualDevice(source)
        self.device.link_up(mtu=247)
        self.radio = FaultInjector(RADIO)
        self.recording = Recording()
        self.bulks: BulkAssembler | None = None
        self.now_us = 0
        self.random = np.random.default_rng(6)

    def request(self, op: Op, params: bytes = b"") -> Reply:
        answers = self.device.control(Request(op=op, txn=1, params=params).to_bytes(), now_us=self.device_us)
        self.take(answers[1:])
        return decode_reply(answers[0].data)

    @property
    def device_us(self) -> int:
        return round(self.now_us * (1 + PPM * 1e-6))

    def take(self, notifications: list[Notification]) -> None:
        for sent in self.radio.apply(notifications):
            if sent.channel is Channel.LIVE:
                self.recording.feed_bytes(sent.data, self.now_us)
            elif sent.channel is Channel.BULK and self.bulks is not None:
                self.bulks.feed(sent.data)

    def wait(self, seconds: float) -> None:
        """Connection events at uneven times: on an even grid the arrivals would show the grid, not the device's clock."""
        until_us = self.now_us + round(seconds * 1e6)
        while self.now_us < until_us:
            self.now_us += int(self.random.integers(1_000, 30_000))
            self.take(self.device.advance(self.device_us))

    def stream(self) -> int:
        """Record with a recording in memory beside it; returns the index after the last sample."""
        descriptor = decode_descriptor(self.device.read_descriptor())
        self.recording.begin(descriptor, t_us=self.now_us)
        self.request(Op.START, StartParams(n_samples=25).to_bytes())
        self.record_id = decode_record_id(self.request(Op.RECORD_ARM, RecordArmParams(seconds=SECONDS).to_bytes()).data)
        self.wait(SECONDS)
        return decode_stop_reply(self.request(Op.STOP).data).next_index


@pytest.fixture(scope="module")
def source() -> SignalSource:
    return source_from_record(demo_recording())


@pytest.fixture
def bench(source: SignalSource) -> Bench:
    return Bench(source)


def check_equal(bench: Bench, source: SignalSource, end: int) -> None:
    """Every sample is the one that was measured."""
    timeline = bench.recording.timeline(end)
    np.testing.assert_array_equal(timeline.codes, source.read(0, end)[0])
    record = bench.recording.to_record(upto=end)
    assert (record.gaps, record.received_samples, record.n_samples) == ((), end, end)
    restored_uv = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    assert np.abs(restored_uv - source.read(0, end)[0] * 0.0481).max() <= record.lsb_uv
    assert assess(record).acceptable


def check_faults(bench: Bench) -> None:
    counts, found = bench.radio.counts, bench.recording.statistics
    assert min(counts["drop"], counts["corrupt"], counts["swap"], counts["duplicate"]) > 0
    assert found.corrupt + found.malformed == counts["corrupt"]
    assert found.premature == found.implausible == found.foreign_codec == 0


def test_retransmission_makes_the_record_whole(bench: Bench, source: SignalSource) -> None:
    end = bench.stream()
    assert bench.recording.missing(end) > 0
    for _ in range(10):
        for asked in bench.recording.retransmissions(upto=end):
            bench.request(Op.RETRANSMIT, asked.to_bytes())
    check_faults(bench)
    check_equal(bench, source, end)


def test_the_device_s_memory_makes_the_record_whole_where_the_ring_cannot(bench: Bench, source: SignalSource) -> None:
    end = bench.stream()
    missing = bench.recording.missing(end)
    stored = decode_record_list_reply(bench.request(Op.RECORD_LIST, encode_record_list(0)).data).recording
    assert stored is not None
    assert stored.start_index is not None
    n_bytes = stored.n_bytes(n_leads=2)
    bench.bulks = BulkAssembler(n_bytes)
    for _ in range(READS):  # the radio is bad for bulk frames too
        for offset, length in bench.bulks.missing():
            params = RecordReadParams(record_id=bench.record_id, offset=offset, length=length)
            bench.request(Op.RECORD_READ, params.to_bytes())
            bench.wait(2)
    codes = decode_recording(bench.bulks.bytes(crc32=stored.crc32), n_leads=2)
    assert bench.recording.fill(stored.start_index, codes, upto=end) == missing > 0
    check_faults(bench)
    check_equal(bench, source, end)


def test_a_clock_200_ppm_fast_is_found_over_the_bad_radio(bench: Bench) -> None:
    bench.stream()
    fit = bench.recording.drift()
    assert fit is not None
    assert fit.ppm == pytest.approx(PPM, abs=3 * fit.ppm_error)
    assert fit.ppm > 100
    assert bench.recording.to_record().fs_hz == bench.recording.descriptor.fs_hz
