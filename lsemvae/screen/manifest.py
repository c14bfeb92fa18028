"""The manifest: everything a host must know to run a bundle's model, as canonical JSON; and what a bundle may hold.

The manifest is signed as bytes. It is therefore read only in its canonical form, and what is written is byte for byte
what was read: fields of the top level that this release does not know are kept. Inside the known parts an unknown
field is refused, since it would change what the numbers mean (a front-end step, a quality gate) without being obeyed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Self

from lsemvae.ecg.canonical import canonical_json, parse_json_object
from lsemvae.ecg.errors import BundlePathError, EcgError, ManifestError
from lsemvae.ecg.frontend import FrontendSpec
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.rule import DecisionRule
from lsemvae.ecg.thresholds import QualityThresholds

SCHEMA: Final = "lsemvae-bundle/1"
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
# Text as `2026-01-31T12:00:00Z`; whether it lies in the past is not for a module without a clock.
_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TEXTS: Final = ("id", "version", "created_utc", "min_host", "intended_use", "label_statement", "licence")
_RUNTIMES: Final = ("tflite", "onnx")


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
    """Base of a manifest part, which is read and written with all of its fields and no other."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Description of a bundle.

    Attributes
    ----------
    id, version, created_utc, min_host
        Model id; version and least host version as "1.2.3"; time of export.
    intended_use, label_statement, not_for, licence
        What the model is for, what its labels are, whom it is not for, the licence.
    files
        Hash and size of every file but the manifest and its signature.
    input
        The model's input tensor.
    frontend, coeff_sha256
        Specification of the front-end and the hash of its coefficients; they must agree on this machine.
    quality
        Thresholds of the quality gate.
    outputs
        Outputs in the order of the model's logits; exactly one is primary.
    models
        File by runtime ("tflite", "onnx").
    decision
        Calibration, operating points, abstention.
    performance, parity, provenance
        Rows with intervals; agreement of fp32 and INT8; how the model came about.
    signature
        Algorithm and key id.
    extra
        Fields of the top level that this release does not know.
    """

    id: str
    version: str
    created_utc: str
    min_host: str
    intended_use: str
    label_statement: str
    not_for: tuple[str, ...]
    licence: str
    files: Mapping[str, FileEntry]
    input: InputSpec
    frontend: FrontendSpec
    coeff_sha256: str
    quality: QualityThresholds
    outputs: tuple[OutputSpec, ...]
    models: Mapping[str, str]
    decision: DecisionRule
    performance: tuple[Mapping[str, Any], ...]
    parity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    signature: SignatureInfo
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every part against the others; mappings become read-only."""
        for name in ("files", "models", "parity", "provenance", "extra"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for name in _TEXTS:
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise ManifestError(f"found {name} {text!r}, expected text")
        if not all(isinstance(text, str) for text in self.not_for):
            raise ManifestError(f"found not_for {self.not_for!r}, expected a list of texts")
        version_tuple(self.version)
        version_tuple(self.min_host)
        if _UTC.fullmatch(self.created_utc) is None:
            raise ManifestError(f"found created_utc {self.created_utc!r}, expected a time like 2026-01-31T12:00:00Z")
        for name in self.files:
            try:
                safe_member(name)
            except BundlePathError as error:
                raise ManifestError(str(error)) from error
        unsigned = sorted({MANIFEST_NAME, SIGNATURE_NAME} & set(self.files))
        if unsigned:
            raise ManifestError(
                f"found {', '.join(unsigned)} among the files, expected only files that the manifest vouches for"
            )
        total = sum(entry.bytes for entry in self.files.values())
        if len(self.files) > MAX_FILES or total > MAX_TOTAL_BYTES:
            raise ManifestError(
                f"found {len(self.files)} files of {total} bytes, expected at most {MAX_FILES} of {MAX_TOTAL_BYTES}"
            )
        for runtime, name in self.models.items():
            if runtime not in _RUNTIMES or name not in self.files:
                raise ManifestError(
                    f"found model {name!r} for {runtime!r}, expected a listed file for one of {', '.join(_RUNTIMES)}"
                )
        if not self.models:
            raise ManifestError(f"found no model, expected one for at least one of {', '.join(_RUNTIMES)}")

        shape = (self.input.fs_hz, self.input.n_samples)
        expected = (self.frontend.fs_hz, self.frontend.n_samples)
        if shape != expected:
            raise ManifestError(f"found input of (Hz, samples) {shape}, expected the front-end's {expected}")
        if self.coeff_sha256 != self.frontend.sha256():
            raise ManifestError(
                f"found front-end hash {self.coeff_sha256!r}, expected {self.frontend.sha256()!r} as computed here",
                advice="This program would filter differently from the one that trained the model: "
                "install its release.",
            )

        primaries = [output.label for output in self.outputs if output.primary]
        if primaries != [self.decision.primary]:
            raise ManifestError(f"found primary outputs {primaries}, expected exactly {self.decision.primary!r}")
        calibrated = self.decision.calibrations
        if len(set(self.labels)) != len(self.labels) or set(self.labels) != set(calibrated):
            raise ManifestError(
                f"found outputs {sorted(self.labels)}, expected those with a calibration {sorted(calibrated)}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the model's logits."""
        return tuple(output.label for output in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {
            **self.extra,
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _TEXTS},
            "not_for": list(self.not_for),
            "files": {name: entry.to_dict() for name, entry in self.files.items()},
            "input": self.input.to_dict(),
            "frontend": {**self.frontend.to_dict(), "coeff_sha256": self.coeff_sha256},
            "quality": self.quality.to_dict(),
            "outputs": [output.to_dict() for output in self.outputs],
            "models": dict(self.models),
            "decision": self.decision.to_dict(),
            "performance": [dict(row) for row in self.performance],
            "parity": dict(self.parity),
            "provenance": dict(self.provenance),
            "signature": self.signature.to_dict(),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Return the manifest of JSON values, or raise ManifestError."""
        if values.get("schema") != SCHEMA:
            raise ManifestError(
                f"found manifest schema {values.get('schema')!r}, expected {SCHEMA!r}",
                advice="The bundle was made for another release: update the program or install a matching bundle.",
            )
        known = {f.name for f in fields(cls)} - {"extra", "coeff_sha256"}
        missing = sorted(known - set(values))
        if missing:
            raise ManifestError(
                f"found a manifest without {', '.join(missing)}, expected all of {', '.join(sorted(known))}"
            )
        try:
            frontend = dict(values["frontend"])
            coeff_sha256 = frontend.pop("coeff_sha256", None)
            return cls(
                **{name: values[name] for name in (*_TEXTS, "parity", "provenance", "models")},
                not_for=tuple(values["not_for"]),
                files={name: FileEntry.from_dict(entry) for name, entry in values["files"].items()},
                input=InputSpec.from_dict(values["input"]),
                frontend=FrontendSpec.from_dict(frontend),
                coeff_sha256=coeff_sha256,
                quality=QualityThresholds.from_dict(values["quality"]),
                outputs=tuple(OutputSpec.from_dict(output) for output in values["outputs"]),
                decision=DecisionRule.from_dict(values["decision"]),
                performance=tuple(dict(row) for row in values["performance"]),
                signature=SignatureInfo.from_dict(values["signature"]),
                extra={k: v for k, v in values.items() if k not in known | {"schema"}},
            )
        except ManifestError:
            raise
        except (EcgError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise ManifestError(
                f"found a manifest part of the wrong shape ({error}), expected the schema {SCHEMA}"
            ) from error

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Return the manifest of canonical JSON bytes, or raise ManifestError."""
        if len(data) > MAX_FILE_BYTES:
            raise ManifestError(f"found a manifest of {len(data)} bytes, expected at most {MAX_FILE_BYTES}")
        manifest = cls.from_dict(parse_json_object(data))
        if manifest.to_bytes() != data:
            raise ManifestError("found a manifest that is not in canonical form, expected sorted keys and no blanks")
        return manifest
