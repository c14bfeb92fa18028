"""An AArch64 Debian below a folder of this machine: packages extracted, wheels unpacked, nothing of it executed here.

`qemu-aarch64 -L FOLDER` looks for each absolute path below FOLDER first. So no chroot, no binfmt registration and no
emulated maintainer script is needed: an extracted root is made in seconds, where an installed one takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final
from zipfile import ZipFile

from export.benchmark.errors import BenchmarkError
from export.cache import cache_folder
from tools.arm64.programs import BenchmarkToolError, appears_whole, digest, require_emulation, require_program, run_tool

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


def extract_debian(folder: Path, *, suite: str, architecture: str, packages: Sequence[str]) -> None:
    """Extract `packages` of a Debian release, and all that they need, into an existing empty folder.

    Raises
    ------
    BenchmarkToolError
        mmdebstrap, the network or Debian's keys are missing.
    """
    mmdebstrap = require_program("mmdebstrap")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = Path(scratch) / "root.tar"
        _mmdebstrap(mmdebstrap, suite, architecture, packages, archive)
        unpack(archive, folder)
    for name in ("bin", "lib", "sbin"):
        if not (folder / name).exists():  # the links of a merged /usr come with a package that is not extracted
            (folder / name).symlink_to(f"usr/{name}")
    # Without it the loader would read this machine's cache, which names libraries of another architecture.
    (folder / "etc" / "ld.so.cache").touch()


def _mmdebstrap(program: Path, suite: str, architecture: str, packages: Sequence[str], archive: Path) -> None:
    """Write the packages as an archive: in this form it needs neither root nor mounts, and its files belong to the caller.

    The mode `chrootless` is harmless here: it would run maintainer scripts on this machine, and `extract` runs none.
    mmdebstrap refuses it to root, who needs it least.
    """
    mode = "root" if os.geteuid() == 0 else "chrootless"
    command = [str(program), "--quiet", f"--mode={mode}", "--variant=extract", f"--architectures={architecture}"]
    try:
        run_tool([*command, f"--include={','.join(packages)}", suite, str(archive)])
    except BenchmarkError as error:
        raise BenchmarkToolError(
            f"Debian {suite} for {architecture} cannot be extracted. {error}",
            advice="It needs the network (a Debian mirror) and Debian's keys: sudo apt install debian-archive-keyring "
            "(not there by default on Ubuntu and others), not older than this release.",
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files, folders and links of an archive; devices and pipes are left out.

    Absolute links become relative ones: the emulator opens them on this machine, where they would lead into its own files.
    """
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile() or member.isdir() or member.issym() or member.islnk()]
        for member in members:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise BenchmarkError(
                    f"the archive of packages holds {member.name!r}, expected paths below its own folder"
                )
            if member.issym() and member.linkname.startswith("/"):
                member.linkname = "../" * (len(path.parts) - 1) + member.linkname.lstrip("/")
            if member.isfile():
                member.mode |= 0o600
        # Debian 12's Python 3.11.2 has no extraction filters; later ones ask for one, and theirs refuse what is settled above.
        tar.extraction_filter = lambda member, _: member
        tar.extractall(folder, members=members)


