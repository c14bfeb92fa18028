"""A Debian release below a folder of the cache: packages resolved and checked by apt, unpacked, none of it installed.

It holds the kernel and the Bluetooth service under test, and the emulator that runs them, so that the versions under
test never depend on the machine that tests. No root rights are needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Final

from tests.radio.level3.errors import MachineError

# Debian 12 and 13: the two that Raspberry Pi OS is built on, with BlueZ 5.66 and 5.82.
RELEASES: Final = ("bookworm", "trixie")

_PACKAGES: Final = ("bluez", "dbus", "busybox-static", "kmod", "linux-image-amd64", "qemu-system-x86", "seabios")
_EXTRACTOR: Final = "mmdebstrap"
# Raised when what is unpacked from the same packages changes.
_LAYOUT: Final = "1"

# A kernel package is 400 MB of drivers unpacked. The machine has virtio, 9p and Bluetooth; cryptography is for pairing.
_DRIVERS: Final = (
    "arch/x86/crypto", "crypto", "drivers/bluetooth", "drivers/char/hw_random", "drivers/hid", "drivers/virtio",
    "fs/9p", "fs/fscache", "fs/netfs", "fs/overlayfs", "lib", "net/9p", "net/bluetooth", "net/rfkill",
)  # fmt: skip
_UNWANTED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl")


def release_root(release: str) -> Path:
    """Return the folder of an unpacked release; fetched into the cache at first use (about 250 MB from a Debian mirror).

    Raises
    ------
    MachineError
        An unknown release, or the extractor or the network is missing.
    """
    if release not in RELEASES:
        raise MachineError(
            f"emulated machine: found the release {release!r}, expected {' or '.join(RELEASES)}",
            advice=f"Name one of {', '.join(RELEASES)}.",
        )
    target = cache_folder() / f"{release}-{_LAYOUT}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(release, target)
    return target


def cache_folder() -> Path:
    """Return the folder of everything that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lsemvae" / "level3"


def _fetch(release: str, target: Path) -> None:
    """Fetch and unpack a release; two processes may do so at the same time, and the folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        archive, folder = Path(scratch) / "packages.tar", Path(scratch) / "root"
        _extract(release, archive)
        _unpack(archive, folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def _extract(release: str, archive: Path) -> None:
    program = shutil.which(_EXTRACTOR)
    if program is None:
        raise MachineError(
            f"emulated machine: found no program {_EXTRACTOR} in PATH, expected one",
            advice=f"Install it: apt-get install {_EXTRACTOR} debian-archive-keyring (Debian, Ubuntu).",
        )
    # The variant runs no maintainer script, so that the mode is harmless; root must take the other one.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    command = [program, "--quiet", f"--mode={mode}", "--variant=extract", "--architectures=amd64"]
    done = subprocess.run(
        [*command, f"--include={','.join(_PACKAGES)}", release, str(archive)], capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise MachineError(
            f"emulated machine: Debian {release} cannot be fetched: {_last_words(done.stderr)}",
            advice="It needs the network (a Debian mirror) and Debian's keys (package debian-archive-keyring).",
        )


def _last_words(said: str) -> str:
    return " | ".join(said.split("\n")[-4:]).strip(" |") or "no message"


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack what is wanted; devices are made by the guest's kernel."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        members = [member for member in tar if _wanted(member)]
        # Python 3.11.2 has no extraction filters; later ones ask for one.
        tar.extraction_filter = _as_it_is
        tar.extractall(folder, members=members)
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (folder / name).exists() and (folder / "usr" / name).exists():
            (folder / name).symlink_to(f"usr/{name}")


def _as_it_is(member: tarfile.TarInfo, _folder: str) -> tarfile.TarInfo:
    """Keep absolute links: they are followed inside the root, by the guest."""
    return member


def _wanted(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise MachineError(f"emulated machine: found {member.name!r} among packages, expected paths below the root")
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return False
    name = str(path)
    if any(name == unwanted or name.startswith(unwanted + "/") for unwanted in _UNWANTED):
        return False
    _, found, driver = name.partition("/kernel/")
    inside_modules = bool(found) and "lib/modules/" in name
    return not inside_modules or any(f"{driver}/".startswith(wanted + "/") for wanted in _DRIVERS)
