"""The set-up commands, for a machine with Python 3.11 or newer and nothing else: `python3 tasks.py demo|test|check|mutants`.

`make demo`, `make test` and the others call this file. It stands alone because a Raspberry Pi OS Lite has Python but no make.
Each command keeps a virtual environment of its own, so that the demonstration proves that the clinic needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
MIN_PYTHON = (3, 11)


def say(text: str) -> None:
    """Print a step before it begins."""
    sys.stderr.write(f"-- {text}\n")
    sys.stderr.flush()


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp() -> str:
    """What an environment was made from: it is made anew when the project's dependencies change."""
    content = (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    return hashlib.sha256(content).hexdigest()


def environment(name: str, extra: str, *, editable: bool) -> Path:
    """A virtual environment with the project and one of its extras; found again on the next call."""
    folder = ROOT / name
    mark = folder / "made-from"
    fresh = mark.is_file() and mark.read_text() == stamp()
    if not fresh:
        say(f"making {name} (first time, or the dependencies changed)")
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (subprocess.CalledProcessError, SystemExit):
            sys.exit("This Python has no venv. On Debian or Raspberry Pi OS: sudo apt install python3-venv")
    if not fresh or not editable:
        # An environment for tests is compiled as it is used: of torch that is a tenth, and saves most of a minute.
        flags = ["--no-compile", "-e"] if editable else ["--force-reinstall", "--no-deps"] if fresh else []
        say(f"installing lsemvae[{extra}]")
        pip = [str(python_of(folder)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *flags, f"{ROOT}[{extra}]"], check=True)
        mark.write_text(stamp())
    return folder


def demo(arguments: list[str]) -> int:
    """A real ECG through a virtual device, the link, the gate, the front-end and the shipped INT8 bundle."""
    folder = environment(".venv-demo", "demo", editable=False)
    home = {"LSEMVAE_HOME": os.environ.get("LSEMVAE_HOME", str(ROOT / "demo-data"))}
    command = [str(python_of(folder)), "-m", "edge_app", "demo", *arguments]
    return subprocess.run(command, env={**os.environ, **home}, check=False, cwd=folder).returncode


def test(arguments: list[str]) -> int:
    """The tests that run everywhere in minutes. What is missing on this machine is listed loudly at the end."""
    return check(["-m", "not slow", *arguments])


def check(arguments: list[str]) -> int:
    """All tests: also those that need minutes, programs and the development recordings. One process a core, a file at a time."""
    folder = environment(".venv-test", "dev", editable=True)
    command = [
        str(python_of(folder)),
        "-m",
        "pytest",
        "-n",
        "auto",
        "--maxprocesses",
        "4",
        "--dist",
        "loadfile",
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def mutants(arguments: list[str]) -> int:
    """Faults put into the code one by one: each must make a test fail."""
    folder = environment(".venv-test", "dev", editable=True)
    return subprocess.run([str(python_of(folder)), "tools/mutants.py", *arguments], cwd=ROOT, check=False).returncode


def main() -> int:
    """Run one task."""
    tasks = {"demo": demo, "test": test, "check": check, "mutants": mutants}
    if sys.version_info < MIN_PYTHON:
        sys.exit(f"found Python {sys.version.split()[0]}, expected {'.'.join(map(str, MIN_PYTHON))} or newer")
    if len(sys.argv) < 2 or sys.argv[1] not in tasks:
        sys.exit(f"usage: python3 tasks.py {{{','.join(tasks)}}} [arguments]")
    return tasks[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
