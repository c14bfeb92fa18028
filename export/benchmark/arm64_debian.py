"""Debian packages extracted into a folder: resolved and checked by apt, unpacked here, nothing of them executed."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from export.benchmark.arm64_tools import require_program, run_tool
from export.benchmark.errors import BenchmarkError, BenchmarkToolError


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
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=inside)
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


def inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """Keep files, folders and links; make absolute links relative, so that they do not lead into this machine's own files."""
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None  # devices and pipes
    if member.issym() and member.linkname.startswith("/"):
        depth = len(PurePosixPath(member.name.removeprefix("./")).parts) - 1
        member = member.replace(linkname="../" * depth + member.linkname.lstrip("/"), deep=False)
    if member.isfile():
        member = member.replace(mode=(member.mode or 0) | 0o600, deep=False)
    return tarfile.tar_filter(member, path)
