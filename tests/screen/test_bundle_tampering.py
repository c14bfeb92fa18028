"""Nothing that was changed after signing gets as far as a parser, whatever was changed."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lsemvae.screen.bundle as bundle_module
import lsemvae.screen.runtime.tflite as tflite_module
import lsemvae.screen.selftest as selftest_module
from lsemvae.ecg.errors import (
    BundleError,
    BundleHashError,
    BundlePathError,
    BundleSignatureError,
    BundleSizeError,
)
from lsemvae.screen.archive import read_bundle_files
from lsemvae.screen.bundle import open_bundle
from lsemvae.screen.manifest import ALLOWED_FILES, MAX_FILE_BYTES, MAX_FILES, Manifest
from lsemvae.screen.screener import open_screener

HOST = "0.1.0"
FILES = ("manifest.json", "manifest.sig", "model.tflite", "model.onnx", "golden.npz", "card.md", "recipe.json")


class Spy:
    """Counts what is parsed: the manifest's fields, the whole manifest, the golden arrays, a model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: list[str] = []
        self._wrap(monkeypatch, bundle_module, "parse_json_object", "head")
        self._wrap(monkeypatch, Manifest, "from_bytes", "manifest")
        self._wrap(monkeypatch, selftest_module.np, "load", "arrays")
        self._wrap(monkeypatch, tflite_module, "_interpreter_class", "model")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, label: str) -> None:
        real = getattr(owner, name)

        def spied(*args: Any, **kwargs: Any) -> Any:
            self.parsed.append(label)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, spied)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture
def try_open(builder: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], BundleError]:
    """Open as the app does, to the model; return the refusal."""
    monkeypatch.setattr(bundle_module, "host_version", lambda: HOST)

    def attempt(path: Path) -> BundleError:
        with pytest.raises(BundleError) as caught:
            open_screener(path, trusted_keys=[builder.public_key])
        return caught.value

    return attempt


def _zip(files: list[tuple[str, bytes]], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return stream.getvalue()


def test_an_untouched_bundle_opens_and_everything_is_parsed_once(builder: Any, tmp_path: Path, spy: Spy) -> None:
    builder.write(tmp_path / "b")
    open_bundle(tmp_path / "b", trusted_keys=[builder.public_key], host=HOST)
    assert spy.parsed == ["head", "manifest"]


def test_an_untouched_zip_opens_like_the_directory(builder: Any, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(_zip(list(builder.signed().items())))
    opened = open_bundle(path, trusted_keys=[builder.public_key], host=HOST)
    assert dict(opened.files) == builder.signed()


@pytest.mark.promise(27)
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_refused_before_any_parser(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError], name: str
) -> None:
    files = builder.signed()
    folder = builder.write(tmp_path / "b")
    size = len(files[name])
    positions = sorted({0, 1, size // 2, size - 1, *range(0, size, max(1, size // 40))})
    expected = BundleSignatureError if name.startswith("manifest") else BundleHashError
    for position in positions:
        for bit in {0, position % 8, 7}:
            changed = bytearray(files[name])
            changed[position] ^= 1 << bit
            (folder / name).write_bytes(changed)
            error = try_open(folder)
            assert type(error) is expected, (position, bit, error)
    allowed = set() if name.startswith("manifest") else {"head"}
    assert set(spy.parsed) == allowed


@pytest.mark.promise(28)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: b"", lambda c: c + b"\0"], ids=["cut", "empty", "longer"]
)
def test_truncation_and_extension_are_refused(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError], name: str, change: Any
) -> None:
    folder = builder.write(tmp_path / "b")
    (folder / name).write_bytes(change(builder.signed()[name]))
    expected = "E_BUNDLE_SIGNATURE" if name.startswith("manifest") else "E_BUNDLE_HASH"
    assert try_open(folder).code == expected
    assert not set(spy.parsed) & {"manifest", "arrays", "model"}


@pytest.mark.promise(28)
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError], name: str
) -> None:
    folder = builder.write(tmp_path / "b")
    (folder / name).unlink()
    error = try_open(folder)
    assert error.code == ("E_BUNDLE_PATH" if name.startswith("manifest") else "E_BUNDLE_HASH")
    assert name in str(error)
    assert not set(spy.parsed) & {"manifest", "arrays", "model"}


def _symlink(folder: Path) -> None:
    (folder / "card.md").rename(folder.parent / "card.md")
    (folder / "card.md").symlink_to(folder.parent / "card.md")


