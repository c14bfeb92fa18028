"""The 40-byte descriptor: what a device says about its leads, rate, scale and abilities.

Whatever would make a recording uninterpretable (scale or rate 0, a lead code that is unknown or given twice) is refused
here, before START.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from firmware_bridge.protocol.checksum import check_crc, with_crc
from firmware_bridge.protocol.errors import DescriptorError
from firmware_bridge.protocol.profile import (
    CODE_OF_LEAD,
    LEAD_CODES,
    MAX_LEADS,
    NO_FEATURES,
    PREFERRED_FRAME_SAMPLES,
    PROTOCOL_VERSION,
    RING_S,
    Feature,
    SampleCodec,
)

DESCRIPTOR_BYTES: Final = 40
_LAYOUT: Final = struct.Struct("<BB4sBBIIIHHBBHIIH")

# Rates that a record can hold; anything else is a firmware fault and would only be noticed after the patient has gone.
MIN_RATE_MHZ: Final = 50_000
MAX_RATE_MHZ: Final = 2_000_000
MAX_ADC_BITS: Final = 24

# A record holds counts of 0.001 uV and more; no electrode gives more than a volt or two, so a full scale above 10 V is
# a wrong unit.
MIN_LSB_PV: Final = 1_000
MAX_LSB_PV: Final = 10_000_000  # 10 uV, coarser than any converter that was built for an ECG
MAX_FULL_SCALE_PV: Final = 10 * 10**12


@dataclass(frozen=True, slots=True)
class DeviceDescriptor:
    """Leads, rate, scale and abilities of a device, in its own words.

    Attributes
    ----------
    leads
        Canonical lead names, in the order of the samples.
    fs_mhz
        Sampling rate in mHz (an ADS1293 cannot make 500 Hz exactly).
    lsb_pv
        Weight of one code in picovolt: 48 100 for an ADS1292R at gain 6.
    range_uv
        Largest input, either sign, in microvolt.
    codecs
        Bit mask, bit k = `SampleCodec` k.
    hpf_mhz, lpf_dhz
        Corner frequencies of the device's own filters, mHz and 0.1 Hz; 0 = none (DC coupled).
    boot_id
        Random at each power-on: a change means that ring and stream are gone.
    """

    leads: tuple[str, ...]
    fs_mhz: int
    lsb_pv: int
    range_uv: int
    features: Feature = NO_FEATURES
    codecs: int = 1 << SampleCodec.RAW24
    hpf_mhz: int = 0
    lpf_dhz: int = 0
    adc_bits: int = MAX_ADC_BITS
    preferred_samples: int = PREFERRED_FRAME_SAMPLES
    ring_s: int = RING_S
    boot_id: int = 0
    calibration_nv: int = 0
    front_end_id: int = 0

    def __post_init__(self) -> None:
        _check_range("number of leads", len(self.leads), 1, MAX_LEADS)
        unknown = [name for name in self.leads if name not in CODE_OF_LEAD]
        if unknown or len(set(self.leads)) != len(self.leads):
            expected = f"different names out of {list(CODE_OF_LEAD)}"
            raise DescriptorError(f"leads: found {list(self.leads)}, expected {expected}")
        _check_range("sampling rate [mHz]", self.fs_mhz, MIN_RATE_MHZ, MAX_RATE_MHZ)
        _check_range("bits of the converter", self.adc_bits, 2, MAX_ADC_BITS)
        coarsest = min(MAX_LSB_PV, MAX_FULL_SCALE_PV // self.rail_code)
        _check_range("weight of one code [pV]", self.lsb_pv, MIN_LSB_PV, coarsest)
        _check_range("preferred samples per frame", self.preferred_samples, 1, 255)

    @property
    def fs_hz(self) -> float:
        """Sampling rate in Hz."""
        return self.fs_mhz / 1000.0

    @property
    def lsb_uv(self) -> float:
        """Weight of one code in microvolt."""
        return self.lsb_pv / 1e6

    @property
    def rail_code(self) -> int:
        """Largest code of the converter: a sample there is saturated, whatever the contact byte says."""
        return int((1 << (self.adc_bits - 1)) - 1)

    def same_signal(self, other: DeviceDescriptor) -> bool:
        """Return whether samples of `other` may be joined to samples of this: same leads, rate and scale."""
        return (self.leads, self.fs_mhz, self.lsb_pv) == (other.leads, other.fs_mhz, other.lsb_pv)


def encode_descriptor(descriptor: DeviceDescriptor) -> bytes:
    """Return the 40 bytes of a descriptor."""
    codes = bytes(CODE_OF_LEAD[name] for name in descriptor.leads)
    raw = _LAYOUT.pack(
        PROTOCOL_VERSION, len(codes), codes.ljust(MAX_LEADS, b"\0"), descriptor.codecs, int(descriptor.features),
        descriptor.fs_mhz, descriptor.lsb_pv, descriptor.range_uv, descriptor.hpf_mhz, descriptor.lpf_dhz,
        descriptor.adc_bits, descriptor.preferred_samples, descriptor.ring_s, descriptor.boot_id,
        descriptor.calibration_nv, descriptor.front_end_id,
    )  # fmt: skip
    return with_crc(raw)


def decode_descriptor(data: bytes | bytearray) -> DeviceDescriptor:
    """Return the descriptor in `data`; raise a `DescriptorError` that names the field."""
    raw = bytes(data)
    if len(raw) != DESCRIPTOR_BYTES:
        raise DescriptorError(f"descriptor: found {len(raw)} bytes, expected {DESCRIPTOR_BYTES}")
    check_crc(raw, what="descriptor", error=DescriptorError)
    if raw[0] != PROTOCOL_VERSION:
        raise DescriptorError(
            f"protocol version: found {raw[0]}, expected {PROTOCOL_VERSION}",
            advice="Update this program or the device's firmware.",
        )
    fields = _LAYOUT.unpack(raw[:-2])
    count, codes = fields[1:3]
    _check_range("number of leads", count, 1, MAX_LEADS)
    unknown = [code for code in codes[:count] if code not in LEAD_CODES]
    if unknown:
        known = f"1..{max(LEAD_CODES)} (I, II, III, aVR, aVL, aVF, V1-V6)"
        raise DescriptorError(f"lead codes: found {unknown}, expected {known}")
    if any(codes[count:]):
        raise DescriptorError(f"unused lead codes: found {list(codes[count:])}, expected 0 after {count} leads")
    return DeviceDescriptor(
        leads=tuple(LEAD_CODES[code] for code in codes[:count]), codecs=fields[3], features=Feature(fields[4]), fs_mhz=fields[5],
        lsb_pv=fields[6], range_uv=fields[7], hpf_mhz=fields[8], lpf_dhz=fields[9], adc_bits=fields[10],
        preferred_samples=fields[11], ring_s=fields[12], boot_id=fields[13], calibration_nv=fields[14],
        front_end_id=fields[15],
    )  # fmt: skip


def _check_range(what: str, found: int, low: int, high: int) -> None:
    if not low <= found <= high:
        raise DescriptorError(f"{what}: found {found}, expected {low}..{high}")
