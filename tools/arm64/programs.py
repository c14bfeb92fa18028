"""What must be installed to run AArch64 programs on this machine, and running those programs."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from export.benchmark.errors import BenchmarkError


class BenchmarkToolError(BenchmarkError):
    """A program that counting needs is not installed here."""

    code: ClassVar[str] = "E_BENCHMARK_TOOL"
    default_advice: ClassVar[str] = (
        "On Debian or Ubuntu (x86_64): sudo apt install qemu-user mmdebstrap gcc libc6-dev. Elsewhere, measure on "
        "the board itself: lsemvae benchmark --ssh user@pi."
    )


class EmulationError(BenchmarkError):
    """The emulated run failed, or does not say what this machine says."""

    code: ClassVar[str] = "E_BENCHMARK_EMULATION"
    default_advice: ClassVar[str] = "Nothing was counted. Read the emulator's words in the message."


QEMU: Final = "qemu-aarch64"
_PACKAGES: Final[Mapping[str, str]] = {
    QEMU: "qemu-user",
    "mmdebstrap": "mmdebstrap",
    "gcc": "gcc libc6-dev",
    "setarch": "util-linux",
}
_LAST_WORDS: Final = 6


def require_host() -> None:
    """Check that this machine can emulate a board: Linux on x86_64.

    Raises
    ------
    BenchmarkToolError
        Another system, or a machine that is AArch64 itself.
    """
    machine = platform.machine()
    if sys.platform != "linux":
        raise BenchmarkToolError(
            f"found the system {sys.platform!r}, expected Linux (user-mode emulation exists nowhere else)"
        )
    if machine in ("aarch64", "arm64"):
        raise BenchmarkToolError(
            f"found a machine that is {machine} itself, expected x86_64: emulation would say nothing that it cannot say better",
            advice="Measure on this machine: lsemvae benchmark --device host.",
        )
    if machine not in ("x86_64", "amd64"):
        raise BenchmarkToolError(f"found the machine {machine!r}, expected x86_64")


def require_program(name: str) -> Path:
    """Return the path of a program of this module's table."""
    found = shutil.which(name)
    if found is None:
        raise _absent([name])
    return Path(found)


def require_emulation() -> None:
    """Check that this machine can emulate a board and has all programs for it.

    Raises
    ------
    BenchmarkToolError
        It names everything that is absent, and the one line that installs it.
    """
    require_host()
    absent = missing_programs()
    if absent:
        raise _absent(absent)


def _absent(names: Sequence[str]) -> BenchmarkToolError:
    packages = " ".join(_PACKAGES[name] for name in names)
    return BenchmarkToolError(
        f"found no program {', '.join(map(repr, names))} on the path, expected it from the Debian package {packages}",
        advice=f"On Debian or Ubuntu (x86_64): sudo apt install {packages}. "
        "Elsewhere, measure on the board itself: lsemvae benchmark --ssh user@pi.",
    )


def missing_programs() -> list[str]:
    """Return the programs of this module that are not installed here."""
    return [name for name in _PACKAGES if shutil.which(name) is None]


def run_tool(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said.

    Raises
    ------
    BenchmarkError
        It failed; its last words are in the message.
    """
    merged = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=merged, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchmarkError(
            f"{Path(command[0]).name} ended with status {done.returncode}, expected 0. {last_words(done.stderr)}"
        )
    return done


def last_words(said: str) -> str:
    """Return the end of what a program said, on one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "Its last words: " + (" | ".join(lines[-_LAST_WORDS:]) or "(none)")


def digest(parts: Sequence[str]) -> str:
    """Return a short name for what something is made of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def appears_whole(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` that is renamed to it at the end; two processes may race, one of them wins."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