def _many(folder: Path) -> None:
    for k in range(MAX_FILES):
        (folder / f"file{k}").write_bytes(b"x")


DIRECTORY_CHANGES: dict[str, tuple[Callable[[Path], Any], type[BundleError], str]] = {
    "unknown file": (lambda d: (d / "run.py").write_bytes(b"x"), BundlePathError, r"run\.py"),
    "hidden file": (lambda d: (d / ".card.md").write_bytes(b"x"), BundlePathError, r"\.card\.md"),
    "known but unsigned file": (lambda d: (d / "report.html").write_bytes(b"x"), BundleHashError, "not listed"),
    "sub-directory": (lambda d: (d / "report.html").mkdir(), BundlePathError, "is a directory"),
    "symbolic link": (_symlink, BundlePathError, "symbolic link"),
    "fifo": (lambda d: os.mkfifo(d / "report.html"), BundlePathError, "special file"),
    "case clash": (lambda d: (d / "Card.md").write_bytes(b"x"), BundlePathError, "whatever its case"),
    "another case": (lambda d: (d / "card.md").rename(d / "CARD.MD"), BundlePathError, r"CARD\.MD"),
    "oversize file": (lambda d: os.truncate(d / "card.md", MAX_FILE_BYTES + 1), BundleSizeError, "at most"),
    "oversize total": (
        lambda d: [os.truncate(d / n, MAX_FILE_BYTES) for n in ("card.md", "golden.npz", "recipe.json")],
        BundleSizeError,
        "in all",
    ),
    "too many files": (_many, BundleSizeError, "more than 16"),
}


@pytest.mark.promise(28)
@pytest.mark.parametrize("change", DIRECTORY_CHANGES, ids=str)
def test_a_directory_with_something_foreign_is_refused(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError], change: str
) -> None:
    folder = builder.write(tmp_path / "b")
    apply, expected, words = DIRECTORY_CHANGES[change]
    apply(folder)
    error = try_open(folder)
    assert type(error) is expected
    assert error.advice
    with pytest.raises(expected, match=words):
        raise error
    assert not set(spy.parsed) & {"manifest", "arrays", "model"}


@pytest.mark.promise(28)
@pytest.mark.parametrize(
    "name",
    [
        "../card.md",
        "/card.md",
        "a/../card.md",
        "sub/card.md",
        "C:\\card.md",
        "..\\card.md",
        "card.md/",
        "card.md\0.exe",
        "",
    ],
)
def test_zip_slip_and_odd_names_are_refused_and_nothing_is_written(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError], name: str
) -> None:
    files = builder.signed()
    content = files.pop("card.md")
    folder = tmp_path / "zip"
    folder.mkdir()
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for other, data in files.items():
            archive.writestr(other, data)
        archive.writestr(info, content)
    (folder / "b.zip").write_bytes(stream.getvalue())
    assert isinstance(try_open(folder / "b.zip"), BundleError)
    assert [path.name for path in folder.iterdir()] == ["b.zip"]
    assert spy.parsed == []


@pytest.mark.promise(28)
def test_doubled_names_in_a_zip_are_refused(
    builder: Any, tmp_path: Path, spy: Spy, try_open: Callable[[Path], BundleError]
) -> None:
    files = list(builder.signed().items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = _zip([*files, ("card.md", b"other")])
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    assert type(try_open(path)) is BundlePathError
    assert spy.parsed == []


@pytest.mark.promise(28)
def test_case_clash_in_a_zip_is_refused(builder: Any, tmp_path: Path, try_open: Callable[[Path], BundleError]) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(_zip([*builder.signed().items(), ("CARD.md", b"other")]))
    assert type(try_open(path)) is BundlePathError


@pytest.mark.promise(28)
def test_a_symbolic_link_in_a_zip_is_refused(
    builder: Any, tmp_path: Path, try_open: Callable[[Path], BundleError]
) -> None:
    link = zipfile.ZipInfo("report.html")
    link.external_attr = 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in builder.signed().items():
            archive.writestr(name, content)
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "b.zip").write_bytes(stream.getvalue())
    assert "symbolic link" in str(try_open(tmp_path / "b.zip"))


