"""The code against the vector files: a firmware engineer checks against the same files."""

from __future__ import annotations

import binascii
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.protocol import authenticity, bulk, control, errors
from firmware_bridge.protocol.authenticity import AuthenticateReply, DeviceKey
from firmware_bridge.protocol.bulk import BulkFrame, RecordListReply, StoredRecording
from firmware_bridge.protocol.checksum import crc16
from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.control import (
    CalibrateParams,
    Reply,
    Request,
    RetransmitParams,
    SelfTestReply,
    StartParams,
    StartReply,
    StopReply,
    TimeReply,
)
from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor, encode_descriptor
from firmware_bridge.protocol.profile import (
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    Op,
    ReplyStatus,
    SampleCodec,
    SelfTestFault,
    StartFlag,
    recording_samples,
)
from firmware_bridge.protocol.status import DeviceStatus, decode_status, encode_status
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.front_end import CalibrationPulse
from firmware_bridge.sim.device.source import LSB_PV, source_from_uv

VECTORS = Path(__file__).resolve().parents[3] / "firmware_bridge" / "protocol" / "vectors"


def load(name: str, key: str = "cases") -> list[Any]:
    cases = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))[key]
    assert cases
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", load("crc16"))
def test_crc16_vector(case):
    assert crc16(bytes.fromhex(case["hex"])) == case["crc"]


@pytest.mark.promise(39)
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


@pytest.mark.promise(39)
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


@pytest.mark.promise(39)
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


def _request_params(op: str, params: dict[str, Any]) -> tuple[bytes, object]:
    """Parameters as bytes, and what decoding them gives."""
    if op == "START":
        start = StartParams(SampleCodec(params["codec"]), params["n_samples"], StartFlag(params["flags"]))
        return start.to_bytes(), control.decode_start(start.to_bytes())
    kinds: dict[str, tuple[Any, Any]] = {
        "RETRANSMIT": (RetransmitParams, control.decode_retransmit),
        "CALIBRATE": (CalibrateParams, control.decode_calibrate),
        "RECORD_ARM": (bulk.RecordArmParams, bulk.decode_record_arm),
        "RECORD_READ": (bulk.RecordReadParams, bulk.decode_record_read),
    }
    if op in kinds:
        kind, decode = kinds[op]
        return kind(**params).to_bytes(), decode(kind(**params).to_bytes())
    plain: dict[str, tuple[Any, Any]] = {
        "TIME": (control.encode_time, control.decode_time),
        "RECORD_LIST": (bulk.encode_record_list, bulk.decode_record_list),
        "RECORD_DELETE": (bulk.encode_record_id, bulk.decode_record_id),
        "AUTHENTICATE": (authenticity.encode_authenticate, authenticity.decode_authenticate),
    }
    if op in plain:
        encode, decode = plain[op]
        (value,) = (bytes.fromhex(item) if isinstance(item, str) else item for item in params.values())
        return encode(value), decode(encode(value))
    return b"", None


def _fields(decoded: object) -> dict[str, Any]:
    if isinstance(decoded, RecordListReply):
        entry = {} if decoded.recording is None else dataclasses.asdict(decoded.recording)
        return {"count": decoded.count} | entry
    found = dataclasses.asdict(decoded)  # type: ignore[call-overload]
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in found.items()}


