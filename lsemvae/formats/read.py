"""Read a recording from a file of any format the app knows, or say what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lsemvae.ecg.errors import FormatError, RateError, UnitError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.csv import read_csv
from lsemvae.formats.dicom import read_dicom
from lsemvae.formats.npz import ZIP_MAGIC, read_npz
from lsemvae.formats.wfdb import read_wfdb

# 30 s of 12 leads at 1 kHz are 0.7 MB, ten minutes as text still less than this: more is no screening recording.
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
# A DICOM file has four letters behind a preamble of 128 bytes (DICOM part 10, section 7.1).
_DICOM_MAGIC: Final = b"DICM"
_DICOM_MAGIC_AT: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """One format: how its files are recognised (suffix in lower case, first bytes), and its reader."""

    name: str
    recognise: Callable[[str, bytes], bool]
    read: Callable[[Path], EcgRecord]


# The first that recognises a file reads it. CSV is read apart, since only it may leave unit and rate to the caller.
FORMATS: Final = (
    _Format(
        name="DICOM waveform",
        recognise=lambda suffix, start: start[_DICOM_MAGIC_AT:] == _DICOM_MAGIC or suffix in (".dcm", ".dicom"),
        read=read_dicom,
    ),
    _Format(name="WFDB", recognise=lambda suffix, _: suffix in (".hea", ".dat"), read=read_wfdb),
    _Format(
        name=".ecg.npz",
        recognise=lambda suffix, start: suffix == ".npz" or start.startswith(ZIP_MAGIC),
        read=read_npz,
    ),
)


def read_record(path: str | Path, *, unit: str | None = None, fs_hz: float | None = None) -> EcgRecord:
    """Read a recording.

    Parameters
    ----------
    path
        ``.ecg.npz``, ``.csv``, a WFDB header ``.hea``, or a DICOM waveform (needs the extra ``dicom``).
    unit, fs_hz
        Unit ("uV", "mV" or "V") and rate of a CSV file that does not state them. The other formats state their own; a
        differing rate or any unit given for them is an error.

    Raises
    ------
    EcgError
        With what was found, what was expected and what to do.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise FormatError(f"{path.name!r} is not a file.", advice="Give the path of one recording.")
        if size > MAX_FILE_BYTES:
            raise FormatError(f"{path.name!r} has {size} bytes; a recording may have at most {MAX_FILE_BYTES}.")
        if size == 0:
            raise FormatError(f"{path.name!r} is empty; expected a recording.")
        suffix = path.suffix.lower()
        if suffix == ".csv":
            return read_csv(path, fs_hz=fs_hz, unit=unit)
        if unit is not None:
            raise UnitError(
                f"Unit {unit!r} was given for {path.suffix or 'this'} file, which states its own.",
                advice="Leave the unit out; it is needed for CSV files only.",
            )
        with path.open("rb") as file:
            start = file.read(_DICOM_MAGIC_AT + len(_DICOM_MAGIC))
        found = next((format_ for format_ in FORMATS if format_.recognise(suffix, start)), None)
        if found is None:
            magic = start[: len(ZIP_MAGIC)]
            raise FormatError(f"found {path.name} starting with {magic!r}, expected .ecg.npz, .csv or WFDB .hea")
        record = found.read(path)
    except OSError as error:
        raise FormatError(
            f"Cannot read {path.name!r}: {error.strerror or type(error).__name__}.",
            advice="Check the path and that this account may read the file (and the .dat file of a WFDB record).",
        ) from error
    if fs_hz is not None and fs_hz != record.fs_hz:
        raise RateError(f"The file states {record.fs_hz:g} Hz; {fs_hz:g} Hz was given.", advice="Leave the rate out.")
    return record
