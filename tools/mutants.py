"""A test of the tests: faults put into the code one by one, each of which must make a test fail.

    python tools/mutants.py [WORD ...] [--jobs N]      only the faults whose name holds one of the words

`tests/mutants.toml` lists them: a file, a piece of its text that stands there once, what is put in its place, and the tests that
must notice. Each fault lives in a copy of the checkout. It ends with 1 where a fault survives, where its text is no longer found,
or where the tests fail without any fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LIST: Final = ROOT / "tests" / "mutants.toml"
# What a test needs of the checkout; environments, caches and results are not among it.
_PARTS: Final = (
    "lsemvae",
    "export",
    "edge_app",
    "firmware_bridge",
    "tests",
    "tools",
    "examples",
    "docs",
    "requirements",
)
_FILES: Final = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "tasks.py", "LICENSE")
# Beyond this a fault made the code wait for ever: that is noticed as well.
_TIMEOUT_S: Final = 240
_TESTS_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`, and one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_mutants(path: Path = LIST) -> tuple[Mutant, ...]:
    """Return the faults of the list, in its order."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return tuple(Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries)


def stale(mutant: Mutant, root: Path = ROOT) -> str:
    """Return why a fault cannot be put in: its text is not in its file exactly once, or changes nothing; empty where it can."""
    path = root / mutant.file
    count = path.read_text(encoding="utf-8").count(mutant.old) if path.is_file() else 0
    if count != 1:
        return f"found its text {count} times in {mutant.file}, expected once"
    return "its text is replaced by itself" if mutant.old == mutant.new else ""


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run tests in a copy of the checkout; returns pytest's exit status (1: some failed) and the end of what it printed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _TESTS_FAILED, "the tests did not end"
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def verdict(mutant: Mutant, tree: Path) -> tuple[str, str]:
    """Put the fault into the copy, run its tests, take it out; returns "killed", "survived" or "cannot be tried", and the why."""
    why = stale(mutant, tree)
    if why:
        return "cannot be tried", why
    path = tree / mutant.file
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        status, said = run_tests(tree, mutant.tests)
    finally:
        path.write_text(right, encoding="utf-8")
    if status == _TESTS_FAILED:
        return "killed", ""
    return ("survived", "") if status == 0 else ("cannot be tried", said)


def _copy(into: Path) -> Path:
    for name in _PARTS:
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__", "evidence"))
    for name in _FILES:
        shutil.copy(ROOT / name, into / name)
    return into


def main() -> int:
    """Try the faults; print a line for each and the count of the killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only faults whose name holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies that are tried side by side")
    args = parser.parse_args()
    mutants = [m for m in read_mutants() if not args.words or any(word in m.name for word in args.words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        trees: SimpleQueue[Path] = SimpleQueue()
        for k in range(args.jobs):
            trees.put(_copy(Path(scratch) / str(k)))

        def tried(mutant: Mutant) -> tuple[Mutant, str, str]:
            tree = trees.get()
            try:
                return (mutant, *verdict(mutant, tree))
            finally:
                trees.put(tree)

        first = trees.get()
        status, said = run_tests(first, tuple(sorted({test for mutant in mutants for test in mutant.tests})))
        trees.put(first)
        if status != 0:
            sys.stdout.write(f"the tests fail without any fault:\n{said}\n")
            return 1
        killed = 0
        with ThreadPoolExecutor(args.jobs) as pool:
            for mutant, word, why in pool.map(tried, mutants):
                killed += word == "killed"
                sys.stdout.write(f"{word:<16} {mutant.name}{': ' + why if why else ''}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{killed} of {len(mutants)} killed\n")
    return 0 if killed == len(mutants) > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
