"""The code against the vector files: a firmware engineer checks against the same files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge import control, errors
from firmware_bridge.checksum import crc16
from firmware_bridge.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.control import Reply, Request, RetransmitParams, StartParams, StartReply, StopReply, TimeReply
from firmware_bridge.descriptor import DeviceDescriptor, decode_descriptor, encode_descriptor
from firmware_bridge.profile import Contact, DeviceState, Feature, FrameFlag, Op, ReplyStatus, SampleCodec, StartFlag
from firmware_bridge.status import DeviceStatus, decode_status, encode_status

VECTORS = Path(__file__).resolve().parents[2] / "firmware_bridge" / "vectors"


def load(name: str, key: str = "cases") -> list[Any]:
    cases = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))[key]
    assert cases
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", load("crc16"))
def test_crc16_vector(case):
    assert crc16(bytes.fromhex(case["hex"])) == case["crc"]


@pytest.mark.parametrize("case", load("live_frame"))
def test_live_frame_vector_both_ways(case):
    frame = LiveFrame(
        samples=np.array(case["samples"], dtype=np.int32),
        t0=case["t0"],
        seq=case["seq"],
        flags=FrameFlag(case["flags"]),
        contact=Contact(case["contact"]),
        codec=SampleCodec(case["codec"]),
    )
    raw = bytes.fromhex(case["hex"])
    assert encode_frame(frame) == raw
    decoded = decode_frame(raw)
    np.testing.assert_array_equal(decoded.samples, frame.samples)
    assert decoded.samples.dtype == np.int32
    for name in ("t0", "seq", "flags", "contact", "codec"):
        assert getattr(decoded, name) == getattr(frame, name)


@pytest.mark.parametrize("case", load("live_frame", "refused"))
def test_live_frame_vector_refused(case):
    with pytest.raises(getattr(errors, case["error"])) as caught:
        decode_frame(bytes.fromhex(case["hex"]))
    assert "found" in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("case", load("descriptor"))
def test_descriptor_vector_both_ways(case):
    fields = {key: value for key, value in case.items() if key not in ("name", "hex")}
    fields |= {"leads": tuple(case["leads"]), "features": Feature(case["features"])}
    descriptor = DeviceDescriptor(**fields)
    assert encode_descriptor(descriptor).hex() == case["hex"]
    assert decode_descriptor(bytes.fromhex(case["hex"])) == descriptor


@pytest.mark.parametrize("case", load("descriptor", "refused"))
def test_descriptor_vector_refused(case):
    with pytest.raises(errors.DescriptorError, match=r"found .*expected"):
        decode_descriptor(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", load("status"))
def test_status_vector_both_ways(case):
    fields = {key: value for key, value in case.items() if key not in ("name", "hex")}
    status = DeviceStatus(**fields | {"state": DeviceState(case["state"]), "contact": Contact(case["contact"])})
    assert encode_status(status).hex() == case["hex"]
    assert decode_status(bytes.fromhex(case["hex"])) == status


@pytest.mark.parametrize("case", load("status", "refused"))
def test_status_vector_refused(case):
    with pytest.raises(errors.StatusError, match=r"found .*expected"):
        decode_status(bytes.fromhex(case["hex"]))


def _request_params(case: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    params = case["params"]
    if case["op"] == "START":
        start = StartParams(SampleCodec(params["codec"]), params["n_samples"], StartFlag(params["flags"]))
        return start.to_bytes(), dataclasses.asdict(control.decode_start(start.to_bytes()))
    if case["op"] == "RETRANSMIT":
        again = RetransmitParams(**params)
        return again.to_bytes(), dataclasses.asdict(control.decode_retransmit(again.to_bytes()))
    if case["op"] == "TIME":
        raw = control.encode_time(params["host_us"])
        return raw, {"host_us": control.decode_time(raw)}
    return b"", {}


def _reply_data(case: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    data = case["data"]
    if not data:
        return b"", {}
    if case["status"] == "EVICTED":
        raw = control.encode_oldest(data["oldest"])
        return raw, {"oldest": control.decode_oldest(raw)}
    kinds = {
        "START": (StartReply, control.decode_start_reply),
        "STOP": (StopReply, control.decode_stop_reply),
        "TIME": (TimeReply, control.decode_time_reply),
    }
    kind, decode = kinds[case["op"]]
    raw = kind(**data).to_bytes()
    return raw, dataclasses.asdict(decode(raw))


@pytest.mark.parametrize("case", load("control"))
def test_control_vector_both_ways(case):
    raw = bytes.fromhex(case["hex"])
    if case["kind"] == "request":
        params, decoded = _request_params(case)
        request = Request(op=Op[case["op"]], txn=case["txn"], params=params)
        assert request.to_bytes() == raw
        assert control.decode_request(raw) == request
        assert decoded == case["params"]
        return
    data, decoded = _reply_data(case)
    reply = Reply(op=Op[case["op"]], txn=case["txn"], status=ReplyStatus[case["status"]], data=data)
    assert reply.to_bytes() == raw
    assert control.decode_reply(raw) == reply
    assert decoded == case["data"]
