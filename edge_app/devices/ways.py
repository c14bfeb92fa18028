"""The ways to a device: Bluetooth, serial line, log or simulation; the six-lead profile, or a driver of another maker."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from lsemvae.ecg.errors import FormatError, LinkError

if TYPE_CHECKING:
    from edge_app.link.base import Port, Transport
    from edge_app.session.wish import DriverChoice, Wish
    from firmware_bridge.drivers.base import DriverInfo
    from firmware_bridge.protocol.authenticity import DeviceKey
    from lsemvae.ecg.record import EcgRecord

# A Bluetooth address, or the identifier that macOS hands out instead; anything else is a name.
_ADDRESS: Final = re.compile(
    r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)

# What was played must never lie among the recordings of patients: each kind has a store of its own.
SIMULATED_DIR: Final = "simulated"
REPLAYED_DIR: Final = "replayed"

SIMULATED_NOTE: Final = (
    "Note: a simulated radio runs here (edge_app devices simulate), and this command uses it: no real device, "
    "no person. --real takes the machine's Bluetooth."
)
_NAME_PORT: Final = "Name the port that the device is plugged into, for example /dev/ttyACM0, /dev/ttyUSB0 or COM3."
_INSTALL: Final = "Install it with: pip install 'lsemvae[edge]'"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a device.

    Attributes
    ----------
    link
        A `Transport` to a six-lead device; with `driver` the `Port` that its device is behind.
    label
        For the first line of a view.
    driver
        Driver of another maker's protocol; None for the six-lead profile.
    simulated, replayed
        What it is not: a device on a person.
    pace
        Seconds of the device per second of this computer; None where nobody knows.
    note
        What an operator is told before; empty for nothing.
    """

    link: Transport | Port
    label: str
    driver: DriverChoice | None = None
    simulated: bool = False
    replayed: bool = False
    pace: float | None = 1.0
    note: str = ""

    @property
    def transport(self) -> Transport:
        """The link to a six-lead device."""
        return cast("Transport", self.link)

    def wish(
        self, *, seconds: float, data_dir: Path, allow_unauthenticated: bool = False, pace: float | None = None
    ) -> Wish:
        """Return what to record this way; `pace` overrides the way's own. `data_dir` holds the keys."""
        from edge_app.devices.simulated_radio import SIMULATED_LABEL
        from edge_app.session.wish import Wish

        return Wish(
            seconds=seconds, driver=self.driver, keys=keys_for(self, data_dir),
            allow_unauthenticated=allow_unauthenticated or self.replayed, pace=self.pace if pace is None else pace,
            device=SIMULATED_LABEL if self.simulated else "",
        )  # fmt: skip


