"""Every kind of bad file ends in an error that says what was found, what was expected and what to do."""

from __future__ import annotations

import builtins
import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import write_npz
from lsemvae.formats.read import MAX_FILE_BYTES, read_record

HEADER = "# fs_hz=500\n# unit=mV\n"
ROWS = "0.1,0.2\n" * 5000


def _csv(folder: Path, text: str) -> Path:
    path = folder / "record.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _fails(path: Path, code: str, **options: Any) -> EcgError:
    with pytest.raises(EcgError) as caught:
        read_record(path, **options)
    assert caught.value.code == code, caught.value
    assert caught.value.advice
    return caught.value


def test_csv_npz_and_wfdb_are_read(tmp_path: Path, clean_csv: Path, make_record: Callable[..., EcgRecord]) -> None:
    record = make_record()
    assert read_record(clean_csv).leads == ("I", "II")
    write_npz(tmp_path / "r.ecg.npz", record)
    assert np.array_equal(read_record(tmp_path / "r.ecg.npz").samples, record.samples)
    (tmp_path / "w.dat").write_bytes(np.ascontiguousarray(record.samples.T, dtype="<i2").tobytes())
    gain = 1000 / record.lsb_uv
    lines = [f"w 2 {record.fs_hz:g} {record.n_samples}"]
    lines += [
        f"w.dat 16 {gain:g}(0)/mV 16 0 {row[0]} {int(row.sum()) & 0xFFFF} 0 {n}"
        for row, n in zip(record.samples, ("I", "II"), strict=True)
    ]
    (tmp_path / "w.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    assert np.array_equal(read_record(tmp_path / "w.hea").samples, record.samples)


def test_unit_and_rate_may_come_from_the_caller(tmp_path: Path) -> None:
    record = read_record(_csv(tmp_path, "I,II\n" + ROWS), unit="uV", fs_hz=500)
    assert record.fs_hz == 500
    assert record.to_mv()[1, 0] == pytest.approx(0.0002, abs=0.0005)


BAD_CSV: dict[str, tuple[str, str]] = {
    "missing unit": ("# fs_hz=500\nI,II\n" + ROWS, "E_UNIT"),
    "unknown unit": ("# fs_hz=500\n# unit=MV\nI,II\n" + ROWS, "E_UNIT"),
    "missing rate": ("# unit=mV\nI,II\n" + ROWS, "E_RATE"),
    "impossible rate": ("# fs_hz=3\n# unit=mV\nI,II\n" + ROWS, "E_RATE"),
    "rate that is no number": ("# fs_hz=fast\n# unit=mV\nI,II\n" + ROWS, "E_RATE"),
    "unknown lead": (HEADER + "I,X9\n" + ROWS, "E_LEAD"),
    "duplicate lead": (HEADER + "II,Lead II\n" + ROWS, "E_LEAD"),
    "no lead names": (HEADER + ROWS, "E_LEAD"),
    "0 samples": (HEADER + "I,II\n", "E_LENGTH"),
    "nothing but comments": (HEADER, "E_LENGTH"),
    "NaN": (HEADER + "I,II\n" + ROWS + "nan,0.1\n", "E_SAMPLE"),
    "infinity": (HEADER + "I,II\n" + ROWS + "inf,0.1\n", "E_SAMPLE"),
    "text among numbers": (HEADER + "I,II\n" + ROWS + "a,b\n", "E_FORMAT"),
    "uneven rows": (HEADER + "I,II\n" + ROWS + "1\n", "E_FORMAT"),
    "truncated last row": (HEADER + "I,II\n" + ROWS + "0.1", "E_TRUNCATED"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_csv(tmp_path: Path, name: str) -> None:
    text, code = BAD_CSV[name]
    _fails(_csv(tmp_path, text), code)


def test_another_unit_or_rate_than_the_file_states_is_refused(tmp_path: Path, clean_csv: Path) -> None:
    _fails(clean_csv, "E_FORMAT", unit="uV")
    _fails(clean_csv, "E_FORMAT", fs_hz=250)


def test_a_unit_for_a_file_that_states_its_own_is_refused(
    tmp_path: Path, make_record: Callable[..., EcgRecord]
) -> None:
    path = tmp_path / "r.ecg.npz"
    write_npz(path, make_record())
    assert "states its own" in str(_fails(path, "E_UNIT", unit="mV"))
    assert "500 Hz" in str(_fails(path, "E_RATE", fs_hz=250))
    assert read_record(path, fs_hz=500).fs_hz == 500


@pytest.mark.parametrize("keep", [0.99, 0.5, 0.02])
def test_truncated_npz(tmp_path: Path, make_record: Callable[..., EcgRecord], keep: float) -> None:
    path = tmp_path / "r.ecg.npz"
    write_npz(path, make_record())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    _fails(path, "E_TRUNCATED")


@pytest.mark.promise(26)
def test_an_npz_with_objects_inside_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "r.ecg.npz"
    np.savez(path, header=np.array([{"a": 1}], dtype=object), samples=np.zeros((2, 9), dtype=np.int16))
    _fails(path, "E_FORMAT")


def test_no_file(tmp_path: Path) -> None:
    assert "No such file" in str(_fails(tmp_path / "none.csv", "E_FORMAT"))
    assert "not a file" in str(_fails(tmp_path, "E_FORMAT"))
    (tmp_path / "empty.csv").touch()
    assert "empty" in str(_fails(tmp_path / "empty.csv", "E_FORMAT"))


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 100)
    _fails(tmp_path / "photo.jpg", "E_FORMAT")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "at most" in str(_fails(path, "E_FORMAT"))


def test_dicom_without_pydicom_names_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def hidden(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "pydicom":
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", hidden)
    path = tmp_path / "ecg.dcm"
    path.write_bytes(bytes(128) + b"DICM" + bytes(100))
    assert "pip install 'lsemvae[dicom]'" in _fails(path, "E_FORMAT").advice


@pytest.mark.parametrize("name", ["r.csv", "r.ecg.npz", "r.dcm", "r.hea"])
def test_a_file_that_may_not_be_read_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(b"content")
    real = io.open

    def refuse(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(file, *arguments, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    error = _fails(path, "E_FORMAT")
    assert "Permission denied" in str(error)
    assert name in str(error) or name == "r.ecg.npz"
