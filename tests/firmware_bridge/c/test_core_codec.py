"""The codec in C and the one in Python: the same bytes, the same values, the same refusals."""

from __future__ import annotations

import binascii
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol import authenticity, bulk, checksum, codec, descriptor, status
from firmware_bridge.protocol.bulk import BulkFrame
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.errors import FrameCrcError, FrameError
from firmware_bridge.protocol.profile import LEAD_CODES, Contact, DeviceState, Feature, FrameFlag, SampleCodec
from firmware_bridge.protocol.status import DeviceStatus
from firmware_bridge.sim.device import core_codec
from lsemvae.ecg.errors import ProtocolError

VECTORS = Path(__file__).resolve().parents[3] / "firmware_bridge" / "protocol" / "vectors"
BYTE, HALF, WORD = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
LIMIT = {SampleCodec.RAW24: 1 << 23, SampleCodec.RAW16: 1 << 15}


pytestmark = pytest.mark.usefixtures("needs_core")


@st.composite
def frames(draw) -> LiveFrame:
    kind = draw(st.sampled_from(tuple(LIMIT)))
    n_leads, n = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    limit = LIMIT[kind]
    rng = np.random.default_rng(draw(WORD))
    codes = rng.integers(-limit, limit, (n_leads, n)).astype(np.int32)
    codes[:, draw(st.integers(0, n - 1))] = draw(st.sampled_from((-limit, limit - 1, 0, -1)))
    return LiveFrame(
        samples=codes, t0=draw(WORD), seq=draw(HALF), flags=FrameFlag(draw(BYTE)), contact=Contact(draw(BYTE)),
        codec=kind,
    )  # fmt: skip


DESCRIPTORS = st.builds(
    DeviceDescriptor,
    leads=st.lists(st.sampled_from(tuple(LEAD_CODES.values())), min_size=1, max_size=4, unique=True).map(tuple),
    fs_mhz=st.integers(50_000, 2_000_000), lsb_pv=st.integers(1_000, 1_000_000), range_uv=WORD,
    features=BYTE.map(Feature), codecs=BYTE, hpf_mhz=HALF, lpf_dhz=HALF, adc_bits=st.integers(2, 24),
    preferred_samples=st.integers(1, 255), ring_s=HALF, boot_id=WORD, calibration_nv=WORD, front_end_id=HALF,
)  # fmt: skip
STATUSES = st.builds(
    DeviceStatus,
    state=st.sampled_from(tuple(DeviceState)), contact=BYTE.map(Contact), battery_percent=BYTE, battery_mv=HALF,
    temperature_centi_c=st.integers(-(1 << 15), (1 << 15) - 1), next_index=WORD, oldest_index=WORD, overruns=HALF,
)  # fmt: skip
BULK = st.builds(BulkFrame, offset=WORD, data=st.binary(min_size=1, max_size=300))


def outcome(decode, data: bytes, **options: Any) -> Any:
    """What a decoder says: the value, or the class of its error."""
    try:
        found = decode(data, **options)
    except ProtocolError as error:
        return type(error)
    return (
        (found.samples.tolist(), found.t0, found.seq, found.flags, found.contact, found.codec)
        if isinstance(found, LiveFrame)
        else found
    )


@pytest.mark.promise(130)
@given(frame=frames())
def test_frames_are_encoded_to_the_same_bytes_and_decoded_to_the_same_values(frame):
    raw = codec.encode_frame(frame)
    assert core_codec.encode_frame(frame) == raw
    n_leads = frame.samples.shape[0]
    assert outcome(core_codec.decode_frame, raw, n_leads=n_leads) == outcome(codec.decode_frame, raw, n_leads=n_leads)
    np.testing.assert_array_equal(core_codec.decode_frame(raw, n_leads=n_leads).samples, frame.samples)


@pytest.mark.promise(130)
@given(value=DESCRIPTORS)
def test_descriptors_are_the_same_in_both(value):
    raw = descriptor.encode_descriptor(value)
    assert core_codec.encode_descriptor(value) == raw
    assert core_codec.decode_descriptor(raw) == value


@given(value=STATUSES)
def test_statuses_are_the_same_in_both(value):
    raw = status.encode_status(value)
    assert core_codec.encode_status(value) == raw
    assert core_codec.decode_status(raw) == value


