"""Take the bytes of a bundle off the disk: first size, then names, each file read once, nothing parsed.

A bundle is a flat directory or a zip of the same files. What is refused here never reaches the signature check, and
what passes here is still untrusted: the caller verifies the signature over these very bytes.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lsemvae.ecg.errors import BundleError, BundlePathError, BundleSizeError
from lsemvae.screen.manifest import ALLOWED_FILES, MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES

# Room for the zip's own directory (46 + name per member, twice, and the end record), generously rounded.
ZIP_OVERHEAD_BYTES: Final = 64 * 1024
# Stored and deflated are what every zip tool writes; anything else means another decompressor on the attack surface.
ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_FLAG: Final = 0x1
# What `zipfile` raises on a file that is damaged or made to deceive (OSError: offsets that lie before the file).
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def read_bundle_files(path: Path) -> dict[str, bytes]:
    """Read every file of the bundle at `path` into memory.

    Parameters
    ----------
    path
        A directory, or a zip file, holding nothing but files named in `ALLOWED_FILES`.

    Returns
    -------
    dict
        File name to its bytes, sorted by name.

    Raises
    ------
    BundleSizeError
        Too many files, a file too large, or too much in total (also when a zip lies about its sizes).
    BundlePathError
        A symbolic link, a sub-directory, a name that is not allowed, a doubled or case-clashing name.
    BundleError
        There is no bundle at `path`, or it cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _read_directory(path)
        if stat.S_ISREG(mode):
            return _read_zip(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from error
    raise _unreadable(path, "it is neither a directory nor a regular file")


def _unreadable(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"Cannot read a bundle at {path}: {reason}.",
        advice="Give the path of a bundle directory or of its .zip file.",
    )


def check_sizes(sizes: Mapping[str, int] | Iterable[tuple[str, int]]) -> None:
    """Refuse too many files, a file that is too large, or too many bytes together."""
    pairs = list(sizes.items() if isinstance(sizes, Mapping) else sizes)
    if len(pairs) > MAX_FILES:
        raise BundleSizeError(f"The bundle holds {len(pairs)} files; at most {MAX_FILES} are allowed.")
    for name, size in pairs:
        if size > MAX_FILE_BYTES:
            raise BundleSizeError(f"{name!r} has {size} bytes; a bundle file may have at most {MAX_FILE_BYTES}.")
    total = sum(size for _, size in pairs)
    if total > MAX_TOTAL_BYTES:
        raise BundleSizeError(f"The bundle has {total} bytes in all; at most {MAX_TOTAL_BYTES} are allowed.")


def check_names(names: Iterable[str]) -> None:
    """Refuse a name outside `ALLOWED_FILES`, a doubled name, and two names that differ by case only."""
    seen: dict[str, str] = {}
    for name in names:
        earlier = seen.get(name.casefold())
        if earlier is not None:
            raise BundlePathError(
                f"The bundle holds {name!r} and {earlier!r}; a name may occur once, whatever its case."
            )
        seen[name.casefold()] = name
    for name in seen.values():
        if name not in ALLOWED_FILES:
            known = ", ".join(sorted(ALLOWED_FILES))
            raise BundlePathError(f"The bundle holds {name!r}; expected only: {known}.")


def _read_directory(root: Path) -> dict[str, bytes]:
    found: dict[str, os.stat_result] = {}
    with os.scandir(root) as scan:
        for count, entry in enumerate(scan, start=1):
            if count > MAX_FILES:
                raise BundleSizeError(f"The bundle holds more than {MAX_FILES} files; at most {MAX_FILES} are allowed.")
            found[entry.name] = entry.stat(follow_symlinks=False)
    check_sizes({name: info.st_size for name, info in found.items() if stat.S_ISREG(info.st_mode)})
    for name, info in sorted(found.items()):
        _check_kind(name, info.st_mode)
    check_names(found)
    contents = {}
    for name in sorted(found):
        # Through a descriptor that cannot be a link (the file may be one by now), and one byte more than allowed.
        try:
            descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BundlePathError(f"{name!r} cannot be opened: {error.strerror}.") from error
        with os.fdopen(descriptor, "rb") as file:
            _check_kind(name, os.fstat(file.fileno()).st_mode)
            contents[name] = file.read(MAX_FILE_BYTES + 1)
    check_sizes({name: len(content) for name, content in contents.items()})
    return contents


def _check_kind(name: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        found = "a symbolic link"
    elif stat.S_ISDIR(mode):
        found = "a directory"
    else:
        found = "a special file"
    raise BundlePathError(f"{name!r} is {found}; expected a regular file.")


def _read_zip(path: Path) -> dict[str, bytes]:
    size = path.stat().st_size
    if size > MAX_TOTAL_BYTES + ZIP_OVERHEAD_BYTES:
        raise BundleSizeError(f"{path.name} has {size} bytes; a bundle may have at most {MAX_TOTAL_BYTES}.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_sizes((member.filename, member.file_size) for member in members)
            for member in members:
                # What a flat bundle never contains. The stored name counts, not the one `zipfile` tidied up.
                name, mode = member.filename, member.external_attr >> 16
                if member.orig_filename != name:
                    raise BundlePathError(
                        f"The zip names a member {member.orig_filename!r}; expected a plain file name."
                    )
                if name.endswith("/"):
                    raise BundlePathError(f"{name!r} is a directory; expected a regular file.")
                if stat.S_IFMT(mode) != 0:
                    _check_kind(name, mode)
                if member.compress_type not in ZIP_METHODS or member.flag_bits & _ENCRYPTED_FLAG:
                    raise BundlePathError(
                        f"{name!r} is encrypted or compressed in a way other than stored or deflated."
                    )
            check_names(member.filename for member in members)
            contents: dict[str, bytes] = {}
            for member in sorted(members, key=lambda item: item.filename):
                with archive.open(member) as stream:
                    contents[member.filename] = stream.read(MAX_FILE_BYTES + 1)
                check_sizes({name: len(content) for name, content in contents.items()})
            return contents
    except _ZIP_FAULTS as error:
        raise _unreadable(path, f"it is not a sound zip ({error})") from error
