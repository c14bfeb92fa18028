"""From the options of `edge_app devices` to the way to a device: radio, serial line, log, or simulation."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lsemvae.ecg.errors import LinkError
from lsemvae.terminal.console import say_progress

if TYPE_CHECKING:
    from edge_app.link.base import Transport
    from firmware_bridge.protocol.authenticity import DeviceKey

__all__ = ["Way", "bluetooth", "choose_radio", "folder_for", "keys_for", "logged", "way_to"]

#: A Bluetooth address, or the identifier that macOS hands out instead; anything else is a name.
_ADDRESS: Final = re.compile(
    r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)

# What was played must never lie among the recordings of patients: each kind has a store of its own.
SIMULATED_DIR: Final = "simulated"
REPLAYED_DIR: Final = "replayed"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a six-lead device.

    Attributes
    ----------
    label
        For the first line of a view.
    simulated, replayed
        What it is not: a device on a person.
    pace
        Seconds of the device per second of this computer; None where nobody knows.
    """

    transport: Transport
    label: str
    simulated: bool = False
    replayed: bool = False
    pace: float | None = 1.0

    @property
    def device(self) -> str:
        """What the record says about its device; empty: what the device says of itself."""
        from edge_app.devices.simulated_radio import SIMULATED_LABEL

        return SIMULATED_LABEL if self.simulated else ""


def choose_radio(*, simulated: bool | None) -> bool:
    """Decide between the machine's Bluetooth and a simulated radio; True for the simulated one, which is then in use.

    Parameters
    ----------
    simulated
        What was asked for; None takes a simulated radio where one runs, and says so.

    Raises
    ------
    LinkError
        A simulated radio was asked for and none runs.
    """
    from edge_app.devices import simulated_radio

    if simulated is False:
        return False
    if not simulated_radio.is_running():
        if simulated:
            raise LinkError(
                "found no simulated radio, expected one of this account",
                advice="Start one in another terminal: edge_app devices simulate",
            )
        return False
    simulated_radio.use()
    say_progress(
        "Note: a simulated radio runs here (edge_app devices simulate), and this command uses it: no real device, "
        "no person. --real takes the machine's Bluetooth."
    )
    return True


def bluetooth(device: str | None) -> Transport:
    """Return the link to a device by name, by address, or the only one in reach; loads the radio's packages."""
    try:
        from edge_app.link.ble.transport import BleTransport
    except ModuleNotFoundError as error:
        raise LinkError(
            f"Bluetooth needs the package {error.name}, which is not installed.",
            advice="Install it with: pip install 'lsemvae[edge]'",
        ) from error
    if is_address(device):
        return BleTransport(address=device)
    return BleTransport(name=device)


def is_address(device: str | None) -> bool:
    """Whether `device` is an address rather than a name."""
    return device is not None and _ADDRESS.fullmatch(device) is not None


def way_to(
    *, device: str | None = None, serial: str | None = None, replay: Path | None = None,
    speed: float = 1.0, simulated: bool | None = None,
) -> Way:  # fmt: skip
    """Return the one way that the options name."""
    named = [option for option, value in (("--device", device), ("--serial", serial), ("--replay", replay)) if value]
    if len(named) > 1:
        raise LinkError(f"found {' and '.join(named)}, expected one way to a device", advice="Leave all but one away.")
    if replay is not None:
        from edge_app.link.log.replay import ReplayTransport

        return Way(ReplayTransport(replay, speed=speed), f"replay of {replay.name}", replayed=True, pace=speed)
    if serial is not None:
        from edge_app.link.serial.transport import SerialTransport

        return Way(SerialTransport(serial), f"six-lead device on {serial}")
    played = choose_radio(simulated=simulated)
    label = f"{device or 'six-lead device'}{' (simulated)' if played else ''}"
    return Way(bluetooth(device), label, simulated=played, pace=None if played else 1.0)


def folder_for(way: Way, data_dir: Path) -> Path:
    """Where recordings of this way are kept."""
    if way.simulated:
        return data_dir / SIMULATED_DIR
    return data_dir / REPLAYED_DIR if way.replayed else data_dir


def keys_for(way: Way, data_dir: Path) -> tuple[DeviceKey, ...]:
    """Keys of the devices that are trusted here; the simulated device shows its own, as on a case."""
    from edge_app.devices.simulated_radio import known_key
    from edge_app.session.keys import DeviceKeys

    simulated = known_key() if way.simulated else None
    return (*DeviceKeys(data_dir).list(), *((simulated,) if simulated else ()))


def logged(way: Way, log: Path | None) -> AbstractContextManager[Transport]:
    """The link of `way`, with a notification log if one is wanted."""
    if log is None:
        return nullcontext(way.transport)
    from edge_app.link.log.writer import LoggingTransport

    return LoggingTransport(way.transport, log)
