"""Who signed, which version, for which host: the checks between the bytes and the schema, in their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import lsemvae.screen.bundle as bundle_module
from lsemvae.ecg.canonical import canonical_json
from lsemvae.ecg.errors import (
    BundleError,
    BundleHostError,
    BundleSelfTestError,
    BundleSignatureError,
    BundleVersionError,
    ManifestError,
)
from lsemvae.screen.bundle import host_version, open_bundle
from lsemvae.screen.manifest import key_id
from lsemvae.screen.ratchet import RATCHET_FILE, VersionRatchet
from lsemvae.screen.screener import open_screener
from lsemvae.screen.trust import load_trusted_keys

HOST = "0.1.0"


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


@pytest.mark.promise(30)
def test_another_key_is_refused(builder: Any, tmp_path: Path) -> None:
    other = _public(Ed25519PrivateKey.generate())
    with pytest.raises(BundleSignatureError, match="none of the trusted keys"):
        open_bundle(builder.write(tmp_path / "b"), trusted_keys=[other], host=HOST)


@pytest.mark.promise(30)
def test_any_of_several_trusted_keys_will_do(builder: Any, tmp_path: Path) -> None:
    other = _public(Ed25519PrivateKey.generate())
    bundle = open_bundle(builder.write(tmp_path / "b"), trusted_keys=[other, builder.public_key], host=HOST)
    assert bundle.key_id == key_id(builder.public_key)


@pytest.mark.promise(30)
def test_no_trusted_key_means_no_bundle(builder: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleSignatureError, match="No public key"):
        open_bundle(builder.write(tmp_path / "b"), trusted_keys=[], host=HOST)


def test_a_key_of_all_zeros_signs_nothing(builder: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleSignatureError):
        open_bundle(builder.write(tmp_path / "b"), trusted_keys=[bytes(32)], host=HOST)


def test_a_manifest_that_names_another_key_is_refused(builder: Any, tmp_path: Path) -> None:
    builder.changes["signature"] = {"alg": "ed25519", "key_id": "0" * 16}
    with pytest.raises(BundleSignatureError, match="names key"):
        builder.open(tmp_path / "b")


def test_a_signature_without_the_context_is_refused(builder: Any, tmp_path: Path) -> None:
    folder = builder.write(tmp_path / "b")
    (folder / "manifest.sig").write_bytes(builder.key.sign((folder / "manifest.json").read_bytes()))
    with pytest.raises(BundleSignatureError):
        open_bundle(folder, trusted_keys=[builder.public_key], host=HOST)


@pytest.mark.promise(30)
@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33, "\u00e9" * 32])
def test_a_damaged_key_file_is_never_skipped(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.pub").write_text(content, encoding="utf-8")
    with pytest.raises(BundleSignatureError, match=r"a\.pub"):
        load_trusted_keys(tmp_path)


def test_key_files_are_hexadecimal(builder: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_text(builder.public_key.hex() + "\n", encoding="ascii")
    (tmp_path / "note.txt").write_text("not a key", encoding="ascii")
    assert load_trusted_keys(tmp_path) == (builder.public_key,)


@pytest.mark.promise(32)
@pytest.mark.parametrize(
    ("min_host", "host", "accepted"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.1.0.dev3+g1234", True),
        ("0.1.0", "0.2", True),
        ("0.1.0", "1.0.0rc1", True),
        ("0.10.0", "0.9.9", False),
        ("0.1.1", "0.1.0", False),
        ("1.0.0", "0.99.99", False),
        ("0.0.1", "unknown", False),
    ],
)
def test_minimum_host_version(builder: Any, tmp_path: Path, min_host: str, host: str, accepted: bool) -> None:
    builder.changes["min_host"] = min_host
    folder = builder.write(tmp_path / "b")
    if accepted:
        assert open_bundle(folder, trusted_keys=[builder.public_key], host=host).manifest.min_host == min_host
        return
    with pytest.raises(BundleHostError, match=f"needs version {min_host}"):
        open_bundle(folder, trusted_keys=[builder.public_key], host=host)


def test_a_host_that_is_not_installed_cannot_open_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "HOST_DISTRIBUTION", "no-such-distribution-anywhere")
    with pytest.raises(BundleHostError, match="not installed"):
        host_version()


@pytest.mark.promise(31)
def test_an_older_version_is_refused_after_a_newer_one(builder: Any, tmp_path: Path) -> None:
    ratchet = VersionRatchet(tmp_path / "data")
    new = builder.open(tmp_path / "new", ratchet=ratchet)
    ratchet.advance(new.manifest.id, new.manifest.version, key_id=new.key_id)
    builder.changes["version"] = "1.1.9"
    with pytest.raises(BundleVersionError, match=r"version 1\.1\.9 of 'test-model'; version 1\.2\.0 was used"):
        builder.open(tmp_path / "old", ratchet=VersionRatchet(tmp_path / "data"))
    for version in ("1.2.0", "1.10.0"):
        builder.changes["version"] = version
        assert builder.open(tmp_path / version, ratchet=ratchet).manifest.version == version


@pytest.mark.promise(31)
def test_versions_count_per_model_and_per_key(tmp_path: Path) -> None:
    ratchet = VersionRatchet(tmp_path)
    ratchet.advance("a", "9.0.0", key_id="k1")
    ratchet.check("b", "1.0.0", key_id="k1")
    ratchet.check("a", "1.0.0", key_id="k2")
    assert ratchet.highest("a", key_id="k1") == "9.0.0"
    assert ratchet.highest("a", key_id="k2") is None


@pytest.mark.promise(31)
def test_advance_never_turns_back(tmp_path: Path) -> None:
    ratchet = VersionRatchet(tmp_path)
    ratchet.advance("a", "2.0.0", key_id="k")
    with pytest.raises(BundleVersionError):
        ratchet.advance("a", "1.9.9", key_id="k")
    assert ratchet.highest("a", key_id="k") == "2.0.0"


def test_the_memory_is_private_and_whole(tmp_path: Path) -> None:
    ratchet = VersionRatchet(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    ratchet.advance("a", "2.0.0", key_id="k")
    path = tmp_path / "data" / RATCHET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in path.parent.iterdir()] == [RATCHET_FILE]


def test_advance_to_the_same_version_writes_nothing(tmp_path: Path) -> None:
    ratchet = VersionRatchet(tmp_path)
    ratchet.advance("a", "2.0.0", key_id="k")
    before = (tmp_path / RATCHET_FILE).stat().st_ino
    ratchet.advance("a", "2.0.0", key_id="k")
    assert (tmp_path / RATCHET_FILE).stat().st_ino == before


@pytest.mark.promise(31)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"k/a": 1}', b'{"k/a": "x"}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_memory_refuses_instead_of_forgetting(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RATCHET_FILE).write_bytes(content)
    with pytest.raises(BundleVersionError, match="cannot be used"):
        VersionRatchet(tmp_path).check("a", "1.0.0", key_id="k")


def test_a_memory_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lsemvae.screen.datadir as datadir
    from lsemvae.ecg.errors import StoreError

    ratchet = VersionRatchet(tmp_path)
    ratchet.advance("a", "1.0.0", key_id="k")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datadir.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        ratchet.advance("a", "2.0.0", key_id="k")
    monkeypatch.undo()
    assert ratchet.highest("a", key_id="k") == "1.0.0"
    assert [p.name for p in tmp_path.iterdir()] == [RATCHET_FILE]


@pytest.mark.promise(33)
def test_a_bundle_that_fails_its_self_test_does_not_turn_the_ratchet(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "host_version", lambda: HOST)
    ratchet = VersionRatchet(tmp_path / "data")
    builder.changes |= {"version": "9.0.0", "parity": {"golden_tolerance": 1e-12}}
    with pytest.raises(BundleSelfTestError):
        open_screener(builder.write(tmp_path / "bad"), trusted_keys=[builder.public_key], ratchet=ratchet)
    assert ratchet.highest("test-model", key_id=key_id(builder.public_key)) is None
    builder.changes.clear()
    open_screener(builder.write(tmp_path / "good"), trusted_keys=[builder.public_key], ratchet=ratchet)
    assert ratchet.highest("test-model", key_id=key_id(builder.public_key)) == "1.2.0"


@pytest.mark.promise(29)
def test_the_order_of_the_checks(builder: Any, tmp_path: Path) -> None:
    """A bundle with every fault at once: mending the faults one by one shows the order in which they are found."""
    ratchet = VersionRatchet(tmp_path / "data")
    ratchet.advance("test-model", "5.0.0", key_id=key_id(builder.public_key))
    folder = tmp_path / "b"
    builder.changes |= {"version": "4.0.0", "min_host": "9.0.0", "schema": "lsemvae-bundle/2"}
    builder.write(folder)
    good = dict(builder.signed())
    (folder / "card.md").write_bytes(b"changed")
    (folder / "manifest.sig").write_bytes(bytes(64))
    (folder / "run.py").write_bytes(bytes(5 * 1024 * 1024))

    def refusal() -> str:
        with pytest.raises((BundleError, ManifestError)) as caught:
            open_bundle(folder, trusted_keys=[builder.public_key], ratchet=ratchet, host=HOST)
        return caught.value.code

    found = [refusal()]
    (folder / "run.py").write_bytes(b"small")
    found.append(refusal())
    (folder / "run.py").unlink()
    found.append(refusal())
    (folder / "manifest.sig").write_bytes(good["manifest.sig"])
    found.append(refusal())
    for fault in ("version", "min_host"):
        builder.write(folder)
        found.append(refusal())
        del builder.changes[fault]
        builder.changes.setdefault("version", "5.0.0")
    builder.write(folder)
    found.append(refusal())
    assert found == [
        "E_BUNDLE_SIZE",
        "E_BUNDLE_PATH",
        "E_BUNDLE_SIGNATURE",
        "E_BUNDLE_HASH",
        "E_BUNDLE_VERSION",
        "E_BUNDLE_HOST",
        "E_MANIFEST",
    ]


@pytest.mark.promise(35)
@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"id":1}',
        b"[" * 50_000,
        b'{"id":"a","id":"b"}',
        b'{"x":NaN}',
    ],
)
def test_a_signed_manifest_that_makes_no_sense_is_refused(builder: Any, tmp_path: Path, content: bytes) -> None:
    folder = builder.write(tmp_path / "b")
    for name, data in builder.sign(content).items():
        (folder / name).write_bytes(data)
    with pytest.raises(ManifestError):
        open_bundle(folder, trusted_keys=[builder.public_key], host=HOST)


@pytest.mark.parametrize("field", ["id", "version", "min_host", "files", "signature"])
@pytest.mark.parametrize("value", [None, 1, [], {}, ["x"]])
def test_a_signed_manifest_with_a_field_of_another_kind_is_refused(
    builder: Any, tmp_path: Path, field: str, value: Any
) -> None:
    builder.changes[field] = value
    with pytest.raises((ManifestError, BundleError)):
        builder.open(tmp_path / "b")


@pytest.mark.promise(35)
def test_a_manifest_that_is_not_canonical_is_refused(builder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    builder.write(folder)
    spaced = json.dumps(json.loads(canonical_json(builder.manifest(builder.files))), indent=1).encode()
    for name, data in builder.sign(spaced).items():
        (folder / name).write_bytes(data)
    with pytest.raises(ManifestError, match="canonical"):
        open_bundle(folder, trusted_keys=[builder.public_key], host=HOST)
