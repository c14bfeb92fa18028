"""Read a recording from a file of any format the app knows, or say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from lsemvae.ecg.errors import FormatError, RateError, UnitError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.csv import read_csv
from lsemvae.formats.npz import ZIP_MAGIC, read_npz
from lsemvae.formats.wfdb import read_wfdb16

#: A DICOM file has these four bytes behind a preamble of 128 (DICOM part 10, section 7.1).
_DICOM_MAGIC = b"DICM"
_DICOM_MAGIC_AT = 128

#: 30 s of 12 leads at 1 kHz are 0.7 MB, ten minutes as text still less than this: more is no screening recording.
MAX_FILE_BYTES = 256 * 1024 * 1024


def read_record(path: Path, *, unit: str | None = None, fs_hz: float | None = None) -> EcgRecord:
    """Read a recording.

    Parameters
    ----------
    path
        ``.ecg.npz``, ``.csv``, a WFDB header ``.hea`` (format 16), or a DICOM waveform (needs the extra ``dicom``).
    unit, fs_hz
        Unit ("uV", "mV" or "V") and rate of a CSV file that does not state them. The other formats state their own; a
        differing rate or any unit given for them is an error.

    Raises
    ------
    EcgError
        With what was found, what was expected and what to do.
    """
    path = Path(path)
    _check_readable(path)
    try:
        return _read(path, unit=unit, fs_hz=fs_hz)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path, *, unit: str | None, fs_hz: float | None) -> EcgRecord:
    if path.suffix.lower() == ".csv":
        return read_csv(path, fs_hz=fs_hz, unit=unit)
    if unit is not None:
        raise UnitError(
            f"Unit {unit!r} was given for {path.suffix or 'this'} file, which states its own.",
            advice="Leave the unit out; it is needed for CSV files only.",
        )
    record = _read_self_describing(path)
    if fs_hz is not None and fs_hz != record.fs_hz:
        raise RateError(f"The file states {record.fs_hz:g} Hz; {fs_hz:g} Hz was given.", advice="Leave the rate out.")
    return record


def _read_self_describing(path: Path) -> EcgRecord:
    if _is_dicom(path):
        from lsemvae.formats.dicom import read_dicom

        return read_dicom(path)
    suffix = path.suffix.lower()
    if suffix in (".hea", ".dat"):
        return read_wfdb16(path)
    with path.open("rb") as file:
        magic = file.read(len(ZIP_MAGIC))
    if suffix == ".npz" or magic == ZIP_MAGIC:
        return read_npz(path)
    raise FormatError(f"found {path.name} starting with {magic!r}, expected .ecg.npz, .csv or WFDB .hea")


def _check_readable(path: Path) -> None:
    try:
        size = path.stat().st_size
        regular = path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not regular:
        raise FormatError(f"{path.name!r} is not a file.", advice="Give the path of one recording.")
    if size > MAX_FILE_BYTES:
        raise FormatError(f"{path.name!r} has {size} bytes; a recording may have at most {MAX_FILE_BYTES}.")
    if size == 0:
        raise FormatError(f"{path.name!r} is empty; expected a recording.")


def _unreadable(path: Path, error: OSError) -> FormatError:
    return FormatError(
        f"Cannot read {path.name!r}: {error.strerror or type(error).__name__}.",
        advice="Check the path and that this account may read the file (and the .dat file of a WFDB record).",
    )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_DICOM_MAGIC_AT + len(_DICOM_MAGIC))
    return start[_DICOM_MAGIC_AT:] == _DICOM_MAGIC or path.suffix.lower() in (".dcm", ".dicom")
