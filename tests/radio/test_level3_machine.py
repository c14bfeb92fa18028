"""How the emulated machine of level 3 is put together; nothing here boots it."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.radio.level3 import debian, initramfs, machine
from tests.radio.level3.errors import MachineError


def module(*, depends: str = "", body: bytes = b"code") -> bytes:
    return b"\x7fELF" + body + b"\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


@pytest.fixture
def root(tmp_path) -> Path:
    """What `initramfs` reads of an unpacked release, with modules that need one another."""
    folder = tmp_path / "root"
    kernel = folder / "lib/modules/6.9-test/kernel"
    for path in (folder / "boot", folder / "bin", kernel / "net/9p", kernel / "fs/9p"):
        path.mkdir(parents=True)
    (folder / "boot/vmlinuz-6.9-test").write_bytes(b"kernel")
    (folder / "bin/busybox").write_bytes(b"busybox")
    (kernel / "net/9p/9pnet_virtio.ko").write_bytes(module(depends="9pnet-core,virtio_ring"))
    (kernel / "net/9p/9pnet-core.ko").write_bytes(module(body=b"core"))
    (kernel / "net/9p/virtio_ring.ko").write_bytes(module(depends="9pnet-core"))
    (kernel / "fs/9p/9p.ko").write_bytes(module(depends="9pnet-core"))
    return folder


def entries(image: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content of each entry of a "newc" archive, read by the format's own lengths."""
    data, found, at = gzip.decompress(image), {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]])
        at = (start + fields[6] + 3) // 4 * 4


def test_modules_are_loaded_after_what_they_depend_on(root):
    order = entries(initramfs.build_initramfs(root))["modules/order"][1].decode().split()
    assert order == ["9pnet_core.ko", "virtio_ring.ko", "9pnet_virtio.ko", "9p.ko"]


def test_the_archive_holds_the_script_busybox_and_the_modules_unchanged(root):
    found = entries(initramfs.build_initramfs(root))
    assert found["bin/busybox"] == (0o100755, b"busybox")
    assert found["init"][0] == 0o100755
    assert found["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert found["modules/9pnet_core.ko"][1] == module(body=b"core")
    assert found["mnt/out"][0] == 0o40755


def test_packed_modules_are_unpacked(root):
    path = root / "lib/modules/6.9-test/kernel/fs/9p/9p.ko"
    path.with_suffix(".ko.xz").write_bytes(lzma.compress(path.read_bytes()))
    path.unlink()
    assert entries(initramfs.build_initramfs(root))["modules/9p.ko"][1] == module(depends="9pnet-core")


def test_a_module_that_needs_one_that_was_not_unpacked_is_refused(root):
    (root / "lib/modules/6.9-test/kernel/net/9p/9pnet-core.ko").unlink()
    with pytest.raises(MachineError, match="9pnet-core"):
        initramfs.build_initramfs(root)


def test_two_kernels_are_refused(root):
    (root / "boot/vmlinuz-6.10-test").write_bytes(b"kernel")
    with pytest.raises(MachineError, match="found 2 kernels"):
        initramfs.kernel_release(root)


def test_an_unknown_release_is_refused_with_both_known():
    with pytest.raises(MachineError, match="'buster', expected bookworm or trixie"):
        debian.release_root("buster")


def test_a_missing_extractor_is_an_error_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="no program mmdebstrap") as caught:
        debian.release_root("bookworm")
    assert "apt-get install mmdebstrap" in caught.value.advice
    assert list((tmp_path / "lsemvae/level3").iterdir()) == []


FAKE_EXTRACTOR = """#!{python}
import io, sys, tarfile
assert sys.argv[-2] == "trixie", sys.argv
with tarfile.open(sys.argv[-1], "w") as tar:
    for name in {names!r}:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
"""


def fake_extractor(folder: Path, monkeypatch, names: tuple[str, ...]) -> None:
    """An extractor in PATH that packs files of these names."""
    program = folder / "tools" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(FAKE_EXTRACTOR.format(python=sys.executable, names=names))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def test_drivers_that_the_machine_has_no_hardware_for_are_left_out(monkeypatch, tmp_path):
    kept = ("./usr/bin/bluetoothctl", "./lib/modules/6.9/kernel/fs/9p/9p.ko", "./boot/vmlinuz-6.9")
    left_out = (
        "./lib/modules/6.9/kernel/drivers/gpu/drm.ko",
        "./lib/modules/6.9/kernel/fs/9pother/a.ko",
        "./usr/share/doc/a",
    )
    fake_extractor(tmp_path, monkeypatch, kept + left_out)
    root = debian.release_root("trixie")
    assert all((root / name).read_bytes() == b"data" for name in kept)
    assert not any((root / name).exists() for name in left_out)