VERSIONS_NAME: Final = "versions.json"
_OLDEST_GLIBC_MINOR: Final = 17  # manylinux2014
_REQUIREMENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which wheels: the arguments of pip, and the text of the files that it reads."""

    arguments: tuple[str, ...]
    constraints: str = ""
    lock: str = ""

    @classmethod
    def of(cls, python_version: str, *, glibc_minor: int, packages: Sequence[str], lock: Path | None) -> Wanted:
        """Return what to fetch for a CPython on aarch64 with glibc 2.`glibc_minor`: `packages`, or a lock file."""
        tags = [f"manylinux_2_{minor}_aarch64" for minor in range(_OLDEST_GLIBC_MINOR, glibc_minor + 1)]
        platforms = [f"--platform={tag}" for tag in [*tags, "manylinux2014_aarch64"]]
        common = ("--only-binary=:all:", "--implementation=cp", f"--python-version={python_version}", *platforms)
        if lock is not None:
            return cls(arguments=common, lock=lock_for(lock.read_text(encoding="utf-8"), python_version))
        return cls(arguments=(*common, *packages), constraints=host_versions(packages, python_version))

    def parts(self) -> tuple[str, ...]:
        """Return everything that decides which wheels come."""
        return (*self.arguments, self.constraints, self.lock)


def lock_for(text: str, python_version: str) -> str:
    """Return the lines of a hash-locked requirements file that hold on aarch64 Linux with this Python, less their markers.

    pip reads markers for the machine that it runs on, also when it downloads for another.
    """
    from packaging.requirements import Requirement

    environment = {
        "python_version": python_version,
        "python_full_version": f"{python_version}.0",
        "platform_machine": "aarch64",
        "sys_platform": "linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines():
        words, *hashes = line.split(" --hash=")
        if not words.strip():
            continue
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            kept.append(" --hash=".join([f"{requirement.name}{requirement.specifier}", *(h.strip() for h in hashes)]))
    return "\n".join(kept) + "\n"


def host_versions(packages: Iterable[str], python_version: str) -> str:
    """Return the versions installed here of `packages` and all that they need, as pip's constraints.

    Where the guest's Python is older than this one, numpy is left open: each of its releases drops the oldest Python.
    """
    older = tuple(map(int, python_version.split("."))) < sys.version_info[:2]
    pins, queue = {"numpy": ""} if older else {}, [_name(package) for package in packages]
    while queue:
        name = queue.pop()
        if name in pins:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pins[name] = ""
            continue
        # A version with a local part (+cpu) is on no index for another machine.
        pins[name] = "" if "+" in found.version else f"{name}=={found.version}"
        queue += [_name(need) for need in found.requires or () if "extra ==" not in need]
    return "".join(f"{pin}\n" for _, pin in sorted(pins.items()) if pin)


def _name(requirement: str) -> str:
    match = _REQUIREMENT_NAME.match(requirement.strip())
    if match is None:
        raise BenchmarkError(f"found the requirement {requirement!r}, expected one that begins with a name")
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def fetch_into(folder: Path, wanted: Wanted) -> Mapping[str, str]:
    """Download and unpack; return, and write to `versions.json`, the version of each distribution."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheels = _download(wanted, Path(scratch))
        for wheel in wheels:
            unpack_wheel(wheel, folder)
    versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (_parts(wheel) for wheel in wheels)}
    (folder / VERSIONS_NAME).write_text(json.dumps(versions, indent=1, sort_keys=True), encoding="utf-8")
    return versions


def _parts(wheel: Path) -> tuple[str, str]:
    name, version = wheel.name.split("-")[:2]
    return name, version


def _download(wanted: Wanted, scratch: Path) -> list[Path]:
    destination, options = scratch / "wheels", []
    destination.mkdir()
    files = {"--constraint": wanted.constraints, "--requirement": wanted.lock}
    for option, text in files.items():
        if text:
            path = scratch / f"{option[2:]}s.txt"
            path.write_text(text, encoding="utf-8")
            options += [option, str(path)]
    if wanted.lock:
        options += ["--require-hashes", "--no-deps"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--dest", str(destination)]
    try:
        run_tool([*command, *options, *wanted.arguments], environment={"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    except BenchmarkError as error:
        raise BenchmarkToolError(
            f"The aarch64 wheels cannot be fetched. {error}",
            advice="It needs pip in this environment (python -m ensurepip) and, once, the network; the result is kept.",
        ) from error
    return sorted(destination.glob("*.whl"))


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Unpack a wheel as an installer would lay it out, less its scripts and headers.

    A wheel may carry parts below `NAME.data/purelib` or `platlib` that belong beside the others (PEP 427).
    """
    with ZipFile(wheel) as archive:
        for info in archive.infolist():
            place = _place(PurePosixPath(info.filename))
            if place is None or info.is_dir():
                continue
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def _place(name: PurePosixPath) -> PurePosixPath | None:
    if name.is_absolute() or ".." in name.parts:
        raise BenchmarkError(f"a wheel holds {str(name)!r}, expected paths below its own folder")
    if not name.parts[0].endswith(".data"):
        return name
    if len(name.parts) > 2 and name.parts[1] in ("purelib", "platlib"):
        return PurePosixPath(*name.parts[2:])
    return None
