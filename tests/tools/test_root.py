"""Wheels for another machine, packages without their scripts, and a folder that shows a board."""

from __future__ import annotations

import io
import re
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from zipfile import ZipFile

import pytest

from export.benchmark.devices import BOARDS, board
from export.benchmark.errors import BenchmarkError
from tools.arm64.programs import BenchmarkToolError
from tools.arm64.qemu import cpuinfo, guest_view, sysfs_cpu
from tools.arm64.root import Arm64Root, Wanted, fetch_into, host_versions, lock_for, unpack, unpack_wheel

LOCK = """\
# a comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via ai-edge-litert
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:dd
dbus-fast==5.2.0 ; sys_platform == 'linux' \\
    --hash=sha256:ee
rich==15.0.0 \\
    --hash=sha256:ff
"""


@pytest.mark.parametrize(("python", "numpy"), [("3.11", "numpy==2.4.6"), ("3.13", "numpy==2.5.5")])
def test_markers_of_the_lock_file_are_read_for_the_board(python, numpy):
    lines = lock_for(LOCK, python).splitlines()
    assert [line.split(" ")[0] for line in lines] == [numpy, "dbus-fast==5.2.0", "rich==15.0.0"]
    assert all("--hash=sha256:" in line and ";" not in line for line in lines)


def test_the_projects_own_lock_file_keeps_every_hash(repo_root):
    text = (repo_root / "requirements" / "edge.txt").read_text(encoding="utf-8")
    kept = lock_for(text, "3.11")
    assert "winrt" not in kept
    assert re.search(r"^ai-edge-litert==\S+ --hash=sha256:[0-9a-f]{64}", kept, re.M)


def test_the_guest_gets_the_versions_of_this_machine():
    pins = host_versions(["onnxruntime"], "3.13").splitlines()
    assert f"onnxruntime=={version('onnxruntime')}" in pins
    assert f"numpy=={version('numpy')}" in pins  # onnxruntime needs it


def test_numpy_is_left_open_for_an_older_python():
    older = f"{sys.version_info.major}.{sys.version_info.minor - 1}"
    assert not any(pin.startswith("numpy==") for pin in host_versions(["numpy", "onnxruntime"], older).splitlines())


def test_the_tags_end_at_the_releases_glibc():
    wanted = Wanted.of("3.11", glibc_minor=36, packages=["numpy"], lock=None)
    assert "--platform=manylinux_2_36_aarch64" in wanted.arguments
    assert "--platform=manylinux_2_37_aarch64" not in wanted.arguments
    assert "--only-binary=:all:" in wanted.arguments


@pytest.mark.slow
def test_without_network_nothing_is_left_of_the_wheels(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    folder = tmp_path / "site"
    folder.mkdir()
    wanted = Wanted(arguments=("--only-binary=:all:", "--python-version=3.11", "rich"))
    with pytest.raises(BenchmarkToolError, match=r"wheels cannot be fetched.*rich") as raised:
        fetch_into(folder, wanted)
    assert "network" in raised.value.advice
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert list(folder.iterdir()) == []


def wheel(folder: Path, names: dict[str, str]) -> Path:
    path = folder / "demo-1.0-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for name, text in names.items():
            archive.writestr(name, text)
    return path


def test_a_wheel_is_unpacked_as_pep_427_says(tmp_path):
    made = wheel(tmp_path, {
        "demo/__init__.py": "a", "demo-1.0.data/purelib/demo/pure.py": "b", "demo-1.0.data/platlib/demo/c.so": "c",
        "demo-1.0.data/scripts/demo": "d", "demo-1.0.dist-info/METADATA": "e",
    })  # fmt: skip
    unpack_wheel(made, tmp_path / "site")
    found = {str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*") if p.is_file()}
    assert found == {"demo/__init__.py", "demo/pure.py", "demo/c.so", "demo-1.0.dist-info/METADATA"}


@pytest.mark.parametrize("name", ["../outside.py", "/etc/passwd", "demo/../../outside.py"])
def test_a_wheel_cannot_write_outside_its_folder(tmp_path, name):
    with pytest.raises(BenchmarkError, match="expected paths below its own folder"):
        unpack_wheel(wheel(tmp_path, {name: "x"}), tmp_path / "site")


def extracted(members: list[tarfile.TarInfo], folder: Path) -> Path:
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    unpack(archive, folder)
    return folder


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 1 if kind == tarfile.REGTYPE else 0
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def test_absolute_links_stay_inside_the_root(tmp_path):
    """`qemu-aarch64 -L` opens them as this machine's paths: an absolute link would lead into its own files."""
    members = [entry("./etc/real"), entry("./usr/share/link", tarfile.SYMTYPE, linkname="/etc/real")]
    root = extracted(members, tmp_path / "root")
    assert (root / "usr/share/link").readlink() == Path("../../etc/real")
    assert (root / "usr/share/link").read_text() == "x"


def test_devices_are_left_out_and_files_stay_readable(tmp_path):
    root = extracted([entry("./dev/null", tarfile.CHRTYPE), entry("./etc/shadow", mode=0o000)], tmp_path / "root")
    assert not (root / "dev/null").exists()
    assert (root / "etc/shadow").stat().st_mode & 0o600 == 0o600


@pytest.mark.parametrize("name", ["../outside", "./usr/../../outside", "/outside"])
def test_an_archive_cannot_write_outside_the_root(tmp_path, name):
    with pytest.raises(BenchmarkError, match="expected paths below its own folder"):
        extracted([entry(name)], tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", BOARDS)
def test_cpuinfo_is_the_boards(name):
    device = board(name)
    text = cpuinfo(device)
    assert text.count("processor\t:") == device.cores
    assert text.count(f"CPU part\t: {device.midr_part}\n") == device.cores
    assert f"Features\t: {device.features}\n" in text


def test_sysfs_names_every_core_of_the_board():
    files = sysfs_cpu(board("pi4"))
    assert (files["possible"], files["kernel_max"], files["cpu3/cpufreq/cpuinfo_max_freq"]) == ("0-3", "3", "1500000")
    assert files["cpu2/topology/thread_siblings"] == "4"
    assert files["cpu0/topology/core_siblings"] == "f"


def test_the_view_shows_the_board_over_the_root_and_is_gone_afterwards(tmp_path):
    debian, site, job = (tmp_path / name for name in ("debian", "site", "job"))
    for folder in (debian / "usr" / "bin", debian / "proc", site, job):
        folder.mkdir(parents=True)
    root = Arm64Root(debian=debian, site=site, suite="bookworm", python_version="3.11", versions=MappingProxyType({}))
    with guest_view(root, board("zero2w"), {"job": job}) as view:
        assert "0xd03" in (view / "proc" / "cpuinfo").read_text(encoding="utf-8")
        assert (view / "usr" / "bin").is_dir()
        assert (view / "site").resolve() == site
        assert (view / "job").resolve() == job
    assert not view.exists()
    assert (debian / "usr").is_dir()  # what was linked is untouched
