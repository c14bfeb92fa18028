"""Read the rhythm recording of a DICOM ECG (PS3.3 C.10.9, waveform module) with pydicom, an optional extra.

Only the elements named here are read: the identity of the patient stays in the file.
"""

from __future__ import annotations

import re
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from lsemvae.ecg.errors import EcgError, FormatError, LeadError, LengthError, TruncatedError, UnitError
from lsemvae.ecg.leads import LEADS, canonical_lead
from lsemvae.ecg.record import EcgRecord, microvolts_per, record_from_physical
from lsemvae.ecg.runs import Interval, LeadOff, StartTime, runs_of

# What is taken from the top of the file, and nothing else.
_TAGS: Final = (
    "AcquisitionDateTime",
    "TimezoneOffsetFromUTC",
    "Manufacturer",
    "ManufacturerModelName",
    "WaveformSequence",
)

# Lead numbers that SCP-ECG ("5.6.3-9-<n>") and MDC ("2:<n>", ISO/IEEE 11073-10101) channel source codes share.
_LEAD_NUMBERS: Final = dict(zip((1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), LEADS, strict=True))
_LEAD_CODE: Final = re.compile(r"^(?:5\.6\.3-9-|2:)(\d+)$")

# DT value representation (PS3.5 table 6.2-1): digits to the second at least, fraction, zone.
_DATE_TIME: Final = re.compile(r"^(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})?$")
_ZONE: Final = re.compile(r"^([+-])(\d{2})(\d{2})$")


def read_dicom(path: Path) -> EcgRecord:
    """Read the first original rhythm group of a DICOM waveform file.

    Raises
    ------
    FormatError
        pydicom is missing, or the file is no DICOM waveform of 16-bit samples.
    UnitError, LeadError, RateError, LengthError, TruncatedError
        The recording inside is not usable; the message shows both sides.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise FormatError(
            "This is a DICOM file, and the package that reads DICOM is not installed.",
            advice="Install it with: pip install 'lsemvae[dicom]'",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes the values of doubtful elements, which may name the patient
        try:
            return _to_record(dcmread(path, specific_tags=list(_TAGS)))
        except EcgError:
            raise
        except Exception as error:  # a damaged file can fail anywhere inside the lazy parser, with any exception
            raise FormatError(
                f"{path.name!r} cannot be read as DICOM ({type(error).__name__}); expected a DICOM 12-lead ECG.",
                advice="Export the recording again; the file may be cut off or damaged.",
            ) from error


def _to_record(dataset: Any) -> EcgRecord:
    groups = list(dataset.get("WaveformSequence") or ())
    group = next((group for group in groups if group.get("WaveformOriginality") == "ORIGINAL"), None)
    if group is None:
        found = f"{len(groups)} derived groups" if groups else "no waveform"
        raise FormatError(f"The DICOM file holds {found}; expected an original rhythm recording.")
    bits, kind = group.get("WaveformBitsAllocated"), group.get("WaveformSampleInterpretation")
    if (bits, kind) != (16, "SS"):
        raise FormatError(f"The waveform samples are {bits} bit {kind!r}; expected 16 bit 'SS' (signed).")
    rows, count = int(_number(group, "NumberOfWaveformChannels")), int(_number(group, "NumberOfWaveformSamples"))
    if rows <= 0 or count <= 0:
        raise LengthError(f"The waveform has {count} samples of {rows} channels; expected at least one of each.")
    content = bytes(group.get("WaveformData") or b"")
    if len(content) != 2 * rows * count:
        raise TruncatedError(
            f"The waveform has {len(content)} bytes; {rows} x {count} samples need {2 * rows * count}."
        )
    counts = np.frombuffer(content, dtype="<i2").reshape(count, rows).T.astype(np.int16)  # stored sample by sample
    channels = list(group.get("ChannelDefinitionSequence") or ())
    if len(channels) != counts.shape[0]:
        raise FormatError(f"The waveform has {counts.shape[0]} channels but defines {len(channels)}.")
    leads = tuple(_lead(channel) for channel in channels)

    # Where `[lead, time]` the file holds its padding value, nothing was measured: by no lead (a gap) or not by this one.
    missing = np.zeros(counts.shape, dtype=bool)
    raw = group.get("WaveformPaddingValue")
    if raw is not None:
        padding = int.from_bytes(raw[:2], "little", signed=True) if isinstance(raw, bytes) else int(raw)
        missing = np.equal(counts, padding)
    everywhere = np.logical_and.reduce(missing, axis=0)
    lead_off = tuple(
        LeadOff(lead, start, stop)
        for lead, row in zip(leads, missing, strict=True)
        for start, stop in runs_of(np.logical_and(row, ~everywhere))
    )
    counts = np.where(missing, np.int16(0), counts)

    lsbs_uv = [_lsb_uv(channel, lead) for channel, lead in zip(channels, leads, strict=True)]
    fs_hz = _number(group, "SamplingFrequency")
    if len(set(lsbs_uv)) == 1:  # as in every file seen: counts stay counts
        record = EcgRecord(samples=counts, lsb_uv=lsbs_uv[0], fs_hz=fs_hz, leads=leads)
    else:
        record = record_from_physical(counts * np.array(lsbs_uv)[:, np.newaxis], unit="uV", fs_hz=fs_hz, leads=leads)
    maker = [str(dataset.get(name, "") or "").strip() for name in ("Manufacturer", "ManufacturerModelName")]
    return record.with_(
        start=_start(dataset),
        device=" ".join(part for part in maker if part),
        gaps=tuple(Interval(start, stop) for start, stop in runs_of(everywhere)),
        lead_off=lead_off,
    )


def _lead(channel: Any) -> str:
    """Return the lead a channel was recorded from: by its meaning, by its code, and never by its position."""
    sources = list(channel.get("ChannelSourceSequence") or ())
    if not sources:
        raise LeadError("A waveform channel does not say which lead it is.")
    meaning, code = str(sources[0].get("CodeMeaning", "")), str(sources[0].get("CodeValue", ""))
    number = _LEAD_CODE.match(code)
    by_code = _LEAD_NUMBERS.get(int(number.group(1))) if number else None
    words = re.sub(r"\(.*?\)", "", meaning).strip()  # "Lead I (Einthoven)" is lead I
    if not words and by_code is not None:
        return by_code
    by_meaning = canonical_lead(words)
    if by_code not in (None, by_meaning):
        raise LeadError(f"A waveform channel is called {meaning!r} but has the code of {by_code} ({code!r}).")
    return by_meaning


def _lsb_uv(channel: Any, lead: str) -> float:
    """Return microvolts per count: sensitivity x correction factor x unit (PS3.3 C.10.9.1.4.2)."""
    units = list(channel.get("ChannelSensitivityUnitsSequence") or ())
    if channel.get("ChannelSensitivity") is None or not units:
        raise UnitError(f"Lead {lead} has no sensitivity with a unit; expected microvolts per count.")
    correction = channel.get("ChannelSensitivityCorrectionFactor")
    factor = 1.0 if correction is None else float(correction)
    return float(channel.ChannelSensitivity) * factor * microvolts_per(str(units[0].get("CodeValue", "")))


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
