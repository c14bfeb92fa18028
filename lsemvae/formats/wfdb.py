"""Reader of WFDB records (header `.hea`, signals `.dat` or `.mat`), after the manual pages header(5) and signal(5).

Signals in format 16 are read here and keep their counts: each sample is a 16-bit two's complement number, low byte
first; the signals of one file alternate sample by sample; -32768 stands for a missing sample. Everything else (format
212, records in segments, ...) is read through the `wfdb` library where it is installed. The rules are the same for both:
each signal states a gain and a lead, all state one unit, the record states its rate, no sample is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import FormatError, LeadError, LengthError, RateError, SampleError, TruncatedError, UnitError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.record import EcgRecord, microvolts_per, record_from_physical

# Headers name one signal in a line; a file longer than this is none.
_MAX_HEADER_BYTES: Final = 1 << 20
_DEFAULT_UNIT: Final = "mV"  # header(5): "if the units are missing, millivolts are assumed" once a gain is stated
# gain(baseline)/units, the second and third part optional
_GAIN: Final = re.compile(r"(\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?)(?:\(([-+]?\d{1,9})\))?(?:/(\S+))?", re.ASCII)
# format, samples a frame, skew, bytes to skip
_FORM: Final = re.compile(r"(\d+)(x\d+)?(:\d+)?(?:\+(\d{1,9}))?", re.ASCII)
_MISSING: Final = -32768
_INT16_MAX: Final = 32767
_BOTH_FILES: Final = "A WFDB record has two files, .hea and .dat: copy both into one folder."
_CONVERT: Final = (
    "Convert the record to WFDB format 16, for instance with the WFDB tool xform, "
    "or install the library that reads it: pip install 'lsemvae[train]'"
)


@dataclass(frozen=True, slots=True)
class _Signal:
    """One signal line of a header; `plain` for format 16 without skew and with one sample a frame."""

    file: str
    form: str
    plain: bool
    skip: int
    gain: float
    baseline: int
    unit: str
    name: str


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header says; `n_samples` is None where it is not stated, `segments` is empty for a record in one part."""

    path: Path
    fs_hz: float
    n_samples: int | None
    signals: tuple[_Signal, ...]
    segments: tuple[str, ...]


