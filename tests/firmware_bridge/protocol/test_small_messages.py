"""Descriptor, control and status: round trips, refusals, and no other exception than ProtocolError."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol import control
from firmware_bridge.protocol.checksum import with_crc
from firmware_bridge.protocol.control import CalibrateParams, Reply, Request, RetransmitParams, SelfTestReply
from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor, encode_descriptor
from firmware_bridge.protocol.errors import ControlError, DescriptorError
from firmware_bridge.protocol.profile import CODE_OF_LEAD, Contact, DeviceState, Feature, Op, ReplyStatus, SelfTestFault
from firmware_bridge.protocol.status import DeviceStatus, decode_status, encode_status
from lsemvae.ecg.errors import ProtocolError

U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)

DESCRIPTORS = st.builds(
    DeviceDescriptor,
    leads=st.lists(st.sampled_from(sorted(CODE_OF_LEAD)), min_size=1, max_size=4, unique=True).map(tuple),
    fs_mhz=st.integers(50_000, 2_000_000),
    lsb_pv=st.integers(1_000, 1_000_000),
    range_uv=U32,
    features=U8.map(Feature),
    codecs=U8,
    hpf_mhz=U16,
    lpf_dhz=U16,
    adc_bits=st.integers(2, 24),
    preferred_samples=st.integers(1, 255),
    ring_s=U16,
    boot_id=U32,
    calibration_nv=U32,
    front_end_id=U16,
)
STATUSES = st.builds(
    DeviceStatus,
    state=st.sampled_from(DeviceState),
    contact=U8.map(Contact),
    battery_percent=U8,
    battery_mv=U16,
    temperature_centi_c=st.integers(-32768, 32767),
    next_index=U32,
    oldest_index=U32,
    overruns=U16,
)


@settings(max_examples=150, deadline=None)
@given(DESCRIPTORS)
def test_descriptor_round_trip(descriptor):
    assert decode_descriptor(encode_descriptor(descriptor)) == descriptor


@settings(max_examples=150, deadline=None)
@given(STATUSES)
def test_status_round_trip(status):
    assert decode_status(encode_status(status)) == status


@settings(max_examples=100, deadline=None)
@given(op=st.sampled_from(Op), txn=U8, status=st.sampled_from(ReplyStatus), data=st.binary(max_size=30))
def test_request_and_reply_round_trip(op, txn, status, data):
    request, reply = Request(op=op, txn=txn, params=data), Reply(op=op, txn=txn, status=status, data=data)
    assert control.decode_request(request.to_bytes()) == request
    assert control.decode_reply(reply.to_bytes()) == reply


@settings(max_examples=100, deadline=None)
@given(seconds=st.integers(1, 30), faults=U16.map(SelfTestFault), battery_mv=U16)
def test_calibrate_and_self_test_round_trip(seconds, faults, battery_mv):
    """A fault bit that this version does not name is kept: the operator is told its number."""
    params, found = CalibrateParams(on=True, seconds=seconds), SelfTestReply(faults=faults, battery_mv=battery_mv)
    assert control.decode_calibrate(params.to_bytes()) == params
    assert control.decode_self_test_reply(found.to_bytes()) == found


@pytest.mark.promise(38)
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_raise_only_protocol_errors_everywhere(raw):
    decoders = (
        decode_descriptor, decode_status, control.decode_request, control.decode_reply, control.decode_start,
        control.decode_start_reply, control.decode_stop_reply, control.decode_retransmit, control.decode_oldest,
        control.decode_time, control.decode_time_reply, control.decode_calibrate, control.decode_self_test_reply,
    )  # fmt: skip
    for decode in decoders:
        for data in (raw, with_crc(raw)):
            with suppress(ProtocolError):
                decode(data)


@settings(max_examples=200, deadline=None)
@given(body=st.binary(min_size=38, max_size=38))
def test_a_descriptor_with_a_valid_check_sum_is_usable_or_refused(body):
    try:
        descriptor = decode_descriptor(with_crc(body))
    except DescriptorError:
        return
    assert 50.0 <= descriptor.fs_hz <= 2000.0
    assert 1e-3 <= descriptor.lsb_uv <= 10.0
    assert descriptor.rail_code * descriptor.lsb_uv <= 10e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lsb_pv": 0}, "weight of one code"),
        ({"fs_mhz": 0}, "sampling rate"),
        ({"leads": ("I", "I")}, "different names"),
        ({"leads": ("I", "X")}, "different names"),
        ({"leads": ()}, "number of leads: found 0"),
        ({"adc_bits": 25}, "bits of the converter: found 25"),
    ],
)
def test_a_descriptor_that_makes_no_sense_says_which_field(change, words):
    fields = {"leads": ("I", "II"), "fs_mhz": 500_000, "lsb_pv": 48_100, "range_uv": 403_000} | change
    with pytest.raises(DescriptorError, match=words):
        DeviceDescriptor(**fields)


def test_a_lead_code_beyond_the_number_of_leads_is_refused():
    """A device that forgets to count its third lead would send frames that no length check can explain."""
    raw = encode_descriptor(DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000))
    with pytest.raises(DescriptorError, match=r"found \[3, 0\], expected 0 after 2 leads"):
        decode_descriptor(with_crc(raw[:4] + b"\x03" + raw[5:-2]))


def test_a_descriptor_of_another_protocol_version_asks_for_an_update():
    raw = encode_descriptor(DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000))
    with pytest.raises(DescriptorError, match="found 2, expected 1") as caught:
        decode_descriptor(with_crc(b"\x02" + raw[1:-2]))
    assert "Update" in caught.value.advice


@pytest.mark.parametrize("count", [0, 65_536, -1])
def test_a_retransmission_of_no_or_too_many_samples_is_refused(count):
    with pytest.raises(ControlError, match=r"expected 1\.\.65535"):
        RetransmitParams(t0=0, count=count).to_bytes()


def test_every_refusal_has_advice():
    assert set(control.REFUSAL_ADVICE) == set(ReplyStatus) - {ReplyStatus.OK}
