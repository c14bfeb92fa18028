"""One run of the emulated machine: a Python program of this checkout beside a real bluetoothd on a real kernel.

The guest sees the host's files read-only (9p), so that it needs no disk image and runs this very interpreter with its
installed packages; what it writes there stays in its memory. The checkout is copied first: files that change while the
guest reads them would be a fault of no interest. The processor is emulated (TCG) always: results must not depend on
whether a machine lends its own. Nothing about time may be concluded from such a run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.radio.level3.debian import release_root
from tests.radio.level3.errors import MachineError
from tests.radio.level3.initramfs import build_initramfs, kernel_of, kernel_release

# What a program ends with when Bluetooth shows no adapter (EX_TEMPFAIL): such a boot is tried once more.
NO_ADAPTER_STATUS: Final = 75

MEMORY_MIB: Final = 2048
TIMEOUT_S: Final = 900.0
_TREES: Final = ("edge_app", "firmware_bridge", "lsemvae", "tests/radio/level3")
_SERVICES: Final = Path(__file__).with_name("services.sh")
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
_MODULES: Final = "usr/lib/x86_64-linux-gnu/qemu"
_FIRMWARE: Final = ("usr/share/qemu", "usr/share/seabios")


@dataclass(frozen=True, slots=True)
class MachineRun:
    """How a run ended.

    Attributes
    ----------
    status
        Exit status of the program.
    boots
        1, or 2 if the first boot showed no adapter.
    seconds
        Wall time of the last boot, from power-on to power-off.
    kernel
        Release of the guest's kernel.
    bluetoothd_deaths
        How often the Bluetooth service ended before the machine did, a line each with its status.
    """

    status: int
    boots: int
    seconds: float
    kernel: str
    bluetoothd_deaths: tuple[str, ...]


def run_program(
    program: Sequence[str | Path], *, release: str, out: Path, checkout: Path, timeout_s: float = TIMEOUT_S
) -> MachineRun:
    """Run a Python program in the guest; what it writes below ``/level3`` is in `out` afterwards, with the logs.

    Parameters
    ----------
    program
        Path of a script (relative to `checkout`, copied with it) and its arguments.
    release
        One of `debian.RELEASES`.

    Raises
    ------
    MachineError
        The machine cannot be made, or it did not end within `timeout_s` seconds of wall time.
    """
    root = release_root(release)
    out.mkdir(parents=True, exist_ok=True)
    boots = 1
    with _snapshot(checkout, program[0]) as tree:
        job = _job(tree, program)
        status, seconds = _boot_once(root, job=job, out=out, timeout_s=timeout_s)
        if status == NO_ADAPTER_STATUS:
            boots = 2
            status, seconds = _boot_once(root, job=job, out=out, timeout_s=timeout_s)
    ends = out / "bluetoothd-ends.log"
    deaths = ends.read_text().splitlines() if ends.exists() else []
    return MachineRun(
        status=status, boots=boots, seconds=seconds, kernel=kernel_release(root),
        bluetoothd_deaths=tuple(deaths),
    )  # fmt: skip


@contextmanager
def _snapshot(checkout: Path, script: str | Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="level3-") as scratch:
        tree = Path(scratch) / "checkout"
        for name in _TREES:
            shutil.copytree(checkout / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tree / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / script, tree / script)
        yield tree


def _clear(out: Path) -> None:
    """Nothing of an earlier boot may be taken for this one's."""
    for name in ("job.rc", "job.log", "bluetoothd.log", "bluetoothd-ends.log", "dbus.log", "dmesg.log", "console.log"):
        (out / name).unlink(missing_ok=True)


def _job(tree: Path, program: Sequence[str | Path]) -> str:
    """Script that the guest runs below the host's files."""
    path = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    arguments = shlex.join([sys.executable, "-B", *map(str, program)])
    lines = [
        f"export PATH={path} HOME={shlex.quote(str(Path.home()))} LANG=C.UTF-8 OMP_NUM_THREADS=1",
        ". /level3/services.sh",
        f"cd {shlex.quote(str(tree))}",
        f"PYTHONPATH={shlex.quote(str(tree))} exec {arguments}",
    ]
    return "\n".join(lines) + "\n"


def _boot_once(root: Path, *, job: str, out: Path, timeout_s: float) -> tuple[int, float]:
    """Status of the program and wall seconds of the boot."""
    _clear(out)
    (out / "settings").write_text(f"RELEASE_ROOT={shlex.quote(str(root))}\n")
    (out / "services.sh").write_bytes(_SERVICES.read_bytes())
    (out / "job.sh").write_text(job)
    started_s = time.monotonic()
    _boot(root, out=out, timeout_s=timeout_s)
    seconds = round(time.monotonic() - started_s, 1)
    return _status(out), seconds


def _boot(root: Path, *, out: Path, timeout_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="level3-") as scratch, (out / "console.log").open("wb") as console:
        image = Path(scratch) / "initramfs.gz"
        image.write_bytes(build_initramfs(root))
        try:
            subprocess.run(
                _emulator(root, image=image, out=out), stdin=subprocess.DEVNULL, stdout=console,
                stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
                env={**os.environ, "QEMU_MODULE_DIR": str(root / _MODULES)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MachineError(
                f"emulated machine: found it running after {timeout_s:g} s, expected its end",
                advice=f"Read job.log and console.log in {out}; a busy machine may need a longer limit.",
            ) from None


def _emulator(root: Path, *, image: Path, out: Path) -> list[str]:
    """The emulator of the release itself, by its own loader: whatever this machine has installed plays no part."""
    libraries = ":".join(str(root / folder) for folder in _LIBRARIES)
    command = [str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", libraries]
    command += [str(root / "usr/bin/qemu-system-x86_64"), "-accel", "tcg,thread=multi", "-cpu", "max"]
    for folder in _FIRMWARE:
        command += ["-L", str(root / folder)]
    command += ["-m", f"{MEMORY_MIB}M", "-smp", "2", "-nodefaults", "-no-reboot", "-display", "none"]
    command += ["-serial", "stdio", "-kernel", str(kernel_of(root)), "-initrd", str(image)]
    command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-device", "virtio-rng-pci"]
    return command + _shared("host", Path("/"), "readonly=on", "multidevs=remap") + _shared("out", out.resolve())


def _shared(tag: str, path: Path, *options: str) -> list[str]:
    backend = ",".join([f"local,id={tag},path={path},security_model=none", *options])
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _status(out: Path) -> int:
    try:
        return int((out / "job.rc").read_text())
    except (OSError, ValueError):
        raise MachineError(
            "emulated machine: found no status of the program, expected one: the guest ended before it did",
            advice=f"Read console.log and job.log in {out}.",
        ) from None
