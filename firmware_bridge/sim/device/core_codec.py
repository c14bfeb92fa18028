"""The codec in C under the names, values and errors of the codec in Python: what crosses both must come out equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from firmware_bridge.protocol.bulk import BulkFrame
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DESCRIPTOR_BYTES, DeviceDescriptor
from firmware_bridge.protocol.errors import (
    BulkError,
    DescriptorError,
    FrameCodecError,
    FrameCrcError,
    FrameError,
    FrameLengthError,
    FrameTooShortError,
    FrameVersionError,
    StatusError,
)
from firmware_bridge.protocol.profile import (
    BULK_OVERHEAD_BYTES,
    BYTES_PER_SAMPLE,
    CODE_OF_LEAD,
    FRAME_OVERHEAD_BYTES,
    LEAD_CODES,
    TAG_BYTES,
    Contact,
    DeviceState,
    Feature,
    FrameFlag,
    SampleCodec,
)
from firmware_bridge.protocol.status import STATUS_BYTES, DeviceStatus
from firmware_bridge.sim.device.core_build import load_core
from lsemvae.ecg.errors import ProtocolError

# E6L_ERROR_SHORT .. E6L_ERROR_SPACE of e6l.h, and what the codec in Python raises for the same frame.
_FRAME_ERRORS: Final[Mapping[int, type[FrameError]]] = MappingProxyType(
    {
        -1: FrameTooShortError,
        -2: FrameCrcError,
        -3: FrameVersionError,
        -4: FrameCodecError,
        -5: FrameLengthError,
        -6: FrameError,
        -7: FrameError,
    }
)
_MAX_SAMPLES: Final = 255 * 4


def crc16(data: bytes) -> int:
    """Check sum of `data`."""
    return int(load_core().lib.e6l_crc16(data, len(data)))


def crc32(data: bytes) -> int:
    """CRC-32/ISO-HDLC of `data`."""
    return int(load_core().lib.e6l_crc32(0, data, len(data)))


def encode_frame(frame: LiveFrame) -> bytes:
    """Return the bytes of a frame; a sample that the codec cannot hold is refused."""
    ffi, lib = _core()
    n_leads, n_samples = frame.samples.shape
    header = ffi.new(
        "e6l_frame *",
        {
            "codec": int(frame.codec), "flags": int(frame.flags), "seq": frame.seq, "t0": frame.t0, "n": n_samples,
            "contact": int(frame.contact),
        },
    )  # fmt: skip
    codes = ffi.from_buffer("int32_t[]", np.ascontiguousarray(frame.samples.T, dtype=np.int32))
    width = BYTES_PER_SAMPLE.get(frame.codec, 0)
    room = FRAME_OVERHEAD_BYTES + n_samples * n_leads * width
    return _encoded(
        lambda out: lib.e6l_frame_encode(header, codes, n_leads, out, room), room, "live frame", _frame_error
    )


def decode_frame(data: bytes, *, n_leads: int = 2) -> LiveFrame:
    """Read the frame in `data`, or raise the `FrameError` that names what is wrong."""
    ffi, lib = _core()
    header, codes = ffi.new("e6l_frame *"), np.empty(_MAX_SAMPLES, np.int32)
    result = lib.e6l_frame_decode(data, len(data), n_leads, header, ffi.from_buffer("int32_t[]", codes), _MAX_SAMPLES)
    if result:
        raise _frame_error(result)(_message("live frame", result))
    samples = codes[: header.n * n_leads].reshape(-1, n_leads).T.copy()
    return LiveFrame(
        samples=samples, t0=header.t0, seq=header.seq, flags=FrameFlag(header.flags), contact=Contact(header.contact),
        codec=SampleCodec(header.codec),
    )  # fmt: skip


def encode_descriptor(descriptor: DeviceDescriptor) -> bytes:
    """Return the 40 bytes of a descriptor."""
    ffi, lib = _core()
    fields = {
        "leads": len(descriptor.leads), "lead": [CODE_OF_LEAD[name] for name in descriptor.leads],
        "codecs": descriptor.codecs, "features": int(descriptor.features), "fs_mhz": descriptor.fs_mhz,
        "lsb_pv": descriptor.lsb_pv, "range_uv": descriptor.range_uv, "hpf_mhz": descriptor.hpf_mhz,
        "lpf_dhz": descriptor.lpf_dhz, "adc_bits": descriptor.adc_bits, "preferred": descriptor.preferred_samples,
        "ring_s": descriptor.ring_s, "boot_id": descriptor.boot_id, "calibration_nv": descriptor.calibration_nv,
        "front_end_id": descriptor.front_end_id,
    }  # fmt: skip
    value = ffi.new("e6l_descriptor *", fields)
    return _encoded(
        lambda out: lib.e6l_descriptor_encode(value, out), DESCRIPTOR_BYTES, "descriptor", lambda _: DescriptorError
    )


def decode_descriptor(data: bytes) -> DeviceDescriptor:
    """Read the descriptor in `data`."""
    ffi, lib = _core()
    d = ffi.new("e6l_descriptor *")
    result = lib.e6l_descriptor_decode(data, len(data), d)
    if result:
        raise DescriptorError(_message("descriptor", result))
    return DeviceDescriptor(
        leads=tuple(LEAD_CODES[d.lead[k]] for k in range(d.leads)), fs_mhz=d.fs_mhz, lsb_pv=d.lsb_pv,
        range_uv=d.range_uv, features=Feature(d.features), codecs=d.codecs, hpf_mhz=d.hpf_mhz, lpf_dhz=d.lpf_dhz,
        adc_bits=d.adc_bits, preferred_samples=d.preferred, ring_s=d.ring_s, boot_id=d.boot_id,
        calibration_nv=d.calibration_nv, front_end_id=d.front_end_id,
    )  # fmt: skip


def encode_status(status: DeviceStatus) -> bytes:
    """Return the 20 bytes of a status."""
    ffi, lib = _core()
    fields = {
        "state": int(status.state), "contact": int(status.contact), "battery_percent": status.battery_percent,
        "battery_mv": status.battery_mv, "temperature_centi_c": status.temperature_centi_c,
        "next_index": status.next_index, "oldest_index": status.oldest_index, "overruns": status.overruns,
    }  # fmt: skip
    value = ffi.new("e6l_status *", fields)
    return _encoded(lambda out: lib.e6l_status_encode(value, out), STATUS_BYTES, "status", lambda _: StatusError)


def decode_status(data: bytes) -> DeviceStatus:
    """Read the status in `data`."""
    ffi, lib = _core()
    s = ffi.new("e6l_status *")
    result = lib.e6l_status_decode(data, len(data), s)
    if result:
        raise StatusError(_message("status", result))
    return DeviceStatus(
        state=DeviceState(s.state), contact=Contact(s.contact), battery_percent=s.battery_percent,
        battery_mv=s.battery_mv, temperature_centi_c=s.temperature_centi_c, next_index=s.next_index,
        oldest_index=s.oldest_index, overruns=s.overruns,
    )  # fmt: skip


def encode_bulk(frame: BulkFrame) -> bytes:
    """Return the bytes of a bulk frame."""
    _, lib = _core()
    n = len(frame.data)
    room = n + BULK_OVERHEAD_BYTES
    return _encoded(
        lambda out: lib.e6l_bulk_encode(frame.offset, frame.data, n, out, room), room, "bulk frame", lambda _: BulkError
    )


def decode_bulk(data: bytes) -> BulkFrame:
    """Read the bulk frame in `data`."""
    ffi, lib = _core()
    raw = ffi.from_buffer("uint8_t[]", data)
    offset, found, n = ffi.new("uint32_t *"), ffi.new("uint8_t **"), ffi.new("uint16_t *")
    result = lib.e6l_bulk_decode(raw, len(data), offset, found, n)
    if result:
        raise BulkError(_message("bulk frame", result))
    return BulkFrame(offset=offset[0], data=bytes(ffi.buffer(found[0], n[0])))


def tag(secret: bytes, descriptor: bytes, host_nonce: bytes, device_nonce: bytes) -> bytes:
    """Return the tag of AUTHENTICATE."""
    ffi, lib = _core()
    out = ffi.new("uint8_t[]", TAG_BYTES)
    lib.e6l_auth_tag(secret, descriptor, host_nonce, device_nonce, out)
    return bytes(out)


def _core() -> tuple[Any, Any]:
    core = load_core()
    return core.ffi, core.lib


def _encoded(write: Callable[[Any], int], room: int, what: str, error: Callable[[int], type[ProtocolError]]) -> bytes:
    ffi, _ = _core()
    out = ffi.new("uint8_t[]", room)
    length = write(out)
    if length < 0:
        raise error(length)(_message(what, length))
    return bytes(ffi.buffer(out, length))


def _frame_error(code: int) -> type[FrameError]:
    return _FRAME_ERRORS[code]


def _message(what: str, code: int) -> str:
    return f"{what} in the C core: found error {code}, expected none"
