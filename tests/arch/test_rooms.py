"""Who may know whom: the import contracts, and a fresh process that shows what is really loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import house

LABORATORY = ("torch", "scipy", "pandas", "matplotlib", "sklearn", "wfdb", "lsemvae.model", "lsemvae.data", "export")


def _loaded(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.promise(26, 56)
def test_import_contracts_hold(repo_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=repo_root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.promise(57)
@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import lsemvae", (*LABORATORY, "numpy")),
        ("import lsemvae.ecg", (*LABORATORY, "typer", "cryptography", "bleak", "asyncio")),
        ("import lsemvae.cli", (*LABORATORY, "cryptography", "bleak", "ai_edge_litert")),
        ("import edge_app.cli", (*LABORATORY, "cryptography", "bleak", "ai_edge_litert", "numpy")),
        (
            "import lsemvae.screen.screener, lsemvae.screen.bundle, edge_app.store.records",
            (*LABORATORY, "bleak", "bumble"),
        ),
        ("import edge_app.session, edge_app.link.ble.transport", (*LABORATORY, "bumble")),
        (
            "import firmware_bridge.protocol.codec, firmware_bridge.assembly.reassembly",
            (*LABORATORY, "asyncio", "bleak", "socket"),
        ),
    ],
)
def test_a_fresh_process_loads_no_more_than_its_room_may(code: str, never: tuple[str, ...]) -> None:
    loaded = _loaded(code)
    assert not [name for name in never if name in loaded]


@pytest.mark.promise(36)
def test_the_shipped_bundle_opens_and_screens_without_the_laboratory() -> None:
    loaded = _loaded(
        "import numpy as np\n"
        "from lsemvae.screen.screener import open_screener\n"
        "from lsemvae.ecg.record import record_from_physical\n"
        "s = open_screener()\n"
        "x = np.sin(np.arange(5000) / 30)[None] * np.array([[.5], [.8]])\n"
        "s.screen(record_from_physical(x, unit='mV', fs_hz=500, leads=('I', 'II')))"
    )
    assert not [name for name in LABORATORY if name in loaded]


@pytest.mark.promise(61)
def test_edge_extra_names_nothing_of_the_laboratory(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    names = " ".join([*project["dependencies"], *project["optional-dependencies"]["edge"]])
    locked = (repo_root / "requirements/edge.txt").read_text()
    for name in ("torch", "scipy", "pandas", "matplotlib"):
        assert name not in names
        assert f"\n{name}==" not in locked
    for name in ("numpy", "ai-edge-litert", "bleak", "typer", "cryptography"):
        assert name in names
        assert f"{name}==" in locked


@pytest.mark.promise(61)
def test_every_locked_requirement_has_a_hash(repo_root: Path) -> None:
    blocks = (repo_root / "requirements/edge.txt").read_text().replace("\\\n", " ").splitlines()
    pinned = [line for line in blocks if "==" in line and not line.lstrip().startswith("#")]
    assert len(pinned) > 10
    assert all("--hash=sha256:" in line for line in pinned)


@pytest.mark.promise(26)
def test_nothing_can_be_unpickled(repo_root: Path) -> None:
    found = []
    for room in ("lsemvae", "export", "edge_app", "firmware_bridge"):
        for path in (repo_root / room).rglob("*.py"):
            text = path.read_text()
            if any(
                word in text
                for word in ("import pickle", "torch.load(", "import joblib", "allow_pickle=True", "yaml.load(")
            ):
                found.append(str(path))
    assert not found


@pytest.mark.promise(62)
def test_no_module_is_longer_than_800_lines(repo_root: Path) -> None:
    paths = house.modules(repo_root).items()
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths}
    assert [name for name, length in lengths.items() if length > 800] == []


@pytest.mark.slow
@pytest.mark.promise(62)
def test_no_module_is_in_a_circle(repo_root: Path) -> None:
    assert house.circles(house.imports(repo_root)) == []


def test_every_contract_that_lists_rooms_lists_all_of_them(repo_root: Path) -> None:
    contracts = tomllib.loads((repo_root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    packages = next(contract for contract in contracts if contract["name"].startswith("The packages"))
    named = {name.strip() for layer in packages["layers"] for name in layer.replace("|", ",").split(",")}
    rooms = {f"lsemvae.{path.parent.name}" for path in (repo_root / "lsemvae").glob("*/__init__.py")} | {"lsemvae.cli"}
    assert named == rooms | {"export", "edge_app", "firmware_bridge"}
    light = {"lsemvae.ecg", "lsemvae.formats", "lsemvae.screen", "lsemvae.terminal"}
    for start in ("The clinic runs", "The bridge knows"):
        contract = next(contract for contract in contracts if contract["name"].startswith(start))
        assert rooms - light <= set(contract["forbidden_modules"])


def _own_modules(repo_root: Path) -> dict[str, Path]:
    found = dict(house.modules(repo_root))
    for folder in ("tests", "tools"):
        for path in (repo_root / folder).rglob("*.py"):
            parts = path.relative_to(repo_root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_every_import_of_ours_leads_to_a_module(repo_root: Path) -> None:
    """The type checker passes over modules it cannot find, for the sake of libraries: ours must be there, also in functions."""
    known = _own_modules(repo_root)
    folders = {path.parent for path in known.values()}
    lost = []
    for path in {*known.values(), *(repo_root / "examples").glob("*.py")}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.partition(".")[0] in (*house.PACKAGES, "tests", "tools")
                if ours and name not in known and repo_root.joinpath(*name.split(".")) not in folders:
                    lost.append(f"{path.relative_to(repo_root)}: {name}")
    assert lost == []


def test_only_packages_say_what_they_hand_on(repo_root: Path) -> None:
    modules = (path for path in house.modules(repo_root).values() if path.name != "__init__.py")
    assert [str(path) for path in modules if "\n__all__" in path.read_text(encoding="utf-8")] == []


def test_the_figures_of_the_tree_stay_within_their_bars(repo_root: Path) -> None:
    found = house.figures(repo_root)
    assert found["circles"] == []
    assert found["one caller %"] <= 45
    bars = {"lsemvae": 16, "export": 22, "edge_app": 12, "firmware_bridge": 8}
    assert {package: count for package, count in found["entries"].items() if count > bars[package]} == {}


def test_no_public_class_has_the_name_of_another(repo_root: Path) -> None:
    places: dict[str, list[str]] = {}
    for module, path in house.modules(repo_root).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}
