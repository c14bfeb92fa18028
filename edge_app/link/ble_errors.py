"""What Bluetooth says, in words that help an operator; imports bleak, so it is loaded with `edge_app.link.ble` only."""

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
)

from lsemvae.ecg.errors import LinkError


def _dbus_exceptions() -> tuple[type[Exception], ...]:
    """What bleak lets out of the D-Bus library, where that is installed (Linux)."""
    if find_spec("dbus_fast") is None:
        return ()
    from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

    return (AuthError, DBusError, InvalidAddressError)


# Beside BleakError: what the D-Bus library raises when its socket dies, its address makes no sense or the bus turns it
# away, and AttributeError/KeyError, which bleak's BlueZ backend lets out when a device vanishes between two of its steps.
RADIO_EXCEPTIONS: Final[tuple[type[Exception], ...]] = (
    BleakError,
    OSError,
    EOFError,
    TimeoutError,
    AttributeError,
    KeyError,
    *_dbus_exceptions(),
)

_SWITCH_ON: Final = "Switch Bluetooth on (bluetoothctl power on, or the switch in the settings) and try again."
_NO_ADAPTER: Final = "Plug in a Bluetooth adapter, or enable the built-in one (rfkill unblock bluetooth)."
_PERMISSION: Final = "Add the user to the group 'bluetooth' (sudo usermod -aG bluetooth USER) and log in again."
_BAD_ADDRESS: Final = "Unset the variable DBUS_SYSTEM_BUS_ADDRESS, or set it to the address of a running bus."
_NO_SERVICE: Final = "Start the Bluetooth service (sudo systemctl start bluetooth) and try again."
_WRONG_DEVICE: Final = "This is not a device of this kind, or its firmware is too old. Use another device."
_OUT_OF_REACH: Final = "Switch the device on, hold it within two metres, and end its connection to any phone."

_BY_REASON: Final = {
    BleakBluetoothNotAvailableReason.POWERED_OFF: _SWITCH_ON,
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: _NO_ADAPTER,
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: _NO_ADAPTER,
    BleakBluetoothNotAvailableReason.DENIED_BY_USER: _PERMISSION,
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: _PERMISSION,
    BleakBluetoothNotAvailableReason.DENIED_BY_UNKNOWN: _PERMISSION,
}
_BY_DBUS_ERROR: Final = {
    "org.bluez.Error.NotReady": _SWITCH_ON,
    "org.bluez.Error.NotAuthorized": _PERMISSION,
    "org.bluez.Error.NotPermitted": _PERMISSION,
    "org.freedesktop.DBus.Error.AccessDenied": _PERMISSION,
    "org.freedesktop.DBus.Error.ServiceUnknown": _NO_SERVICE,
    "org.freedesktop.DBus.Error.NameHasNoOwner": _NO_SERVICE,
}


def advice_for(exc: BaseException) -> str | None:
    """What to do about a failure of the radio; None leaves the general advice of `LinkError`."""
    if isinstance(exc, BleakBluetoothNotAvailableError):
        return _BY_REASON.get(exc.reason)
    if isinstance(exc, BleakDBusError):
        return _BY_DBUS_ERROR.get(exc.dbus_error)
    if isinstance(exc, BleakCharacteristicNotFoundError):
        return _WRONG_DEVICE
    if isinstance(exc, BleakDeviceNotFoundError):
        return _OUT_OF_REACH
    if isinstance(exc, PermissionError):
        return _PERMISSION
    if type(exc).__name__ == "AuthError":
        return _PERMISSION
    if type(exc).__name__ == "InvalidAddressError":
        return _BAD_ADDRESS
    if isinstance(exc, FileNotFoundError | ConnectionRefusedError):
        return _NO_SERVICE
    return None


def not_found(what: str, *, seconds: float) -> LinkError:
    """The error for a scan without result."""
    return LinkError(f"scan: found no {what} in {seconds:g} s, expected one", advice=_OUT_OF_REACH)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what a radio raises into `LinkError`, with what was being done and what to do now."""
    try:
        yield
    except RADIO_EXCEPTIONS as exc:
        cause = exc.__cause__ if advice_for(exc) is None and exc.__cause__ is not None else exc
        raise LinkError(f"{what}: {_words(exc)}", advice=advice_for(cause)) from exc


def _words(exc: BaseException) -> str:
    """Return what happened, without the codes that bleak puts beside its sentence."""
    if isinstance(exc, BleakBluetoothNotAvailableError) and exc.args:
        return str(exc.args[0])
    return str(exc) or type(exc).__name__
