"""Live frames: samples of all leads to bytes and back.

Layout, little-endian: version and codec (4 bits each), flags, seq u16, t0 u32, n u8, contact u8, ``n x leads``
interleaved samples, CRC-16 over everything before it. The check sum is looked at first: a frame that fails it is never
interpreted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.checksum import check_crc, with_crc
from firmware_bridge.protocol.errors import (
    FrameCodecError,
    FrameCrcError,
    FrameError,
    FrameLengthError,
    FrameTooShortError,
    FrameVersionError,
)
from firmware_bridge.protocol.profile import (
    ALL_ELECTRODES_ON,
    BYTES_PER_SAMPLE,
    CRC_BYTES,
    FRAME_HEADER_BYTES,
    FRAME_OVERHEAD_BYTES,
    INDEX_MODULUS,
    NO_FLAGS,
    PROTOCOL_VERSION,
    Contact,
    FrameFlag,
    SampleCodec,
)

_HEADER: Final = struct.Struct("<BBHIBB")
_LIMITS: Final[dict[SampleCodec, tuple[int, int]]] = {
    SampleCodec.RAW24: (-(1 << 23), (1 << 23) - 1),
    SampleCodec.RAW16: (-(1 << 15), (1 << 15) - 1),
}
_MAX_SAMPLES: Final = 255  # n is one byte


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One notification of the live characteristic.

    Attributes
    ----------
    samples
        int32 ``[lead, time]`` in device codes; their weight is the descriptor's ``lsb_pv``.
    t0
        Index since START of the first sample, modulo 2^32: the device's clock.
    seq
        Number of the frame as acquired, modulo 2^16; 0xFFFF in a retransmission.
    contact
        Electrodes off and channels saturated, for the whole frame.
    """

    samples: NDArray[np.int32]
    t0: int
    seq: int = 0
    flags: FrameFlag = NO_FLAGS
    contact: Contact = ALL_ELECTRODES_ON
    codec: SampleCodec = SampleCodec.RAW24

    @property
    def n_samples(self) -> int:
        """Samples per lead."""
        return int(self.samples.shape[1])


def encode_frame(frame: LiveFrame) -> bytes:
    """Return the bytes of a frame; a sample that the codec cannot hold is refused, never clipped."""
    samples = frame.samples
    if frame.codec not in _LIMITS:
        raise FrameCodecError(f"live frame codec: found {frame.codec.name}, expected RAW24 or RAW16")
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= _MAX_SAMPLES or not np.issubdtype(samples.dtype, np.integer):
        raise FrameError(f"samples: found {samples.dtype} {samples.shape}, expected integers [lead, 1..{_MAX_SAMPLES}]")
    low, high = _LIMITS[frame.codec]
    if int(samples.min()) < low or int(samples.max()) > high:
        found = f"{samples.min()}..{samples.max()}"
        raise FrameError(f"samples: found {found}, expected {low}..{high} for {frame.codec.name}")
    head = _HEADER.pack(
        PROTOCOL_VERSION << 4 | frame.codec,
        frame.flags & 0xFF,
        frame.seq & 0xFFFF,
        frame.t0 % INDEX_MODULUS,
        frame.n_samples,
        frame.contact & 0xFF,
    )
    return with_crc(head + pack_samples(samples, codec=frame.codec))


def decode_frame(data: bytes | bytearray, *, n_leads: int = 2) -> LiveFrame:
    """Return the frame in `data`; raise a `FrameError` that says what is wrong with it.

    Parameters
    ----------
    n_leads
        Channels per sample, from the descriptor: a frame does not repeat it.
    """
    raw = bytes(data)
    if len(raw) < FRAME_OVERHEAD_BYTES:
        raise FrameTooShortError(f"live frame: found {len(raw)} bytes, expected at least {FRAME_OVERHEAD_BYTES}")
    check_crc(raw, what="live frame", error=FrameCrcError)
    version_codec, flags, seq, t0, n_samples, contact = _HEADER.unpack_from(raw)
    version, code = version_codec >> 4, version_codec & 0x0F
    if version != PROTOCOL_VERSION:
        raise FrameVersionError(f"live frame version: found {version}, expected {PROTOCOL_VERSION}")
    if code not in (SampleCodec.RAW24, SampleCodec.RAW16):
        raise FrameCodecError(f"live frame codec: found {code}, expected 0 (raw24) or 1 (raw16)")
    codec = SampleCodec(code)
    body = raw[FRAME_HEADER_BYTES:-CRC_BYTES]
    expected = n_samples * n_leads * BYTES_PER_SAMPLE[codec]
    if n_samples == 0 or len(body) != expected:
        what = f"frame of {n_samples} samples x {n_leads} leads as {codec.name}"
        raise FrameLengthError(
            f"{what}: found {len(body)} bytes of samples, expected {expected or 'at least one sample'}"
        )
    samples = unpack_samples(body, codec=codec, n_leads=n_leads)
    return LiveFrame(samples=samples, t0=t0, seq=seq, flags=FrameFlag(flags), contact=Contact(contact), codec=codec)


def pack_samples(samples: NDArray[np.int32], *, codec: SampleCodec) -> bytes:
    """Return codes ``[lead, time]`` as bytes, interleaved."""
    interleaved = np.ascontiguousarray(samples.T)
    if codec is SampleCodec.RAW16:
        return interleaved.astype("<i2").tobytes()
    low_first = interleaved.astype("<i4").reshape(-1).view(np.uint8).reshape(-1, 4)
    return low_first[:, :3].tobytes()


def unpack_samples(body: bytes, *, codec: SampleCodec, n_leads: int) -> NDArray[np.int32]:
    """Return the codes ``[lead, time]`` in `body`."""
    flat = int16(body) if codec is SampleCodec.RAW16 else int24(body)
    return np.ascontiguousarray(flat.reshape(-1, n_leads).T)


def int24(data: bytes, *, big_endian: bool = False) -> NDArray[np.int32]:
    """Return the signed 24-bit numbers in `data`; its length must be a multiple of three."""
    triples = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
    words = np.zeros((len(triples), 4), dtype=np.uint8)
    words[:, 1:] = triples[:, ::-1] if big_endian else triples
    # The three bytes lie in the upper part of a 32-bit word: an arithmetic shift brings the sign along.
    return (words.view("<i4")[:, 0] >> 8).astype(np.int32)


def int16(data: bytes) -> NDArray[np.int32]:
    """Return the signed 16-bit little-endian numbers in `data`."""
    return np.frombuffer(data, dtype="<i2").astype(np.int32)
