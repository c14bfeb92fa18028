"""Errors of a radio that a program may want to tell apart; this module loads no radio."""

from __future__ import annotations

from typing import ClassVar

from lsemvae.ecg.errors import LinkError


class RadioError(LinkError):
    """Base of the errors below.

    Attributes
    ----------
    usual_advice
        What to do, unless the place that raises it knows better.
    lasting
        Whether trying again cannot help: somebody has to do something first.
    """

    usual_advice: ClassVar[str | None] = None
    lasting: ClassVar[bool] = False

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message, advice=self.usual_advice if advice is None else advice)


class BluetoothOffError(RadioError):
    """The adapter is there and switched off."""

    code = "E_BLUETOOTH_OFF"
    usual_advice = "Switch Bluetooth on (bluetoothctl power on, or the switch in the settings) and try again."


class NoAdapterError(RadioError):
    """The system knows no Bluetooth adapter."""

    code = "E_NO_ADAPTER"
    usual_advice = (
        "Plug in a Bluetooth adapter, or enable the built-in one (rfkill unblock bluetooth). If one is there, start the "
        "Bluetooth service (sudo systemctl start bluetooth)."
    )


class BluetoothPermissionError(RadioError):
    """The system does not let this user use Bluetooth."""

    code = "E_BLUETOOTH_PERMISSION"
    usual_advice = "Add the user to the group 'bluetooth' (sudo usermod -aG bluetooth USER) and log in again."
    lasting = True


class BluetoothServiceError(RadioError):
    """The Bluetooth service, or the system bus that leads to it, does not run."""

    code = "E_BLUETOOTH_SERVICE"
    usual_advice = "Start the Bluetooth service (sudo systemctl start bluetooth) and try again."


class DeviceNotFoundError(RadioError):
    """No device that fits was heard."""

    code = "E_DEVICE_NOT_FOUND"
    usual_advice = "Switch the device on, hold it within two metres, and end its connection to any phone."


class DeviceAmbiguousError(RadioError):
    """More than one device fits."""

    code = "E_DEVICE_AMBIGUOUS"
    usual_advice = "Name the address of the one to use, or switch the others off."
    lasting = True


class DeviceBusyError(RadioError):
    """The device is connected to another program of this computer."""

    code = "E_DEVICE_BUSY"
    usual_advice = "End the other program that uses the device, or wait until it is done."


class PairingError(RadioError):
    """The device wants an encrypted link, and there is none."""

    code = "E_PAIRING"
    usual_advice = (
        "Let the device pair (hold its button until it offers to), remove it from the phone or computer it was paired "
        "with before, and try again."
    )
    lasting = True
