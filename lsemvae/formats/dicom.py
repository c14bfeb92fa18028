"""Read the rhythm recording of a DICOM ECG (PS3.3 C.10.9, waveform module) with pydicom, an optional extra.

Only the elements named here are read: the identity of the patient stays in the file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsemvae.ecg.errors import EcgError, FormatError, LeadError, LengthError, TruncatedError, UnitError
from lsemvae.ecg.leads import canonical_lead
from lsemvae.ecg.record import EcgRecord, microvolts_per, record_from_physical
from lsemvae.ecg.runs import Interval, LeadOff, StartTime

#: What is taken from the top of the file, and nothing else.
_TAGS = (
    "AcquisitionDateTime",
    "TimezoneOffsetFromUTC",
    "Manufacturer",
    "ManufacturerModelName",
    "WaveformSequence",
)

#: Lead numbers that SCP-ECG ("5.6.3-9-<n>") and MDC ("2:<n>", ISO/IEEE 11073-10101) channel source codes share.
_LEAD_NUMBERS = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF",
}  # fmt: skip
_LEAD_CODE = re.compile(r"^(?:5\.6\.3-9-|2:)(\d+)$")

#: DT value representation (PS3.5 table 6.2-1): digits to the second at least, fraction, zone.
_DATE_TIME = re.compile(r"^(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})?$")
_ZONE = re.compile(r"^([+-])(\d{2})(\d{2})$")


def read_dicom(path: Path) -> EcgRecord:
    """Read the first original rhythm group of a DICOM waveform file.

    Raises
    ------
    FormatError
        pydicom is missing, or the file is no DICOM waveform of 16-bit samples.
    UnitError, LeadError, RateError, LengthError, TruncatedError
        The recording inside is not usable; the message shows both sides.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes the values of doubtful elements, which may name the patient
        try:
            return _to_record(_load(path))
        except EcgError:
            raise
        except Exception as error:  # a damaged file can fail anywhere inside the lazy parser, with any exception
            raise FormatError(
                f"{path.name!r} cannot be read as DICOM ({type(error).__name__}); expected a DICOM 12-lead ECG.",
                advice="Export the recording again; the file may be cut off or damaged.",
            ) from error


def _load(path: Path) -> Any:
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise FormatError(
            "This is a DICOM file, and the package that reads DICOM is not installed.",
            advice="Install it with: pip install 'lsemvae[dicom]'",
        ) from error
    return dcmread(path, specific_tags=list(_TAGS))


def _to_record(dataset: Any) -> EcgRecord:
    group = _rhythm_group(dataset)
    counts = _samples(group)
    channels = list(group.get("ChannelDefinitionSequence") or ())
    if len(channels) != counts.shape[0]:
        raise FormatError(f"The waveform has {counts.shape[0]} channels but defines {len(channels)}.")
    leads = [_lead(channel) for channel in channels]
    missing = _padding(group, counts)
    record = _record(np.where(missing, np.int16(0), counts), channels, leads, fs_hz=_number(group, "SamplingFrequency"))
    return record.with_(start=_start(dataset), device=_device(dataset), **_runs(missing, leads))


def _rhythm_group(dataset: Any) -> Any:
    groups = list(dataset.get("WaveformSequence") or ())
    original = [group for group in groups if group.get("WaveformOriginality") == "ORIGINAL"]
    if not original:
        found = f"{len(groups)} derived groups" if groups else "no waveform"
        raise FormatError(f"The DICOM file holds {found}; expected an original rhythm recording.")
    return original[0]


def _samples(group: Any) -> NDArray[np.int16]:
    """Return the samples, int16 ``[lead, time]``. The file interleaves the channels sample by sample, little endian."""
    bits, kind = group.get("WaveformBitsAllocated"), group.get("WaveformSampleInterpretation")
    if (bits, kind) != (16, "SS"):
        raise FormatError(f"The waveform samples are {bits} bit {kind!r}; expected 16 bit 'SS' (signed).")
    channels, count = int(_number(group, "NumberOfWaveformChannels")), int(_number(group, "NumberOfWaveformSamples"))
    if channels <= 0 or count <= 0:
        raise LengthError(f"The waveform has {count} samples of {channels} channels; expected at least one of each.")
    content = bytes(group.get("WaveformData") or b"")
    if len(content) != 2 * channels * count:
        raise TruncatedError(
            f"The waveform has {len(content)} bytes; {channels} x {count} samples need {2 * channels * count}."
        )
    return np.frombuffer(content, dtype="<i2").reshape(count, channels).T.astype(np.int16)


