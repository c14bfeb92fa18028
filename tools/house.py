"""Figures of the tree that anyone can recompute: `python tools/house.py [FOLDER] [--json]`, standard library only.

circles              groups of files that import (in C: call) each other in a loop; imports inside functions and for type checks count
one caller           share of private functions and methods (`_name`) that are named in exactly one place outside themselves
entries              modules and folders directly in a package; `__init__.py`, `__main__.py` and `py.typed` aside
lines in the wheel   lines of every text file of the four packages, as the build puts them into the wheel
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Final

PACKAGES: Final = ("lsemvae", "export", "edge_app", "firmware_bridge")
# Files that every package may have; they are no rooms.
_FURNITURE: Final = frozenset({"__init__.py", "__main__.py", "py.typed", "__pycache__"})


def modules(root: Path) -> dict[str, Path]:
    """Return the dotted name and file of every module of the four packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """Return for every module the modules of the tree that it imports."""
    known = modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names if alias.name in known}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    graph[name] |= {
                        target for target in (deeper if deeper in known else node.module,) if target in known
                    }
        graph[name].discard(name)
    return graph


def calls_in_c(root: Path) -> dict[str, set[str]]:
    """Return for every C source of the bridge the sources that define a function it names; static functions aside."""
    sources = sorted((root / "firmware_bridge" / "c").glob("*.c"))
    texts = {path.name: re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in sources}
    at = {
        name: file
        for file, text in texts.items()
        for name in re.findall(r"^(?!static)\w[\w *]*?(\w+)\([^;{]*\)\s*\{", text, re.MULTILINE)
    }
    return {
        file: {where for name, where in at.items() if where != file and re.search(rf"\b{name}\s*\(", text)}
        for file, text in texts.items()
    }


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def private_functions(root: Path) -> dict[str, int]:
    """Return every private function and method, `module:name`, with the number of places that name it."""
    found: dict[str, int] = {}
    for module, path in modules(root).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {
            node.name: node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("_")
            and not node.name.startswith("__")
        }
        named = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        for name, definition in defined.items():
            inside = sum(
                (node.id if isinstance(node, ast.Name) else node.attr) == name
                for node in ast.walk(definition)
                if isinstance(node, ast.Name | ast.Attribute)
            )
            found[f"{module}:{name}"] = named[name] - inside
    return found


def entries(root: Path, package: str) -> list[str]:
    """Return the modules and folders directly in a package."""
    return sorted(
        path.name
        for path in (root / package).iterdir()
        if path.name not in _FURNITURE and not path.name.startswith(".")
    )


def lines_in_the_wheel(root: Path) -> int:
    """Return the lines of all text files of the packages."""
    total = 0
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                try:
                    total += len(path.read_text(encoding="utf-8").splitlines())
                except UnicodeDecodeError:
                    continue
    return total


def figures(root: Path) -> dict[str, object]:
    """Return all figures of the tree at `root`."""
    sys.setrecursionlimit(10_000)
    places = private_functions(root)
    one = sum(count == 1 for count in places.values())
    return {
        "modules": len(modules(root)),
        "circles": circles(imports(root)) + circles(calls_in_c(root)),
        "private functions": len(places),
        "one caller": one,
        "one caller %": round(100 * one / len(places), 1),
        "entries": {package: len(entries(root, package)) for package in PACKAGES},
        "lines in the wheel": lines_in_the_wheel(root),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--one", action="store_true", help="list the private functions with one caller")
    args = parser.parse_args()
    if args.one:
        sys.stdout.write("".join(f"{name}\n" for name, n in private_functions(args.folder).items() if n == 1))
        return
    found = figures(args.folder)
    sys.stdout.write(
        json.dumps(found) + "\n" if args.json else "".join(f"{name:<20} {value}\n" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
