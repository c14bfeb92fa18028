"""The keys of a clinic's devices on the disk: private, whole or not at all, and never shown."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from edge_app.session.keys import KEYS_FILE, DeviceKeys
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.errors import KeyTextError
from lsemvae.ecg.errors import FormatError, StoreError
from lsemvae.screen import datadir

KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))
SAME_NAME = DeviceKey(name="E6L-0042", secret=bytes(range(1, 33)))
OTHER = DeviceKey(name="E6L-0007", secret=bytes(range(2, 34)))


@pytest.fixture
def keys(tmp_path: Path) -> DeviceKeys:
    return DeviceKeys(tmp_path / "home")


def test_nothing_is_known_and_nothing_created_at_first(keys: DeviceKeys) -> None:
    assert keys.list() == ()
    assert list(keys) == []
    assert not keys.path.parent.exists()


def test_keys_are_kept_by_name(keys: DeviceKeys) -> None:
    assert keys.add(KEY) == KEY
    assert keys.add(OTHER.to_text()) == OTHER
    assert DeviceKeys(keys.path.parent).list() == (OTHER, KEY)


def test_the_same_key_again_changes_nothing(keys: DeviceKeys) -> None:
    keys.add(KEY)
    before = keys.path.stat().st_mtime_ns
    keys.add(KEY)
    assert keys.path.stat().st_mtime_ns == before
    assert keys.list() == (KEY,)


def test_another_key_under_a_known_name_is_refused_unless_it_is_replaced(keys: DeviceKeys) -> None:
    keys.add(KEY)
    with pytest.raises(StoreError, match=f"found key {SAME_NAME.fingerprint}, expected {KEY.fingerprint}") as caught:
        keys.add(SAME_NAME)
    assert "remove the old key" in caught.value.advice
    assert keys.list() == (KEY,)
    keys.add(SAME_NAME, replace=True)
    assert keys.list() == (SAME_NAME,)


def test_a_key_is_removed_by_name(keys: DeviceKeys) -> None:
    keys.add(KEY)
    keys.add(OTHER)
    assert keys.remove(KEY.name) == KEY
    assert keys.list() == (OTHER,)
    with pytest.raises(StoreError, match="found no key of 'E6L-0042', expected one of: E6L-0007"):
        keys.remove(KEY.name)


@pytest.mark.promise(136)
def test_nobody_else_may_read_them(keys: DeviceKeys) -> None:
    keys.add(KEY)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_made_private_again(keys: DeviceKeys) -> None:
    keys.add(KEY)
    keys.path.chmod(0o644)
    assert keys.list() == (KEY,)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


@pytest.mark.promise(136)
@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"format": "e6l-keys/2", "keys": []}',
        b'{"format": "e6l-keys/1"}', b'{"format": "e6l-keys/1", "keys": 7}', b'{"format": "e6l-keys/1", "keys": [7]}',
        b'{"format": "e6l-keys/1", "keys": ["E6L1:x:00"]}', b'{"format": "e6l-keys/1", "keys": {"a": 1}}',
        b" " * (2 << 20),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error_and_never_an_empty_list(keys: DeviceKeys, content: bytes) -> None:
    keys.path.parent.mkdir()
    keys.path.write_bytes(content)
    for act in (keys.list, lambda: keys.add(KEY), lambda: keys.remove(KEY.name)):
        with pytest.raises(FormatError, match="found no readable list of device keys") as caught:
            act()
        assert KEYS_FILE in caught.value.advice
    assert keys.path.read_bytes() == content


def test_one_name_twice_is_a_damaged_file(keys: DeviceKeys) -> None:
    keys.path.parent.mkdir()
    content = {"format": "e6l-keys/1", "keys": [KEY.to_text(), SAME_NAME.to_text()]}
    keys.path.write_text(json.dumps(content), encoding="ascii")
    with pytest.raises(FormatError):
        keys.list()


@pytest.mark.promise(136)
def test_no_error_shows_a_secret(keys: DeviceKeys) -> None:
    keys.add(KEY)
    secrets = (KEY.secret.hex(), SAME_NAME.secret.hex(), KEY.secret.hex()[:-2])
    told = []
    for text in (SAME_NAME.to_text(), KEY.to_text()[:-2], f"E6L1:bad name:{KEY.secret.hex()}"):
        with pytest.raises((StoreError, KeyTextError)) as caught:
            keys.add(text)
        told.append(f"{caught.value!r} {caught.value} {caught.value.advice}")
    keys.path.write_text(json.dumps({"format": "e6l-keys/1", "keys": [KEY.to_text() + "0"]}), encoding="ascii")
    with pytest.raises(FormatError) as damaged:
        keys.list()
    told.append(f"{damaged.value!r} {damaged.value} {damaged.value.advice} {damaged.value.__cause__!r}")
    assert not any(secret in words for secret in secrets for words in told)
    assert KEY.secret.hex() not in repr(KEY)


def test_a_disk_that_is_full_leaves_the_old_list(keys: DeviceKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.add(KEY)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(datadir.os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            keys.add(OTHER)
    assert keys.list() == (KEY,)
    assert [path.name for path in keys.path.parent.iterdir()] == [KEYS_FILE]


def test_a_file_that_cannot_be_read_is_a_store_error(keys: DeviceKeys) -> None:
    keys.path.mkdir(parents=True)
    with pytest.raises(StoreError, match=os.strerror(21)):
        keys.list()