def test_a_release_that_is_there_is_not_fetched_again(monkeypatch, tmp_path):
    fake_extractor(tmp_path, monkeypatch, ("./a",))
    first = debian.release_root("trixie")
    (tmp_path / "tools" / "mmdebstrap").unlink()
    assert debian.release_root("trixie") == first


def test_a_path_that_leads_outside_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    fake_extractor(tmp_path, monkeypatch, ("../outside",))
    with pytest.raises(MachineError, match=r"found '\.\./outside'"):
        debian.release_root("trixie")
    assert list((tmp_path / "cache/lsemvae/level3").iterdir()) == []


def fake_machine(monkeypatch, root: Path, statuses: list[str]) -> list[Path]:
    """Boots that leave these statuses ("" = none); returns the checkouts that the guests would have seen."""
    seen: list[Path] = []

    def boot(_root, *, out, timeout_s):
        tree = Path((out / "job.sh").read_text().split("cd ", 1)[1].split("\n", 1)[0])
        assert (tree / "firmware_bridge/__init__.py").is_file()
        assert (tree / "tests/radio/level3/scenarios.py").is_file()
        seen.append(tree)
        status = statuses[len(seen) - 1]
        if status:
            (out / "job.rc").write_text(status + "\n")

    monkeypatch.setattr(machine, "_boot", boot)
    monkeypatch.setattr(machine, "release_root", lambda _release: root)
    return seen


GUEST = ["tests/radio/level3/scenarios.py", "argument with space"]


def test_a_boot_without_an_adapter_is_tried_once_more(monkeypatch, root, repo_root, tmp_path):
    seen = fake_machine(monkeypatch, root, ["75", "0"])
    run = machine.run_program(GUEST, release="bookworm", out=tmp_path / "out", checkout=repo_root)
    assert (run.status, run.boots, run.kernel) == (0, 2, "6.9-test")
    assert len(seen) == 2
    assert not seen[0].exists()  # the copy of the checkout is gone


def test_a_second_boot_without_an_adapter_is_not_hidden(monkeypatch, root, repo_root, tmp_path):
    fake_machine(monkeypatch, root, ["75", "75"])
    run = machine.run_program(GUEST, release="bookworm", out=tmp_path / "out", checkout=repo_root)
    assert (run.status, run.boots) == (75, 2)


def test_a_program_that_fails_is_not_tried_again(monkeypatch, root, repo_root, tmp_path):
    fake_machine(monkeypatch, root, ["3"])
    assert machine.run_program(GUEST, release="bookworm", out=tmp_path / "out", checkout=repo_root).status == 3


def test_a_guest_that_ends_without_a_status_is_an_error_even_with_results_of_an_earlier_run(
    monkeypatch, root, repo_root, tmp_path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/job.rc").write_text("0\n")
    fake_machine(monkeypatch, root, [""])
    with pytest.raises(MachineError, match="found no status"):
        machine.run_program(GUEST, release="bookworm", out=tmp_path / "out", checkout=repo_root)


def test_a_machine_that_does_not_end_is_stopped_with_advice(monkeypatch, root, tmp_path):
    monkeypatch.setattr(machine, "_emulator", lambda *_a, **_k: ["/bin/sleep", "60"])
    with pytest.raises(MachineError, match=r"found it running after 0\.2 s") as caught:
        machine._boot(root, out=tmp_path, timeout_s=0.2)
    assert "console.log" in caught.value.advice


def test_the_processor_is_emulated_and_the_host_shared_read_only_without_a_network(root, tmp_path):
    command = machine._emulator(root, image=tmp_path / "image", out=tmp_path)
    words = " ".join(command)
    assert "-accel tcg" in words
    assert "kvm" not in words
    assert "-nodefaults" in command
    assert "-netdev" not in command
    assert "-nic" not in command
    host = next(word for word in command if word.startswith("local,id=host"))
    assert "readonly=on" in host


def test_the_command_says_what_it_takes_and_an_unknown_release_is_an_error(repo_root):
    command = [sys.executable, "-m", "tests.radio.level3"]
    told = subprocess.run([*command, "-h"], cwd=repo_root, capture_output=True, text=True, check=True).stdout
    assert "--release" in told
    wrong = subprocess.run([*command, "--release", "sid"], cwd=repo_root, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "bookworm" in wrong.stderr


@pytest.mark.parametrize("script", ["init.sh", "services.sh"])
def test_the_scripts_of_the_guest_are_valid(script):
    done = subprocess.run(
        ["/bin/sh", "-n", str(Path(machine.__file__).with_name(script))], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
