"""What the matrix needs beside Python packages: an old Python with its retired runtime, Node.js with packages, Chromium."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from export.cache import cache_folder

HERE: Final = Path(__file__).resolve().parent
WEB: Final = HERE / "web"
LEGACY_LOCK: Final = HERE / "tflite_runtime.txt"
OLD_PYTHON: Final = (3, 11)
MIN_NODE: Final = 20  # playwright-core's own bound
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
INSTALL_TIMEOUT_S: Final = 240.0


class MissingNeedError(Exception):
    """Something that this machine lacks; the text names it and what brings it."""


def python_311() -> Path:
    """Return a Python 3.11: this one, the one on the path, or the one that uv knows."""
    if sys.version_info[:2] == OLD_PYTHON:
        return Path(sys.executable)
    for command in (("python3.11", "-c", "import sys; print(sys.executable)"), ("uv", "python", "find", "3.11")):
        if shutil.which(command[0]) is None:
            continue
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if found.returncode == 0:
            return Path(found.stdout.strip())
    raise MissingNeedError("Python 3.11, the last with a wheel of tflite-runtime (on the path, or known to uv)")


def legacy_python() -> Path:
    """Return the interpreter of an environment with tflite-runtime 2.14 and numpy 1; made once, kept in the cache."""
    python = python_311()
    key = _key(LEGACY_LOCK.read_bytes(), str(python).encode())
    folder = _made_once(f"tflite-runtime-{key}", lambda folder: _install_legacy(python, folder))
    return folder / "bin" / "python"


def _install_legacy(python: Path, folder: Path) -> None:
    # Without pip of its own: Debian's Python lacks the wheel for it. This environment's pip fills the other one.
    _run([str(python), "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    locked = ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes", "-r", str(LEGACY_LOCK)]
    _run([*pip, *locked])


def node() -> Path:
    """Return a Node.js that is new enough for Playwright and comes with npm."""
    need = f"the programs node ({MIN_NODE} or newer) and npm (Debian packages: nodejs, npm)"
    programs = [shutil.which(name) for name in ("node", "npm")]
    if None in programs:
        raise MissingNeedError(need)
    said = subprocess.run(
        [str(programs[0]), "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    if int(said.strip().lstrip("v").split(".")[0]) < MIN_NODE:
        raise MissingNeedError(f"{need}; found {said.strip()}")
    return Path(str(programs[0]))


def chromium() -> Path:
    """Return a browser that Playwright can drive."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise MissingNeedError("the program chromium (Debian package: chromium)")
    return Path(found)


def npm_packages() -> Path:
    """Return the folder that holds `node_modules` as locked; made once, kept in the cache, never in the checkout."""
    node()
    return _made_once(f"web-{_key((WEB / 'package-lock.json').read_bytes())}", _install_npm)


def _install_npm(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(WEB / name, folder / name)
    # Without scripts: the packages need none, and playwright's would fetch a browser.
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    _run(["npm", "ci", *quiet], cwd=folder)


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cache folder of that name; it appears whole, under a rename, so that two test runs cannot mix."""
    cache = cache_folder("runtimes")
    target = cache / name
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{name}.") as scratch:
            made = Path(scratch) / "made"
            make(made)
            try:
                made.rename(target)
            except OSError:  # another run was first
                if not target.is_dir():
                    raise
    return target


def _run(command: Sequence[str], *, cwd: Path | None = None) -> None:
    """Run an installer; what it cannot fetch is a need of the machine, named with the installer's own words."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise MissingNeedError(f"the packages that {Path(command[0]).name} installs (network?): {' '.join(said)}")