def _lead(channel: Any) -> str:
    """Return the lead a channel was recorded from: by its meaning, by its code, and never by its position."""
    sources = list(channel.get("ChannelSourceSequence") or ())
    if not sources:
        raise LeadError("A waveform channel does not say which lead it is.")
    meaning, code = str(sources[0].get("CodeMeaning", "")), str(sources[0].get("CodeValue", ""))
    by_code = _lead_by_code(code)
    words = re.sub(r"\(.*?\)", "", meaning).strip()  # "Lead I (Einthoven)" is lead I
    if not words and by_code is not None:
        return by_code
    by_meaning = canonical_lead(words)
    if by_code not in (None, by_meaning):
        raise LeadError(f"A waveform channel is called {meaning!r} but has the code of {by_code} ({code!r}).")
    return by_meaning


def _lead_by_code(code: str) -> str | None:
    match = _LEAD_CODE.match(code)
    return _LEAD_NUMBERS.get(int(match.group(1))) if match else None


def _lsb_uv(channel: Any, lead: str) -> float:
    """Return microvolts per count: sensitivity x correction factor x unit (PS3.3 C.10.9.1.4.2)."""
    units = list(channel.get("ChannelSensitivityUnitsSequence") or ())
    if channel.get("ChannelSensitivity") is None or not units:
        raise UnitError(f"Lead {lead} has no sensitivity with a unit; expected microvolts per count.")
    correction = channel.get("ChannelSensitivityCorrectionFactor")
    factor = 1.0 if correction is None else float(correction)
    return float(channel.ChannelSensitivity) * factor * microvolts_per(str(units[0].get("CodeValue", "")))


def _record(counts: NDArray[np.int16], channels: Sequence[Any], leads: Sequence[str], *, fs_hz: float) -> EcgRecord:
    """Build the record; counts stay counts where all leads share one step, as they do in every file seen."""
    lsbs_uv = [_lsb_uv(channel, lead) for channel, lead in zip(channels, leads, strict=True)]
    if len(set(lsbs_uv)) == 1:
        return EcgRecord(samples=counts, lsb_uv=lsbs_uv[0], fs_hz=fs_hz, leads=tuple(leads))
    physical_uv = counts * np.array(lsbs_uv)[:, np.newaxis]
    return record_from_physical(physical_uv, unit="uV", fs_hz=fs_hz, leads=leads)


def _padding(group: Any, counts: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return where ``[lead, time]`` the file holds its padding value, that is, no measurement."""
    raw = group.get("WaveformPaddingValue")
    if raw is None:
        return np.zeros(counts.shape, dtype=bool)
    value = int.from_bytes(raw[:2], "little", signed=True) if isinstance(raw, bytes) else int(raw)
    return np.equal(counts, value)


def _runs(missing: NDArray[np.bool_], leads: Sequence[str]) -> dict[str, Any]:
    """Turn padding into gaps (no lead measured) and lead-off (one lead not measured)."""
    everywhere = np.logical_and.reduce(missing, axis=0)
    gaps = tuple(Interval(start, stop) for start, stop in _spans(everywhere))
    lead_off = tuple(
        LeadOff(lead, start, stop)
        for lead, row in zip(leads, missing, strict=True)
        for start, stop in _spans(np.logical_and(row, ~everywhere))
    )
    return {"gaps": gaps, "lead_off": lead_off}


def _spans(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _number(group: Any, name: str) -> float:
    value = group.get(name)
    if value is None:
        raise FormatError(f"The waveform does not state its {name}.")
    return float(value)


def _start(dataset: Any) -> StartTime | None:
    """Return the acquisition time where its zone is known; a local time of an unknown place is not a time."""
    match = _DATE_TIME.match(str(dataset.get("AcquisitionDateTime", "")))
    zone = _ZONE.match((match and match.group(3)) or str(dataset.get("TimezoneOffsetFromUTC", "")))
    if match is None or zone is None:
        return None
    offset = timedelta(hours=int(zone.group(2)), minutes=int(zone.group(3))) * (1 if zone.group(1) == "+" else -1)
    try:
        local = datetime.strptime(match.group(1), "%Y%m%d%H%M%S").replace(tzinfo=timezone(offset))
    except ValueError:
        return None
    return StartTime(utc_iso=local.astimezone(UTC).isoformat(), source="file")


def _device(dataset: Any) -> str:
    parts = [str(dataset.get(name, "") or "").strip() for name in ("Manufacturer", "ManufacturerModelName")]
    return " ".join(part for part in parts if part)
