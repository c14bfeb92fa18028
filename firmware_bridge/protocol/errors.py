"""What can be wrong with the bytes of a device, one class a cause; each message shows what was found and expected."""

from __future__ import annotations

from lsemvae.ecg.errors import ProtocolError


class FrameError(ProtocolError):
    """A live frame that must not be used."""


class FrameTooShortError(FrameError):
    """Fewer bytes than the smallest frame."""


class FrameCrcError(FrameError):
    """The check sum does not match: the bytes changed on the way."""


class FrameVersionError(FrameError):
    """The frame is of a protocol version that this code does not speak."""


class FrameCodecError(FrameError):
    """The samples are packed in a way that this code does not unpack."""


class FrameLengthError(FrameError):
    """The number of bytes does not match the number of samples that the header states."""


class DescriptorError(ProtocolError):
    """The device describes itself in a way that cannot be trusted with a recording."""


class ControlError(ProtocolError):
    """A request or a reply on the control characteristic cannot be read."""


class StatusError(ProtocolError):
    """A status notification cannot be read."""


class BulkError(ProtocolError):
    """Bytes of a stored recording cannot be used."""


class KeyTextError(ProtocolError):
    """The text of a device key (QR code on the case) cannot be read."""
