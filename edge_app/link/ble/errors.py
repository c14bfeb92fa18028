"""What Bluetooth says, in words that help an operator; loads bleak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
    BleakGATTProtocolErrorCode,
)
from bleak_retry_connector import BleakNotFoundError

from edge_app.link.radio_errors import (
    BluetoothOffError,
    BluetoothPermissionError,
    BluetoothServiceError,
    DeviceNotFoundError,
    NoAdapterError,
    PairingError,
    RadioError,
)
from lsemvae.ecg.errors import EcgError, LinkError

# What bleak lets out of the D-Bus library, where that is installed (Linux).
_DBUS_EXCEPTIONS: tuple[type[Exception], ...] = ()
if find_spec("dbus_fast") is not None:
    from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

    _DBUS_EXCEPTIONS = (AuthError, DBusError, InvalidAddressError)

# Beside BleakError: what the D-Bus library raises when its socket dies, its address makes no sense or the bus turns it
# away, and AttributeError/KeyError, which bleak's BlueZ backend lets out when a device vanishes between two of its steps.
RADIO_EXCEPTIONS: Final[tuple[type[Exception], ...]] = (
    BleakError,
    OSError,
    EOFError,
    TimeoutError,
    AttributeError,
    KeyError,
    *_DBUS_EXCEPTIONS,
)

_BAD_ADDRESS: Final = "Unset the variable DBUS_SYSTEM_BUS_ADDRESS, or set it to the address of a running bus."
_WRONG_DEVICE: Final = "This is not a device of this kind, or its firmware is too old. Use another device."
_LET_IT_PAIR: Final = (
    "The device may want an encrypted link: connect without turning pairing off. If it still does not answer, switch it "
    "off and on."
)

_BY_REASON: Final[dict[BleakBluetoothNotAvailableReason, type[RadioError]]] = {
    BleakBluetoothNotAvailableReason.POWERED_OFF: BluetoothOffError,
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: NoAdapterError,
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: NoAdapterError,
    BleakBluetoothNotAvailableReason.DENIED_BY_USER: BluetoothPermissionError,
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: BluetoothPermissionError,
    BleakBluetoothNotAvailableReason.DENIED_BY_UNKNOWN: BluetoothPermissionError,
}
_BY_DBUS_ERROR: Final[dict[str, type[RadioError]]] = {
    "org.bluez.Error.NotReady": BluetoothOffError,
    "org.bluez.Error.NotAuthorized": BluetoothPermissionError,
    "org.bluez.Error.NotPermitted": BluetoothPermissionError,
    "org.freedesktop.DBus.Error.AccessDenied": BluetoothPermissionError,
    "org.freedesktop.DBus.Error.ServiceUnknown": BluetoothServiceError,
    "org.freedesktop.DBus.Error.NameHasNoOwner": BluetoothServiceError,
    "org.freedesktop.DBus.Error.NoReply": BluetoothServiceError,
    "org.freedesktop.DBus.Error.Disconnected": BluetoothServiceError,
}
# What the bus says when it cannot start bluetoothd, and systemd when the unit is masked or missing.
_CANNOT_START: Final = ("org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1.")
_NOT_PAIRED: Final = "Not paired"
_WANTS_ENCRYPTION: Final = (
    BleakGATTProtocolErrorCode.INSUFFICIENT_AUTHENTICATION,
    BleakGATTProtocolErrorCode.INSUFFICIENT_ENCRYPTION,
    BleakGATTProtocolErrorCode.INSUFFICIENT_ENCRYPTION_KEY_SIZE,
)
_BY_TYPE: Final[tuple[tuple[type[Exception], type[RadioError]], ...]] = (
    (BleakDeviceNotFoundError, DeviceNotFoundError),
    (BleakNotFoundError, DeviceNotFoundError),
    (PermissionError, BluetoothPermissionError),
    (FileNotFoundError, BluetoothServiceError),
    (ConnectionRefusedError, BluetoothServiceError),
)


def kind_of(exc: BaseException) -> type[RadioError] | None:
    """Return what a failure of the radio means for an operator; None for one without a name of its own."""
    if isinstance(exc, BleakBluetoothNotAvailableError):
        return _BY_REASON.get(exc.reason)
    if isinstance(exc, BleakGATTProtocolError):
        return PairingError if exc.code in _WANTS_ENCRYPTION else None
    if isinstance(exc, BleakDBusError):
        if exc.dbus_error.startswith(_CANNOT_START):
            return BluetoothServiceError
        kind = _BY_DBUS_ERROR.get(exc.dbus_error)
        not_paired = kind is BluetoothPermissionError and exc.dbus_error_details == _NOT_PAIRED
        return PairingError if not_paired else kind
    if type(exc).__name__ == "AuthError":
        return BluetoothPermissionError
    return next((kind for raised, kind in _BY_TYPE if isinstance(exc, raised)), None)


def not_found(what: str, *, seconds: float) -> LinkError:
    """Return the error for a scan without result."""
    return DeviceNotFoundError(f"scan: found no {what} in {seconds:g} s, expected one")


def unanswered(what: str, *, seconds: float, pairs: bool) -> LinkError:
    """Return the error for a device that is connected and does not answer."""
    message = f"{what}: found no answer of the device in {seconds:g} s, expected one"
    return LinkError(message) if pairs else PairingError(message, advice=_LET_IT_PAIR)


def is_of_the_link(exc: BaseException) -> bool:
    """Return whether a connection to a device that was heard failed, and neither the computer nor the distance is to blame."""
    if isinstance(exc, TimeoutError | BleakNotFoundError) or not isinstance(exc, BleakError):
        return False
    return all(kind_of(one) is None for one in (exc, exc.__cause__) if one is not None)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what a radio raises into `LinkError`, with what was being done and what to do now."""
    try:
        yield
    except EcgError:
        raise
    except RADIO_EXCEPTIONS as exc:
        message = f"{what}: {_words(exc)}"
        for one in (exc.__cause__, exc):  # an exception may only wrap the one that says more
            if one is None:
                continue
            if (kind := kind_of(one)) is not None:
                raise kind(message) from exc
            if isinstance(one, BleakCharacteristicNotFoundError):
                raise LinkError(message, advice=_WRONG_DEVICE) from exc
            if type(one).__name__ == "InvalidAddressError":
                raise LinkError(message, advice=_BAD_ADDRESS) from exc
        raise LinkError(message) from exc


def _words(exc: BaseException) -> str:
    """Return what happened, without the codes that bleak puts beside its sentence."""
    if isinstance(exc, BleakBluetoothNotAvailableError) and exc.args:
        return str(exc.args[0])
    if isinstance(exc, TimeoutError):
        return str(exc) or "no answer in time"
    if isinstance(exc, FileNotFoundError | ConnectionRefusedError):
        return f"found no system bus to speak to the Bluetooth service over, expected one ({exc.strerror})"
    return str(exc) or type(exc).__name__
