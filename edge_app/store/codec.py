"""A recording as the store keeps it: a JSON header and the raw counts."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from lsemvae.ecg.errors import StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import Interval, LeadOff, StartTime
from lsemvae.ecg.source import SourceInfo

FORMAT: Final = "lsemvae-record/1"


def encode_samples(record: EcgRecord) -> bytes:
    """Return the counts, int16 little endian, ``[lead, time]`` row by row."""
    return np.ascontiguousarray(record.samples, dtype="<i2").tobytes()


def encode_record(record: EcgRecord) -> str:
    """Return everything but the samples and the id as canonical JSON."""
    header = {
        "format": FORMAT,
        "shape": list(record.samples.shape),
        "lsb_uv": record.lsb_uv,
        "fs_hz": record.fs_hz,
        "leads": list(record.leads),
        "offset_uv": list(record.offset_uv),
        "start": [record.start.utc_iso, record.start.source] if record.start else None,
        "gaps": [[run.start, run.stop] for run in record.gaps],
        "lead_off": [[run.lead, run.start, run.stop] for run in record.lead_off],
        "saturated": [[run.start, run.stop] for run in record.saturated],
        "device": record.device,
        "gain_known": record.gain_known,
        **({} if record.source == SourceInfo() else {"source": record.source.to_dict()}),
    }
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode_record(header: str, samples: bytes) -> EcgRecord:
    """Rebuild the recording.

    Raises
    ------
    StoreError
        The header is not one of ours, or does not fit the samples.
    """
    try:
        fields = json.loads(header)
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']!r}, expected {FORMAT!r}")
        return EcgRecord(
            samples=np.frombuffer(samples, dtype="<i2").reshape(fields["shape"]).astype(np.int16),
            lsb_uv=fields["lsb_uv"],
            fs_hz=fields["fs_hz"],
            leads=tuple(fields["leads"]),
            offset_uv=tuple(fields["offset_uv"]),
            start=StartTime(*fields["start"]) if fields["start"] else None,
            gaps=tuple(Interval(*run) for run in fields["gaps"]),
            lead_off=tuple(LeadOff(*run) for run in fields["lead_off"]),
            saturated=tuple(Interval(*run) for run in fields["saturated"]),
            device=fields["device"],
            gain_known=fields["gain_known"],
            source=SourceInfo.from_dict(fields.get("source", {})),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"A stored recording cannot be read: {type(error).__name__}: {error}.") from error
