"""The emulator: found, given the project's counting plugin, and run with the machine shown as a board.

`/proc/cpuinfo` and `/sys/devices/system/cpu` are files of the board's making, since the model runtimes choose their
kernels by them. Everything else of the root is linked, not copied.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from export.benchmark.devices import Device
from export.benchmark.errors import BenchmarkError
from export.cache import cache_folder
from tools.arm64.programs import (
    QEMU,
    BenchmarkToolError,
    EmulationError,
    appears_whole,
    digest,
    last_words,
    require_program,
    run_tool,
)
from tools.arm64.root import Arm64Root, extract_debian

Progress = Callable[[str], None]

# Version 1 of the plugin interface; 7.2 and 8.2 are those of Debian 12 and Ubuntu 24.04.
_OLDEST: Final = (7, 0)
_FIRST_TOO_NEW: Final = (9, 0)
_SUITE: Final = "bookworm"
_PLUGIN: Final = Path(__file__).resolve().parent / "plugin"
_PLUGIN_SOURCES: Final = ("qemu_api.h", "window_count.c")
_CFLAGS: Final = (
    "-std=c11",
    "-D_POSIX_C_SOURCE=200809L",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-pthread",
)


@dataclass(frozen=True, slots=True)
class Qemu:
    """The emulator: the words that start it, and its version."""

    command: tuple[str, ...]
    version: str

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{QEMU} {self.version}"


def find_qemu(progress: Progress = lambda _: None) -> Qemu:
    """Return an emulator that takes the plugin: the installed one, or else Debian 12's, extracted into the cache.

    Debian 13 and later build the installed one without plugins.

    Raises
    ------
    BenchmarkToolError
        None is installed.
    """
    installed = _asked((str(require_program(QEMU)),))
    return _debian_qemu(progress) if isinstance(installed, str) else installed


@cache
def _asked(command: tuple[str, ...]) -> Qemu | str:
    """Return the emulator, or the reason why it cannot be used."""
    version = parse_version(run_tool([*command, "--version"]).stdout)
    if "-plugin" not in run_tool([*command, "-h"]).stdout:
        return f"{QEMU} {version} was built without plugins"
    numbers = tuple(int(part) for part in version.split("."))
    if not _OLDEST <= numbers < _FIRST_TOO_NEW:
        return f"{QEMU} {version}, expected 7.0 to 8.2 (version 1 of the plugin interface)"
    return Qemu(command, version)


def parse_version(said: str) -> str:
    """Return the version in the words of `qemu-aarch64 --version`."""
    match = re.search(r"version (\d+(?:\.\d+)+)", said)
    if match is None:
        raise BenchmarkToolError(f"found {said[:80]!r}, expected words such as 'qemu-aarch64 version 7.2.22'")
    return match[1]


def _debian_qemu(progress: Progress) -> Qemu:
    """Return Debian 12's emulator, started through its own loader so that it needs no library of this machine."""
    target = cache_folder("arm64") / f"qemu-{_SUITE}"
    if not target.is_dir():
        progress(
            "Extracting the emulator of Debian 12: the installed one takes no plugin of version 1 (about 130 MB, once)"
        )
        with appears_whole(target) as folder:
            extract_debian(folder, suite=_SUITE, architecture="amd64", packages=("qemu-user",))
    libraries = ":".join(str(target / name / "x86_64-linux-gnu") for name in ("lib", "usr/lib"))
    loader = target / "lib" / "x86_64-linux-gnu" / "ld-linux-x86-64.so.2"
    found = _asked((str(loader), "--library-path", libraries, str(target / "usr" / "bin" / QEMU)))
    if isinstance(found, str):
        raise BenchmarkToolError(f"found {found} in Debian {_SUITE}")
    return found


def plugin_library() -> Path:
    """Return the counting plugin, built with gcc where the cache lacks it."""
    sources = [_PLUGIN / name for name in _PLUGIN_SOURCES]
    key = digest([source.read_text(encoding="utf-8") for source in sources] + list(_CFLAGS))
    library = cache_folder("arm64") / f"window_count-{key}.so"
    if not library.is_file():
        gcc = require_program("gcc")
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            run_tool([str(gcc), *_CFLAGS, "-o", str(built), str(sources[-1])])
            built.replace(library)
    return library


# BogoMIPS is twice the timer's frequency, which is 54 MHz on these boards.
_BOGOMIPS: Final = "108.00"
_IMPLEMENTER_ARM: Final = "0x41"
_LAST_SIGNAL: Final = 64
_OWN: Final = ("proc", "sys", "site")
SITE: Final = "/site"
"""Where the guest sees the unpacked wheels."""
_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",  # the same sets and dictionaries in every run
    "PYTHONDONTWRITEBYTECODE": "1",  # a new file below /usr would be created in this machine's own /usr
    "PYTHONNOUSERSITE": "1",
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
}


