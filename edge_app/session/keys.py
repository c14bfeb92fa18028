"""The keys of a clinic's own devices, as the codes on their cases give them: secrets, in a file of their own."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from firmware_bridge.protocol.authenticity import DeviceKey
from lsemvae.ecg.errors import EcgError, FormatError, StoreError
from lsemvae.screen.datadir import FILE_MODE, ensure_dir, store_error, write_private

KEYS_FILE: Final = "device-keys.json"
_FORMAT: Final = "e6l-keys/1"

# A clinic has a handful of devices; a file of megabytes is none of ours.
_MAX_BYTES: Final = 1 << 20


class DeviceKeys:
    """Keys by device name, in `data_dir`; nobody but the account that runs the app may read them.

    Nothing is created before the first key is added.
    """

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir
        self.path = data_dir / KEYS_FILE

    def __iter__(self) -> Iterator[DeviceKey]:
        return iter(self.list())

    def list(self) -> tuple[DeviceKey, ...]:
        """Return all keys, by name.

        Raises
        ------
        FormatError
            The file is damaged: without it every device would count as unknown, so it is never taken for empty.
        StoreError
            The file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                info = os.fstat(file.fileno())
                if info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) != FILE_MODE:
                    os.fchmod(file.fileno(), FILE_MODE)
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise store_error("read", self.path, error) from error
        return tuple(sorted(_decode(data, self.path), key=lambda key: key.name))

    def add(self, key: DeviceKey | str, *, replace: bool = False) -> DeviceKey:
        """Trust a device; `key` may be the text of its code. The same key again changes nothing.

        Parameters
        ----------
        replace
            Take the new key of a device whose name is known already.

        Raises
        ------
        KeyTextError
            The text is no device key.
        StoreError
            Another key is stored under the name, or the file cannot be written.
        """
        new = DeviceKey.parse(key) if isinstance(key, str) else key
        keys = {known.name: known for known in self.list()}
        known = keys.get(new.name)
        if known is not None and known != new and not replace:
            raise StoreError(
                f"{new.name}: found key {new.fingerprint}, expected {known.fingerprint} as stored",
                advice="If the device got a new code, remove the old key first; if not, do not use this device.",
            )
        if known != new:
            self._write({**keys, new.name: new})
        return new

    def remove(self, name: str) -> DeviceKey:
        """Trust a device no longer; return its key.

        Raises
        ------
        StoreError
            No device of this name is known, or the file cannot be written.
        """
        keys = {known.name: known for known in self.list()}
        if name not in keys:
            names = ", ".join(keys) or "none"
            raise StoreError(f"found no key of {name!r}, expected one of: {names}", advice="Check the name.")
        gone = keys.pop(name)
        self._write(keys)
        return gone

    def _write(self, keys: dict[str, DeviceKey]) -> None:
        ensure_dir(self._dir)
        content = {"format": _FORMAT, "keys": [keys[name].to_text() for name in sorted(keys)]}
        write_private(self.path, (json.dumps(content, indent=1) + "\n").encode("ascii"))


def _decode(data: bytes, path: Path) -> list[DeviceKey]:
    """Return the keys of a file; an error never shows what stands in it."""
    try:
        content: Any = json.loads(data[:_MAX_BYTES]) if len(data) <= _MAX_BYTES else None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError("another format")
        keys = [DeviceKey.parse(text) for text in content["keys"]]
    except (ValueError, KeyError, TypeError, AttributeError, EcgError):
        keys = None
    if keys is None or len({key.name for key in keys}) != len(keys):
        raise FormatError(
            f"{path}: found no readable list of device keys, expected {_FORMAT}",
            advice=f"Move {path.name} away and scan the codes on your devices again.",
        )
    return keys