def _reply_data(case: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    data, op = case["data"], case["op"]
    if not data:
        return b"", {}
    if case["status"] == "EVICTED":
        raw = control.encode_oldest(data["oldest"])
        return raw, {"oldest": control.decode_oldest(raw)}
    if op == "RECORD_ARM":
        raw = bulk.encode_record_id(data["record_id"])
        return raw, {"record_id": bulk.decode_record_id(raw)}
    if op == "RECORD_LIST":
        entry = {name: value for name, value in data.items() if name != "count"}
        raw = RecordListReply(data["count"], StoredRecording(**entry) if entry else None).to_bytes()
        return raw, _fields(bulk.decode_record_list_reply(raw))
    if op == "SELF_TEST":
        raw = SelfTestReply(SelfTestFault(data["faults"]), data["battery_mv"]).to_bytes()
        return raw, _fields(control.decode_self_test_reply(raw))
    if op == "AUTHENTICATE":
        raw = AuthenticateReply(*(bytes.fromhex(value) for value in data.values())).to_bytes()
        return raw, _fields(authenticity.decode_authenticate_reply(raw))
    kinds = {
        "START": (StartReply, control.decode_start_reply),
        "STOP": (StopReply, control.decode_stop_reply),
        "TIME": (TimeReply, control.decode_time_reply),
    }
    kind, decode = kinds[op]
    raw = kind(**data).to_bytes()
    return raw, _fields(decode(raw))


@pytest.mark.promise(39)
@pytest.mark.parametrize("case", load("control"))
def test_control_vector_both_ways(case):
    raw = bytes.fromhex(case["hex"])
    if case["kind"] == "request":
        params, decoded = _request_params(case["op"], case["params"])
        request = Request(op=Op[case["op"]], txn=case["txn"], params=params)
        assert request.to_bytes() == raw
        assert control.decode_request(raw) == request
        values = list(case["params"].values())
        if dataclasses.is_dataclass(decoded):
            assert _fields(decoded) == case["params"]
        elif values:
            assert [decoded.hex() if isinstance(decoded, bytes) else decoded] == values
        return
    data, decoded_data = _reply_data(case)
    reply = Reply(op=Op[case["op"]], txn=case["txn"], status=ReplyStatus[case["status"]], data=data)
    assert reply.to_bytes() == raw
    assert control.decode_reply(raw) == reply
    assert decoded_data == case["data"]


@pytest.mark.parametrize("op", Op)
def test_every_operation_has_a_request_and_a_reply(op):
    cases = [param.values[0] for param in load("control")]
    assert {case["kind"] for case in cases if case["op"] == op.name} == {"request", "reply"}


DATA_DECODERS = {
    Op.START: control.decode_start_reply,
    Op.RECORD_ARM: bulk.decode_record_id,
    Op.RECORD_LIST: bulk.decode_record_list_reply,
    Op.SELF_TEST: control.decode_self_test_reply,
    Op.AUTHENTICATE: authenticity.decode_authenticate_reply,
}


@pytest.mark.parametrize("case", [case for case in load("control", "refused") if case.values[0]["kind"] == "reply"])
def test_reply_vector_refused(case):
    def read_all() -> None:
        reply = control.decode_reply(bytes.fromhex(case["hex"]))
        DATA_DECODERS[reply.op](reply.data)

    with pytest.raises(errors.ControlError, match=r"found .*expected"):
        read_all()


@pytest.mark.parametrize("case", [case for case in load("control", "refused") if case.values[0]["kind"] == "request"])
def test_request_vector_refused_and_how_a_device_answers(case):
    raw = bytes.fromhex(case["hex"])
    device = VirtualDevice(source_from_uv(np.zeros((2, 100)), fs_hz=500.0), key=DeviceKey("x", bytes(32)))
    device.link_up(mtu=247)
    (answer,) = device.control(raw, now_us=0)
    padded = raw.ljust(2, b"\0")
    assert answer.data == bytes((0x80 | padded[0], padded[1], ReplyStatus[case["answer"]]))


@pytest.mark.parametrize("case", load("bulk"))
def test_bulk_vector_both_ways(case):
    frame = BulkFrame(case["offset"], bytes.fromhex(case["data"]))
    assert bulk.encode_bulk(frame).hex() == case["hex"]
    assert bulk.decode_bulk(bytes.fromhex(case["hex"])) == frame


@pytest.mark.parametrize("case", load("bulk", "refused"))
def test_bulk_vector_refused(case):
    with pytest.raises(errors.BulkError, match=r"found .*expected"):
        bulk.decode_bulk(bytes.fromhex(case["hex"]))


def test_recording_vector_from_frames_to_codes():
    case = json.loads((VECTORS / "bulk.json").read_text(encoding="utf-8"))["recording"]
    codes, data = np.array(case["codes"], dtype=np.int32), bytes.fromhex(case["hex"])
    assert bulk.encode_recording(codes) == data
    assembler = bulk.BulkAssembler(len(data))
    for frame in reversed(case["frames"]):
        assert len(frame) // 2 <= case["mtu"] - 3
        assert assembler.feed(bytes.fromhex(frame))
    assert assembler.bytes(crc32=case["crc32"]) == data
    np.testing.assert_array_equal(bulk.decode_recording(data, n_leads=2), codes)


@pytest.mark.parametrize("case", load("bulk", "crc32"))
def test_crc32_vector(case):
    assert binascii.crc32(bytes.fromhex(case["hex"])) == case["crc32"]


def _proof(case: dict[str, str]) -> tuple[bytes, bytes, bytes, bytes]:
    key, descriptor, host, device = (case[name] for name in ("key", "descriptor", "host_nonce", "device_nonce"))
    return bytes.fromhex(key), bytes.fromhex(descriptor), bytes.fromhex(host), bytes.fromhex(device)


@pytest.mark.parametrize("case", load("authenticity"))
def test_tag_vector(case):
    assert authenticity.tag(*_proof(case)).hex() == case["tag"]
    assert authenticity.verify(*_proof(case), bytes.fromhex(case["tag"]))
    decode_descriptor(bytes.fromhex(case["descriptor"]))


@pytest.mark.parametrize("case", load("authenticity", "refused"))
def test_tag_vector_refused(case):
    assert not authenticity.verify(*_proof(case), bytes.fromhex(case["tag"]))


def test_key_text_vectors():
    found = json.loads((VECTORS / "authenticity.json").read_text(encoding="utf-8"))
    for case in found["texts"]:
        assert DeviceKey.parse(case["text"]) == DeviceKey(case["name"], bytes.fromhex(case["key"]))
    for text in found["refused_texts"]:
        with pytest.raises(errors.KeyTextError):
            DeviceKey.parse(text)


@pytest.mark.parametrize("case", load("calibration"))
def test_calibration_vector(case):
    pulse = CalibrationPulse(fs_mhz=case["fs_mhz"], amplitude_code=case["amplitude_code"])
    assert recording_samples(case["seconds"], fs_mhz=case["fs_mhz"]) == case["n_samples"]
    pulse.begin(0, n_samples=case["n_samples"])
    (codes,), _ = pulse.apply(np.zeros((1, case["n_samples"]), np.int32), first=0)
    assert set(np.abs(codes)) == {case["amplitude_code"]}
    assert [0, *(np.flatnonzero(np.diff(codes)) + 1)] == case["edges"]
    assert codes[0] > 0
    if case["lsb_pv"] == LSB_PV:
        source = source_from_uv(np.zeros((2, 10)), fs_hz=case["fs_mhz"] / 1000)
        device = VirtualDevice(source, calibration_nv=case["calibration_nv"])
        device.front_end.pulse.begin(0, n_samples=1)
        assert device.front_end.read(0, 1)[0].tolist() == [[case["amplitude_code"]]] * 2
