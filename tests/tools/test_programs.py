"""What is absent or unfit is told with what was found, what was expected, and the line that mends it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from export.benchmark.errors import BenchmarkError
from tools.arm64.programs import (
    BenchmarkToolError,
    appears_whole,
    last_words,
    missing_programs,
    require_host,
    require_program,
    run_tool,
)
from tools.arm64.qemu import find_qemu, parse_version
from tools.arm64.root import ensure_root


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A path with nothing but the programs that a test puts into it, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    return folder


@pytest.mark.parametrize(
    ("program", "package"),
    [("qemu-aarch64", "qemu-user"), ("mmdebstrap", "mmdebstrap"), ("gcc", "gcc"), ("setarch", "util-linux")],
)
def test_an_absent_program_is_named_with_its_package(only, program, package):
    with pytest.raises(BenchmarkToolError, match=f"found no program '{program}'.*expected") as raised:
        require_program(program)
    assert f"apt install {package}" in raised.value.advice


def test_all_absent_programs_are_listed(only):
    script(only / "gcc", "exit 0")
    assert missing_programs() == ["qemu-aarch64", "mmdebstrap", "setarch"]


def test_what_is_absent_is_told_at_once_and_before_anything_is_fetched(only, tmp_path):
    script(only / "setarch", "exit 0")
    with pytest.raises(BenchmarkToolError, match="found no program 'qemu-aarch64', 'mmdebstrap', 'gcc'") as raised:
        ensure_root("bookworm")
    assert "sudo apt install qemu-user mmdebstrap gcc libc6-dev." in raised.value.advice
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_a_board_is_told_to_measure_itself(monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(BenchmarkToolError, match=f"found a machine that is {machine}.*expected x86_64") as raised:
        require_host()
    assert "--device host" in raised.value.advice


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_user_mode_emulation_needs_linux(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(BenchmarkToolError, match=f"found the system '{system}', expected Linux"):
        require_host()


def test_another_machine_than_x86_64_is_refused(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(BenchmarkToolError, match="found the machine 'riscv64', expected x86_64"):
        require_host()


def test_an_unknown_release_is_refused():
    with pytest.raises(BenchmarkError, match="found the Debian release 'sid', expected one of bookworm, trixie"):
        ensure_root("sid")


def test_the_version_is_read_from_qemus_own_words():
    assert parse_version("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright") == "7.2.22"
    with pytest.raises(BenchmarkToolError, match="found 'no such thing', expected"):
        parse_version("no such thing")


def fake_qemu(path: Path, version: str, *, plugins: bool) -> Path:
    option = "-plugin  QEMU_PLUGIN" if plugins else "-strace  QEMU_STRACE"
    return script(path, f'case "$*" in *--version) echo "qemu-aarch64 version {version}";; *) echo "{option}";; esac')


def test_an_installed_qemu_that_takes_the_plugin_is_used(only):
    program = fake_qemu(only / "qemu-aarch64", "8.2.2", plugins=True)
    found = find_qemu()
    assert found.command == (str(program),)
    assert found.title == "qemu-aarch64 8.2.2"


@pytest.mark.parametrize(("version", "plugins"), [("10.0.13", False), ("10.0.13", True), ("6.2.0", True)])
def test_debian_12s_qemu_stands_in_for_one_that_takes_no_plugin(only, tmp_path, version, plugins):
    fake_qemu(only / "qemu-aarch64", version, plugins=plugins)
    extracted = tmp_path / "cache" / "lsemvae" / "arm64" / "qemu-bookworm"
    loader = fake_qemu(extracted / "lib" / "x86_64-linux-gnu" / "ld-linux-x86-64.so.2", "7.2.22", plugins=True)
    found = find_qemu()
    assert found.version == "7.2.22"
    assert found.command[0] == str(loader)
    assert found.command[-1] == str(extracted / "usr" / "bin" / "qemu-aarch64")


def test_no_network_leaves_nothing_in_the_cache_and_gives_the_builders_last_words(only, tmp_path):
    for name in ("qemu-aarch64", "gcc", "setarch"):
        script(only / name, "exit 0")
    script(only / "mmdebstrap", 'echo "E: cannot reach the mirror" >&2; exit 25')
    with pytest.raises(BenchmarkToolError, match=r"status 25, expected 0.*cannot reach the mirror") as raised:
        ensure_root("bookworm")
    assert "debian-archive-keyring" in raised.value.advice
    assert list((tmp_path / "cache" / "lsemvae" / "arm64").iterdir()) == []


def test_a_failed_tool_is_quoted_with_its_last_lines():
    with pytest.raises(BenchmarkError, match=r"sh ended with status 3, expected 0\. Its last words: why not"):
        run_tool(["/bin/sh", "-c", "echo why not >&2; exit 3"])
    assert last_words("\n") == "Its last words: (none)"
    assert last_words("\n".join(map(str, range(20)))).endswith("14 | 15 | 16 | 17 | 18 | 19")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), appears_whole(tmp_path / "a") as folder:  # noqa: PT012
        (folder / "half").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with appears_whole(tmp_path / "a") as folder:
        (folder / "all").touch()
    assert (tmp_path / "a" / "all").is_file()


def test_of_two_that_make_the_same_folder_the_first_stays(tmp_path):
    with appears_whole(tmp_path / "a") as slow:
        (slow / "second").touch()
        with appears_whole(tmp_path / "a") as fast:
            (fast / "first").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
