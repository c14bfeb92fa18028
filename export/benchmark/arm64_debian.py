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
