"""WFDB recordings (PTB-XL, MIMIC-IV-ECG, the PhysioNet challenges) through the `wfdb` library, leads by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lsemvae.ecg.errors import FormatError, SampleError, TruncatedError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.record import EcgRecord, record_from_physical


def read_wfdb(path: Path) -> EcgRecord:
    """Read `path` (with or without .hea) as an EcgRecord; each channel must carry a unit and a known lead name."""
    import wfdb

    stem = path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path
    try:
        record = wfdb.rdrecord(str(stem))
    except FileNotFoundError as error:
        raise FormatError(f"{stem}: {error}", advice="A WFDB record is a .hea file with its .dat beside it.") from error
    except (ValueError, IndexError, OSError) as error:
        raise TruncatedError(
            f"{stem}: header and data do not fit together ({error})", advice="Copy the .dat file again."
        ) from error
    units = {str(u) for u in record.units}
    if len(units) != 1:
        raise FormatError(f"{stem}: found units {sorted(units)}, expected one unit for all channels")
    signal = np.asarray(record.p_signal, dtype=np.float64).T
    if not np.isfinite(signal).all():
        raise SampleError(f"{stem}: found {int((~np.isfinite(signal)).sum())} samples that are not numbers")
    return record_from_physical(
        signal,
        unit=units.pop(),
        fs_hz=float(record.fs),
        leads=canonical_leads(record.sig_name),
        lsb_uv=None,
        start=None,
        record_id=stem.name,
    )


def find_wfdb(root: Path) -> Iterator[Path]:
    """All headers below `root`, in sorted order."""
    yield from sorted(Path(root).rglob("*.hea"))
