"""Errors: a stable code, both sides in the message, advice for everyone."""

from __future__ import annotations

import inspect

import pytest

from lsemvae.ecg import errors
from lsemvae.ecg.errors import ADVICE, BundleError, EcgError, FormatError, LeadError, TruncatedError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, EcgError)]

STABLE_CODES = {
    "EcgError": "E_ECG",
    "UnitError": "E_UNIT",
    "LeadError": "E_LEAD",
    "RateError": "E_RATE",
    "LengthError": "E_LENGTH",
    "SampleError": "E_SAMPLE",
    "FormatError": "E_FORMAT",
    "TruncatedError": "E_TRUNCATED",
    "ManifestError": "E_MANIFEST",
    "BundleError": "E_BUNDLE",
    "BundleSizeError": "E_BUNDLE_SIZE",
    "BundlePathError": "E_BUNDLE_PATH",
    "BundleSignatureError": "E_BUNDLE_SIGNATURE",
    "BundleHashError": "E_BUNDLE_HASH",
    "BundleVersionError": "E_BUNDLE_VERSION",
    "BundleHostError": "E_BUNDLE_HOST",
    "BundleSelfTestError": "E_BUNDLE_SELFTEST",
    "RuntimeMissingError": "E_RUNTIME",
    "InferenceError": "E_INFERENCE",
    "LinkError": "E_LINK",
    "StoreError": "E_STORE",
    "ProtocolError": "E_PROTOCOL",
}


@pytest.mark.promise(67)
def test_codes_are_stable_and_complete() -> None:
    assert {c.__name__: c.code for c in CLASSES} == STABLE_CODES


def test_each_code_belongs_to_one_class_and_has_advice() -> None:
    codes = [c.code for c in CLASSES]
    assert len(set(codes)) == len(codes)
    assert set(ADVICE) == set(codes)


@pytest.mark.promise(67)
@pytest.mark.parametrize("code", sorted(ADVICE))
def test_advice_is_a_sentence(code: str) -> None:
    assert ADVICE[code][0].isupper()
    assert ADVICE[code].endswith(".")


def test_advice_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ADVICE["E_LEAD"] = "nothing"  # type: ignore[index]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_class_carries_message_code_and_advice(cls: type[EcgError]) -> None:
    error = cls("found 1, expected 2")
    assert str(error) == "found 1, expected 2"
    assert error.to_dict() == {"code": cls.code, "message": "found 1, expected 2", "advice": ADVICE[cls.code]}


def test_advice_of_the_case_replaces_that_of_the_class() -> None:
    assert LeadError("x", advice="Do this.").to_dict()["advice"] == "Do this."


def test_families() -> None:
    assert issubclass(TruncatedError, FormatError)
    bundle = [c for c in CLASSES if c.__name__.startswith("Bundle")]
    assert len(bundle) == 8
    assert all(issubclass(c, BundleError) for c in bundle)
