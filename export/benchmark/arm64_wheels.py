"""Wheels for another machine: chosen by pip, checked against the versions of this one, unpacked without an installer."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final
from zipfile import ZipFile

from export.benchmark.arm64_tools import run_tool
from export.benchmark.errors import BenchmarkError, BenchmarkToolError

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
