"""Own files and the choice of a reader."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsemvae.ecg import (
    EcgError,
    EcgRecord,
    FormatError,
    Interval,
    LeadError,
    LeadOff,
    LengthError,
    RateError,
    SampleError,
    StartTime,
    TruncatedError,
    UnitError,
)
from lsemvae.formats.npz import read_npz, write_npz
from lsemvae.formats.read import read_record


def full_record() -> EcgRecord:
    samples = np.random.default_rng(0).integers(-32768, 32767, (3, 200)).astype(np.int16)
    samples[:, 20:30] = 0
    return EcgRecord(
        samples=samples,
        lsb_uv=0.477,
        fs_hz=257.3,
        leads=("II", "aVF", "V1"),
        offset_uv=(1.5, -2.0, 0.1),
        start=StartTime("2026-01-31T12:00:00.123Z", "device"),
        gaps=(Interval(20, 30),),
        lead_off=(LeadOff("V1", 0, 5), LeadOff("II", 40, 50)),
        device="E6L-0001",
        record_id="ä1",
        gain_known=False,
        saturated=(Interval(100, 120),),
    )


def assert_equal(a: EcgRecord, b: EcgRecord) -> None:
    np.testing.assert_array_equal(a.samples, b.samples)
    for name in EcgRecord.__dataclass_fields__:
        if name != "samples":
            assert getattr(a, name) == getattr(b, name), name


def repacked(path: Path, edit: Callable[[dict[str, Any]], None] | None = None, samples: Any = None) -> Path:
    with np.load(path, allow_pickle=False) as arrays:
        header, counts = json.loads(arrays["header"].tobytes()), arrays["samples"]
    if edit is not None:
        edit(header)
    counts = counts if samples is None else samples
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), samples=counts)
    return path


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "one.ecg.npz"
    write_npz(path, full_record())
    return path


def test_round_trip_of_every_field(npz: Path) -> None:
    assert_equal(read_npz(npz), full_record())
    assert_equal(read_record(npz), full_record())


def test_name_of_the_file_stays_as_given(tmp_path: Path) -> None:
    path = tmp_path / "without_suffix"
    write_npz(path, full_record())
    assert path.is_file()
    assert_equal(read_record(path), full_record())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 300),
    lsb=st.floats(1e-3, 1e3),
    fs_hz=st.floats(50, 2000),
    seed=st.integers(0, 2**31),
    text=st.text(max_size=20),
)
def test_round_trip_of_any_record(tmp_path: Path, n: int, lsb: float, fs_hz: float, seed: int, text: str) -> None:
    counts = np.random.default_rng(seed).integers(-32768, 32768, (2, n)).astype(np.int16)
    record = EcgRecord(samples=counts, lsb_uv=lsb, fs_hz=fs_hz, leads=("I", "II"), device=text, record_id=text)
    write_npz(tmp_path / "any.npz", record)
    assert_equal(read_npz(tmp_path / "any.npz"), record)


@pytest.mark.promise(24)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated_file_says_so(npz: Path, part: float) -> None:
    data = npz.read_bytes()
    npz.write_bytes(data[: int(part * len(data))])
    with pytest.raises(TruncatedError, match=f"found {int(part * len(data))} bytes"):
        read_npz(npz)


@pytest.mark.promise(25)
@pytest.mark.parametrize(("first", "mask"), [(0, 0x01), (1, 0x80), (2, 0xFF)])
def test_any_flipped_byte_is_an_ecg_error_or_changes_nothing(npz: Path, first: int, mask: int) -> None:
    data = npz.read_bytes()
    refused = 0
    positions = range(first, len(data), 3)
    for position in positions:
        npz.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
        try:
            assert_equal(read_npz(npz), full_record())
        except EcgError:
            refused += 1
    assert refused > 0.8 * len(positions)


@pytest.mark.parametrize(
    "shape", ["(3, 10000000000000)", "(-3, -200)", "(3, 199)", "(3,)", "3", "(3, 200.0)", "(1e9,)"]
)
def test_array_that_claims_another_size_is_refused(npz: Path, shape: str) -> None:
    with zipfile.ZipFile(npz) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    claimed = members["samples.npy"].replace(b"(3, 200)", shape.encode())
    length = int.from_bytes(claimed[8:10], "little") + len(claimed) - len(members["samples.npy"])
    members["samples.npy"] = claimed[:8] + length.to_bytes(2, "little") + claimed[10:]
    with zipfile.ZipFile(npz, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(EcgError):
        read_npz(npz)


@pytest.mark.promise(26)
def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"format": "x"}], dtype=object), samples=np.zeros((1, 1), np.int16))
    with pytest.raises(FormatError, match="object"):
        read_npz(path)


@pytest.mark.parametrize(
    "names", [["header.npy"], ["header.npy", "samples.npy", "more.npy"], ["../header.npy", "samples.npy"]]
)
def test_foreign_members_are_refused(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(FormatError, match=r"expected header\.npy and samples\.npy"):
        read_npz(path)


def test_array_of_another_version_is_refused(npz: Path) -> None:
    with np.load(npz, allow_pickle=False) as arrays:
        header, samples = arrays["header"], arrays["samples"]
    with zipfile.ZipFile(npz, "w") as archive:
        for name, array in (("header.npy", header), ("samples.npy", samples)):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, version=(2, 0))
            archive.writestr(name, stream.getvalue())
    with pytest.raises(FormatError, match=r"found array version \(2, 0\)"):
        read_npz(npz)


def test_decompression_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.save(header, np.zeros(4, np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", header.getvalue())
        with archive.open("samples.npy", "w") as member:
            for _ in range(129):
                member.write(b"\0" * 1024 * 1024)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(FormatError, match="expected at most"):
        read_npz(path)


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda h: h.update(format="lsemvae-ecg/2"), FormatError),
        (lambda h: h.pop("format"), FormatError),
        (lambda h: h.pop("lsb_uv"), FormatError),
        (lambda h: h.update(lsb_uv=None), UnitError),
        (lambda h: h.update(leads=["I", "II", "X"]), LeadError),
        (lambda h: h.update(leads=["I", "I", "II"]), LeadError),
        (lambda h: h.update(leads=3), FormatError),
        (lambda h: h.update(gaps=[[0]]), FormatError),
        (lambda h: h.update(gaps=[[0, 10]]), SampleError),
        (lambda h: h.update(gaps=[[0, 9999]]), LengthError),
        (lambda h: h.update(start={"utc": 1}), FormatError),
        (lambda h: h.update(more=1), FormatError),
    ],
)
def test_header_that_contradicts_itself_is_refused(
    npz: Path, edit: Callable[[dict[str, Any]], None], error: type
) -> None:
    with pytest.raises(error):
        read_npz(repacked(npz, edit))


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        (np.zeros((3, 0), np.int16), LengthError),
        (np.zeros((3, 9), np.float32), SampleError),
        (np.zeros((2, 200), np.int16), LeadError),
    ],
)
def test_samples_that_do_not_fit_are_refused(npz: Path, samples: np.ndarray, error: type) -> None:
    with pytest.raises(error):
        read_npz(repacked(npz, lambda h: h.update(gaps=[], lead_off=[], saturated=[]), samples))


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b"null", b"\xff"])
def test_header_that_is_no_object_is_refused(npz: Path, header: bytes) -> None:
    np.savez(npz, header=np.frombuffer(header, np.uint8), samples=np.zeros((1, 5), np.int16))
    with pytest.raises(FormatError):
        read_npz(npz)


# the choice of a reader ----------------------------------------------------------------------------------------------


def test_unknown_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG....")
    with pytest.raises(FormatError, match=r"found picture\.png starting with b'\\x89PNG', expected \.ecg\.npz"):
        read_record(path)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    for name in ("empty.bin", "empty.npz", "empty.csv", "empty.hea"):
        (tmp_path / name).touch()
        with pytest.raises(EcgError):
            read_record(tmp_path / name)


@pytest.mark.parametrize("name", ["none.npz", "none.csv", "none.hea", "none", "."])
def test_missing_file_is_a_format_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"Cannot read|is not a file") as caught:
        read_record(tmp_path / name)
    assert "path" in caught.value.advice


@pytest.mark.parametrize(("argument", "error"), [({"fs_hz": 251.0}, RateError), ({"unit": "mV"}, UnitError)])
def test_a_unit_and_another_rate_are_refused_for_files_that_carry_their_own(
    npz: Path, argument: dict[str, Any], error: type[EcgError]
) -> None:
    with pytest.raises(error, match="states"):
        read_record(npz, **argument)


def test_csv_and_wfdb_are_chosen_by_suffix(tmp_path: Path) -> None:
    table = tmp_path / "a.CSV"
    table.write_text("# unit=mV\n# fs_hz=500\nI,II\n1,2\n3,4\n")
    assert read_record(table).n_samples == 2
    (tmp_path / "b.hea").write_text("b 1 500 2\nb.dat 16 1000/mV 16 0 0 0 0 II\n")
    (tmp_path / "b.dat").write_bytes(np.array([1, 2], "<i2").tobytes())
    assert read_record(tmp_path / "b.hea").leads == read_record(tmp_path / "b.dat").leads == ("II",)


def test_a_photo_with_our_suffix_is_no_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "photo.ecg.npz"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(500))
    with pytest.raises(FormatError, match="starting with") as caught:
        read_npz(path)
    assert not isinstance(caught.value, TruncatedError)


def test_a_flipped_bit_of_the_samples_is_called_damage_and_not_truncation(npz: Path) -> None:
    content = bytearray(npz.read_bytes())
    with zipfile.ZipFile(npz) as archive:
        info = archive.getinfo("samples.npy")
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 1
    npz.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="damaged archive") as caught:
        read_npz(npz)
    assert not isinstance(caught.value, TruncatedError)
    assert "copy it again" in caught.value.advice
