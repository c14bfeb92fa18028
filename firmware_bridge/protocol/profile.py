"""The GATT profile of a six-lead device, version 1: names, numbers and the reasons for them (see PROTOCOL.md)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

PROTOCOL_VERSION: Final = 1

_UUID_FORMAT: Final = "9a6e{:04x}-3c5d-4f0b-8e21-6c6561647336"
SERVICE_UUID: Final = _UUID_FORMAT.format(1)
DESCRIPTOR_UUID: Final = _UUID_FORMAT.format(2)
CONTROL_UUID: Final = _UUID_FORMAT.format(3)
LIVE_UUID: Final = _UUID_FORMAT.format(4)
STATUS_UUID: Final = _UUID_FORMAT.format(5)
BULK_UUID: Final = _UUID_FORMAT.format(6)

FRAME_HEADER_BYTES: Final = 10
CRC_BYTES: Final = 2
FRAME_OVERHEAD_BYTES: Final = FRAME_HEADER_BYTES + CRC_BYTES

# An ATT notification carries one opcode byte and a two-byte handle before our frame.
ATT_HEADER_BYTES: Final = 3

# 25 samples at 500 Hz are 50 ms: one radio packet per 50 ms costs 3.7 % of air time, and an operator does not notice
# the delay.
PREFERRED_FRAME_SAMPLES: Final = 25

# Below 4 samples a frame is more header than signal (MTU 23 would cost 250 packets/s): START refuses instead.
MIN_FRAME_SAMPLES: Final = 4

# A screening record is 10-30 s: a ring of 30 s lets a link that was lost for the whole of it still be repaired.
RING_S: Final = 30

# A retransmitted frame has no place in the order of acquisition, so it carries no sequence number.
SEQ_RETRANSMITTED: Final = 0xFFFF

# Sample indices are 32 bits on the wire; at 500 Hz they wrap after 99 days.
INDEX_MODULUS: Final = 1 << 32

MAX_LEADS: Final = 4
RETRANSMIT_MAX_SAMPLES: Final = 0xFFFF

# The longest replies (RECORD_LIST, AUTHENTICATE) are 26 and 35 bytes: both fit the smallest MTU that can stream.
MIN_REPLY_MTU: Final = 39

# The pulse is for a gain check, not for a recording: it ends by itself although the host may be gone.
CALIBRATION_MIN_S: Final = 1
CALIBRATION_MAX_S: Final = 30
CALIBRATION_PERIOD_S: Final = 1

# A screening record is 10-30 s.
RECORDING_MIN_S: Final = 10
RECORDING_MAX_S: Final = 30

# `start_index` of a recording that was made without a stream.
NO_STREAM_INDEX: Final = 0xFFFFFFFF

# A bulk frame is offset u32, length u16, data and CRC.
BULK_HEADER_BYTES: Final = 6
BULK_OVERHEAD_BYTES: Final = BULK_HEADER_BYTES + CRC_BYTES

NONCE_BYTES: Final = 16
TAG_BYTES: Final = 16
DEVICE_KEY_BYTES: Final = 32

# Enough for a recording of 30 s and its transfer on the small cells of handheld devices.
BATTERY_LOW_PERCENT: Final = 15

# Writing and verifying a firmware image takes minutes: a battery that dies meanwhile leaves a device that must recover.
UPDATE_MIN_BATTERY_PERCENT: Final = 30

# Firmware update: Simple Management Protocol as MCUboot devices speak it.
SMP_SERVICE_UUID: Final = "8d53dc1d-1db7-4cd3-868b-8a527460aa84"
SMP_CHARACTERISTIC_UUID: Final = "da2e7828-fbce-4e01-ae9e-261174997c48"


class SampleCodec(IntEnum):
    """How the samples of a live frame are packed."""

    RAW24 = 0
    RAW16 = 1
    RICE = 2


class FrameFlag(IntFlag):
    """Byte 1 of a live frame."""

    RETRANSMITTED = 0x01
    CALIBRATION = 0x02
    OVERRUN = 0x04
    FILTERED = 0x08
    LAST = 0x80


class Contact(IntFlag):
    """Byte 9 of a live frame: electrodes that are off, channels that are saturated."""

    RA_OFF = 0x01
    LA_OFF = 0x02
    LL_OFF = 0x04
    RL_OFF = 0x08
    SATURATED_1 = 0x10
    SATURATED_2 = 0x20


NO_FLAGS: Final = FrameFlag(0)
ALL_ELECTRODES_ON: Final = Contact(0)


class Feature(IntFlag):
    """Byte 7 of the descriptor: what the device can do."""

    RETRANSMIT = 0x01
    RECORD = 0x02
    CALIBRATION = 0x04
    LEAD_OFF = 0x08
    RIGHT_LEG_DRIVE = 0x10
    DC_COUPLED = 0x20
    TIME_SYNC = 0x40
    DEVICE_KEY = 0x80


class Op(IntEnum):
    """Operation codes of the control characteristic."""

    START = 0x01
    STOP = 0x02
    RETRANSMIT = 0x03
    TIME = 0x04
    CALIBRATE = 0x05
    RECORD_ARM = 0x06
    RECORD_LIST = 0x07
    RECORD_READ = 0x08
    RECORD_DELETE = 0x09
    SELF_TEST = 0x0A
    AUTHENTICATE = 0x0B


class StartFlag(IntFlag):
    """Last byte of a START request."""

    # Go on sending the stream that was being acquired when the link was lost; indices continue.
    RESUME = 0x01


class ReplyStatus(IntEnum):
    """Third byte of a control reply."""

    OK = 0
    MTU_TOO_SMALL = 1
    BAD_OP = 2
    BAD_PARAMETER = 3
    BUSY = 4
    EVICTED = 5
    NOT_AUTHENTICATED = 6
    FRONT_END_FAULT = 7
    NO_CONTACT = 8
    NO_STREAM = 9


class DeviceState(IntEnum):
    """Byte 1 of the status."""

    IDLE = 0
    STREAMING = 1
    FAULT = 2


class SelfTestFault(IntFlag):
    """What a SELF_TEST found wrong."""

    FRONT_END = 0x01
    MEMORY = 0x02
    BATTERY_LOW = 0x04
    CALIBRATION = 0x08
    NO_DEVICE_KEY = 0x10


NO_FEATURES: Final = Feature(0)
NO_FAULTS: Final = SelfTestFault(0)
NO_START_FLAGS: Final = StartFlag(0)

LEAD_CODES: Final[dict[int, str]] = {
    1: "I", 2: "II", 3: "III", 4: "aVR", 5: "aVL", 6: "aVF", 7: "V1", 8: "V2", 9: "V3", 10: "V4", 11: "V5", 12: "V6",
}  # fmt: skip
CODE_OF_LEAD: Final[dict[str, int]] = {name: code for code, name in LEAD_CODES.items()}

_LIMB_ELECTRODES = Contact.RA_OFF | Contact.LA_OFF | Contact.LL_OFF

# The electrodes a lead is measured between. Augmented and chest leads need all three limb electrodes (Goldberger and
# Wilson terminals).
ELECTRODES_OF_LEAD: Final[dict[str, Contact]] = {
    "I": Contact.RA_OFF | Contact.LA_OFF,
    "II": Contact.RA_OFF | Contact.LL_OFF,
    "III": Contact.LA_OFF | Contact.LL_OFF,
    **dict.fromkeys(("aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"), _LIMB_ELECTRODES),
}

BYTES_PER_SAMPLE: Final[dict[SampleCodec, int]] = {SampleCodec.RAW24: 3, SampleCodec.RAW16: 2}


def samples_per_frame(
    mtu: int, *, n_leads: int, codec: SampleCodec = SampleCodec.RAW24, preferred: int = PREFERRED_FRAME_SAMPLES
) -> int:
    """Return how many samples per lead fit one notification: ``min(preferred, (mtu - 15) / (leads x bytes))``.

    A result below `MIN_FRAME_SAMPLES` means that a device must refuse START (MTU under 39 for two leads of 24 bits).
    """
    room = mtu - ATT_HEADER_BYTES - FRAME_OVERHEAD_BYTES
    return max(0, min(preferred, room // (n_leads * BYTES_PER_SAMPLE[codec])))


def bulk_data_bytes(mtu: int) -> int:
    """Return how many bytes of a recording fit one bulk frame: ``mtu - 3 - 8``; 0 if none does."""
    return max(0, mtu - ATT_HEADER_BYTES - BULK_OVERHEAD_BYTES)


def recording_samples(seconds: int, *, fs_mhz: int) -> int:
    """Return how many samples per lead `seconds` hold, rounded down."""
    return seconds * fs_mhz // 1000
