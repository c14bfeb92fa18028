"""A private D-Bus system bus: a test radio never touches the machine's own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from firmware_bridge.sim.requirements import find_dbus_daemon
from lsemvae.ecg.errors import LinkError

_CONFIGURATION: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:dir={folder}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

# A killed process cleans nothing up, but the kernel closes its pipes: the shell waits for that, ends the daemon and
# takes the folder away. (PR_SET_PDEATHSIG would do the first half, on Linux only and not on every kernel.)
_KEEPER: Final = 'folder=$1; shift; "$@" <&- & exec >&-; read _; kill $!; wait; rm -rf "$folder"'

# Setting this variable makes every D-Bus library use the private bus as "the system bus".
BUS_VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"


@contextmanager
def private_bus() -> Iterator[str]:
    """Run a dbus-daemon of our own; yields its address."""
    program = find_dbus_daemon()
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        configuration = Path(folder) / "bus.conf"
        configuration.write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
        command = [program, f"--config-file={configuration}", "--print-address=1", "--nofork", "--nopidfile"]
        with subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "sh", folder, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            yield _address(process)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # stdout=PIPE
    address = process.stdout.readline().strip()
    if not address:
        raise LinkError("test radio: dbus-daemon ended without an address, expected one on its standard output")
    return address
