"""Several streams on one time line: what a device that was switched off and on leaves behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from firmware_bridge.codec import LiveFrame, encode_frame
from firmware_bridge.control import RetransmitParams
from firmware_bridge.descriptor import DeviceDescriptor
from firmware_bridge.profile import NO_FLAGS, FrameFlag
from firmware_bridge.recording import Recording
from lsemvae.ecg.errors import LengthError, ProtocolError

DESCRIPTOR = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000, boot_id=1)
AGAIN = dataclasses.replace(DESCRIPTOR, boot_id=2)


def live(value: int, t0: int, *, n: int = 10, flags: FrameFlag = NO_FLAGS) -> bytes:
    return encode_frame(LiveFrame(samples=np.full((2, n), value, dtype=np.int32), t0=t0, flags=flags))


def two_streams() -> Recording:
    recording = Recording()
    recording.begin(DESCRIPTOR)
    recording.feed_bytes(live(1, 0))
    recording.begin(AGAIN, at=25)
    recording.feed_bytes(live(2, 10))
    return recording


def test_two_streams_lie_on_one_time_line_with_the_silence_declared():
    record = two_streams().to_record()
    assert record.n_samples == 45
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(10, 35)]
    assert record.received_samples == 20


def test_only_the_newest_stream_can_be_asked_for_again():
    recording = two_streams()
    assert recording.retransmissions() == (RetransmitParams(t0=0, count=10),)
    assert recording.retransmissions(upto=50) == (RetransmitParams(t0=0, count=10), RetransmitParams(t0=20, count=5))
    assert recording.retransmissions(upto=20) == ()
    assert recording.retransmissions(oldest_index=6) == (RetransmitParams(t0=6, count=4),)


def test_positions_on_the_wire_map_to_the_time_line():
    assert two_streams().stream_position(10) == 35


def test_elapsed_received_and_missing_agree():
    recording = two_streams()
    assert (recording.elapsed, recording.received, recording.missing(), recording.missing(60)) == (45, 20, 25, 40)
    assert recording.n_streams == 2
    assert recording.statistics.frames == 2


def test_a_stream_that_brought_nothing_is_replaced():
    recording = Recording()
    recording.begin(DESCRIPTOR)
    recording.feed_bytes(live(1, 0))
    recording.begin(AGAIN, at=100)
    assert recording.elapsed == 10
    recording.begin(AGAIN, at=20)
    recording.feed_bytes(live(2, 0))
    assert recording.to_record().n_samples == 30


@pytest.mark.parametrize("change", [{"leads": ("II", "I")}, {"fs_mhz": 250_000}, {"lsb_pv": 96_200}])
def test_a_device_with_another_signal_cannot_continue(change):
    recording = two_streams()
    with pytest.raises(ProtocolError, match=r"found .*expected") as caught:
        recording.begin(dataclasses.replace(AGAIN, **change), at=50)
    assert "one device" in caught.value.advice
    assert recording.to_record().n_samples == 45


def test_streams_cannot_overlap():
    with pytest.raises(LengthError, match="expected 45 or later"):
        two_streams().begin(AGAIN, at=44)


def test_the_last_frame_of_a_device_is_remembered():
    recording = two_streams()
    assert not recording.ended_by_device
    recording.feed_bytes(live(3, 30, flags=FrameFlag.LAST))
    assert recording.ended_by_device


def test_an_empty_recording_says_so():
    recording = Recording()
    assert (recording.elapsed, recording.received) == (0, 0)
    for call in (recording.to_record, lambda: recording.feed_bytes(b"")):
        with pytest.raises(LengthError, match="no stream"):
            call()
