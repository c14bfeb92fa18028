"""docs/reference/errors.md: every error code with its class, meaning, advice and the rooms where it arises."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.reasons import Reason, advice
from tools.pages.docstring import GENERATED, summary

PACKAGES: Final = ("lsemvae", "firmware_bridge", "edge_app", "export")
_TITLES: Final = {
    "lsemvae": "Recordings, models, bundles, training",
    "firmware_bridge": "Device and protocol",
    "edge_app": "Clinic: Bluetooth, serial line, store",
    "export": "Export and benchmark",
}
_HEAD: Final = f"""{GENERATED}

# Error codes

An error shows what was found and what was expected, and says what to do. Its code never changes from one release to the next:
logs, tests and screens may rely on it. With `--json` a command prints code, message and advice as a document. In Python every error is an
`lsemvae.ecg.EcgError` with `.code`, `.message` and `.advice`.

The advice on this page is the general one of a code; a message often brings a more exact one. A class that stands under the code of its
parent is caught by `except` on the parent.
"""
_REASONS: Final = """## Reasons of ABSTAIN

ABSTAIN is no error: the recording was received and is kept, but no answer is given, because it would not be worth anything. Each reason
has a name that never changes, and advice for the operator. The limits behind them: [quality gate](../explanation/quality-gate.md).

| reason | what to do |
| --- | --- |"""


@cache
def error_classes(root: Path) -> list[type[EcgError]]:
    """Return every error class of the four packages, parents first; only modules that define such a class are loaded."""
    for room in PACKAGES:
        for path in sorted((root / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.ClassDef) and node.name.endswith("Error") for node in ast.walk(tree)):
                parts = path.relative_to(root).with_suffix("").parts
                importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))

    def below(kind: type[EcgError]) -> Iterator[type[EcgError]]:
        yield kind
        for child in sorted(kind.__subclasses__(), key=lambda k: (k.code, k.__name__)):
            yield from below(child)

    return [kind for kind in below(EcgError) if kind.__module__.split(".")[0] in PACKAGES]


@cache
def rooms_that_raise(root: Path) -> dict[str, list[str]]:
    """Return for each error class the folders whose files make an error of it, by a call or from a table of classes."""
    names = {kind.__name__ for kind in error_classes(root)}
    found: dict[str, set[str]] = {name: set() for name in names}
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            room = "/".join(path.relative_to(root).parts[:2]).removesuffix(".py")
            for name in names & set(_made(ast.parse(path.read_text(encoding="utf-8")))):
                found[name].add(room)
    return {name: sorted(rooms) for name, rooms in found.items()}


def _made(node: ast.AST) -> Iterator[str]:
    """Yield the names that a piece of code uses as values; what it only catches, inherits from, annotates or tests for is left out."""
    if isinstance(node, ast.Name):
        yield node.id
        return
    passed_over: list[ast.AST | None] = []
    if isinstance(node, ast.ExceptHandler):
        passed_over = [node.type]
    elif isinstance(node, ast.ClassDef):
        passed_over = list(node.bases)
    elif isinstance(node, ast.AnnAssign | ast.arg):
        passed_over = [node.annotation]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        passed_over = [node.returns]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass", "suppress"):
        return
    for child in ast.iter_child_nodes(node):
        if not any(child is part for part in passed_over):
            yield from _made(child)


def page(root: Path) -> str:
    """Return the text of the page."""
    kinds = error_classes(root)
    rooms = rooms_that_raise(root)
    lines = [_HEAD]
    for package in PACKAGES:
        lines += [f"## {_TITLES[package]}", ""]
        for code in sorted({kind.code for kind in kinds}):
            of_code = [kind for kind in kinds if kind.code == code]
            if of_code[0].__module__.split(".")[0] != package:
                continue
            lines += [f"### {code}", "", f"What to do: {of_code[0]('found a, expected b').advice}", ""]
            for kind in of_code:
                where = ", ".join(f"`{room}`" for room in rooms[kind.__name__]) or "only its children are raised"
                lines.append(f"- `{kind.__name__}` (`{kind.__module__}`): {summary(kind)} Arises in: {where}.")
            lines.append("")
    lines += [_REASONS, *(f"| `{reason}` | {advice(reason)} |" for reason in Reason)]
    return "\n".join(lines) + "\n"
