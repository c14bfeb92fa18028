"""The C core of `firmware_bridge/c`, built for this machine at first use and opened through cffi.

The library lies in ``$XDG_CACHE_HOME/lsemvae/e6l-core`` (or ``~/.cache/...``) under a name that is a hash of sources,
compiler and flags: a change of any of them builds afresh, and two processes that build at once end with the same file.
The C declarations that cffi needs are the public header itself, read by the compiler's preprocessor.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from lsemvae.ecg.errors import LinkError

CORE_FOLDER: Final = Path(__file__).resolve().parents[2] / "c"
CORE_SOURCES: Final = (
    "e6l_codec.c",
    "e6l_device.c",
    "e6l_life.c",
    "e6l_requests.c",
    "e6l_sha256.c",
    "e6l_stream.c",
)
CORE_HEADERS: Final = ("e6l.h", "e6l_bytes.h", "e6l_internal.h")
_PUBLIC_HEADER: Final = "e6l.h"

# What the core is held to on every build.
STRICT_FLAGS: Final = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion")
_FLAGS: Final = (*STRICT_FLAGS, "-O2", "-fPIC", "-shared")

# One build takes about a second; a compiler that hangs must not hang the program.
_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Core:
    """The opened library: ``lib`` has the functions of e6l.h, ``ffi`` makes their arguments."""

    ffi: Any
    lib: Any


def compiler() -> str | None:
    """Return the path of the C compiler: the program that CC names, or cc, or gcc."""
    for name in (os.environ.get("CC"), "cc", "gcc"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def missing_for_core() -> tuple[str, ...]:
    """Return what the C core needs and this machine lacks."""
    lacking = [] if importlib.util.find_spec("cffi") else ["the package cffi"]
    return (*lacking, *(() if compiler() else ("a C compiler (Debian package: gcc libc6-dev)",)))


@cache
def load_core() -> Core:
    """Return the C core, built if this version of it was not built before; `LinkError` if something is missing."""
    lacking = missing_for_core()
    if lacking:
        raise LinkError(
            f"C core: found no {', no '.join(lacking)}, expected both",
            advice="Install it, or use the device in pure Python (core=False).",
        )
    from cffi import FFI

    program = compiler()
    assert program is not None  # missing_for_core said so
    ffi = FFI()
    ffi.cdef(declarations(program))
    key = hashlib.sha256(repr((_FLAGS, run_compiler(program, ("--version",)), os.uname().machine)).encode())
    for name in (*CORE_HEADERS, *CORE_SOURCES):
        key.update((CORE_FOLDER / name).read_bytes())
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lsemvae" / "e6l-core"
    library = cache_folder / f"e6l-{key.hexdigest()[:24]}.so"
    if not library.is_file():
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder) as folder:
            built = Path(folder) / library.name
            run_compiler(program, (*_FLAGS, *(CORE_FOLDER / name for name in CORE_SOURCES), "-o", built))
            built.replace(library)  # whole or not at all
    return Core(ffi=ffi, lib=ffi.dlopen(str(library)))


def bind_board(core: Core, board: Any) -> tuple[Any, ...]:
    """Return an e6l_hal whose functions are the methods ``hal_...`` of `board`, then what must live as long as it.

    An exception cannot pass through C: it is given to ``board.hal_failed``.
    """
    ffi = core.ffi
    functions = {
        "send": ("int(void *, uint8_t, const uint8_t *, uint16_t)", board.hal_send),
        "now_us": ("uint64_t(void *)", board.hal_now_us),
        "front_end": ("int(void *, uint8_t, uint8_t)", board.hal_front_end),
        "random_bytes": ("void(void *, uint8_t *, uint8_t)", board.hal_random_bytes),
        "device_key": ("int(void *, uint8_t[32])", board.hal_device_key),
        "power": ("void(void *, uint16_t *, uint8_t *, int16_t *)", board.hal_power),
    }
    hal = ffi.new("e6l_hal *")
    kept = []
    for name, (signature, method) in functions.items():
        callback = ffi.callback(signature, method, onerror=board.hal_failed)
        kept.append(callback)
        setattr(hal, name, callback)
    return (hal, *kept)


def declarations(program: str) -> str:
    """Return the public header without directives and comments, its constants replaced by numbers."""
    header = (CORE_FOLDER / _PUBLIC_HEADER).read_text(encoding="utf-8")
    own = re.sub(r"^#include .*$", "", header, flags=re.MULTILINE)
    return run_compiler(program, ("-E", "-P", "-x", "c", "-"), text=own)


def run_compiler(program: str, arguments: Sequence[str | Path], *, text: str | None = None) -> str:
    """Return the standard output of the compiler; `LinkError` with what it complained about."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        complaint = done.stderr.strip()[:2000]
        raise LinkError(
            f"C core: found exit status {done.returncode} of {Path(program).name}, expected 0: {complaint}",
            advice="Use a C99 compiler, or the device in pure Python (core=False).",
        )
    return done.stdout
