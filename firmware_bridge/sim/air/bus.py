"""A private D-Bus system bus: a test radio never touches the machine's own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lsemvae.ecg.errors import LinkError

_PROGRAM: Final = "dbus-daemon"
_CONFIGURATION: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{listen}</listen>
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

# The keeper of a killed process ends within a moment; a busy machine may take seconds over it. A process that was
# killed and not yet waited for looks like one that runs.
_PATIENCE_S: Final = 10.0
_LIVE_PATIENCE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.02
_PID_BYTES: Final = 16

# sockaddr_un.sun_path on Linux, without its final zero.
_LONGEST_PATH_BYTES: Final = 107


def find_dbus_daemon() -> str:
    """Return the path of the program dbus-daemon; `LinkError` if there is none."""
    program = shutil.which(_PROGRAM)
    if program is None:
        message = f"test radio: found no program {_PROGRAM} in PATH, expected one"
        raise LinkError(message, advice="Install it: apt-get install dbus (Debian, Ubuntu, Raspberry Pi OS).")
    return program


@contextmanager
def private_bus(path: Path | None = None) -> Iterator[str]:
    """Run a dbus-daemon of our own; yield its address.

    Parameters
    ----------
    path
        Socket to listen at, so that the address is known beforehand and the same after a restart; None for one that
        nobody else has. A socket that a killed process left behind is replaced.

    Raises
    ------
    LinkError
        The program is missing or did not start, or something else listens or lies at `path`.
    """
    program = find_dbus_daemon()
    lock = () if path is None else (_claim(path),)
    with ExitStack() as stack:
        for descriptor in lock:
            stack.callback(os.close, descriptor)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bus-"))
        # Characters outside the alphabet of a D-Bus address are escaped.
        listen = f"unix:dir={folder}" if path is None else f"unix:path={quote(str(path.absolute()), safe='/-_.')}"
        configuration = Path(folder) / "bus.conf"
        configuration.write_text(_CONFIGURATION.format(listen=listen), encoding="utf-8")
        command = [program, f"--config-file={configuration}", "--print-address=1", "--nofork", "--nopidfile"]
        # The keeper and the daemon hold the lock too: until both have ended, however this process ends.
        with subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "sh", folder, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            pass_fds=lock,
        ) as process:
            assert process.stdout is not None  # stdout=PIPE
            address = process.stdout.readline().strip()
            if not address:
                message = "test radio: dbus-daemon ended without an address, expected one on its standard output"
                raise LinkError(message)
            # The daemon's own answer ends in an identity that is another one after each start.
            yield address if path is None else listen


def _claim(path: Path) -> int:
    """Return the descriptor of the lock of `path`, once nobody else serves there."""
    if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        message = (
            f"test radio: found a socket path of {len(os.fsencode(path))} bytes, expected {_LONGEST_PATH_BYTES} at most"
        )
        raise LinkError(message, advice="Choose a shorter path, for example in /tmp.")
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        message = f"test radio: {path}: found {exc.strerror or exc}, expected a place for a socket"
        raise LinkError(message, advice="Name a socket in a folder that exists and may be written.") from exc
    try:
        began_s = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder_lives = _lives(os.pread(descriptor, _PID_BYTES, 0))
                if time.monotonic() - began_s > (_LIVE_PATIENCE_S if holder_lives else _PATIENCE_S):
                    raise _in_use(path) from None
                time.sleep(_LOOK_EVERY_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        _clear(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lives(holder: bytes) -> bool:
    """Return whether the process that took the lock is there; if not, its keeper is about to end."""
    if not holder.isdigit():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _clear(path: Path) -> None:
    """Take away a socket that nobody listens at."""
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        message = f"test radio: {path}: found something that is no socket, expected nothing or an old socket"
        raise LinkError(message, advice="Choose another path, or move away what lies there.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as exc:
            raise _in_use(path) from exc
        else:
            raise _in_use(path)


def _in_use(path: Path) -> LinkError:
    return LinkError(
        f"test radio: {path}: found a bus in use, expected none",
        advice="Another simulator may be running there: end it, or choose another path.",
    )
