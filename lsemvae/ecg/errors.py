"""Errors with a stable code and advice for the person who meets them.

Every error of the toolkit derives from :class:`EcgError`. The message shows what was found and what was expected,
`code` is stable across releases (logs, tests and screens may rely on it), `advice` says what to do next in words that
need no source code.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "E_ECG": "Repeat the recording. If the message returns, send the record and this message to support.",
        "E_UNIT": "State the unit of the samples (uV, mV or V) or the size of one count; it is never guessed.",
        "E_LEAD": "Name every lead once (I, II, III, aVR, aVL, aVF, V1 to V6), and supply at least I and II.",
        "E_RATE": "State the sampling rate in samples per second; recordings from 100 to 1000 Hz can be screened.",
        "E_LENGTH": "Record again, sitting still, for at least 10 seconds without interruption.",
        "E_SAMPLE": "Supply finite numbers in an array of leads by time; remove NaN and infinite values at the source.",
        "E_FORMAT": "Check that the file is an ECG in a supported format (.ecg.npz, .csv, WFDB format 16).",
        "E_TRUNCATED": "The file ends too early: copy it again from its source and compare the sizes.",
        "E_MANIFEST": "The model description cannot be used: install the bundle again from its publisher.",
        "E_BUNDLE": "The model bundle cannot be used: install it again from its publisher.",
        "E_BUNDLE_SIZE": "The model bundle is larger than allowed: install it again from its publisher.",
        "E_BUNDLE_PATH": "The model bundle holds a foreign file: install it again from its publisher.",
        "E_BUNDLE_SIGNATURE": "The model bundle is not signed by a trusted publisher: do not use it; install it again.",
        "E_BUNDLE_HASH": "A file of the model bundle was changed: do not use it; install the bundle again.",
        "E_BUNDLE_VERSION": "The model bundle is older than one used before: install the current bundle.",
        "E_BUNDLE_HOST": "The model bundle needs a newer program: update the program, then install the bundle.",
        "E_BUNDLE_SELFTEST": "The model fails its self-test here: do not use it; report machine and message.",
        "E_RUNTIME": "No model runtime is installed: install the edge extra (ai-edge-litert) or onnxruntime.",
        "E_INFERENCE": "The model gave no usable number: repeat the recording; if this returns, run the self-check.",
        "E_LINK": "Check that the device is on, charged and near, then connect again. What was received is kept.",
        "E_STORE": "The record store cannot be written or read: check free space and the storage card.",
        "E_PROTOCOL": "The device speaks an unknown dialect: update its firmware or this program.",
    }
)


class EcgError(Exception):
    """Base of all errors.

    Parameters
    ----------
    message
        What was found and what was expected.
    advice
        What to do; the catalogue entry :data:`ADVICE` of the class's code where None.
    """

    code: ClassVar[str] = "E_ECG"

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice: str = ADVICE[self.code] if advice is None else advice

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message

    def to_dict(self) -> dict[str, str]:
        """Return `code`, `message` and `advice` for JSON."""
        return {"code": self.code, "message": self.message, "advice": self.advice}


class UnitError(EcgError):
    """A unit or a count size is missing, unknown or impossible."""

    code = "E_UNIT"


class LeadError(EcgError):
    """A lead is unknown, missing or named twice."""

    code = "E_LEAD"


class RateError(EcgError):
    """A sampling rate is missing or outside its range."""

    code = "E_RATE"


class LengthError(EcgError):
    """A recording is empty, too short or has no free window."""

    code = "E_LENGTH"


class SampleError(EcgError):
    """Samples are not finite, or have the wrong type or shape."""

    code = "E_SAMPLE"


class FormatError(EcgError):
    """A file or a byte string cannot be parsed."""

    code = "E_FORMAT"


class TruncatedError(FormatError):
    """A file or a byte string ends before its stated end."""

    code = "E_TRUNCATED"


class ManifestError(EcgError):
    """A bundle's manifest is not well formed or of an unknown major schema."""

    code = "E_MANIFEST"


class BundleError(EcgError):
    """A bundle was refused."""

    code = "E_BUNDLE"


class BundleSizeError(BundleError):
    """A bundle, or one of its files, exceeds a size cap."""

    code = "E_BUNDLE_SIZE"


class BundlePathError(BundleError):
    """A bundle has a member that is not on the list of allowed names."""

    code = "E_BUNDLE_PATH"


class BundleSignatureError(BundleError):
    """A bundle's signature is missing, wrong or made by an unknown key."""

    code = "E_BUNDLE_SIGNATURE"


class BundleHashError(BundleError):
    """A bundle's file differs from the hash in its manifest."""

    code = "E_BUNDLE_HASH"


class BundleVersionError(BundleError):
    """A bundle is older than one accepted before."""

    code = "E_BUNDLE_VERSION"


class BundleHostError(BundleError):
    """A bundle needs a newer host program."""

    code = "E_BUNDLE_HOST"


class BundleSelfTestError(BundleError):
    """A bundle's model does not reproduce its golden results."""

    code = "E_BUNDLE_SELFTEST"


class RuntimeMissingError(EcgError):
    """No runtime for the model is installed."""

    code = "E_RUNTIME"


class InferenceError(EcgError):
    """A model ran but gave no usable number."""

    code = "E_INFERENCE"


class LinkError(EcgError):
    """The link to a device failed."""

    code = "E_LINK"


class StoreError(EcgError):
    """The record store failed."""

    code = "E_STORE"


class ProtocolError(EcgError):
    """A peer broke the device protocol."""

    code = "E_PROTOCOL"
