"""An AArch64 Debian below a folder of this machine: packages extracted, wheels unpacked, nothing of it executed here.

`qemu-aarch64 -L FOLDER` looks for each absolute path below FOLDER first. So no chroot, no binfmt registration and no
emulated maintainer script is needed: an extracted root is made in seconds, where an installed one takes minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from export.benchmark.arm64_debian import extract_debian
from export.benchmark.arm64_tools import appears_whole, digest, require_emulation
from export.benchmark.arm64_wheels import VERSIONS_NAME, Wanted, fetch_into
from export.benchmark.cache import cache_folder
from export.benchmark.errors import BenchmarkError

Progress = Callable[[str], None]

PYTHON_OF: Final[Mapping[str, str]] = MappingProxyType({"bookworm": "3.11", "trixie": "3.13"})
"""Debian 12 and 13, the two that Raspberry Pi OS is built on, with the Python that each carries."""
# The newest glibc of each release (2.36, 2.41) bounds the manylinux tags that its wheels may carry.
_GLIBC_MINOR: Final = {"bookworm": 36, "trixie": 41}
# The interpreter; the C++ runtime of the model runtimes and the OpenMP one of numpy's and others' wheels.
_DEBIAN_PACKAGES: Final = ("python3", "libstdc++6", "libgomp1")
# Raised when what this module makes of the same input changes.
_LAYOUT: Final = "1"
BENCHMARK_PACKAGES: Final = ("numpy", "ai-edge-litert", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64Root:
    """An extracted Debian and the unpacked wheels that belong to it.

    Attributes
    ----------
    debian
        Folder with `usr`, `lib` and the others.
    site
        Folder with the unpacked wheels; `PYTHONPATH` of the emulated interpreter.
    versions
        Distribution name (as its wheel writes it) to version.
    """

    debian: Path
    site: Path
    suite: str
    python_version: str
    versions: Mapping[str, str]

    @property
    def interpreter(self) -> str:
        """Path of the interpreter inside the root."""
        return f"/usr/bin/python{self.python_version}"


def ensure_root(
    suite: str = "bookworm",
    *,
    packages: Sequence[str] = BENCHMARK_PACKAGES,
    lock: Path | None = None,
    progress: Progress = lambda _: None,
) -> Arm64Root:
    """Return the root of a Debian release; what the cache lacks is made, each part whole or not at all.

    Parameters
    ----------
    suite
        `bookworm` (Debian 12, Python 3.11) or `trixie` (Debian 13, Python 3.13).
    packages
        Python distributions whose wheels are unpacked, with all that they need. Each one that is installed on this
        machine comes in the same version, so that both sides run the same code.
    lock
        A hash-locked requirements file to take instead of `packages`.

    Raises
    ------
    BenchmarkToolError
        A program or the network is missing.
    """
    if suite not in PYTHON_OF:
        raise BenchmarkError(f"found the Debian release {suite!r}, expected one of {', '.join(PYTHON_OF)}")
    require_emulation()
    debian = _ensure_debian(suite, progress)
    wanted = Wanted.of(PYTHON_OF[suite], glibc_minor=_GLIBC_MINOR[suite], packages=packages, lock=lock)
    site = _ensure_site(suite, wanted, progress)
    versions = json.loads((site / VERSIONS_NAME).read_text(encoding="utf-8"))
    return Arm64Root(
        debian=debian, site=site, suite=suite, python_version=PYTHON_OF[suite], versions=MappingProxyType(versions)
    )


def _ensure_debian(suite: str, progress: Progress) -> Path:
    target = cache_folder("arm64") / f"{suite}-{digest([_LAYOUT, suite, *_DEBIAN_PACKAGES])}"
    if not target.is_dir():
        progress(f"Extracting Debian {suite} for arm64 (about 80 MB, once)")
        with appears_whole(target) as folder:
            extract_debian(folder, suite=suite, architecture="arm64", packages=_DEBIAN_PACKAGES)
    return target


def _ensure_site(suite: str, wanted: Wanted, progress: Progress) -> Path:
    target = cache_folder("arm64") / f"site-{suite}-{digest([_LAYOUT, *wanted.parts()])}"
    if not target.is_dir():
        progress(f"Fetching aarch64 wheels for Python {PYTHON_OF[suite]}")
        with appears_whole(target) as folder:
            fetch_into(folder, wanted)
    return target