def read_wfdb(path: str | Path) -> EcgRecord:
    """Return the record of a WFDB header.

    Counts stay as they are where all leads share one count size; otherwise the millivolts are counted anew.

    Parameters
    ----------
    path
        The `.hea` file, a signal file beside it, or the record name without suffix.

    Raises
    ------
    FormatError
        If a file is missing, the header cannot be read, or only the `wfdb` library can read the record and is not
        installed.
    TruncatedError
        If a signal file is shorter than the header says.
    UnitError, LeadError, RateError, SampleError
        If a gain is missing, units differ, a lead name is missing or unknown, the rate is missing, samples are missing.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path
    header = _parse_header(stem.with_name(f"{stem.name}.hea"))
    if header.segments or not all(signal.plain for signal in header.signals):
        for segment in header.segments:
            _parse_header(stem.with_name(f"{segment}.hea"))  # the library guesses what a segment does not state
        return _read_through_library(stem, header)
    leads = canonical_leads([signal.name for signal in header.signals])
    units = sorted({signal.unit for signal in header.signals})
    if len(units) != 1:
        raise _mixed_units(units, header.path)
    unit_uv = microvolts_per(units[0])
    counts = _read_counts(header)
    missing = int(np.count_nonzero(counts == _MISSING))
    if missing:
        raise _missing_samples(missing, header.path)
    centred = counts - np.array([[signal.baseline] for signal in header.signals])
    gains = np.array([[signal.gain] for signal in header.signals])
    if (gains == gains[0]).all() and np.abs(centred).max() <= _INT16_MAX:
        return EcgRecord(
            samples=centred.astype(np.int16),
            lsb_uv=unit_uv / float(gains[0, 0]),
            fs_hz=header.fs_hz,
            leads=leads,
            record_id=stem.name,
        )
    return record_from_physical(centred / gains, unit=units[0], fs_hz=header.fs_hz, leads=leads, record_id=stem.name)


def find_wfdb(root: Path) -> Iterator[Path]:
    """Yield all headers below `root`, in sorted order."""
    yield from sorted(Path(root).rglob("*.hea"))


def _parse_header(path: Path) -> _Header:
    if not path.is_file():
        raise FormatError(f"found no header {path.name!r}, expected it", advice=_BOTH_FILES)
    data = path.read_bytes()
    if len(data) > _MAX_HEADER_BYTES:
        raise FormatError(f"found a header of {len(data)} bytes, expected at most {_MAX_HEADER_BYTES}")
    text = data.decode("utf-8", errors="replace")
    lines = [line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]
    first = lines.pop(0).split() if lines else []
    _, slash, n_segments = first[0].partition("/") if first else ("", "", "")
    if len(first) < 2 or not first[1].isdigit() or (slash and not n_segments.isdigit()):
        raise FormatError(
            f"found first line {' '.join(first)!r} in {path.name}, expected record name, signals, rate, samples"
        )
    if len(first) < 3:
        raise RateError(f"found no rate in {path.name}, expected the samples per second as third field")
    try:
        fs_hz = float(re.split(r"[/(]", first[2])[0])
        n_samples = int(first[3]) if len(first) > 3 else 0
    except ValueError as error:
        raise FormatError(f"found rate and samples {first[2:4]} in {path.name}, expected numbers") from error
    n_signals = int(first[1])
    if n_signals == 0:
        raise LeadError(f"found 0 signals in {path.name}, expected at least 1")
    if slash:
        parts = [re.fullmatch(r"([\w-]+|~) \d+", " ".join(line.split())) for line in lines[: int(n_segments)]]
        if len(parts) != int(n_segments) or None in parts:
            raise FormatError(f"found no {n_segments} lines of segment and samples in {path.name}, expected them")
        segments = tuple(part[1] for part in parts if part is not None and part[1] != "~")
        return _Header(path, fs_hz, n_samples or None, (), segments)
    signals = tuple(_parse_signal(line, path) for line in lines[:n_signals])
    if len(signals) != n_signals:
        raise TruncatedError(f"found {len(signals)} signal lines in {path.name}, expected {n_signals}")
    return _Header(path, fs_hz, n_samples or None, signals, ())


def _parse_signal(line: str, header: Path) -> _Signal:
    parts = line.split(maxsplit=8)
    form = _FORM.fullmatch(parts[1]) if len(parts) > 1 else None
    if form is None:
        raise FormatError(
            f"found signal line {line!r} in {header.name}, expected a file and a signal format like 16", advice=_CONVERT
        )
    if len(parts) < 9:
        raise LeadError(f"found signal line {line!r} in {header.name}, expected 9 fields with the lead name last")
    if Path(parts[0]).name != parts[0] or parts[0] in ("", ".", ".."):
        raise FormatError(f"found signal file {parts[0]!r}, expected a file beside {header.name}")
    gain = _GAIN.fullmatch(parts[2])
    if gain is None or not float(gain[1]) > 0:
        raise UnitError(
            f"found gain {parts[2]!r} in {header.name}, expected counts per unit like 1000/mV",
            advice="State the gain in the header: amplitudes are never guessed.",
        )
    zero = re.fullmatch(r"[-+]?\d{1,9}", gain[2] or parts[4], re.ASCII)
    if zero is None:
        raise FormatError(f"found ADC zero {parts[4]!r} in {header.name}, expected a whole number")
    return _Signal(
        file=parts[0],
        form=parts[1],
        plain=form[1] == "16" and form[2] in (None, "x1") and not form[3],
        skip=int(form[4] or 0),
        gain=float(gain[1]),
        baseline=int(zero[0]),
        unit=gain[3] or _DEFAULT_UNIT,
        name=parts[8],
    )


def _read_counts(header: _Header) -> npt.NDArray[np.int16]:
    """Return `[signal, time]` from signal files in format 16, each read once."""
    rows: dict[str, list[int]] = {}
    for k, signal in enumerate(header.signals):
        rows.setdefault(signal.file, []).append(k)
    parts = {}
    for name, ks in rows.items():
        if not (header.path.parent / name).is_file():
            raise FormatError(
                f"found no signal file {name!r}, expected it beside {header.path.name}", advice=_BOTH_FILES
            )
        data = (header.path.parent / name).read_bytes()[header.signals[ks[0]].skip :]
        frame = 2 * len(ks)
        expected = len(data) - len(data) % frame if header.n_samples is None else header.n_samples * frame
        if len(data) < expected or (header.n_samples is None and len(data) % frame):
            raise TruncatedError(f"found {len(data)} bytes in {name}, expected {expected or frame}")
        if expected == 0:
            raise LengthError(f"found 0 samples in {name}, expected at least 1")
        parts[name] = np.frombuffer(data[:expected], dtype="<i2").reshape(-1, len(ks)).T
    lengths = {name: part.shape[1] for name, part in parts.items()}
    if len(set(lengths.values())) != 1:
        raise LengthError(f"found signal files of different lengths {lengths}, expected equal ones")
    counts = np.empty((len(header.signals), next(iter(lengths.values()))), dtype=np.int16)
    for name, ks in rows.items():
        counts[ks] = parts[name]
    return counts


def _read_through_library(stem: Path, header: _Header) -> EcgRecord:
    try:
        import wfdb
        from wfdb.io.header import HeaderSyntaxError
    except ModuleNotFoundError as error:
        forms = [signal.form for signal in header.signals if not signal.plain]
        found = f"signal format {forms[0]!r}" if forms else f"a record in {len(header.segments)} segments"
        raise FormatError(f"found {found} in {header.path.name}, expected 16", advice=_CONVERT) from error
    try:
        record = wfdb.rdrecord(str(stem))
    except FileNotFoundError as error:
        raise FormatError(f"{stem}: {error}", advice=_BOTH_FILES) from error
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
    units = sorted({str(unit) for unit in record.units})
    if len(units) != 1:
        raise _mixed_units(units, header.path)
    signal = np.asarray(record.p_signal, dtype=np.float64).T
    missing = int(np.count_nonzero(~np.isfinite(signal)))
    if missing:
        raise _missing_samples(missing, header.path)
    return record_from_physical(
        signal,
        unit=units[0],
        fs_hz=header.fs_hz,
        leads=canonical_leads(record.sig_name),
        record_id=stem.name,
    )


def _mixed_units(units: list[str], header: Path) -> UnitError:
    return UnitError(
        f"found units {units} in {header.name}, expected one unit for all leads",
        advice="Convert the record so that all leads are in one of uV, mV and V.",
    )


def _missing_samples(count: int, header: Path) -> SampleError:
    return SampleError(f"found {count} missing samples in {header.name}, expected none")
