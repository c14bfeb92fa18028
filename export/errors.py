"""What can go wrong on the way from a checkpoint to a bundle: each with a code and advice, as on the floor."""

from __future__ import annotations

from typing import ClassVar

from lsemvae.ecg.errors import EcgError


class ExportError(EcgError):
    """The export cannot be done as asked."""

    code: ClassVar[str] = "E_EXPORT"
    default_advice: ClassVar[str] = "Check the run folder and the arguments, then run the export again."

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message, advice=self.default_advice if advice is None else advice)


class ExportDependencyError(ExportError):
    """A converter package is not installed here."""

    code: ClassVar[str] = "E_EXPORT_DEPENDENCY"
    default_advice: ClassVar[str] = (
        "Run: pip install 'lsemvae[export]' on Linux x86_64 (Python 3.11-3.13) or macOS arm64 (Python 3.12). "
        "The TFLite converter has no wheels for Linux aarch64 (Raspberry Pi) or Windows: "
        "export on another machine and copy the bundle."
    )


class ExportModelError(ExportError):
    """The checkpoint is not a student that this exporter knows, or its weights are unusable."""

    code: ClassVar[str] = "E_EXPORT_MODEL"
    default_advice: ClassVar[str] = (
        "Export a run made by `lsemvae distill`; if its training diverged (NaN weights), train it again."
    )


class ExportCalibrationError(ExportError):
    """The calibration or validation recordings cannot carry an INT8 export."""

    code: ClassVar[str] = "E_EXPORT_CALIBRATION"
    default_advice: ClassVar[str] = (
        "Give at least the asked number of clean training recordings through the run-time front-end, "
        "none of them also used for validation."
    )


class ExportConversionError(ExportError):
    """A converter failed; its own words are in the log."""

    code: ClassVar[str] = "E_EXPORT_CONVERSION"
    default_advice: ClassVar[str] = "Read the end of the conversion log that is named in the message."


class ExportAuditError(ExportError):
    """A converted model holds operators or types that the bundle must not carry."""

    code: ClassVar[str] = "E_EXPORT_AUDIT"
    default_advice: ClassVar[str] = (
        "Use Conv1d + BatchNorm + ReLU and Linear layers in the encoder, keep exp, log and division in the head, "
        "and use a recipe whose scope covers the whole encoder."
    )


class ExportGateError(ExportError):
    """A converted model does not say what the trained one says."""

    code: ClassVar[str] = "E_EXPORT_GATE"
    default_advice: ClassVar[str] = (
        "Nothing was written. Calibrate on more recordings that cover tall and small QRS, check that the front-end "
        "of calibration and validation is the run-time one, or ship fp32 (--fp32)."
    )


class ExportTargetError(ExportError):
    """The place to write to cannot be used."""

    code: ClassVar[str] = "E_EXPORT_TARGET"
    default_advice: ClassVar[str] = "Name another folder with --out, or replace this one with --force."


class SigningKeyError(ExportError):
    """The signing key cannot be read or made."""

    code: ClassVar[str] = "E_EXPORT_KEY"
    default_advice: ClassVar[str] = (
        "A signing key is an Ed25519 private key in PKCS8 PEM, readable by its owner only (mode 0600). "
        "Existing keys are never overwritten: name another key or remove the file yourself."
    )
