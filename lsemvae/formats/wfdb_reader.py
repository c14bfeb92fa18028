"""WFDB recordings (PTB-XL, MIMIC-IV-ECG, the PhysioNet challenges) through the `wfdb` library, leads by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lsemvae.ecg.errors import FormatError, LeadError, SampleError, TruncatedError, UnitError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.record import EcgRecord, record_from_physical


def read_wfdb(path: Path) -> EcgRecord:
    """Read `path` (with or without .hea) as an EcgRecord; each channel must carry a gain, one unit, a known lead name.

    A header that leaves the unit out means mV, as the WFDB format says; one that leaves the gain out is refused.
    """
    import wfdb
    from wfdb.io.header import HeaderSyntaxError

    stem = path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path
    try:
        record = wfdb.rdrecord(str(stem))
    except FileNotFoundError as error:
        raise FormatError(f"{stem}: {error}", advice="A WFDB record is a .hea file with its .dat beside it.") from error
    except (HeaderSyntaxError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{stem}: found a header that cannot be read ({error}), expected one in the WFDB format",
            advice="Copy the .hea file again.",
        ) from error
    except (ValueError, OSError) as error:
        raise TruncatedError(
            f"{stem}: header and data do not fit together ({error})", advice="Copy the .dat file again."
        ) from error
    if record.p_signal is None or not record.sig_name:
        raise LeadError(f"{stem}: found 0 signals, expected at least 1")
    if None in record.sig_name:
        raise LeadError(f"{stem}: found channels without a name ({record.sig_name}), expected a lead name on each")
    _check_gains(stem.with_name(stem.name + ".hea"))
    units = {str(u) for u in record.units}
    if len(units) != 1:
        raise UnitError(
            f"{stem}: found units {sorted(units)}, expected one unit for all channels",
            advice="Convert the record so that all channels are in one of uV, mV and V.",
        )
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


def _check_gains(header: Path) -> None:
    """UnitError where a signal line states no gain: WFDB programs would then take 200 counts per unit, which is a guess."""
    text = header.read_text(encoding="utf-8", errors="replace")
    record, *signals = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if "/" in record[0]:
        return  # the segments of a record in parts have headers of their own
    for line in signals[: int(record[1])]:
        gain = re.match(r"[-+\d.eE]+", line[2]) if len(line) > 2 else None
        if gain is None or float(gain[0]) == 0:
            raise UnitError(
                f"{header}: found the signal line {' '.join(line)!r} without a gain, expected counts per unit like 1000/mV",
                advice="State the gain in the header: amplitudes are never guessed.",
            )


def find_wfdb(root: Path) -> Iterator[Path]:
    """All headers below `root`, in sorted order."""
    yield from sorted(Path(root).rglob("*.hea"))
