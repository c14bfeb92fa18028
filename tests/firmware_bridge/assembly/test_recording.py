"""Several streams on one time line: what a device that was switched off and on leaves behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.assembly.recording import Recording
from firmware_bridge.assembly.stored import StoredSamplesError
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.control import RetransmitParams
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import INDEX_MODULUS, NO_FLAGS, NO_STREAM_INDEX, Contact, FrameFlag, SampleCodec
from lsemvae.ecg.errors import LengthError, ProtocolError
from lsemvae.ecg.source import SourceInfo

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


def test_defect_what_a_replaced_stream_refused_stays_counted():
    recording = Recording()
    recording.begin(DESCRIPTOR)
    recording.feed_bytes(live(1, 0)[:-1])
    recording.begin(AGAIN)
    assert recording.statistics.corrupt == 1


@pytest.mark.promise(43)
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


# -- filled from the device's memory ---------------------------------------------------------------------------------


def truth(n: int, *, salt: int = 0) -> np.ndarray:
    """Codes ``[2, n]`` of which no two neighbours are equal."""
    return np.stack([np.arange(n) * 7 + 1 + salt, -np.arange(n) * 5 - 1 - salt]).astype(np.int32)


def with_holes(*, holes: tuple[tuple[int, int], ...] = ((20, 40), (70, 80)), n: int = 100) -> Recording:
    """A stream of `n` samples of `truth` without the frames in `holes`."""
    recording = Recording()
    recording.begin(DESCRIPTOR)
    x = truth(n)
    for first in range(0, n, 10):
        if not any(start <= first < stop for start, stop in holes):
            recording.feed_bytes(encode_frame(LiveFrame(samples=x[:, first : first + 10], t0=first)))
    return recording


def test_samples_from_the_device_s_memory_go_into_gaps_only():
    recording = with_holes()
    assert recording.gaps() == ((20, 40), (70, 80))
    assert recording.fill(15, truth(100)[:, 15:60]) == 20
    assert recording.gaps() == ((70, 80),)
    assert recording.fill(15, truth(100)[:, 15:60]) == 0
    assert recording.statistics.stored == 20
    assert recording.fill(0, truth(100)) == 10
    np.testing.assert_array_equal(recording.timeline().codes, truth(100))
    assert recording.retransmissions() == ()


def test_the_first_sample_wins_over_a_stored_one_and_a_stored_one_over_a_later_frame():
    recording = Recording()
    recording.begin(DESCRIPTOR)
    x, one_off = truth(1000), truth(1000)
    one_off[:, 5] += 1  # a frame that passed its check sum by chance
    recording.feed_bytes(encode_frame(LiveFrame(samples=one_off[:, :250], t0=0)))
    recording.feed_bytes(encode_frame(LiveFrame(samples=x[:, 750:], t0=750)))
    assert recording.fill(0, x) == 500
    assert recording.feed_bytes(encode_frame(LiveFrame(samples=x[:, 250:500] + 1, t0=250))) is None
    np.testing.assert_array_equal(recording.timeline().codes[:, 250:], x[:, 250:])
    assert recording.timeline().codes[0, 5] == one_off[0, 5]


@pytest.mark.parametrize("shift", [1, -1, 10, 33])
def test_a_stored_recording_at_the_wrong_place_is_refused_and_changes_nothing(shift):
    recording = with_holes()
    before = recording.timeline()
    with pytest.raises(StoredSamplesError, match=r"found \d+ of \d+ samples unlike those received, expected") as caught:
        recording.fill(40 + shift, truth(100)[:, 40:])
    assert "gaps stay" in caught.value.advice
    assert recording.gaps() == ((20, 40), (70, 80))
    np.testing.assert_array_equal(recording.timeline().codes, before.codes)


def test_the_tail_is_filled_only_as_far_as_the_caller_says():
    recording = with_holes(holes=((80, 100),))
    assert recording.elapsed == 80
    assert recording.fill(0, truth(100)) == 0
    assert recording.fill(0, truth(100), upto=95) == 15
    assert recording.elapsed == 95
    assert recording.fill(1000, truth(100), upto=95) == 0


@pytest.mark.parametrize("far", [1 << 20, 1 << 30, (1 << 31) - 1, INDEX_MODULUS - 2000])
def test_stored_samples_far_from_the_stream_fill_nothing_and_take_no_memory(far):
    recording = with_holes()
    assert recording.fill(far, truth(100)) == 0
    assert recording.gaps() == ((20, 40), (70, 80))


@pytest.mark.parametrize(
    ("index", "codes", "contact", "message"),
    [
        (NO_STREAM_INDEX, truth(9), None, "made without one"),
        (0, truth(9)[:1], None, r"found int32 \(1, 9\), expected integers \[2, time\]"),
        (0, truth(9).astype(float), None, "found float64"),
        (0, truth(9) + (1 << 23), None, "found .*expected -8388608..8388607"),
        (0, truth(9), np.zeros(8, dtype=np.uint8), r"found shape \(8,\), expected \(9,\)"),
    ],
    ids=["no stream", "leads", "type", "range", "contact"],
)
def test_what_cannot_be_samples_of_this_stream_is_refused(index, codes, contact, message):
    with pytest.raises(StoredSamplesError, match=message):
        with_holes().fill(index, codes, contact)


def test_a_recording_made_without_a_stream_is_not_taken_for_the_sample_before_start():
    """0xFFFFFFFF would be index -1."""
    with pytest.raises(StoredSamplesError, match="expected the index"):
        with_holes().fill(NO_STREAM_INDEX, truth(100))


def test_stored_samples_without_contact_take_the_electrodes_that_were_off_beside_the_gap():
    recording = Recording()
    recording.begin(DESCRIPTOR)
    x = truth(50)
    for first, contact in ((0, Contact(0)), (20, Contact.LA_OFF | Contact.SATURATED_1), (40, Contact(0))):
        recording.feed_bytes(encode_frame(LiveFrame(samples=x[:, first : first + 10], t0=first, contact=contact)))
    recording.fill(0, x)
    contact = recording.timeline().contact
    assert (contact[10:20] == int(Contact.LA_OFF)).all()
    assert (contact[30:40] == int(Contact.LA_OFF)).all()
    assert not contact[:10].any()
    assert not contact[40:].any()
    assert [(off.lead, off.start, off.stop) for off in recording.to_record().lead_off] == [("I", 10, 40)]


def test_stored_samples_with_contact_keep_their_own():
    recording = with_holes()
    contact = np.zeros(100, dtype=np.uint8)
    contact[30:] = int(Contact.RA_OFF)
    recording.fill(0, truth(100), contact)
    assert [(off.lead, off.start, off.stop) for off in recording.to_record().lead_off] == [
        ("I", 30, 40), ("I", 70, 80), ("II", 30, 40), ("II", 70, 80),
    ]  # fmt: skip


def test_only_the_newest_stream_can_be_filled():
    recording = with_holes(n=50)
    recording.begin(AGAIN, at=200)
    recording.feed_bytes(encode_frame(LiveFrame(samples=truth(50)[:, 40:], t0=40)))
    assert recording.fill(0, truth(50)) == 40
    assert recording.gaps() == ((20, 40), (50, 200))
    assert recording.fill(0, truth(80), upto=260) == 10
    assert recording.elapsed == 260


# -- what a stream is held to ----------------------------------------------------------------------------------------


def test_the_codec_of_a_stream_is_the_one_that_start_asked_for():
    recording = Recording()
    recording.begin(DESCRIPTOR, codec=SampleCodec.RAW16)
    assert recording.feed_bytes(live(1, 0)) is None
    raw16 = LiveFrame(samples=np.ones((2, 10), dtype=np.int32), t0=0, codec=SampleCodec.RAW16)
    assert recording.feed_bytes(encode_frame(raw16)) is not None
    assert recording.statistics.foreign_codec == 1


def test_defect_a_forward_jump_ends_no_session_early():
    """The device's index says 20 minutes after half a second: refused by the host's time, given by the caller."""
    recording = Recording()
    recording.begin(DESCRIPTOR, t_us=1_000_000)
    recording.feed_bytes(live(1, 0), 1_100_000)
    assert recording.feed_bytes(live(9, 599_000), 1_500_000) is None
    assert recording.feed_bytes(live(2, 10), 1_500_000) is not None
    assert (recording.elapsed, recording.statistics.premature) == (20, 1)


def test_the_source_reaches_the_record_and_an_uncalibrated_one_has_no_known_gain():
    source = SourceInfo(driver="e6l", authenticated=True)
    record = with_holes().to_record(source=source)
    assert (record.source, record.gain_known) == (source, True)
    assert not with_holes().to_record(source=SourceInfo(calibrated=False)).gain_known


# -- the law of a record ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["live", "late", "pulse", "codec", "corrupt", "fill"]), st.integers(0, 39)),
        st.tuples(st.just("jump"), st.integers(2_000, 500_000)),
        st.tuples(st.just("restart"), st.integers(0, 300)),
    ),
    min_size=1,
    max_size=50,
)


def _apply(recording: Recording, step: str, value: int, *, now_us: int, stream: int) -> None:
    x = truth(400, salt=1000 * stream)
    cut = x[:, 10 * value : 10 * value + 10] if value < 40 else x[:, :10]
    flags = {"late": FrameFlag.RETRANSMITTED, "pulse": FrameFlag.CALIBRATION}.get(step, NO_FLAGS)
    codec = SampleCodec.RAW16 if step == "codec" else SampleCodec.RAW24
    t0 = value if step == "jump" else 10 * value
    raw = bytearray(encode_frame(LiveFrame(samples=cut, t0=t0, flags=flags, codec=codec)))
    if step == "fill":
        recording.fill(10 * value, x[:, 10 * value :], upto=recording.elapsed + value)
        return
    if step == "corrupt":
        raw[value % len(raw)] ^= 1 << value % 8
    recording.feed_bytes(raw, now_us)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_received_and_declared_gaps_are_elapsed_time_whatever_happens(steps):
    """Any order of frames, repeats, pulses, foreign codecs, damage, jumps, fills and restarts."""
    recording, stream = Recording(), 0
    recording.begin(DESCRIPTOR, t_us=0)
    for step, value in steps:
        if step == "restart":
            stream += 1
            at = recording.elapsed + value
            recording.begin(dataclasses.replace(DESCRIPTOR, boot_id=stream + 1), at=at, t_us=0)
            continue
        _apply(recording, step, value, now_us=800_000, stream=stream)
        missing = sum(stop - start for start, stop in recording.gaps())
        assert recording.received + missing == recording.elapsed
        assert recording.missing() == missing
    if recording.received:
        record = recording.to_record()
        assert record.received_samples + sum(gap.n_samples for gap in record.gaps) == record.n_samples
        assert record.n_samples == recording.elapsed == round(record.duration_s * record.fs_hz)
        assert recording.statistics.premature == sum(step == "jump" for step, _ in steps)


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["live", "late", "codec", "corrupt", "fill"]), st.integers(0, 39)), max_size=60
    )
)
def test_every_received_sample_is_the_one_that_was_sent(steps):
    recording = Recording()
    recording.begin(DESCRIPTOR, t_us=0)
    for step, value in steps:
        _apply(recording, step, value, now_us=800_000, stream=0)
    timeline = recording.timeline()
    expected = np.where(timeline.received, truth(400)[:, : timeline.n_samples], 0)
    np.testing.assert_array_equal(timeline.codes, expected)
