"""The device's side: PROTOCOL.md, the bytes of the six-lead profile, recordings out of them, drivers of other devices.

>>> from firmware_bridge import Recording, decode_descriptor, make_driver

The names below are loaded when they are first used, so that ``import firmware_bridge`` costs nothing; a virtual device and a
test radio are in `firmware_bridge.sim`, the device in C in the folder ``c``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from firmware_bridge.assembly.reassembly import Assembler
    from firmware_bridge.assembly.recording import Recording
    from firmware_bridge.drivers import catalogue, recognise
    from firmware_bridge.drivers import make as make_driver
    from firmware_bridge.protocol.authenticity import DeviceKey
    from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
    from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor, encode_descriptor
    from firmware_bridge.protocol.status import DeviceStatus, decode_status, encode_status

__all__ = [
    "Assembler",
    "DeviceDescriptor",
    "DeviceKey",
    "DeviceStatus",
    "LiveFrame",
    "Recording",
    "catalogue",
    "decode_descriptor",
    "decode_frame",
    "decode_status",
    "encode_descriptor",
    "encode_frame",
    "encode_status",
    "make_driver",
    "recognise",
]

# Module of each public name, and its name there.
_PLACES: Final = {
    "Assembler": ("assembly.reassembly", "Assembler"),
    "DeviceDescriptor": ("protocol.descriptor", "DeviceDescriptor"),
    "DeviceKey": ("protocol.authenticity", "DeviceKey"),
    "DeviceStatus": ("protocol.status", "DeviceStatus"),
    "LiveFrame": ("protocol.codec", "LiveFrame"),
    "Recording": ("assembly.recording", "Recording"),
    "catalogue": ("drivers", "catalogue"),
    "decode_descriptor": ("protocol.descriptor", "decode_descriptor"),
    "decode_frame": ("protocol.codec", "decode_frame"),
    "decode_status": ("protocol.status", "decode_status"),
    "encode_descriptor": ("protocol.descriptor", "encode_descriptor"),
    "encode_frame": ("protocol.codec", "encode_frame"),
    "encode_status": ("protocol.status", "encode_status"),
    "make_driver": ("drivers", "make"),
    "recognise": ("drivers", "recognise"),
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def __dir__() -> list[str]:
    """Return the public names beside what is loaded already."""
    return sorted({*globals(), *__all__})
