"""Signing keys: private to their owner, never overwritten, and signatures that anyone can check."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from export.errors import SigningKeyError
from export.release.signing import create_key, key_path, load_key, load_or_create_key


@pytest.mark.promise(88)
def test_new_key_is_private_and_its_public_half_is_hex(tmp_path: Path) -> None:
    key = create_key(tmp_path / "keys" / "one.pem")
    private, public = tmp_path / "keys" / "one.pem", tmp_path / "keys" / "one.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert bytes.fromhex(public.read_text().strip()) == key.public_bytes
    assert key.key_id == hashlib.sha256(key.public_bytes).hexdigest()[:16]


def test_signature_covers_prefix_and_manifest(tmp_path: Path) -> None:
    key = create_key(tmp_path / "one.pem")
    signature = key.sign(b'{"a":1}')
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex((tmp_path / "one.pub").read_text().strip()))
    public.verify(signature, b'lsemvae-bundle/1\n{"a":1}')
    with pytest.raises(InvalidSignature):
        public.verify(signature, b'{"a":1}')


@pytest.mark.promise(88)
def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    first = create_key(tmp_path / "one.pem")
    with pytest.raises(SigningKeyError, match="already there"):
        create_key(tmp_path / "one.pem")
    (tmp_path / "one.pem").unlink()
    with pytest.raises(SigningKeyError, match=r"one\.pub already there"):
        create_key(tmp_path / "one.pem")
    assert bytes.fromhex((tmp_path / "one.pub").read_text()) == first.public_bytes


def test_named_key_is_made_once_below_lsemvae_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSEMVAE_HOME", str(tmp_path))
    first, second = load_or_create_key("clinic"), load_or_create_key("clinic")
    assert first.key_id == second.key_id
    assert key_path("clinic") == tmp_path / "keys" / "clinic.pem"


def test_without_lsemvae_home_keys_live_in_the_users_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSEMVAE_HOME")
    assert key_path("x") == Path.home() / ".config" / "lsemvae" / "keys" / "x.pem"


def test_a_key_folder_that_cannot_be_made_is_said_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LSEMVAE_HOME", str(tmp_path / "file"))
    with pytest.raises(SigningKeyError, match="cannot be made") as caught:
        load_or_create_key("lab")
    assert "LSEMVAE_HOME" in caught.value.advice


def test_path_to_a_key_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="no signing key"):
        load_or_create_key(tmp_path / "absent.pem")
    assert not list(tmp_path.iterdir())


@pytest.mark.promise(88)
def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_key(tmp_path / "one.pem")
    (tmp_path / "one.pem").chmod(0o644)
    with pytest.raises(SigningKeyError, match="0644; expected 0600"):
        load_key(tmp_path / "one.pem")


def test_other_key_types_and_junk_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rsa.pem"
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        rsa_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    with pytest.raises(SigningKeyError, match="expected an Ed25519 key"):
        load_key(path)
    path.write_bytes(b"no key at all")
    with pytest.raises(SigningKeyError, match="not an unencrypted private key"):
        load_key(path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 65])
def test_key_names_are_no_paths(name: str) -> None:
    with pytest.raises(SigningKeyError, match="key name"):
        key_path(name)
