"""Reader of WFDB records in format 16 (header `.hea`, signals `.dat`), after the manual pages header(5), signal(5).

Format 16: each sample is a 16-bit two's complement number, low byte first; the signals of one file alternate sample
by sample. Value -32768 stands for a missing sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import FormatError, LeadError, LengthError, RateError, SampleError, TruncatedError, UnitError
from lsemvae.ecg.leads import canonical_lead
from lsemvae.ecg.record import EcgRecord, microvolts_per

# Headers name one signal in a line; a file longer than this is none.
_MAX_HEADER_BYTES: Final = 1 << 20
_DEFAULT_UNIT: Final = "mV"  # header(5): "if the units are missing, millivolts are assumed" once a gain is stated
# gain(baseline)/units, the second and third part optional
_GAIN: Final = re.compile(r"(\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?)(?:\(([-+]?\d{1,9})\))?(?:/(\S+))?", re.ASCII)
_MISSING: Final = -32768
_BOTH_FILES: Final = "A WFDB record has two files, .hea and .dat: copy both into one folder."


@dataclass(frozen=True, slots=True)
class _Signal:
    """One signal line of the header."""

    file: str
    skip: int
    gain: float
    baseline: int
    unit: str
    name: str


def read_wfdb16(path: str | Path) -> EcgRecord:
    """Return the record of a WFDB header whose signals are all in format 16.

    Parameters
    ----------
    path
        The `.hea` file, or the record name without suffix; `.dat` files lie beside it.

    Raises
    ------
    FormatError
        If the header cannot be read, or a signal is in another format (212, 80, ...).
    TruncatedError
        If a signal file is shorter than the header says.
    UnitError, LeadError, RateError
        If gains are missing or differ, a lead name is unknown, or the rate is missing.
    """
    header = Path(path).with_suffix(".hea")
    n_signals, fs_hz, n_samples, lines = _read_header(header)
    signals = [_parse_signal(line, header) for line in lines[:n_signals]]
    if len(signals) != n_signals:
        raise TruncatedError(f"found {len(signals)} signal lines in {header.name}, expected {n_signals}")
    counts = _read_counts(header, signals, n_samples)
    lsb_uv = _common_lsb_uv(signals, header)
    baselines = np.array([[signal.baseline] for signal in signals])
    return EcgRecord(
        samples=_centred(counts, baselines, header),
        lsb_uv=lsb_uv,
        fs_hz=fs_hz,
        leads=tuple(canonical_lead(signal.name) for signal in signals),
        record_id=header.stem,
    )


def _read_header(header: Path) -> tuple[int, float, int | None, list[str]]:
    """Return number of signals, rate, number of samples (None if not stated) and the signal lines."""
    if not header.is_file():
        raise FormatError(f"found no header {header.name!r}, expected it", advice=_BOTH_FILES)
    data = header.read_bytes()
    if len(data) > _MAX_HEADER_BYTES:
        raise FormatError(f"found a header of {len(data)} bytes, expected at most {_MAX_HEADER_BYTES}")
    text = data.decode("utf-8", errors="replace")
    lines = [line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]
    first = lines[0].split() if lines else []
    if len(first) < 2 or "/" in first[0] or not first[1].isdigit():
        raise FormatError(
            f"found first line {' '.join(first)!r} in {header.name}, expected record name, signals, rate, samples"
        )
    if len(first) < 3:
        raise RateError(f"found no rate in {header.name}, expected the samples per second as third field")
    try:
        fs_hz = float(re.split(r"[/(]", first[2])[0])
        n_samples = int(first[3]) if len(first) > 3 else 0
    except ValueError as error:
        raise FormatError(f"found rate and samples {first[2:4]} in {header.name}, expected numbers") from error
    if int(first[1]) == 0:
        raise LeadError(f"found 0 signals in {header.name}, expected at least 1")
    return int(first[1]), fs_hz, n_samples or None, lines[1:]


def _parse_signal(line: str, header: Path) -> _Signal:
    parts = line.split(maxsplit=8)
    if len(parts) < 9:
        raise FormatError(f"found signal line {line!r} in {header.name}, expected 9 fields with the lead name last")
    form = re.fullmatch(r"(\d+)(x\d+)?(:\d+)?(?:\+(\d{1,9}))?", parts[1], re.ASCII)
    if form is None or form[1] != "16" or form[2] not in (None, "x1") or form[3]:
        raise FormatError(
            f"found signal format {parts[1]!r} in {header.name}, expected 16",
            advice="Convert the record to WFDB format 16, for instance with the WFDB tool xform.",
        )
    gain = _GAIN.fullmatch(parts[2])
    if gain is None or not float(gain[1]) > 0:
        raise UnitError(f"found gain {parts[2]!r} in {header.name}, expected counts per unit like 1000/mV")
    zero = re.fullmatch(r"[-+]?\d{1,9}", gain[2] or parts[4], re.ASCII)
    if zero is None:
        raise FormatError(f"found ADC zero {parts[4]!r} in {header.name}, expected a whole number")
    return _Signal(parts[0], int(form[4] or 0), float(gain[1]), int(zero[0]), gain[3] or _DEFAULT_UNIT, parts[8])


def _read_counts(header: Path, signals: list[_Signal], n_samples: int | None) -> npt.NDArray[np.int16]:
    """Return `[signal, time]` from the signal files, each read once."""
    rows: dict[str, list[int]] = {}
    for k, signal in enumerate(signals):
        rows.setdefault(signal.file, []).append(k)
    parts = {name: _read_dat(header, name, len(ks), signals[ks[0]].skip, n_samples) for name, ks in rows.items()}
    lengths = {name: part.shape[1] for name, part in parts.items()}
    if len(set(lengths.values())) != 1:
        raise LengthError(f"found signal files of different lengths {lengths}, expected equal ones")
    counts = np.empty((len(signals), next(iter(lengths.values()))), dtype=np.int16)
    for name, ks in rows.items():
        counts[ks] = parts[name]
    return counts


def _read_dat(header: Path, name: str, n_signals: int, skip: int, n_samples: int | None) -> npt.NDArray[np.int16]:
    if Path(name).name != name or name in ("", ".", ".."):
        raise FormatError(f"found signal file {name!r}, expected a file beside {header.name}")
    if not (header.parent / name).is_file():
        raise FormatError(f"found no signal file {name!r}, expected it beside {header.name}", advice=_BOTH_FILES)
    data = (header.parent / name).read_bytes()[skip:]
    frame = 2 * n_signals
    expected = len(data) - len(data) % frame if n_samples is None else n_samples * frame
    if len(data) < expected or (n_samples is None and len(data) % frame):
        raise TruncatedError(f"found {len(data)} bytes in {name}, expected {expected or frame}")
    if expected == 0:
        raise LengthError(f"found 0 samples in {name}, expected at least 1")
    return np.frombuffer(data[:expected], dtype="<i2").reshape(-1, n_signals).T.astype(np.int16)


def _common_lsb_uv(signals: list[_Signal], header: Path) -> float:
    sizes = {microvolts_per(signal.unit) / signal.gain for signal in signals}
    if len(sizes) != 1:
        raise UnitError(
            f"found count sizes {sorted(sizes)} uV in {header.name}, expected one for all leads",
            advice="Convert the record so that all leads have the same gain.",
        )
    return sizes.pop()


def _centred(counts: npt.NDArray[np.int16], baselines: npt.NDArray[np.int64], header: Path) -> npt.NDArray[np.int16]:
    """Return counts less the count that means 0 V; refuse missing samples and overflow."""
    missing = int(np.count_nonzero(counts == _MISSING))
    if missing:
        raise SampleError(f"found {missing} missing samples in {header.name}, expected none")
    centred = counts.astype(np.int64) - baselines
    if np.abs(centred).max() > 32767:
        raise SampleError(f"found counts up to {np.abs(centred).max()} in {header.name}, expected at most 32767")
    return centred.astype(np.int16)
