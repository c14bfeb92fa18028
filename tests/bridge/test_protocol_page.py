"""PROTOCOL.md says what the code does: its examples decode, its tables list every code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from firmware_bridge import profile
from firmware_bridge.codec import decode_frame
from firmware_bridge.descriptor import DESCRIPTOR_BYTES, decode_descriptor
from firmware_bridge.profile import CODE_OF_LEAD, Op, ReplyStatus
from firmware_bridge.reassembly import MAX_JUMP_SAMPLES
from firmware_bridge.status import STATUS_BYTES, decode_status

PAGE = (Path(profile.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")
EXAMPLES = [bytes.fromhex(text) for text in re.findall(r"```\n([0-9a-f]+)\n```", PAGE)]


def test_the_three_examples_decode_to_what_the_page_says():
    descriptor, frame, status = EXAMPLES
    described = decode_descriptor(descriptor)
    assert (described.leads, described.fs_hz, described.lsb_uv) == (("I", "II"), 500.0, 0.0481)
    assert decode_frame(frame).samples.tolist() == [[0, 1, -1, 256], [100, -100, 65536, -65536]]
    assert "I (0, 1, -1, 256) and II (100, -100, 65536,\n-65536)" in PAGE
    assert decode_status(status).next_index == 5000
    assert (len(descriptor), len(status)) == (DESCRIPTOR_BYTES, STATUS_BYTES)


@pytest.mark.parametrize("status", ReplyStatus)
def test_every_status_is_in_the_table(status):
    assert re.search(rf"\| {status.value} \| {status.name} \|", PAGE)


@pytest.mark.parametrize("op", [Op.START, Op.STOP, Op.RETRANSMIT, Op.TIME])
def test_every_operation_is_in_the_table(op):
    assert f"| {op.value:02X} | {op.name} |" in PAGE


def test_the_service_uuid_and_the_lead_codes_are_the_code_s():
    assert profile.SERVICE_UUID in PAGE
    assert (CODE_OF_LEAD["I"], CODE_OF_LEAD["aVF"], CODE_OF_LEAD["V1"], CODE_OF_LEAD["V6"]) == (1, 6, 7, 12)
    assert f"min({profile.PREFERRED_FRAME_SAMPLES}, (MTU - 15)" in PAGE


def test_the_bound_of_an_implausible_jump_is_the_code_s():
    assert f"more than {MAX_JUMP_SAMPLES:_} samples ahead".replace("_", " ") in PAGE


@pytest.mark.parametrize("number", range(2, 7))
def test_every_characteristic_is_on_the_page(number):
    assert f"`9a6e000{number}-" in PAGE
