"""What the test radio needs beyond the package itself, and what to say when it is not there."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Final

from lsemvae.ecg.errors import LinkError

_MODULES: Final = ("bumble", "dbus_fast")
_PROGRAM: Final = "dbus-daemon"


def check_radio_requirements() -> None:
    """`LinkError` that names the missing extra or program."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        message = f"test radio: found no module {', '.join(missing)}, expected {', '.join(_MODULES)}"
        raise LinkError(message, advice="Install the extra: pip install 'lsemvae[sim]'.")
    find_dbus_daemon()


def find_dbus_daemon() -> str:
    """Path of the program dbus-daemon."""
    program = shutil.which(_PROGRAM)
    if program is None:
        message = f"test radio: found no program {_PROGRAM} in PATH, expected one"
        raise LinkError(message, advice="Install it: apt-get install dbus (Debian, Ubuntu, Raspberry Pi OS).")
    return program
