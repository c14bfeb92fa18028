"""The manifest: everything a host must know to run a bundle's model, as canonical JSON.

The manifest is signed as bytes. It is therefore read only in its canonical form, and what is written is byte for byte
what was read: fields of the top level that this release does not know are kept. Inside the known parts an unknown
field is refused, since it would change what the numbers mean (a front-end step, a quality gate) without being obeyed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lsemvae.ecg.canonical import canonical_json, parse_json_object
from lsemvae.ecg.errors import BundlePathError, EcgError, ManifestError
from lsemvae.ecg.frontend import FrontendSpec
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.ecg.thresholds import QualityThresholds
from lsemvae.screen.manifest_parts import (
    ALLOWED_FILES,
    MANIFEST_NAME,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_TOTAL_BYTES,
    SIGNATURE_NAME,
    SIGNATURE_PREFIX,
    FileEntry,
    InputSpec,
    OutputSpec,
    SignatureInfo,
    file_entry,
    key_id,
    safe_member,
    signed_bytes,
    version_tuple,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALLOWED_FILES",
    "MANIFEST_NAME",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "MAX_TOTAL_BYTES",
    "SCHEMA",
    "SIGNATURE_NAME",
    "SIGNATURE_PREFIX",
    "Calibration",
    "DecisionRule",
    "FileEntry",
    "InputSpec",
    "Manifest",
    "OutputSpec",
    "SignatureInfo",
    "file_entry",
    "key_id",
    "safe_member",
    "signed_bytes",
    "version_tuple",
]

SCHEMA: Final = "lsemvae-bundle/1"
# Text as `2026-01-31T12:00:00Z`; whether it lies in the past is not for a module without a clock.
_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TEXTS: Final = ("id", "version", "created_utc", "min_host", "intended_use", "label_statement", "licence")
_RUNTIMES: Final = ("tflite", "onnx")


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
        _check_texts(self)
        _check_files(self)
        _check_tensors(self)
        _check_outputs(self)

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
        _check_schema(values.get("schema"))
        known = {f.name for f in fields(cls)} - {"extra", "coeff_sha256"}
        missing = sorted(known - set(values))
        if missing:
            raise ManifestError(
                f"found a manifest without {', '.join(missing)}, expected all of {', '.join(sorted(known))}"
            )
        try:
            return cls(**_parsed(values), extra={k: v for k, v in values.items() if k not in known | {"schema"}})
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


def _check_schema(schema: object) -> None:
    """Refuse another major schema, and anything that is none."""
    if schema != SCHEMA:
        raise ManifestError(
            f"found manifest schema {schema!r}, expected {SCHEMA!r}",
            advice="The bundle was made for another release: update the program or install a matching bundle.",
        )


def _parsed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments from JSON values."""
    frontend = dict(values["frontend"])
    coeff_sha256 = frontend.pop("coeff_sha256", None)
    return {
        **{name: values[name] for name in (*_TEXTS, "parity", "provenance", "models")},
        "not_for": tuple(values["not_for"]),
        "files": {name: FileEntry.from_dict(entry) for name, entry in values["files"].items()},
        "input": InputSpec.from_dict(values["input"]),
        "frontend": FrontendSpec.from_dict(frontend),
        "coeff_sha256": coeff_sha256,
        "quality": QualityThresholds.from_dict(values["quality"]),
        "outputs": tuple(OutputSpec.from_dict(output) for output in values["outputs"]),
        "decision": DecisionRule.from_dict(values["decision"]),
        "performance": tuple(dict(row) for row in values["performance"]),
        "signature": SignatureInfo.from_dict(values["signature"]),
    }


def _check_texts(manifest: Manifest) -> None:
    for name in _TEXTS:
        text = getattr(manifest, name)
        if not isinstance(text, str) or not text:
            raise ManifestError(f"found {name} {text!r}, expected text")
    if not all(isinstance(text, str) for text in manifest.not_for):
        raise ManifestError(f"found not_for {manifest.not_for!r}, expected a list of texts")
    version_tuple(manifest.version)
    version_tuple(manifest.min_host)
    if _UTC.fullmatch(manifest.created_utc) is None:
        raise ManifestError(f"found created_utc {manifest.created_utc!r}, expected a time like 2026-01-31T12:00:00Z")


def _check_files(manifest: Manifest) -> None:
    for name in manifest.files:
        try:
            safe_member(name)
        except BundlePathError as error:
            raise ManifestError(str(error)) from error
    unsigned = sorted({MANIFEST_NAME, SIGNATURE_NAME} & set(manifest.files))
    if unsigned:
        raise ManifestError(
            f"found {', '.join(unsigned)} among the files, expected only files that the manifest vouches for"
        )
    total = sum(entry.bytes for entry in manifest.files.values())
    if len(manifest.files) > MAX_FILES or total > MAX_TOTAL_BYTES:
        raise ManifestError(
            f"found {len(manifest.files)} files of {total} bytes, expected at most {MAX_FILES} of {MAX_TOTAL_BYTES}"
        )
    for runtime, name in manifest.models.items():
        if runtime not in _RUNTIMES or name not in manifest.files:
            raise ManifestError(
                f"found model {name!r} for {runtime!r}, expected a listed file for one of {', '.join(_RUNTIMES)}"
            )
    if not manifest.models:
        raise ManifestError(f"found no model, expected one for at least one of {', '.join(_RUNTIMES)}")


def _check_tensors(manifest: Manifest) -> None:
    found = (manifest.input.fs_hz, manifest.input.n_samples)
    expected = (manifest.frontend.fs_hz, manifest.frontend.n_samples)
    if found != expected:
        raise ManifestError(f"found input of (Hz, samples) {found}, expected the front-end's {expected}")
    if manifest.coeff_sha256 != manifest.frontend.sha256():
        raise ManifestError(
            f"found front-end hash {manifest.coeff_sha256!r}, expected {manifest.frontend.sha256()!r} as computed here",
            advice="This program would filter differently from the one that trained the model: install its release.",
        )


def _check_outputs(manifest: Manifest) -> None:
    primaries = [output.label for output in manifest.outputs if output.primary]
    if primaries != [manifest.decision.primary]:
        raise ManifestError(f"found primary outputs {primaries}, expected exactly {manifest.decision.primary!r}")
    if len(set(manifest.labels)) != len(manifest.labels) or set(manifest.labels) != set(manifest.decision.calibrations):
        raise ManifestError(
            f"found outputs {sorted(manifest.labels)}, "
            f"expected those with a calibration {sorted(manifest.decision.calibrations)}"
        )
