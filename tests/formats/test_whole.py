"""A file is there whole or not at all, and is on the disk before its name is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lsemvae.formats.whole import whole_file, write_whole


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("a longer text that stood here before")
    write_whole(target, "µV")
    assert target.read_bytes() == "µV".encode()
    write_whole(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_after_an_error_the_old_content_stands_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def interrupted() -> None:
        with whole_file(target) as part:
            part.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "a.json", []
    real = os.fsync

    def note(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append(("folder" if folder else "file", target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(target, b"new")
    assert seen == [("file", False), ("folder", True)]


def test_a_private_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / "key", mode=0o600) as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("of somebody else")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "link", "mine")
    assert (tmp_path / "other").read_text() == "of somebody else"
    assert not (tmp_path / "link").is_symlink()


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a", "x")
