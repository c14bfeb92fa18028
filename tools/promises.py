"""docs/promises.md: each promise with the tests that prove it.

The sentences stand once, in docs/promises.toml. A test says which of them it proves: `@pytest.mark.promise(7)`, or several numbers.
`python -m tools.pages` writes the page; tests/arch/test_promises.py fails where the two disagree.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SENTENCES: Final = "docs/promises.toml"
DOORS: Final[Mapping[str, str]] = {
    "clinic": "Clinic",
    "laboratory": "Laboratory",
    "deployment": "Deployment",
    "firmware": "Firmware",
    "project": "The project itself",
}
# A promise must be short enough to be read in one breath.
MAX_SENTENCE: Final = 190
_HEAD: Final = """<!-- Written by `python -m tools.pages` from docs/promises.toml and markers in tests/: change those, not this file. -->

# Promises

What this project promises, and the tests that prove each promise. A promise reaches as far as its tests: where tests take samples, so
does the promise. Radio tests run against a virtual radio. Nothing here was run on a real Raspberry Pi, a real radio or a real device.

To see one proved: `pytest -m promise` runs all of these tests; a test's name is its sentence with underscores.
"""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: its number, the door it belongs to, and one sentence."""

    number: int
    door: str
    text: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A test function, the promises that it proves, and whether it is switched off."""

    file: str
    test: str
    numbers: tuple[int, ...]
    switched_off: bool


def promises(root: Path) -> list[Promise]:
    """Return the promises in the order of their numbers."""
    table = tomllib.loads((root / SENTENCES).read_text(encoding="utf-8"))
    return sorted((Promise(**entry) for entry in table["promise"]), key=lambda promise: promise.number)


def promised_nowhere(root: Path) -> dict[str, list[str]]:
    """Return what no test proves yet, by subject."""
    return dict(tomllib.loads((root / SENTENCES).read_text(encoding="utf-8"))["promised_nowhere"])


def proofs(root: Path) -> list[Proof]:
    """Return every test function with a promise; the files are parsed, not imported."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                numbers = tuple(n for decorator in node.decorator_list for n in _promised(decorator))
                if numbers:
                    marks = {_mark(decorator) for decorator in node.decorator_list}
                    off = bool(marks & {"skip", "xfail"})
                    found.append(Proof(path.relative_to(root).as_posix(), node.name, numbers, off))
    return found


def _mark(decorator: ast.expr) -> str:
    """Return the last name of a decorator: `skip` of `@pytest.mark.skip(...)`."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)


def _promised(decorator: ast.expr) -> list[int]:
    """Return the numbers of a promise marker; none for another decorator."""
    if not isinstance(decorator, ast.Call) or _mark(decorator) != "promise":
        return []
    return [ast.literal_eval(argument) for argument in decorator.args]


def page(root: Path) -> str:
    """Return the text of the page."""
    tests: dict[int, list[Proof]] = {}
    for proof in proofs(root):
        for number in proof.numbers:
            tests.setdefault(number, []).append(proof)
    lines = [_HEAD]
    for door, title in DOORS.items():
        lines += [f"## {title}", ""]
        for promise in promises(root):
            if promise.door == door:
                lines += [f"**{promise.number}.** {promise.text}", ""]
                lines += [_link(proof) for proof in tests.get(promise.number, [])]
                lines.append("")
    lines += ["## Promised nowhere yet", "", "No test proves these; do not rely on them.", ""]
    for subject, texts in promised_nowhere(root).items():
        lines += [f"**{subject}**", "", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines).rstrip() + "\n"


def _link(proof: Proof) -> str:
    """Return a test as a link whose text is its name in words."""
    words = proof.test.removeprefix("test_").replace("_", " ")
    return f"- [{words}](../{proof.file})"
