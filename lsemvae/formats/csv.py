"""Reader of comma-separated ECG: `# key=value` lines, a row of lead names, one row a sample."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from lsemvae.ecg.errors import FormatError, LeadError, LengthError, RateError, TruncatedError, UnitError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.ecg.runs import StartTime

_T = TypeVar("_T", str, float)

TIME_COLUMN: Final = "time_s"
KEYS: Final = frozenset({"fs_hz", "unit", "start", "gain_known", "device", "record_id"})
# 12 leads, an hour at 1 kHz: far beyond any resting ECG, small enough for a board with 512 MB.
MAX_CSV_BYTES: Final = 256 * 1024 * 1024
# Times are often written with three decimals; a column may wander by this part of a sample and still be even.
_TIME_TOLERANCE: Final = 0.51
# A stated rate and a time column agree if they differ over the whole file by less than a sample (rounding) and this part
# of its length: crystals are good to 0.02 %, the nearest wrong rates (250 for 256, 500 for 512) are 2 % away.
_RATE_TOLERANCE: Final = 0.005
# The longest name of a lead in use is MDC_ECG_LEAD_aVR; what is longer is no row of names.
_MAX_NAME: Final = 40


def read_csv(path: str | Path, *, fs_hz: float | None = None, unit: str | None = None) -> EcgRecord:
    """Return the record of a CSV file.

    Parameters
    ----------
    path
        UTF-8 text. Lines `# key=value` at the top may state fs_hz, unit, start (ISO 8601), gain_known (true or
        false), device, record_id. Then a row of lead names, perhaps with a column `time_s`, then numbers.
    fs_hz, unit
        Rate and unit; where both the file and the caller state one, they must agree, and a column `time_s` must agree
        with the rate. A rate that nobody states is computed from `time_s`.

    Raises
    ------
    UnitError, RateError, LeadError, LengthError, FormatError, TruncatedError, SampleError
        If anything is missing, contradictory or no number.
    """
    source = Path(path)
    meta, names, rows = _split(source)
    lead_columns = [k for k, name in enumerate(names) if name != TIME_COLUMN]
    leads = canonical_leads([names[k] for k in lead_columns])
    if not leads:
        raise LeadError(f"found no lead name in {source.name}, expected a row like I,II")

    if not rows:
        raise LengthError(f"found 0 samples in {source.name}, expected at least 1")
    for k, row in enumerate(rows):
        if row.count(",") + 1 != len(names):
            raise FormatError(
                f"found {row.count(',') + 1} numbers in row {k + 1} of {source.name}, expected {len(names)}"
            )
    try:
        table = np.loadtxt(io.StringIO("\n".join(rows)), delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise FormatError(f"found text in {source.name} that is no number ({error}), expected numbers only") from error

    stated_unit = _agreed(unit, meta.get("unit"), "unit")
    if stated_unit is None:
        raise UnitError(f"found no unit in {source.name}, expected a line '# unit=mV' or the unit from the caller")
    known = meta.get("gain_known", "true")
    times_s = table[:, names.index(TIME_COLUMN)] if TIME_COLUMN in names else None
    rate_hz = _rate(source, meta.get("fs_hz"), fs_hz, times_s)
    if known.lower() not in ("true", "false"):
        raise FormatError(f"found gain_known {known!r}, expected true or false")
    return record_from_physical(
        np.ascontiguousarray(table[:, lead_columns].T),
        unit=stated_unit,
        fs_hz=rate_hz,
        leads=leads,
        start=StartTime(meta["start"], "file") if "start" in meta else None,
        gain_known=known.lower() == "true",
        device=meta.get("device", ""),
        record_id=meta.get("record_id", ""),
    )


def _split(source: Path) -> tuple[dict[str, str], list[str], list[str]]:
    """Return the stated keys, the names of the columns and the rows of numbers."""
    size = source.stat().st_size
    if size > MAX_CSV_BYTES:
        raise FormatError(f"found {size} bytes in {source.name}, expected at most {MAX_CSV_BYTES}")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"found bytes in {source.name} that are no UTF-8 text, expected a CSV file") from error
    if "\0" in text:
        raise FormatError(f"found bytes in {source.name} that are no text, expected a CSV file")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    meta: dict[str, str] = {}
    while lines and lines[0].startswith("#"):
        key, equals, value = lines.pop(0).lstrip("#").partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in KEYS:
            continue  # any other comment
        if key in meta:
            raise FormatError(f"found key {key!r} twice ({meta[key]!r}, {value!r}), expected it once")
        meta[key] = value
    if not lines:
        raise LengthError(f"found no row in {source.name}, expected lead names and samples")
    # The CSV of a country that writes decimal commas parts its columns by semicolons.
    mark = next((mark for mark in (";", "\t") if mark in lines[0]), None)
    if mark is not None:
        raise FormatError(
            f"found columns parted by {mark!r} in {source.name}, expected ','",
            advice="Save the file with commas between the columns and points in the numbers (0.12, not 0,12).",
        )
    if not text.endswith("\n") and lines[0].count(",") != lines[-1].count(","):
        expected = lines[0].count(",") + 1
        raise TruncatedError(
            f"found {lines[-1].count(',') + 1} numbers in the last row of {source.name}, expected {expected}"
        )
    names = [cell.strip().strip('"') for cell in lines[0].split(",")]
    longest = max(names, key=len)
    if len(longest) > _MAX_NAME:
        raise FormatError(
            f"found {longest[:_MAX_NAME]!r} and more in the first row of {source.name}, expected lead names like I,II"
        )
    return meta, names, lines[1:]


def _rate(source: Path, stated: str | None, given_hz: float | None, times_s: npt.NDArray[np.float64] | None) -> float:
    """Return the rate that file, caller and time column agree on, as far as they say one."""
    try:
        in_file_hz = None if stated is None else float(stated)
    except ValueError as error:
        raise RateError(f"found fs_hz {stated!r}, expected a number of Hz") from error
    stated_hz = _agreed(given_hz, in_file_hz, "fs_hz")
    if times_s is None or (stated_hz is not None and times_s.size <= 1):
        if stated_hz is None:
            raise RateError(
                f"found no rate in {source.name}, expected '# fs_hz=500', a column {TIME_COLUMN}, or the caller's rate"
            )
        return stated_hz
    # A column with jumps is refused, since a lost sample must not vanish.
    span_s = float(times_s[-1] - times_s[0])
    if times_s.size < 2 or not span_s > 0:
        raise RateError(f"found times over {span_s:g} s in {source.name}, expected at least two rising times")
    steps = times_s.size - 1
    step_s = span_s / steps
    even_s = times_s[0] + step_s * np.arange(times_s.size)
    if not np.abs(times_s - even_s).max() <= _TIME_TOLERANCE * step_s:  # so that NaN is uneven too
        raise RateError(
            f"found uneven times in {source.name} (mean step {step_s:g} s), expected equal steps",
            advice="Samples are missing, or the times have too few decimals: export the recording again.",
        )
    if stated_hz is None:
        return 1 / step_s
    if abs(steps * stated_hz * step_s - steps) > 1 + _RATE_TOLERANCE * steps:
        raise RateError(
            f"found a stated rate of {stated_hz:g} Hz and times at {1 / step_s:g} Hz in {source.name}, "
            "expected the same",
            advice="Find out which of them is right, and correct the other; the rate is never guessed.",
        )
    return stated_hz


def _agreed(argument: _T | None, stated: _T | None, what: str) -> _T | None:
    if argument is not None and stated is not None and argument != stated:
        raise FormatError(f"found {what} {stated!r} in the file and {argument!r} from the caller, expected the same")
    return stated if argument is None else argument
