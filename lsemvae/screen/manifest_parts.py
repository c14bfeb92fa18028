"""The parts of a bundle's manifest, the names a bundle may hold and its size caps."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from lsemvae.ecg.errors import BundlePathError, ManifestError
from lsemvae.ecg.leads import canonical_leads

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"
ALLOWED_FILES: Final = frozenset(
    {
        "model.tflite",
        "model.onnx",
        MANIFEST_NAME,
        "card.md",
        "golden.npz",
        "recipe.json",
        "report.json",
        "model.strict.tflite",
        "report.html",
        "strict.json",
        "curves.png",
        SIGNATURE_NAME,
    }
)
# A shipped bundle takes about 1 MiB; the caps leave room for a larger student and stop a decompression bomb on a 512
# MB board.
MAX_FILES: Final = 16
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 8 * 1024 * 1024
# Separates these signatures from any other use of the same key.
SIGNATURE_PREFIX: Final = b"lsemvae-bundle/1\n"

_VERSION: Final = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def safe_member(name: str) -> str:
    """Return the name of a bundle member, or raise BundlePathError: :data:`ALLOWED_FILES` only, no folder."""
    if not isinstance(name, str) or name not in ALLOWED_FILES:
        raise BundlePathError(f"found bundle member {name!r}, expected one of {', '.join(sorted(ALLOWED_FILES))}")
    return name


def version_tuple(version: str) -> tuple[int, int, int]:
    """Return "1.2.3" as (1, 2, 3), or raise ManifestError."""
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise ManifestError(f"found version {version!r}, expected three numbers like 1.2.3")
    return int(match[1]), int(match[2]), int(match[3])


def key_id(public_key: bytes) -> str:
    """Return the first 16 hex digits of the SHA-256 of a raw Ed25519 public key (32 bytes)."""
    if len(public_key) != 32:
        raise ManifestError(f"found a public key of {len(public_key)} bytes, expected 32")
    return hashlib.sha256(public_key).hexdigest()[:16]


def signed_bytes(manifest: bytes) -> bytes:
    """Return the bytes that a bundle's signature covers."""
    return SIGNATURE_PREFIX + manifest


def file_entry(content: bytes) -> FileEntry:
    """Return the manifest's entry of a file's content."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


class Part:
    """Reading and writing of a manifest part: all of its fields and no other."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the part of a mapping, or raise ManifestError."""
        expected = sorted(f.name for f in fields(cls))  # type: ignore[arg-type]
        if not isinstance(values, dict) or sorted(values) != expected:
            found = sorted(values) if isinstance(values, dict) else values
            raise ManifestError(f"found {cls.__name__} fields {found!r}, expected {expected}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry(Part):
    """Hash and size of one file of the bundle."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        """Refuse a malformed hash or a size above the cap."""
        if not isinstance(self.sha256, str) or _SHA256.fullmatch(self.sha256) is None:
            raise ManifestError(f"found SHA-256 {self.sha256!r}, expected 64 lower-case hex digits")
        if type(self.bytes) is not int or not 0 <= self.bytes <= MAX_FILE_BYTES:
            raise ManifestError(f"found file size {self.bytes!r}, expected 0 to {MAX_FILE_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec(Part):
    """The tensor that the model takes: `[1, lead, time]`, float32, millivolts."""

    leads: tuple[str, ...]
    fs_hz: float
    n_samples: int
    shape: tuple[int, ...]
    unit: str = "mV"
    dtype: str = "float32"
    name: str = "ecg"

    def __post_init__(self) -> None:
        """Refuse a shape, unit or type that contradicts the other fields."""
        if self.leads != canonical_leads(self.leads) or not self.leads:
            raise ManifestError(f"found input leads {self.leads!r}, expected canonical names, each once")
        if self.shape != (1, len(self.leads), self.n_samples):
            raise ManifestError(f"found input shape {self.shape!r}, expected {(1, len(self.leads), self.n_samples)}")
        if (self.unit, self.dtype) != ("mV", "float32"):
            raise ManifestError(f"found input in {self.unit!r} as {self.dtype!r}, expected 'mV' as 'float32'")
        object.__setattr__(self, "fs_hz", float(self.fs_hz))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec(Part):
    """One output of the model."""

    label: str
    column: str
    primary: bool
    description: str

    def __post_init__(self) -> None:
        """Refuse a column that does not follow from the label."""
        if not isinstance(self.label, str) or not self.label or self.column != f"p_{self.label}":
            raise ManifestError(f"found output {self.label!r} with column {self.column!r}, expected 'p_' and the label")
        if not isinstance(self.primary, bool) or not isinstance(self.description, str):
            raise ManifestError(f"found output {self.label!r} with wrong types, expected a bool and a text")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureInfo(Part):
    """Who signed: the algorithm and the id of the public key."""

    key_id: str
    alg: str = "ed25519"

    def __post_init__(self) -> None:
        """Refuse another algorithm or a malformed key id."""
        if self.alg != "ed25519":
            raise ManifestError(f"found signature algorithm {self.alg!r}, expected 'ed25519'")
        if not isinstance(self.key_id, str) or re.fullmatch(r"[0-9a-f]{16}", self.key_id) is None:
            raise ManifestError(f"found key id {self.key_id!r}, expected 16 lower-case hex digits")
