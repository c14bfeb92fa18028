"""Names and types of the BlueZ D-Bus interface, and values in the spelling that it uses."""

from __future__ import annotations

from typing import Annotated, Final

from bumble.core import UUID
from dbus_fast.annotations import DBusSignature

# D-Bus types that the library does not name. A plain None is not understood where annotations are evaluated late.
StrList = Annotated[list[str], DBusSignature("as")]
PathList = Annotated[list[str], DBusSignature("ao")]
FdAndMtu = Annotated[list[int], DBusSignature("hq")]
Nothing = Annotated[None, DBusSignature("")]

ADAPTER_PATH: Final = "/org/bluez/hci0"
MANAGER_PATH: Final = "/org/bluez"
ERROR_ALREADY_EXISTS: Final = "org.bluez.Error.AlreadyExists"
ERROR_AUTHENTICATION_FAILED: Final = "org.bluez.Error.AuthenticationFailed"
ERROR_DOES_NOT_EXIST: Final = "org.bluez.Error.DoesNotExist"
ERROR_FAILED: Final = "org.bluez.Error.Failed"
ERROR_NOT_READY: Final = "org.bluez.Error.NotReady"
ERROR_IN_PROGRESS: Final = "org.bluez.Error.InProgress"
ERROR_NOT_CONNECTED: Final = "org.bluez.Error.NotConnected"

_BASE_UUID: Final = "-0000-1000-8000-00805f9b34fb"
_FLAGS: Final = (
    "broadcast",
    "read",
    "write-without-response",
    "write",
    "notify",
    "indicate",
    "authenticated-signed-writes",
    "extended-properties",
)


def full_uuid(uuid: UUID) -> str:
    """Return the 128-bit spelling, lower case."""
    raw = uuid.uuid_bytes
    if len(raw) == 16:
        return uuid.to_hex_str("-").lower()
    return f"{int.from_bytes(raw, 'little'):08x}{_BASE_UUID}"


def flag_names(properties: int) -> list[str]:
    """Return characteristic properties as BlueZ names them."""
    return [name for bit, name in enumerate(_FLAGS) if properties & 1 << bit]


def device_path(address: str) -> str:
    """Return the object path of a device."""
    return f"{ADAPTER_PATH}/dev_{address.replace(':', '_')}"
