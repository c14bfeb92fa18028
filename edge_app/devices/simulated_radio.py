"""Where `edge_app devices simulate` and the other commands of this account meet: one socket, one key.

A simulated device is reached through a D-Bus of its own. Its address does not change from one start to the next, so that
a device that was killed and started again is found where it was. The key lies beside the socket as the code lies on a
real device's case. Nothing here listens on a network, and no other account may look into the folder.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.profile import DEVICE_KEY_BYTES
from lsemvae.ecg.errors import EcgError, StoreError
from lsemvae.screen.datadir import DIR_MODE, ensure_dir, store_error, write_private

# D-Bus libraries take this address for the system bus.
BUS_VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"

# What a recording of a simulated device says about its device.
SIMULATED_LABEL: Final = "simulated device"

_RUNTIME_VARIABLE: Final = "XDG_RUNTIME_DIR"
_SOCKET: Final = "bus"
_KEY_FILE: Final = "device-key"
_KEY_MAX_BYTES: Final = 256
_CONNECT_S: Final = 1.0


def meeting_point() -> Path:
    """Return the folder, mode 0700: under ``$XDG_RUNTIME_DIR``, else under the system's temporary folder.

    Raises
    ------
    StoreError
        It cannot be created, or it belongs to somebody else.
    """
    runtime = os.environ.get(_RUNTIME_VARIABLE, "")
    base = Path(runtime) / "lsemvae" if runtime else Path(tempfile.gettempdir()) / f"lsemvae-{os.getuid()}"
    folder = ensure_dir(base) / "radio"
    for place in (base, ensure_dir(folder)):
        info = place.lstat()
        if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) != DIR_MODE or not stat.S_ISDIR(info.st_mode):
            raise StoreError(
                f"{place}: found a folder of another account, or one that others may enter, expected one of our own.",
                advice=f"Remove it, or set {_RUNTIME_VARIABLE} to a folder of your own.",
            )
    return folder


def bus_socket() -> Path:
    """Return the socket of the simulated radio's bus."""
    return meeting_point() / _SOCKET


def bus_address() -> str:
    """Return the same as a D-Bus address."""
    return f"unix:path={quote(str(bus_socket()), safe='/-_.')}"


def is_running() -> bool:
    """Return whether somebody listens there; a socket that a killed process left behind does not count."""
    try:
        path = bus_socket()
    except EcgError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def use() -> None:
    """Have this process take the simulated radio for the machine's Bluetooth."""
    os.environ[BUS_VARIABLE] = bus_address()


def simulated_key(name: str) -> DeviceKey:
    """Return the key of the simulated device `name`; made at its first start and kept, as on a case."""
    key = known_key()
    if key is None or key.name != name:
        key = DeviceKey(name=name, secret=secrets.token_bytes(DEVICE_KEY_BYTES))
        write_private(meeting_point() / _KEY_FILE, key.to_text().encode("ascii"))
    return key


def known_key() -> DeviceKey | None:
    """Return the key that lies at the meeting point, if there is one."""
    path = meeting_point() / _KEY_FILE
    try:
        with path.open("rb") as file:
            return DeviceKey.parse(file.read(_KEY_MAX_BYTES).decode("ascii", errors="replace"))
    except (FileNotFoundError, EcgError):
        return None
    except OSError as error:
        raise store_error("read", path, error) from error
