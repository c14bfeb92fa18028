"""Open a signed model bundle: check it in a fixed order, and parse nothing that was not checked before.

The order: size caps, names, Ed25519 signature over the stored manifest bytes, hashes of all files, version ratchet, host version,
schema. The golden self-test (`lsemvae.screen.selftest`) follows with the runtime. No parser of a model, an archive of arrays
or a manifest sees a byte that was not checked before, and each file is read from the disk once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from lsemvae.ecg.canonical import parse_json_object
from lsemvae.ecg.errors import (
    BundleHashError,
    BundleHostError,
    BundlePathError,
    BundleSignatureError,
    EcgError,
    ManifestError,
)
from lsemvae.screen.archive import read_bundle_files
from lsemvae.screen.manifest import MANIFEST_NAME, SIGNATURE_NAME, FileEntry, Manifest, file_entry, version_tuple
from lsemvae.screen.ratchet import VersionRatchet
from lsemvae.screen.trust import SHIPPED_BUNDLE, load_trusted_keys, verify_signature

# Distribution whose version a bundle's `min_host` is compared with.
HOST_DISTRIBUTION: Final = "lsemvae"
_RELEASE: Final = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte is what a trusted key signed.

    Attributes
    ----------
    manifest
        The parsed manifest.
    root
        Where it came from (a directory or a zip); for messages only, nothing is read from there again.
    files
        File name to checked bytes.
    key_id
        Id of the key that signed.
    """

    manifest: Manifest
    root: Path
    files: Mapping[str, bytes]
    key_id: str


@dataclass(frozen=True, slots=True)
class _Head:
    """The few fields that are needed before the schema is known to be ours."""

    id: str
    version: str
    min_host: str
    key_id: str
    files: Mapping[str, FileEntry]


def open_bundle(
    path: Path | None = None,
    *,
    trusted_keys: Sequence[bytes] | None = None,
    ratchet: VersionRatchet | None = None,
    host: str | None = None,
) -> Bundle:
    """Check a bundle and return it, in memory.

    Parameters
    ----------
    path
        Bundle directory or zip; None for the one the app ships with.
    trusted_keys
        Raw Ed25519 public keys (32 bytes each); None for those the app ships with.
    ratchet
        Memory of versions to compare with; it is only read here (`VersionRatchet.advance` follows the self-test). None,
        as in a laboratory that evaluates old models, means that any version is opened.
    host
        Version of the host software; None for the installed `lsemvae`.

    Raises
    ------
    BundleError
        Or one of its sub-classes, with its own code for each check, or `ManifestError`.
    """
    root = SHIPPED_BUNDLE if path is None else path
    files = read_bundle_files(root)
    missing = [name for name in (MANIFEST_NAME, SIGNATURE_NAME) if name not in files]
    if missing:
        raise BundlePathError(f"The bundle has no {' and no '.join(missing)}; found: {', '.join(files) or 'nothing'}.")
    keys = load_trusted_keys() if trusted_keys is None else trusted_keys
    signer = verify_signature(files[MANIFEST_NAME], files[SIGNATURE_NAME], trusted_keys=keys)
    head = _read_head(files[MANIFEST_NAME])
    if head.key_id != signer:
        raise BundleSignatureError(f"The manifest names key {head.key_id!r} but was signed with key {signer!r}.")
    # The files against the signed list: no more, no fewer, each with its size and SHA-256.
    present = set(files) - {MANIFEST_NAME, SIGNATURE_NAME}
    for name in sorted(present ^ set(head.files)):
        is_, but = ("there", "not listed") if name in present else ("missing", "listed")
        raise BundleHashError(f"{name!r} is {is_} but {but} in the signed manifest.")
    for name in sorted(present):
        entry, signed = file_entry(files[name]), head.files[name]
        if entry != signed:
            raise BundleHashError(
                f"{name!r} has {entry.bytes} bytes with SHA-256 {entry.sha256}; "
                f"the signed manifest says {signed.bytes} bytes with {signed.sha256}."
            )
    if ratchet is not None:
        ratchet.check(head.id, head.version, key_id=signer)
    running = host_version() if host is None else host
    found = _RELEASE.match(running)
    release = tuple(int(part or 0) for part in found.groups()) if found else ()
    if release < version_tuple(head.min_host):
        raise BundleHostError(f"The bundle needs version {head.min_host} of this app; this is version {running}.")
    manifest = Manifest.from_bytes(files[MANIFEST_NAME])
    return Bundle(manifest=manifest, root=root, files=MappingProxyType(files), key_id=signer)


def host_version() -> str:
    """Return the version of the installed software.

    Raises
    ------
    BundleHostError
        It is not installed, so nobody can say whether a bundle is too new for it.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(HOST_DISTRIBUTION)
    except PackageNotFoundError as error:
        raise BundleHostError(
            f"The distribution {HOST_DISTRIBUTION!r} is not installed; its version is needed to check the bundle.",
            advice="Install the app with pip instead of running it from a copied folder.",
        ) from error


def _read_head(content: bytes) -> _Head:
    """Take the fields that the next checks need out of the (signed) manifest bytes."""
    try:
        fields = parse_json_object(content)
        head = _Head(
            id=_text(fields, "id"),
            version=_text(fields, "version"),
            min_host=_text(fields, "min_host"),
            key_id=_text(fields["signature"], "key_id"),
            files={name: FileEntry.from_dict(entry) for name, entry in fields["files"].items()},
        )
        version_tuple(head.version)
        version_tuple(head.min_host)
    except EcgError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"The manifest is signed but cannot be read: {type(error).__name__}: {error}.") from error
    return head


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, expected text")
    return value