@given(value=BULK)
def test_bulk_frames_are_the_same_in_both(value):
    raw = bulk.encode_bulk(value)
    assert core_codec.encode_bulk(value) == raw
    assert core_codec.decode_bulk(raw) == value


@given(data=st.binary(max_size=300))
def test_check_sums_are_the_same_in_both(data):
    assert core_codec.crc16(data) == checksum.crc16(data)
    assert core_codec.crc32(data) == binascii.crc32(data)


@given(
    secret=st.binary(min_size=32, max_size=32),
    read=st.binary(min_size=40, max_size=40),
    nonces=st.binary(min_size=32, max_size=32),
)
def test_tags_are_the_same_in_both(secret, read, nonces):
    expected = authenticity.tag(secret, read, nonces[:16], nonces[16:])
    assert core_codec.tag(secret, read, nonces[:16], nonces[16:]) == expected


DECODERS = {
    "frame": (core_codec.decode_frame, codec.decode_frame),
    "descriptor": (core_codec.decode_descriptor, descriptor.decode_descriptor),
    "status": (core_codec.decode_status, status.decode_status),
    "bulk": (core_codec.decode_bulk, bulk.decode_bulk),
}
VALID = {
    "frame": codec.encode_frame(LiveFrame(samples=np.arange(-9, 9, dtype=np.int32).reshape(2, 9), t0=77)),
    "descriptor": descriptor.encode_descriptor(
        DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000)
    ),
    "status": status.encode_status(DeviceStatus(state=DeviceState.STREAMING, next_index=5000)),
    "bulk": bulk.encode_bulk(BulkFrame(offset=12, data=b"0123456789")),
}


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_meet_the_same_verdict_in_both(name, data):
    raw = bytearray(VALID[name])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), BYTE), max_size=3)):
        raw[place] = value
    raw = (
        raw[: data.draw(st.integers(0, len(raw)))]
        if data.draw(st.booleans())
        else raw + data.draw(st.binary(max_size=4))
    )
    if data.draw(st.booleans()) and len(raw) >= 2:
        raw[-2:] = checksum.crc16(bytes(raw[:-2])).to_bytes(2, "little")
    in_c, in_python = DECODERS[name]
    assert outcome(in_c, bytes(raw)) == outcome(in_python, bytes(raw))


@pytest.mark.parametrize("name", DECODERS)
def test_every_single_bit_error_is_refused_by_both(name):
    for decode in DECODERS[name]:
        for bit in range(8 * len(VALID[name])):
            raw = bytearray(VALID[name])
            raw[bit // 8] ^= 1 << bit % 8
            verdict = outcome(decode, bytes(raw))
            assert isinstance(verdict, type)
            assert issubclass(verdict, ProtocolError)
            if name == "frame":
                assert verdict is FrameCrcError


@pytest.mark.parametrize("name", ["live_frame", "descriptor", "status", "bulk"])
def test_what_the_vectors_refuse_the_c_core_refuses(name):
    decode = DECODERS["frame" if name == "live_frame" else name][0]
    cases = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["refused"]
    assert cases
    for case in cases:
        with pytest.raises(ProtocolError, match=r"found .*expected"):
            decode(bytes.fromhex(case["hex"]))


def test_a_code_that_does_not_fit_is_refused_by_the_c_core():
    frame = LiveFrame(samples=np.full((2, 4), 1 << 23, np.int32), t0=0)
    with pytest.raises(FrameError):
        core_codec.encode_frame(frame)
    with pytest.raises(FrameError):
        core_codec.encode_frame(LiveFrame(samples=np.zeros((2, 4), np.int32), t0=0, codec=SampleCodec.RICE))


def test_a_small_fuzz_run_of_the_decoders_in_python_finds_nothing(repo_root):
    spec = importlib.util.spec_from_file_location("core_fuzz", repo_root / "tests" / "evidence" / "core_fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    core_fuzz = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = core_fuzz  # its dataclass looks its own module up
    spec.loader.exec_module(core_fuzz)
    for name, target in core_fuzz.targets().items():
        counts = core_fuzz.fuzz_python(name, target, inputs=2000, seed=3)
        assert counts["wrong"] == 0
        assert 300 < counts["accepted"] < 2000