def cpuinfo(device: Device) -> str:
    """Return `/proc/cpuinfo` as the board's kernel writes it."""
    core = (
        f"BogoMIPS\t: {_BOGOMIPS}\nFeatures\t: {device.features}\nCPU implementer\t: {_IMPLEMENTER_ARM}\n"
        f"CPU architecture: 8\nCPU variant\t: {device.midr_variant}\nCPU part\t: {device.midr_part}\n"
        f"CPU revision\t: {device.midr_revision}\n\n"
    )
    return "".join(f"processor\t: {number}\n{core}" for number in range(device.cores))


def sysfs_cpu(device: Device) -> dict[str, str]:
    """Return the files below `/sys/devices/system/cpu` that describe one cluster of equal cores."""
    last, hertz = device.cores - 1, round(device.clock_hz / 1000)
    mask = f"{(1 << device.cores) - 1:x}"
    files = dict.fromkeys(("possible", "present", "online"), f"0-{last}") | {"kernel_max": str(last)}
    for core in range(device.cores):
        files |= {
            f"cpu{core}/cpufreq/cpuinfo_max_freq": str(hertz),
            f"cpu{core}/cpufreq/cpuinfo_min_freq": "600000",
            f"cpu{core}/topology/physical_package_id": "0",
            f"cpu{core}/topology/core_id": str(core),
            f"cpu{core}/topology/core_siblings": mask,
            f"cpu{core}/topology/core_siblings_list": f"0-{last}",
            f"cpu{core}/topology/package_cpus": mask,
            f"cpu{core}/topology/package_cpus_list": f"0-{last}",
            f"cpu{core}/topology/thread_siblings": f"{1 << core:x}",
            f"cpu{core}/topology/thread_siblings_list": str(core),
            f"cpu{core}/topology/core_cpus": f"{1 << core:x}",
            f"cpu{core}/topology/core_cpus_list": str(core),
        }
    return files


@contextmanager
def guest_view(root: Arm64Root, device: Device, shown: Mapping[str, Path]) -> Iterator[Path]:
    """Yield a folder for `qemu-aarch64 -L`: the root, the board's description, and `shown` (name below `/` to folder)."""
    with tempfile.TemporaryDirectory(prefix="lsemvae-arm64-") as scratch:
        view = Path(scratch)
        links = {entry.name: entry for entry in root.debian.iterdir() if entry.name not in (*_OWN, *shown)}
        for name, target in {**links, "site": root.site, **shown}.items():
            (view / name).symlink_to(target.resolve())
        _write(view / "proc" / "cpuinfo", cpuinfo(device))
        for name, text in sysfs_cpu(device).items():
            _write(view / "sys" / "devices" / "system" / "cpu" / name, text + "\n")
        yield view


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run_python(
    arguments: Sequence[str],
    *,
    root: Arm64Root,
    device: Device,
    shown: Mapping[str, Path],
    python_path: Sequence[str] = (SITE,),
    count_into: Path | None = None,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run the root's interpreter with `arguments` under `qemu-aarch64` as `device`; return what it said and its status.

    Parameters
    ----------
    shown
        Names below `/` of the guest and the folders of this machine that stand for them.
    python_path
        Folders, as the guest names them.
    count_into
        Where the counting plugin writes; without it nothing is counted.

    Raises
    ------
    EmulationError
        It took longer than `timeout_s`, or the emulator itself died of a signal.
    """
    qemu = find_qemu()
    plugin = [] if count_into is None else ["-plugin", f"{plugin_library()},out={count_into}"]
    environment = {**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(python_path)}
    with guest_view(root, device, shown) as view:
        command = [
            # -R: the same addresses in every run. -S and -P: nothing of this machine's site-packages, nor of its folders.
            str(require_program("setarch")),
            "-R",
            *qemu.command,
            "-cpu",
            device.qemu_cpu,
            "-L",
            str(view),
            *plugin,
            "-0",
            root.interpreter,
            str(root.debian / root.interpreter[1:]),
            "-S",
            "-P",
            *arguments,
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=timeout_s,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        except subprocess.TimeoutExpired as error:
            said = error.stderr.decode("utf-8", "replace") if isinstance(error.stderr, bytes) else error.stderr or ""
            raise EmulationError(
                f"{qemu.title} -cpu {device.qemu_cpu} did not end within {timeout_s:g} s. {last_words(said)}",
                advice="Nothing was projected. Run it again when this machine is less busy.",
            ) from error
    return _alive(done, f"{qemu.title} -cpu {device.qemu_cpu}")


def _alive(done: subprocess.CompletedProcess[str], title: str) -> subprocess.CompletedProcess[str]:
    """A signal shows as a negative status, or as 128 plus its number where a program in between reports it."""
    number = -done.returncode if done.returncode < 0 else done.returncode - 128
    if 0 < number <= _LAST_SIGNAL:
        raise EmulationError(f"{title} died of signal {number}. {last_words(done.stderr)}")
    if "setarch" in done.stderr and "Operation not permitted" in done.stderr:
        raise BenchmarkError(
            "setarch -R is not allowed here, so addresses differ from run to run and nothing can be counted to the digit",
            advice="In a container, allow the system call personality (for Docker: --security-opt seccomp=unconfined).",
        )
    return done
