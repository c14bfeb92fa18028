"""The manifest: one value, one byte string; what is unknown is kept or refused, never guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsemvae.ecg import BASE, BundlePathError, Calibration, DecisionRule, ManifestError, QualityThresholds
from lsemvae.ecg.canonical import canonical_json, parse_json_object
from lsemvae.screen.manifest import (
    ALLOWED_FILES,
    MAX_FILE_BYTES,
    SCHEMA,
    FileEntry,
    InputSpec,
    Manifest,
    OutputSpec,
    SignatureInfo,
    file_entry,
    key_id,
    safe_member,
    signed_bytes,
    version_tuple,
)

SHA = "a" * 64


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "id": "limb-student",
        "version": "1.2.3",
        "created_utc": "2026-01-31T12:00:00Z",
        "min_host": "0.1.0",
        "intended_use": "Aid for clinicians.",
        "label_statement": "Statements made by ECG readers, not pulmonary hypertension.",
        "not_for": ("paced rhythm", "age under 18"),
        "licence": "CC-BY-4.0",
        "files": {"model.tflite": FileEntry(sha256=SHA, bytes=1000), "card.md": file_entry(b"card")},
        "input": InputSpec(leads=("I", "II"), fs_hz=250.0, n_samples=2500, shape=(1, 2, 2500)),
        "frontend": BASE,
        "coeff_sha256": BASE.sha256(),
        "quality": QualityThresholds(),
        "outputs": (
            OutputSpec(label="RHS", column="p_RHS", primary=True, description="Right-heart-strain statement"),
            OutputSpec(label="RVH", column="p_RVH", primary=False, description="Right ventricular hypertrophy"),
        ),
        "models": {"tflite": "model.tflite"},
        "decision": DecisionRule(
            primary="RHS",
            calibrations={"RHS": Calibration(1.0, 0.1), "RVH": Calibration(0.9, 0.0)},
            thresholds={"RHS": 0.3},
        ),
        "performance": ({"label": "RHS", "auroc": 0.91, "low": 0.87, "high": 0.95},),
        "parity": {"golden_tolerance": 0.01},
        "provenance": {"data": "PTB-XL 1.0.3"},
        "signature": SignatureInfo(key_id="0123456789abcdef"),
    }
    return Manifest(**{**fields, **changes})


def edited(edit: Callable[[dict[str, Any]], None]) -> bytes:
    values = json.loads(manifest().to_bytes())
    edit(values)
    return canonical_json(values)


# canonical form ------------------------------------------------------------------------------------------------------


def test_round_trip_of_bytes_and_values() -> None:
    data = manifest().to_bytes()
    again = Manifest.from_bytes(data)
    assert again.to_bytes() == data
    assert again.to_dict() == manifest().to_dict()
    assert again.input == manifest().input
    assert again.labels == ("RHS", "RVH")


def test_bytes_are_ascii_sorted_and_without_blanks() -> None:
    data = manifest(intended_use="Für Ärzte").to_bytes()
    data.decode("ascii")
    values = json.loads(data)
    assert list(values) == sorted(values)
    assert list(values["input"]) == sorted(values["input"])
    assert data == json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    assert Manifest.from_bytes(data).intended_use == "Für Ärzte"


def test_order_of_construction_does_not_matter() -> None:
    files = dict(reversed(manifest().files.items()))
    assert manifest(files=files).to_bytes() == manifest().to_bytes()


@pytest.mark.parametrize("spoil", [lambda d: d + b"\n", lambda d: b" " + d, lambda d: d.replace(b":", b": ", 1)])
def test_bytes_that_are_not_canonical_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ManifestError, match="canonical"):
        Manifest.from_bytes(spoil(manifest().to_bytes()))


def test_unsorted_keys_are_refused() -> None:
    values = json.loads(manifest().to_bytes())
    data = json.dumps(dict(reversed(values.items())), separators=(",", ":")).encode()
    with pytest.raises(ManifestError, match="canonical"):
        Manifest.from_bytes(data)


def test_repeated_key_is_refused() -> None:
    data = b'{"id":"x",' + manifest().to_bytes()[1:]
    with pytest.raises(ManifestError, match=r"repeated keys \['id'\]"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"{}", b'{"schema":1}', b"[" * 100_000, b'{"a":' * 50_000],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError, match="expected"):
        Manifest.from_bytes(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(data)


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_changes_the_bytes_that_are_signed(position: int, mask: int) -> None:
    data = bytearray(manifest().to_bytes())
    data[position % len(data)] ^= mask
    try:
        again = Manifest.from_bytes(bytes(data))
    except ManifestError:
        return
    assert again.to_bytes() == bytes(data) != manifest().to_bytes()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(text: str) -> None:
    data = manifest().to_bytes().replace(b"0.91", text.encode(), 1)
    with pytest.raises(ManifestError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_values_that_json_cannot_hold_are_refused_on_writing(value: Any) -> None:
    with pytest.raises(ManifestError, match="JSON cannot hold"):
        manifest(parity={"x": value}).to_bytes()


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)


@given(JSON_VALUES)
def test_canonical_json_round_trip(value: Any) -> None:
    data = canonical_json({"value": value})
    assert parse_json_object(data) == {"value": value}
    assert canonical_json(parse_json_object(data)) == data


def test_manifest_larger_than_the_cap_is_refused_unparsed() -> None:
    with pytest.raises(ManifestError, match="at most"):
        Manifest.from_bytes(b"{" + b" " * MAX_FILE_BYTES)


# unknown things ------------------------------------------------------------------------------------------------------


@pytest.mark.promise(35)
def test_unknown_fields_of_the_top_level_are_kept() -> None:
    data = edited(lambda v: v.update(zz_future={"a": [1, 2.5, None]}, a_future="x"))
    again = Manifest.from_bytes(data)
    assert dict(again.extra) == {"zz_future": {"a": [1, 2.5, None]}, "a_future": "x"}
    assert again.to_bytes() == data


@pytest.mark.promise(35)
@pytest.mark.parametrize("schema", ["lsemvae-bundle/2", "lsemvae-bundle/10", "other/1", "", None, 1])
def test_another_major_schema_is_refused(schema: Any) -> None:
    with pytest.raises(ManifestError, match=f"expected '{SCHEMA}'") as caught:
        Manifest.from_bytes(edited(lambda v: v.update(schema=schema)))
    assert "another release" in caught.value.advice


@pytest.mark.parametrize("part", ["input", "frontend", "quality", "decision", "signature"])
def test_unknown_fields_inside_a_part_are_refused(part: str) -> None:
    with pytest.raises(ManifestError, match="future"):
        Manifest.from_bytes(edited(lambda v: v[part].update(future=1)))


def test_unknown_fields_of_an_output_or_file_are_refused() -> None:
    with pytest.raises(ManifestError, match="future"):
        Manifest.from_bytes(edited(lambda v: v["outputs"][0].update(future=1)))
    with pytest.raises(ManifestError, match="future"):
        Manifest.from_bytes(edited(lambda v: v["files"]["card.md"].update(future=1)))


@pytest.mark.parametrize("name", sorted(json.loads(manifest().to_bytes())))
def test_every_field_is_needed(name: str) -> None:
    with pytest.raises(ManifestError, match=r"schema|without"):
        Manifest.from_bytes(edited(lambda v: v.pop(name)))


@pytest.mark.parametrize("name", sorted(set(json.loads(manifest().to_bytes())) - {"schema"}))
@pytest.mark.parametrize("value", [None, 3, [3]])
def test_every_field_has_its_type(name: str, value: Any) -> None:
    if name == "performance" and value is None:
        value = 3
    with pytest.raises(ManifestError):
        Manifest.from_bytes(edited(lambda v: v.update({name: value})))


# parts against each other --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.2"},
        {"version": "v1.2.3"},
        {"version": "1.2.3-rc1"},
        {"version": "01.2.3"},
        {"version": "1.2.3\n"},
        {"min_host": "latest"},
        {"created_utc": "yesterday"},
        {"created_utc": "2026-01-31 12:00:00"},
        {"id": ""},
        {"not_for": (1,)},
        {"coeff_sha256": SHA},
        {"coeff_sha256": None},
        {"models": {}},
        {"models": {"tflite": "model.onnx"}},
        {"models": {"coreml": "model.tflite"}},
        {"outputs": ()},
        {"input": InputSpec(leads=("I",), fs_hz=500.0, n_samples=2500, shape=(1, 1, 2500))},
        {"input": InputSpec(leads=("I",), fs_hz=250.0, n_samples=5000, shape=(1, 1, 5000))},
    ],
    ids=repr,
)
def test_contradictions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="expected"):
        manifest(**change)


def test_exactly_one_output_is_primary_and_it_decides() -> None:
    first, second = manifest().outputs
    both = OutputSpec(label="RVH", column="p_RVH", primary=True, description="")
    for outputs in ((first, both), (second,), (first, first), (first,)):
        with pytest.raises(ManifestError):
            manifest(outputs=outputs)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "../model.tflite", "other.bin"])
def test_files_that_the_manifest_cannot_vouch_for_are_refused(name: str) -> None:
    files = {**manifest().files, name: FileEntry(sha256=SHA, bytes=1)}
    with pytest.raises(ManifestError):
        manifest(files=files)


def test_total_size_is_capped() -> None:
    names = ["model.tflite", "model.onnx", "card.md"]
    with pytest.raises(ManifestError, match="at most 16"):
        manifest(files={name: FileEntry(sha256=SHA, bytes=MAX_FILE_BYTES) for name in names})


@pytest.mark.parametrize(
    ("sha256", "size"),
    [("A" * 64, 1), ("a" * 63, 1), (None, 1), (SHA, -1), (SHA, MAX_FILE_BYTES + 1), (SHA, 1.0), (SHA, True)],
)
def test_file_entry_is_checked(sha256: Any, size: Any) -> None:
    with pytest.raises(ManifestError):
        FileEntry(sha256=sha256, bytes=size)


def test_file_entry_of_content() -> None:
    assert file_entry(b"abc") == FileEntry(sha256=hashlib.sha256(b"abc").hexdigest(), bytes=3)


@pytest.mark.parametrize(
    "change",
    [
        {"leads": ()},
        {"leads": ("i", "II")},
        {"shape": (1, 3, 2500)},
        {"shape": (2, 2, 2500)},
        {"unit": "uV"},
        {"dtype": "int8"},
    ],
)
def test_input_is_checked(change: dict[str, Any]) -> None:
    fields = {"leads": ("I", "II"), "fs_hz": 250.0, "n_samples": 2500, "shape": (1, 2, 2500)}
    with pytest.raises(ManifestError, match="expected"):
        InputSpec(**{**fields, **change})


@pytest.mark.parametrize("change", [{"label": ""}, {"column": "RHS"}, {"primary": 1}, {"description": None}])
def test_output_is_checked(change: dict[str, Any]) -> None:
    fields = {"label": "RHS", "column": "p_RHS", "primary": True, "description": ""}
    with pytest.raises(ManifestError):
        OutputSpec(**{**fields, **change})


@pytest.mark.parametrize("change", [{"alg": "none"}, {"alg": "rsa"}, {"key_id": ""}, {"key_id": "0123456789ABCDEF"}])
def test_signature_info_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        SignatureInfo(**{"key_id": "0123456789abcdef", **change})


def test_manifest_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        manifest().id = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        manifest().files["card.md"] = file_entry(b"")  # type: ignore[index]


# names, versions, keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALLOWED_FILES))
def test_allowed_members(name: str) -> None:
    assert safe_member(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../manifest.json", "/manifest.json", "a/manifest.json", "./manifest.json", "manifest.json/",
        "manifest.json\0", "manifest.json ", " manifest.json", "Manifest.json", "MANIFEST.JSON", "model.tflite:ads",
        "..\\manifest.json", "C:\\manifest.json", "CON", "model.pkl", "model.pt", "manifest.json\n", "ｍanifest.json",
        "%2e%2e/manifest.json", None, b"manifest.json", 1,
    ],
)  # fmt: skip
def test_path_attacks_are_refused(name: Any) -> None:
    with pytest.raises(BundlePathError, match="found bundle member") as caught:
        safe_member(name)
    assert "card.md" in str(caught.value)


@given(st.text())
def test_any_other_name_is_refused(name: str) -> None:
    if name not in ALLOWED_FILES:
        with pytest.raises(BundlePathError):
            safe_member(name)


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("1.10.0") > version_tuple("1.9.9") > version_tuple("0.99.99")


@pytest.mark.parametrize(
    "version", ["1", "1.2", "1.2.3.4", "1.2.x", "-1.2.3", "1.2.3+build", "１.2.3", "", None, 1.2, "1.2.9999999999"]
)
def test_other_versions_are_refused(version: Any) -> None:
    with pytest.raises(ManifestError, match=r"like 1.2.3"):
        version_tuple(version)


def test_key_id_is_the_start_of_the_keys_hash() -> None:
    key = bytes(range(32))
    assert key_id(key) == hashlib.sha256(key).hexdigest()[:16]
    with pytest.raises(ManifestError, match="expected 32"):
        key_id(key[:31])


def test_signed_bytes_separate_their_use() -> None:
    assert signed_bytes(b"{}") == b"lsemvae-bundle/1\n{}"
