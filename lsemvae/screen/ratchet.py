"""Remember the newest version seen of every model, so that nobody can bring back an older one that had a fault.

The memory is one JSON file in the data folder: ``{"<key id>/<model id>": "1.4.0"}``. It is kept per signing key, so a
key that was taken away cannot block its successor by having signed a huge version number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from lsemvae.ecg.canonical import parse_json_object
from lsemvae.ecg.errors import BundleVersionError, ManifestError
from lsemvae.screen.datadir import ensure_dir, write_private
from lsemvae.screen.manifest import version_tuple

RATCHET_FILE: Final = "versions.json"
# The file holds a line per model; a larger one was not written by us.
_MAX_BYTES: Final = 64 * 1024


class VersionRatchet:
    """Highest version per signing key and model id; turns one way only.

    Parameters
    ----------
    folder
        The data folder; nothing is written before `advance`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RATCHET_FILE

    def highest(self, model_id: str, *, key_id: str) -> str | None:
        """Return the newest version seen so far, or None."""
        return self._load().get(_slot(model_id, key_id))

    def check(self, model_id: str, version: str, *, key_id: str) -> None:
        """Refuse a version older than one seen before.

        Raises
        ------
        BundleVersionError
            `version` is older, or the memory itself is damaged.
        """
        highest = self.highest(model_id, key_id=key_id)
        if highest is not None and version_tuple(version) < version_tuple(highest):
            raise BundleVersionError(
                f"The bundle is version {version} of {model_id!r}; version {highest} was used on this machine before."
            )

    def advance(self, model_id: str, version: str, *, key_id: str) -> None:
        """Remember `version` once its bundle has passed every check. Writes only when it is news."""
        self.check(model_id, version, key_id=key_id)
        versions = self._load()
        if versions.get(_slot(model_id, key_id)) == version:
            return
        versions[_slot(model_id, key_id)] = version
        ensure_dir(self._path.parent)
        write_private(self._path, json.dumps(versions, sort_keys=True, indent=1).encode() + b"\n")

    def _load(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._damaged(error.strerror or type(error).__name__) from error
        try:
            versions = parse_json_object(content)
        except ManifestError as error:
            raise self._damaged("it is not a JSON object") from error
        try:
            for version in versions.values():
                version_tuple(version)
        except ManifestError as error:
            raise self._damaged("it does not map model ids to versions") from error
        return versions

    def _damaged(self, reason: str) -> BundleVersionError:
        return BundleVersionError(
            f"The memory of model versions, {self._path}, cannot be used: {reason}.",
            advice="Ask who maintains this machine to check the file; removing it allows older models again.",
        )


def _slot(model_id: str, key_id: str) -> str:
    return f"{key_id}/{model_id}"