@pytest.mark.promise(28)
def test_a_zip_bomb_is_refused_by_its_stated_size(
    builder: Any, tmp_path: Path, try_open: Callable[[Path], BundleError]
) -> None:
    files = [(n, c) for n, c in builder.signed().items() if n != "card.md"]
    (tmp_path / "b.zip").write_bytes(_zip([*files, ("card.md", bytes(64 * 1024 * 1024))]))
    assert (tmp_path / "b.zip").stat().st_size < MAX_FILE_BYTES
    assert type(try_open(tmp_path / "b.zip")) is BundleSizeError


@pytest.mark.promise(28)
def test_a_zip_bomb_that_lies_about_its_size_is_refused(
    builder: Any, tmp_path: Path, try_open: Callable[[Path], BundleError]
) -> None:
    """Both headers say 100 bytes, the stream holds 64 MiB: no more than the stated bytes are ever unpacked."""
    real = 64 * 1024 * 1024
    files = [(n, c) for n, c in builder.signed().items() if n != "card.md"]
    content = bytearray(_zip([("card.md", bytes(real)), *files]))
    for _ in range(2):
        at = content.index(real.to_bytes(4, "little"))
        content[at : at + 4] = (100).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    assert isinstance(try_open(tmp_path / "b.zip"), BundleError)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_refused(
    builder: Any, tmp_path: Path, try_open: Callable[[Path], BundleError], method: int
) -> None:
    (tmp_path / "b.zip").write_bytes(_zip(list(builder.signed().items()), method=method))
    assert "stored or deflated" in str(try_open(tmp_path / "b.zip"))


def test_a_zip_larger_than_any_bundle_is_refused_unread(
    tmp_path: Path, try_open: Callable[[Path], BundleError], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(b"")
    os.truncate(path, 64 * 1024 * 1024)

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("the zip was opened")

    monkeypatch.setattr(zipfile, "ZipFile", forbidden)
    assert type(try_open(path)) is BundleSizeError


@pytest.mark.slow
@pytest.mark.promise(27)
def test_a_flipped_bit_in_a_zip_changes_nothing_or_is_refused(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zip has bytes that carry no content (times, attributes); wherever content changes, the bundle is refused."""
    monkeypatch.setattr(bundle_module, "host_version", lambda: HOST)
    files = builder.signed()
    original = _zip(list(files.items()))
    path = tmp_path / "b.zip"
    refused = 0
    for position in range(0, len(original), max(1, len(original) // 400)):
        changed = bytearray(original)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            opened = open_bundle(path, trusted_keys=[builder.public_key])
        except BundleError:
            refused += 1
        else:
            assert dict(opened.files) == files
    assert refused > 300


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(200), b"\x1f\x8b" + bytes(50), bytes(5000)])
def test_a_file_that_is_no_zip_is_refused(
    tmp_path: Path, try_open: Callable[[Path], BundleError], content: bytes
) -> None:
    (tmp_path / "b.zip").write_bytes(content)
    assert try_open(tmp_path / "b.zip").code == "E_BUNDLE"


def test_no_bundle_at_the_path(tmp_path: Path, try_open: Callable[[Path], BundleError]) -> None:
    assert "No such file" in str(try_open(tmp_path / "nothing"))
    os.mkfifo(tmp_path / "fifo")
    assert "neither a directory nor a regular file" in str(try_open(tmp_path / "fifo"))
    (tmp_path / "empty").mkdir()
    assert "found: nothing" in str(try_open(tmp_path / "empty"))


@pytest.mark.promise(34)
def test_each_file_is_read_once_and_the_checked_bytes_are_used(builder: Any, tmp_path: Path) -> None:
    """A file that is exchanged after the check does not reach the runtime."""
    folder = builder.write(tmp_path / "b")
    opened = open_bundle(folder, trusted_keys=[builder.public_key], host=HOST)
    (folder / "model.tflite").write_bytes(b"exchanged")
    assert opened.files["model.tflite"] == builder.files["model.tflite"]


@pytest.mark.promise(34)
def test_a_link_put_in_place_of_a_file_between_look_and_read_is_refused(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lsemvae.screen.archive as archive

    folder = builder.write(tmp_path / "b")
    real = archive.check_names

    def exchange(names: Any) -> None:
        real(names)
        _symlink(folder)

    monkeypatch.setattr(archive, "check_names", exchange)
    with pytest.raises(BundlePathError, match="cannot be opened"):
        read_bundle_files(folder)


def test_the_names_tested_here_are_names_a_bundle_may_hold() -> None:
    assert set(FILES) <= ALLOWED_FILES
