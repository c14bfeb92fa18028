"""The floor stands on numpy alone, and its public names are what they should be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lsemvae.ecg

SOURCES = sorted(Path(lsemvae.ecg.__file__).parent.glob("*.py"))
FORBIDDEN = {
    "scipy", "torch", "pandas", "matplotlib", "wfdb", "pickle", "time", "datetime", "random", "secrets", "socket",
    "asyncio", "subprocess", "os", "threading", "tempfile", "urllib",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.promise(56)
@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_no_clock_no_randomness_no_heavy_package(path: Path) -> None:
    assert imported(path) & FORBIDDEN == set()
    assert imported(path) - set(sys.stdlib_module_names) <= {"numpy", "lsemvae"}
    assert "np.random" not in path.read_text(encoding="utf-8")


def test_fresh_process_loads_neither_scipy_nor_torch() -> None:
    heavy = ("scipy", "torch", "pandas", "matplotlib", "wfdb")
    code = f"import sys, lsemvae.ecg; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_sorted() -> None:
    names = lsemvae.ecg.__all__
    assert all(hasattr(lsemvae.ecg, name) for name in names)
    kinds = [(not n.isupper(), not n[0].isupper(), n) for n in names]
    assert kinds == sorted(kinds)
    assert len(set(names)) == len(names)


def test_every_error_is_public() -> None:
    errors = {name for name in vars(lsemvae.ecg.errors) if name.endswith("Error")}
    assert errors <= set(lsemvae.ecg.__all__)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 600
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
