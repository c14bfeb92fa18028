"""The project's own `.ecg.npz`: a JSON header and the int16 samples, to a record and back."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from lsemvae.ecg.canonical import canonical_json
from lsemvae.ecg.errors import EcgError, FormatError, TruncatedError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import Interval, LeadOff, StartTime
from lsemvae.ecg.source import SourceInfo

NPZ_FORMAT: Final = "lsemvae-ecg/1"
# An hour of 12 leads at 1 kHz; a small file that unpacks to more is an attack or a mistake.
MAX_SAMPLES_BYTES: Final = 128 * 1024 * 1024
MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
ZIP_MAGIC: Final = b"PK\x03\x04"


def write_npz(path: str | Path, record: EcgRecord) -> None:
    """Write a record as `.ecg.npz`: array `header` (JSON as uint8) and array `samples` (int16, `[lead, time]`)."""
    values = {
        "format": NPZ_FORMAT,
        "lsb_uv": record.lsb_uv,
        "fs_hz": record.fs_hz,
        "leads": list(record.leads),
        "offset_uv": list(record.offset_uv),
        "start": None if record.start is None else asdict(record.start),
        "gaps": [[gap.start, gap.stop] for gap in record.gaps],
        "lead_off": [[off.lead, off.start, off.stop] for off in record.lead_off],
        "device": record.device,
        "record_id": record.record_id,
        "gain_known": record.gain_known,
        "saturated": [[run.start, run.stop] for run in record.saturated],
        **({} if record.source == SourceInfo() else {"source": record.source.to_dict()}),
    }
    header = np.frombuffer(canonical_json(values), dtype=np.uint8)
    with Path(path).open("wb") as file:
        np.savez_compressed(file, header=header, samples=record.samples)


def read_npz(path: str | Path) -> EcgRecord:
    """Return the record of an `.ecg.npz` file.

    Raises
    ------
    TruncatedError
        If the archive or an array in it ends too early.
    FormatError
        If it is no such archive; further errors of :class:`EcgRecord` where its content contradicts itself.
    """
    source = Path(path)
    packed_header, packed_samples = _members(source)
    header, samples = _array(source, packed_header).tobytes(), _array(source, packed_samples)
    try:
        values = json.loads(header)
        found = values.pop("format", None)
        if found != NPZ_FORMAT:
            raise FormatError(f"found format {found!r} in {source.name}, expected {NPZ_FORMAT!r}")
        values["leads"] = tuple(values["leads"])
        values["offset_uv"] = tuple(values["offset_uv"])
        values["start"] = None if values["start"] is None else StartTime(**values["start"])
        values["gaps"] = tuple(Interval(*run) for run in values["gaps"])
        values["saturated"] = tuple(Interval(*run) for run in values["saturated"])
        values["lead_off"] = tuple(LeadOff(*run) for run in values["lead_off"])
        values["source"] = SourceInfo.from_dict(values.get("source", {}))
        return EcgRecord(samples=samples, **values)
    except EcgError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise FormatError(
            f"found a header in {source.name} of the wrong shape ({error}), expected {NPZ_FORMAT!r}"
        ) from error


def _members(source: Path) -> tuple[bytes, bytes]:
    """Return the two members unpacked; foreign members and sizes that would fill the memory are refused before that."""
    try:
        with zipfile.ZipFile(source) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if set(sizes) != {"header.npy", "samples.npy"} or len(archive.infolist()) != 2:
                raise FormatError(
                    f"found members {sorted(sizes)} in {source.name}, expected header.npy and samples.npy"
                )
            if sizes["header.npy"] > MAX_HEADER_BYTES or sizes["samples.npy"] > MAX_SAMPLES_BYTES:
                raise FormatError(
                    f"found members of {sizes} bytes in {source.name}, expected at most {MAX_SAMPLES_BYTES}"
                )
            return archive.read("header.npy"), archive.read("samples.npy")
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        # Is it no archive at all, a changed one, or one that was cut off (its directory stands at the end)?
        with source.open("rb") as file:
            magic = file.read(len(ZIP_MAGIC))
        if magic != ZIP_MAGIC[: len(magic)]:
            raise FormatError(
                f"found {source.name} starting with {magic!r}, expected an archive starting with {ZIP_MAGIC!r}"
            ) from error
        if zipfile.is_zipfile(source):
            raise FormatError(
                f"found a damaged archive {source.name} ({error}), expected one with sound check sums",
                advice="The file was changed or damaged on the way: copy it again from its source.",
            ) from error
        size = source.stat().st_size
        raise TruncatedError(f"found {size} bytes in {source.name}, expected a whole archive ({error})") from error
    except (ValueError, NotImplementedError, RuntimeError, struct.error, OSError) as error:
        raise FormatError(
            f"found an archive {source.name} that cannot be read ({error}), expected one of numpy"
        ) from error


def _array(source: Path, member: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the array of a `.npy` member; its stated shape must account for every byte, objects are refused."""
    stream = io.BytesIO(member)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise FormatError(f"found array version {version} in {source.name}, expected (1, 0)")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        expected, found = math.prod(shape) * dtype.itemsize, len(member) - stream.tell()
        if dtype.hasobject or found != expected:
            raise FormatError(f"found {found} bytes of {dtype} in {source.name}, expected {expected} of plain numbers")
        return np.frombuffer(member, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, SyntaxError, OverflowError) as error:
        raise FormatError(f"found an array in {source.name} that cannot be read ({error}), expected numbers") from error
