"""A bundle appears whole or not at all, and nothing but a bundle is ever replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.errors import ExportError, ExportTargetError
from export.release.bundle import check_private, check_target, write_bundle
from lsemvae.ecg.errors import BundlePathError

FILES = {"manifest.json": b"{}", "card.md": b"new"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bundle_is_written_with_its_parents(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a" / "b", FILES, force=False)
    assert content(tmp_path / "a" / "b") == FILES
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_existing_bundle_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write_bundle(out, FILES | {"card.md": b"old", "curves.png": b"x"}, force=False)
    with pytest.raises(ExportTargetError, match="there already"):
        write_bundle(out, FILES, force=False)
    assert content(out)["card.md"] == b"old"
    write_bundle(out, FILES, force=True)
    assert content(out) == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_force_never_replaces_a_folder_with_other_files(tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    with pytest.raises(ExportTargetError, match=r"chapter1\.tex"):
        check_target(out, force=True)


@pytest.mark.parametrize("name", ["card.md", "curves.png", "manifest.sig"])
def test_force_never_replaces_a_folder_without_a_manifest(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("a card of my own")
    with pytest.raises(ExportTargetError, match="belong to no bundle"):
        check_target(tmp_path / "mine", force=True)


def test_force_never_replaces_a_folder_inside_a_folder(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", {"manifest.json": b"{}"}, force=False)
    (tmp_path / "bundle" / "report.html").mkdir()
    with pytest.raises(ExportTargetError, match=r"report\.html"):
        check_target(tmp_path / "bundle", force=True)


def test_a_target_below_a_file_is_refused_before_anything_slow(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportTargetError, match="no folder"):
        check_target(tmp_path / "file" / "a" / "bundle", force=False)


def test_a_target_in_a_folder_that_cannot_be_written_is_refused_before_anything_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    with pytest.raises(ExportTargetError, match="not writable"):
        check_target(tmp_path / "new" / "bundle", force=False)


def test_what_a_killed_export_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    out, aside = tmp_path / "b[1]", f".b[1].{'0' * 32}.old"
    for name in (".b[1].abcdefgh.part", ".b[1].youngone.part", ".other.abcdefgh.part", aside):
        (tmp_path / name).mkdir()
        if name != ".b[1].youngone.part":
            os.utime(tmp_path / name, (0, 0))
    write_bundle(out, FILES, force=False)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"b[1]", ".b[1].youngone.part", ".other.abcdefgh.part", aside}
    write_bundle(out, FILES, force=True)
    assert not (tmp_path / aside).exists()


def test_files_and_links_are_no_targets(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "link"):
        with pytest.raises(ExportTargetError, match="no folder"):
            check_target(tmp_path / name, force=True)


@pytest.mark.promise(85)
@pytest.mark.parametrize("old", [False, True])
def test_failure_while_writing_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    out = tmp_path / "bundle"
    if old:
        write_bundle(out, FILES | {"card.md": b"old"}, force=False)
    calls = []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ExportTargetError, match="No space left"):
        write_bundle(out, FILES, force=True)
    assert [path.name for path in tmp_path.iterdir()] == (["bundle"] if old else [])
    assert not old or content(out)["card.md"] == b"old"


@pytest.mark.promise(85)
def test_failure_of_the_last_rename_brings_the_old_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bundle"
    write_bundle(out, FILES | {"card.md": b"old"}, force=False)
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(ExportTargetError, match="Input/output"):
        write_bundle(out, FILES, force=True)
    assert content(out)["card.md"] == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_only_names_that_a_bundle_may_hold_are_written(tmp_path: Path) -> None:
    with pytest.raises(BundlePathError):
        write_bundle(tmp_path / "bundle", {"../evil": b""}, force=False)
    assert not list(tmp_path.iterdir())


def test_a_path_of_this_machine_in_any_file_is_refused(tmp_path: Path) -> None:
    check_private({"card.md": b"made in /srv/data/ecg"})
    for path in (Path.home(), Path.cwd(), tmp_path / "run"):
        with pytest.raises(ExportError, match=r"card\.md names a folder"):
            check_private({"card.md": f"see {path}/weights".encode()}, extra=(tmp_path / "run",))
