"""The emulator and the project's counting plugin for it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from export.benchmark.arm64_debian import extract_debian
from export.benchmark.arm64_tools import QEMU, appears_whole, digest, require_program, run_tool
from export.benchmark.cache import cache_folder
from export.benchmark.errors import BenchmarkToolError

Progress = Callable[[str], None]

# Version 1 of the plugin interface; 7.2 and 8.2 are those of Debian 12 and Ubuntu 24.04.
_OLDEST: Final = (7, 0)
_FIRST_TOO_NEW: Final = (9, 0)
_SUITE: Final = "bookworm"
_PLUGIN: Final = Path(__file__).resolve().parent / "plugin"
_PLUGIN_SOURCES: Final = ("qemu_api.h", "window_count.c")
_CFLAGS: Final = (
    "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
    "-fvisibility=hidden", "-pthread",
)  # fmt: skip


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
