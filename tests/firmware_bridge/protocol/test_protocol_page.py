"""PROTOCOL.md says what the code does: its examples decode, its tables list every code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from firmware_bridge.assembly.host_clock import MARGIN_S, RATE_TOLERANCE
from firmware_bridge.assembly.reassembly import MAX_JUMP_SAMPLES
from firmware_bridge.protocol import profile
from firmware_bridge.protocol.authenticity import DOMAIN
from firmware_bridge.protocol.bulk import decode_bulk, decode_recording
from firmware_bridge.protocol.codec import decode_frame
from firmware_bridge.protocol.descriptor import DESCRIPTOR_BYTES, decode_descriptor
from firmware_bridge.protocol.profile import CODE_OF_LEAD, Feature, Op, ReplyStatus, SelfTestFault
from firmware_bridge.protocol.status import STATUS_BYTES, decode_status

ROOM = Path(profile.__file__).parents[1]
VECTORS = ROOM / "protocol" / "vectors"
PAGE = (ROOM / "PROTOCOL.md").read_text(encoding="utf-8")
EXAMPLES = [bytes.fromhex(text) for text in re.findall(r"```\n([0-9a-f]+)\n```", PAGE)]


@pytest.mark.promise(39)
def test_the_three_examples_decode_to_what_the_page_says():
    descriptor, frame, status = EXAMPLES[:3]
    described = decode_descriptor(descriptor)
    assert (described.leads, described.fs_hz, described.lsb_uv) == (("I", "II"), 500.0, 0.0481)
    assert decode_frame(frame).samples.tolist() == [[0, 1, -1, 256], [100, -100, 65536, -65536]]
    assert "I (0, 1, -1, 256) and II (100, -100, 65536,\n-65536)" in PAGE
    assert decode_status(status).next_index == 5000
    assert (len(descriptor), len(status)) == (DESCRIPTOR_BYTES, STATUS_BYTES)


@pytest.mark.promise(39)
@pytest.mark.parametrize("status", ReplyStatus)
def test_every_status_is_in_the_table(status):
    assert re.search(rf"\| {status.value} \| {status.name} \|", PAGE)


@pytest.mark.promise(39)
@pytest.mark.parametrize("op", Op)
def test_every_operation_is_in_the_table(op):
    assert f"| {op.value:02X} | {op.name} |" in PAGE


def test_the_service_uuid_and_the_lead_codes_are_the_code_s():
    assert profile.SERVICE_UUID in PAGE
    assert (CODE_OF_LEAD["I"], CODE_OF_LEAD["aVF"], CODE_OF_LEAD["V1"], CODE_OF_LEAD["V6"]) == (1, 6, 7, 12)
    assert f"min({profile.PREFERRED_FRAME_SAMPLES}, (MTU - 15)" in PAGE


def test_the_bounds_of_an_implausible_jump_are_the_code_s():
    assert f"(with {MARGIN_S:g} s and {RATE_TOLERANCE:.0%} of slack)".replace("%", " %") in PAGE
    assert f"more than {MAX_JUMP_SAMPLES:_} samples ahead".replace("_", " ") in PAGE


@pytest.mark.parametrize("number", range(2, 7))
def test_every_characteristic_is_on_the_page(number):
    assert f"`9a6e000{number}-" in PAGE


def test_the_bulk_frame_on_the_page_holds_the_two_samples_it_says():
    frame = decode_bulk(EXAMPLES[3])
    assert frame.offset == 0
    assert decode_recording(frame.data, n_leads=2).tolist() == [[0, 1], [100, -100]]
    assert "leads I (0, 1) and II (100, -100)" in PAGE


def test_the_descriptor_and_the_tag_of_the_authentication_are_the_vector_s():
    (case, *_) = json.loads((VECTORS / "authenticity.json").read_text(encoding="utf-8"))["cases"]
    assert EXAMPLES[4].hex() == case["descriptor"]
    assert decode_descriptor(EXAMPLES[4]).features & Feature.DEVICE_KEY
    assert bytes.fromhex(case["key"]) == bytes(range(32))
    assert bytes.fromhex(case["tag"]).hex(" ") in PAGE


# What is shown in full; AUTHENTICATE is shortened on the page.
SHOWN = [
    "CALIBRATE on, 5 s", "CALIBRATE accepted", "RECORD_ARM 30 s", "RECORD_ARM accepted, id 1", "RECORD_LIST, first",
    "RECORD_LIST, 15000 samples from sample 25", "RECORD_READ 472 bytes from 236", "RECORD_READ accepted",
    "RECORD_DELETE id 1", "RECORD_DELETE accepted", "SELF_TEST", "SELF_TEST, no fault, 3.9 V",
]  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_the_exchange_of_each_operation_is_shown_byte_for_byte(name):
    cases = json.loads((VECTORS / "control.json").read_text(encoding="utf-8"))["cases"]
    (raw,) = [bytes.fromhex(case["hex"]) for case in cases if case["name"] == name]
    arrow = r"<---  " if raw[0] & 0x80 else ""
    assert re.search(rf"^ *{arrow}{raw.hex(' ')}(, then|  | ->|$)", PAGE, re.MULTILINE)


def test_the_bounds_and_names_of_the_operations_are_the_code_s():
    assert f"seconds u8 ({profile.CALIBRATION_MIN_S}-{profile.CALIBRATION_MAX_S};" in PAGE
    assert f"seconds u8 ({profile.RECORDING_MIN_S}-{profile.RECORDING_MAX_S})" in PAGE
    assert f"battery under {profile.BATTERY_LOW_PERCENT} %" in PAGE
    assert f"under {profile.UPDATE_MIN_BATTERY_PERCENT} % battery" in PAGE
    assert f"below MTU {profile.MIN_REPLY_MTU}." in PAGE
    assert f'`"{DOMAIN.decode()}"`' in PAGE
    assert profile.SMP_SERVICE_UUID in PAGE
    assert profile.SMP_CHARACTERISTIC_UUID in PAGE
    amplitude = (1_000_000 * 1000 + 48_100) // (2 * 48_100)
    assert f"+-{amplitude:_} codes".replace("_", " ") in PAGE
    assert f"1 to MTU - {247 - profile.bulk_data_bytes(247)} |" in PAGE


FEATURES = (
    "retransmission", "recording", "calibration pulse", "lead-off", "right-leg drive", "DC coupled", "time",
    "device key",
)  # fmt: skip


@pytest.mark.parametrize(("bit", "word"), list(enumerate(FEATURES)))
def test_every_feature_is_on_the_page_at_its_bit(bit, word):
    (row,) = re.findall(r"\| 7 \| u8 \| features: (.*?) \|", PAGE)
    assert row.removeprefix("bit ").split(", ")[bit] == f"{bit} {word}"
    assert Feature(1 << bit).name is not None


@pytest.mark.parametrize("fault", SelfTestFault)
def test_every_fault_is_on_the_page_at_its_bit(fault):
    words = {
        SelfTestFault.FRONT_END: "the front-end does not answer", SelfTestFault.MEMORY: "memory",
        SelfTestFault.BATTERY_LOW: "battery", SelfTestFault.CALIBRATION: "calibration", SelfTestFault.NO_DEVICE_KEY: "no device key",
    }  # fmt: skip
    bit = fault.value.bit_length() - 1
    assert re.search(rf"(bit |, ){bit} {words[fault]}", PAGE[PAGE.index("## 10.") : PAGE.index("## 11.")])


def test_every_table_is_whole():
    """Each run of rows has a head: a blank line in the middle of a table cuts it in two."""
    lines = PAGE.splitlines()
    begins = [at for at, line in enumerate(lines) if line.startswith("|") and not lines[at - 1].startswith("|")]
    assert len(begins) == 7
    for at in begins:
        assert re.fullmatch(r"(\| --- )+\|", lines[at + 1].strip()), lines[at]


def test_what_a_port_of_the_core_would_have_to_look_up_is_on_the_page():
    """Each of these is a test of the device as well, of `test_virtual_device` or of the core's own."""
    text = " ".join(PAGE.split())
    for said in (
        "only STOP ignores what follows it", "`01` gives `81 00 02`", "other bits are ignored", "count u16 (0: status 3)",
        "what was sent again is not counted", "Eight requests may wait", "begins at 0 with each START", "not the codec",
        "no frame has the flag", "the operation itself is answered by every device", "before START as well",
    ):  # fmt: skip
        assert said in text


def test_the_sections_are_numbered_in_order_and_every_reference_has_its_section():
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {int(number) for number in re.findall(r"section (\d+)", PAGE)} <= set(numbers)
