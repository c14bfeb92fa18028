"""AUTHENTICATE: only the holder of the key makes the tag, and the tag is of this descriptor and these nonces."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.protocol import authenticity
from firmware_bridge.protocol.authenticity import AuthenticateReply, DeviceKey
from firmware_bridge.protocol.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.protocol.errors import ControlError, KeyTextError

KEY = DeviceKey(name="E6L-0001", secret=bytes(range(32)))
DESCRIPTOR = encode_descriptor(DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000))
HOST, DEVICE = bytes(range(16)), bytes(range(16, 32))


def hmac_by_definition(key: bytes, message: bytes) -> bytes:
    """RFC 2104: H(key ^ opad, H(key ^ ipad, message)), written out with the hash alone."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_the_tag_is_the_first_half_of_the_hmac_of_domain_descriptor_and_both_nonces():
    expected = hmac_by_definition(KEY.secret, b"E6L-AUTH-1" + DESCRIPTOR + HOST + DEVICE)[:16]
    assert authenticity.tag(KEY, DESCRIPTOR, HOST, DEVICE) == expected
    assert authenticity.tag(KEY.secret, DESCRIPTOR, HOST, DEVICE) == expected
    assert authenticity.verify(KEY, DESCRIPTOR, HOST, DEVICE, expected)


@settings(max_examples=100, deadline=None)
@given(which=st.integers(0, 4), bit=st.integers(0, 127))
def test_one_bit_changed_anywhere_makes_the_tag_wrong(which, bit):
    parts = [KEY.secret, DESCRIPTOR, HOST, DEVICE, authenticity.tag(KEY, DESCRIPTOR, HOST, DEVICE)]
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    assert not authenticity.verify(*parts)


def test_a_tag_of_another_length_is_wrong_and_no_error():
    full = authenticity.tag(KEY, DESCRIPTOR, HOST, DEVICE)
    assert not authenticity.verify(KEY, DESCRIPTOR, HOST, DEVICE, full[:15])
    assert not authenticity.verify(KEY, DESCRIPTOR, HOST, DEVICE, b"")


def test_the_text_of_a_qr_code_gives_name_and_key():
    parsed = DeviceKey.parse(f"  E6L1:E6L-0001:{bytes(range(32)).hex().upper()}\n")
    assert parsed == KEY
    assert DeviceKey.parse(KEY.to_text()) == KEY


BAD_TEXTS = [
    "", "E6L1:", "E6L2:a:" + "0" * 64, "E6L1::" + "0" * 64, "E6L1:" + "a" * 33 + ":" + "0" * 64,
    "E6L1:a b:" + "0" * 64, "E6L1:a:" + "0" * 63, "E6L1:a:" + "0" * 65, "E6L1:a:" + "g" * 64, "E6L1:ä:" + "0" * 64,
    "x E6L1:a:" + "0" * 64, "E6L1:a:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_any_other_text_is_refused_with_advice_and_without_showing_it(text):
    with pytest.raises(KeyTextError, match=r"found \d+ characters, expected E6L1:NAME:KEY") as caught:
        DeviceKey.parse(text)
    assert "case" in caught.value.advice
    assert "0" * 63 not in str(caught.value)


def test_the_secret_is_in_no_repr_and_the_fingerprint_tells_keys_apart():
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)
    other = DeviceKey(name=KEY.name, secret=bytes(32))
    assert KEY.fingerprint != other.fingerprint
    assert KEY.fingerprint not in KEY.to_text()


@pytest.mark.parametrize(
    ("name", "secret"), [("", bytes(32)), ("a" * 33, bytes(32)), ("a", bytes(31)), ("a/b", bytes(32))]
)
def test_a_key_that_could_not_be_written_as_text_cannot_be_made(name, secret):
    with pytest.raises(KeyTextError, match=r"found .* expected"):
        DeviceKey(name=name, secret=secret)


def test_request_and_reply_round_trip_and_refuse_other_lengths():
    reply = AuthenticateReply(device_nonce=DEVICE, tag=HOST)
    assert authenticity.decode_authenticate_reply(reply.to_bytes()) == reply
    assert authenticity.decode_authenticate(authenticity.encode_authenticate(HOST)) == HOST
    for length in (0, 15, 17):
        with pytest.raises(ControlError, match=f"found {length} bytes, expected 16"):
            authenticity.encode_authenticate(bytes(length))
        with pytest.raises(ControlError, match=f"found {length} bytes, expected 16"):
            authenticity.decode_authenticate(bytes(length))
    for length in (0, 31, 33):
        with pytest.raises(ControlError, match=f"found {length} bytes, expected 32"):
            authenticity.decode_authenticate_reply(bytes(length))
    with pytest.raises(ControlError, match="tag: found 15 bytes"):
        AuthenticateReply(device_nonce=DEVICE, tag=bytes(15)).to_bytes()


@pytest.mark.parametrize("at", range(4))
def test_a_tag_over_parts_of_the_wrong_length_is_refused(at):
    parts = [KEY.secret, DESCRIPTOR, HOST, DEVICE]
    parts[at] = parts[at] + b"\0"
    with pytest.raises(ControlError, match="expected"):
        authenticity.tag(*parts)