def choose_radio(*, simulated: bool | None) -> bool:
    """Decide between the machine's Bluetooth and a simulated radio; True for the simulated one, which is then in use.

    Parameters
    ----------
    simulated
        What was asked for; None takes a simulated radio where one runs. An operator must be told so (`SIMULATED_NOTE`).

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
    return True


def way_to(
    *, device: str | None = None, serial: str | None = None, driver: DriverChoice | None = None,
    replay: Path | None = None, speed: float = 1.0, simulated: bool | None = None,
) -> Way:  # fmt: skip
    """Return the one way that the options name.

    Parameters
    ----------
    device
        Name or address on the air; None: the only device in reach.
    serial
        Serial port instead of Bluetooth.
    driver
        Driver of another maker's device.
    replay, speed
        Notification log of a six-lead device instead of a device, and how fast it is played.
    simulated
        See `choose_radio`.

    Raises
    ------
    LinkError
        More than one way is named, a package is missing, or no simulated radio runs.
    FormatError
        The log, the driver or one of its options makes no sense.
    """
    if driver is not None:
        info = driver.make().info
        port = port_for(info, serial=serial or "", device=device)
        return Way(port, info.title, driver=driver, note="" if info.quality.calibrated else _scale_note(info.name))
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
    try:
        from edge_app.link.ble.transport import BleTransport
    except ModuleNotFoundError as error:
        raise LinkError(
            f"Bluetooth needs the package {error.name}, which is not installed.", advice=_INSTALL
        ) from error
    radio = BleTransport(**_named(device))
    return Way(radio, label, simulated=played, pace=None if played else 1.0, note=SIMULATED_NOTE if played else "")


def port_for(info: DriverInfo, *, serial: str = "", device: str | None = None) -> Port:
    """Return the port that a driver needs: the serial port `serial` at its rate, or Bluetooth to `device`.

    Raises
    ------
    LinkError
        The driver's device is on a serial line, and no port is named.
    """
    if info.kind == "serial":
        from edge_app.link.serial.port import SerialPort
        from firmware_bridge.protocol.serial_packets import DEFAULT_BAUD

        if not serial:
            raise LinkError(f"{info.name}: found no serial port, expected the name of one", advice=_NAME_PORT)
        return SerialPort(serial, baud=info.baud or DEFAULT_BAUD)
    from edge_app.link.ble.port import GattPort

    return GattPort(info, **_named(device))


def replayed_record(choice: DriverChoice, log: Path, *, seconds: float) -> tuple[EcgRecord, str]:
    """Feed a driver a log of its device; return at most `seconds` of it, and what an operator is told.

    Raises
    ------
    EcgError
        The log holds no sample.
    """
    from edge_app.link.log.file import read_log
    from edge_app.link.log.replay import replay_driver
    from edge_app.session.wish import at_most
    from edge_app.store.clock import new_id

    driver = choice.make()
    note = "" if driver.info.quality.calibrated else _scale_note(driver.info.name)
    record = replay_driver(driver, read_log(log)).to_record(
        start=None, device=f"replay of {log.name}", record_id=new_id()
    )
    return at_most(record, seconds), note


def driver_of(name: str | None, replay: Path | None) -> str | None:
    """Return the name of a driver of another maker's protocol, as asked for or as a log says; None for the own profile.

    Raises
    ------
    FormatError
        The log is of another driver than the one that was asked for, or is no log.
    """
    from edge_app.link.log.file import E6L_DRIVER, read_log

    logged = read_log(replay).driver if replay is not None else None
    if name is not None and logged is not None and name != logged:
        raise FormatError(f"found a log of driver {logged}, expected {name}", advice="Leave --driver out.")
    found = name or logged or E6L_DRIVER
    return None if found == E6L_DRIVER else found


def folder_for(way: Way, data_dir: Path) -> Path:
    """Return where recordings of this way are kept."""
    if way.simulated:
        return data_dir / SIMULATED_DIR
    return data_dir / REPLAYED_DIR if way.replayed else data_dir


def keys_for(way: Way, data_dir: Path) -> tuple[DeviceKey, ...]:
    """Return the keys of the devices that are trusted here; the simulated device shows its own, as on a case."""
    from edge_app.devices.simulated_radio import known_key
    from edge_app.session.keys import DeviceKeys

    simulated = known_key() if way.simulated else None
    return (*DeviceKeys(data_dir).list(), *((simulated,) if simulated else ()))


def logged(way: Way, log: Path | None) -> AbstractContextManager[Transport | Port]:
    """Return the link of `way`, with a notification log if one is wanted."""
    if log is None:
        return nullcontext(way.link)
    from edge_app.link.log.writer import LoggingPort, LoggingTransport

    if way.driver is None:
        return LoggingTransport(way.transport, log)
    return LoggingPort(cast("Port", way.link), log, driver=way.driver.name)


def _named(device: str | None) -> dict[str, Any]:
    """Return the keyword by which a radio looks for a device: its address or its name."""
    return {"address" if device is not None and _ADDRESS.fullmatch(device) else "name": device}


def _scale_note(driver: str) -> str:
    return f"Note: {driver} does not know what a code is worth: measure it and state --lsb-uv. Until then nothing is judged."
