"""Live frames: what goes in comes out, what changed on the way is refused, nothing but ProtocolError is raised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol.checksum import with_crc
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.errors import FrameCodecError, FrameCrcError, FrameError
from firmware_bridge.protocol.profile import Contact, FrameFlag, SampleCodec, samples_per_frame
from lsemvae.ecg.errors import ProtocolError

I24 = st.integers(-(1 << 23), (1 << 23) - 1)
I16 = st.integers(-(1 << 15), (1 << 15) - 1)


def frames(codec: SampleCodec, value: st.SearchStrategy[int]) -> st.SearchStrategy[LiveFrame]:
    def build(leads: int, n: int) -> st.SearchStrategy[LiveFrame]:
        rows = st.lists(st.lists(value, min_size=n, max_size=n), min_size=leads, max_size=leads)
        return st.builds(
            LiveFrame,
            samples=rows.map(lambda x: np.array(x, dtype=np.int32)),
            t0=st.integers(0, (1 << 32) - 1),
            seq=st.integers(0, 0xFFFF),
            flags=st.integers(0, 255).map(FrameFlag),
            contact=st.integers(0, 255).map(Contact),
            codec=st.just(codec),
        )

    return st.tuples(st.integers(1, 4), st.integers(1, 38)).flatmap(lambda shape: build(*shape))


@pytest.mark.slow
@pytest.mark.promise(39)
@settings(max_examples=150, deadline=None)
@given(st.one_of(frames(SampleCodec.RAW24, I24), frames(SampleCodec.RAW16, I16)))
def test_round_trip(frame):
    decoded = decode_frame(encode_frame(frame), n_leads=frame.samples.shape[0])
    np.testing.assert_array_equal(decoded.samples, frame.samples)
    assert (decoded.t0, decoded.seq, decoded.flags, decoded.contact, decoded.codec) == (
        frame.t0, frame.seq, frame.flags, frame.contact, frame.codec,
    )  # fmt: skip


@pytest.mark.promise(38)
def test_any_single_bit_corruption_is_refused():
    samples = np.random.default_rng(0).integers(-20_000, 20_000, (2, 25)).astype(np.int32)
    raw = encode_frame(LiveFrame(samples=samples, t0=100, seq=4))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameCrcError):
            decode_frame(changed)


@pytest.mark.promise(38)
@settings(max_examples=300, deadline=None)
@given(bits=st.sets(st.integers(0, 162 * 8 - 1), min_size=2, max_size=2), seed=st.integers(0, 2**32 - 1))
def test_any_double_bit_corruption_is_refused(bits, seed):
    samples = np.random.default_rng(seed).integers(-(1 << 23), 1 << 23, (2, 25)).astype(np.int32)
    changed = bytearray(encode_frame(LiveFrame(samples=samples, t0=seed)))
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameCrcError):
        decode_frame(changed)


@pytest.mark.promise(38)
@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=300), n_leads=st.integers(1, 4))
def test_random_bytes_raise_only_protocol_errors(raw, n_leads):
    with pytest.raises(ProtocolError):
        decode_frame(raw, n_leads=n_leads)


@pytest.mark.promise(38)
@settings(max_examples=300, deadline=None)
@given(raw=st.binary(min_size=10, max_size=300), n_leads=st.integers(1, 4))
def test_random_bytes_with_a_valid_check_sum_raise_only_protocol_errors(raw, n_leads):
    try:
        frame = decode_frame(with_crc(raw), n_leads=n_leads)
    except ProtocolError:
        return
    assert frame.samples.shape == (n_leads, raw[8])


@pytest.mark.parametrize("value", [1 << 23, -(1 << 23) - 1])
def test_a_sample_that_does_not_fit_is_refused_not_clipped(value):
    with pytest.raises(FrameError, match=r"expected -8388608\.\.8388607"):
        encode_frame(LiveFrame(samples=np.full((2, 4), value, dtype=np.int32), t0=0))


WRONG_SHAPES = [np.zeros((2, 0), np.int32), np.zeros(4, np.int32), np.zeros((2, 4)), np.zeros((2, 256), np.int32)]


@pytest.mark.parametrize("samples", WRONG_SHAPES, ids=["empty", "flat", "float", "256 samples"])
def test_wrong_shapes_and_types_are_refused(samples):
    with pytest.raises(FrameError, match="found"):
        encode_frame(LiveFrame(samples=samples, t0=0))


def test_the_rice_codec_is_refused_by_name():
    with pytest.raises(FrameCodecError, match="RICE"):
        encode_frame(LiveFrame(samples=np.zeros((2, 4), np.int32), t0=0, codec=SampleCodec.RICE))


@pytest.mark.parametrize(
    ("mtu", "expected"), [(23, 1), (38, 3), (39, 4), (100, 14), (165, 25), (247, 25), (517, 25), (0, 0)]
)
def test_samples_per_frame_follow_the_mtu(mtu, expected):
    """ble.md table: n = min(25, (MTU - 15) / 6); MTU 100 gives 14."""
    assert samples_per_frame(mtu, n_leads=2) == expected


@pytest.mark.parametrize("mtu", range(39, 200))
def test_a_frame_of_that_many_samples_fits_the_notification(mtu):
    n_samples = samples_per_frame(mtu, n_leads=2)
    frame = LiveFrame(samples=np.zeros((2, n_samples), dtype=np.int32), t0=0)
    assert len(encode_frame(frame)) <= mtu - 3
