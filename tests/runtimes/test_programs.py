"""What the matrix cannot find or install is named; nothing half made stays in the cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runtimes import programs
from tests.runtimes.programs import MissingNeedError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lsemvae" / "runtimes"


@pytest.mark.parametrize(("find", "package"), [(programs.node, "nodejs, npm"), (programs.chromium, "chromium")])
def test_a_missing_program_is_named_with_what_brings_it(
    find: object, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert callable(find)
    with pytest.raises(MissingNeedError, match=f"Debian packages?: {package}"):
        find()


def test_a_node_that_is_too_old_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text(f"#!{sys.executable}\nprint('v18.19.0')\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingNeedError, match=r"20 or newer.*found v18\.19\.0"):
        programs.node()


def test_without_python_3_11_the_need_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "OLD_PYTHON", (3, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingNeedError, match=r"Python 3\.11, the last with a wheel"):
        programs.python_311()


def test_a_python_3_11_on_the_path_is_taken_where_this_one_is_newer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "OLD_PYTHON", (3, 0))
    fake = tmp_path / "python3.11"
    fake.write_text(f"#!{sys.executable}\nprint('/somewhere/python3.11')\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.python_311() == Path("/somewhere/python3.11")


def test_an_installer_that_fails_is_quoted_and_leaves_nothing(cache: Path) -> None:
    def make(folder: Path) -> None:
        folder.mkdir()
        programs._run([sys.executable, "-c", "raise SystemExit('no such host')"])

    with pytest.raises(MissingNeedError, match="no such host"):
        programs._made_once("thing", make)
    assert list(cache.iterdir()) == []


def test_what_is_made_once_is_found_again(cache: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        folder.mkdir()
        made.append(folder)

    first, second = programs._made_once("thing", make), programs._made_once("thing", make)
    assert (first, second, len(made)) == (cache / "thing", cache / "thing", 1)
    assert [path.name for path in cache.iterdir()] == ["thing"]
