"""COBS packets on a serial line: the published examples, any cut, any damage."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol.cobs import DEFAULT_MAX_BYTES, CobsReader, cobs_decode, cobs_encode
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.errors import FrameCrcError, FrameError, FrameTooShortError
from firmware_bridge.protocol.profile import ATT_HEADER_BYTES
from firmware_bridge.protocol.serial_packets import (
    SERIAL_MTU,
    PacketReader,
    SerialChannel,
    SerialPacket,
    decode_packet,
    encode_packet,
)

RUN = bytes(range(1, 255)).hex()  # 254 bytes without a zero
NEXT = bytes(range(2, 256)).hex()

# Data and its encoding, as the algorithm's publications list them; without the delimiter.
EXAMPLES = [
    ("", "01"),
    ("00", "0101"),
    ("0000", "010101"),
    ("001100", "01021101"),
    ("11220033", "0311220233"),
    ("11223344", "0511223344"),
    ("11000000", "0211010101"),
    (RUN, "ff" + RUN),
    ("00" + RUN, "01ff" + RUN),
    (RUN + "ff", "ff" + RUN + "02ff"),
    (NEXT + "00", "ff" + NEXT + "0101"),
    (NEXT[2:] + "0001", "fe" + NEXT[2:] + "0201"),
]


@pytest.mark.parametrize(("data", "encoded"), EXAMPLES)
def test_the_published_examples(data, encoded):
    assert cobs_encode(bytes.fromhex(data)).hex() == encoded
    assert cobs_decode(bytes.fromhex(encoded)).hex() == data


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600), st.integers(1, 40))
def test_round_trip_without_a_zero_and_with_little_overhead(data, repeat):
    data = data * repeat
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(data) < len(encoded) <= len(data) + 1 + len(data) // 254
    assert cobs_decode(encoded) == data


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_a_reader_finds_the_packets_however_the_bytes_are_cut(packets, data):
    stream = b"".join(cobs_encode(packet) + b"\0" for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = CobsReader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found.extend(reader.feed(stream[start:stop]))
    assert found == packets
    assert reader.damaged == 0


@pytest.mark.parametrize("packet", ["", "00", "05112233", "0200", "ff0102"])
def test_bytes_that_no_encoder_makes_are_refused(packet):
    with pytest.raises(FrameError):
        cobs_decode(bytes.fromhex(packet))


def test_a_reader_is_back_in_step_after_the_next_zero():
    good = cobs_encode(b"good\0packet") + b"\0"
    reader = CobsReader()
    assert reader.feed(b"\x09cut" + b"\0" + good) == (b"good\0packet",)
    assert reader.damaged == 1


def test_zeros_in_a_row_are_no_packets():
    assert CobsReader().feed(b"\0\0\0" + cobs_encode(b"x") + b"\0\0") == (b"x",)


def test_noise_without_a_zero_takes_no_memory_and_is_counted_once():
    reader = CobsReader()
    tracemalloc.start()
    for _ in range(200):
        assert reader.feed(b"\xaa" * 4096) == ()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 16 * DEFAULT_MAX_BYTES
    assert reader.feed(b"\0" + cobs_encode(b"x") + b"\0") == (b"x",)
    assert reader.damaged == 1


def test_a_packet_of_the_largest_attribute_passes():
    packet = bytes(512)
    assert CobsReader().feed(cobs_encode(packet) + b"\0") == (packet,)


def test_a_reader_forgets_what_began_on_clear():
    reader = CobsReader()
    reader.feed(b"\x05ab")
    reader.clear()
    assert reader.feed(cobs_encode(b"x") + b"\0") == (b"x",)


# -- packets of the six-lead protocol ----------------------------------------------------------------------------------


def test_the_bytes_of_the_protocol_page():
    assert encode_packet(SerialChannel.CONTROL, bytes((0x02, 0x01))).hex(" ") == "06 01 02 01 ef 8d 00"
    assert encode_packet(SerialChannel.DESCRIPTOR).hex(" ") == "02 04 00"


@pytest.mark.parametrize("channel", list(SerialChannel))
@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(244))])
def test_packets_round_trip(channel, data):
    assert PacketReader().feed(encode_packet(channel, data)) == (SerialPacket(channel, data),)


def test_a_full_packet_costs_two_bytes_more_than_its_channel():
    data = b"\x55" * (SERIAL_MTU - ATT_HEADER_BYTES)
    assert len(encode_packet(SerialChannel.LIVE, data)) == 1 + len(data) + 2


def test_a_control_packet_with_any_changed_bit_is_refused():
    """Requests and replies have no check sum of their own: the wire's packet has."""
    packet = cobs_decode(encode_packet(SerialChannel.CONTROL, b"\x82\x07\x00\x10\x27\x00\x00")[:-1])
    for bit in range(len(packet) * 8):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        if changed[0] == SerialChannel.CONTROL:
            with pytest.raises(FrameCrcError):
                decode_packet(bytes(changed))
        else:  # taken for another channel, whose bytes carry a check sum over all of them
            try:
                found = decode_packet(bytes(changed))
            except FrameError:
                continue
            assert found.channel is not SerialChannel.CONTROL


@pytest.mark.parametrize(("packet", "error"), [(b"", FrameTooShortError), (b"\x01\x02", FrameTooShortError)])
def test_a_packet_that_is_too_short_says_so(packet, error):
    with pytest.raises(error, match="found"):
        decode_packet(packet)


def test_an_unknown_channel_is_refused_and_counted():
    reader = PacketReader()
    assert reader.feed(cobs_encode(b"\x09abc") + b"\0") == ()
    assert reader.rejected == 1


def test_no_sample_is_accepted_from_a_line_with_noise():
    """One byte in a hundred is changed: every frame that is accepted is one that was sent."""
    noise, codes = random.Random(1), np.random.default_rng(1)
    sent = [
        encode_frame(LiveFrame(samples=codes.integers(-(1 << 22), 1 << 22, (2, 25)).astype(np.int32), t0=25 * i, seq=i))
        for i in range(400)
    ]
    reader, accepted, refused = PacketReader(), [], 0
    for frame in sent:
        raw = bytearray(encode_packet(SerialChannel.LIVE, frame))
        if noise.random() < 0.3:
            raw[noise.randrange(len(raw))] ^= 1 << noise.randrange(8)
        for packet in reader.feed(raw):
            try:
                decode_frame(packet.data, n_leads=2)
            except FrameError:
                refused += 1
            else:
                accepted.append(packet.data)
    assert set(accepted) <= set(sent)
    assert len(accepted) > 200
    assert refused > 0
    assert reader.rejected > 0


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_exception(data):
    reader = PacketReader()
    reader.feed(data)
    assert reader.feed(b"\0" + encode_packet(SerialChannel.STATUS, b"abc"))[-1] == SerialPacket(
        SerialChannel.STATUS, b"abc"
    )
