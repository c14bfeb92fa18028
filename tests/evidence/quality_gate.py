"""Measure the quality gate on real recordings and on injected faults; prints the tables of docs/explanation/quality-gate.md.

    python tests/evidence/quality_gate.py DATA_FOLDER

DATA_FOLDER holds `metadata.csv` and `signals/*.npz` as its README describes. Takes about two minutes on one core.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsemvae.ecg import LEADS, LIMB_LEADS, EcgRecord, Interval, LeadOff, Reason, assess, derive_limb_leads, select_leads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOTES = ("q_baseline_drift", "q_static_noise", "q_burst_noise", "q_electrode_problem")
CINC = "PhysioNet/CinC Challenge 2011 set-a"
N_INJECTED = 300


@dataclass(frozen=True)
class Row:
    """One recording: its metadata and its leads as stored."""

    meta: dict[str, str]
    record: EcgRecord


def decode(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Undo byte planes, zig-zag and first differences, modulo 2**16."""
    word = lo.astype(np.uint16) | (hi.astype(np.uint16) << 8)
    step = (word >> 1) ^ (0 - (word & 1)).astype(np.uint16)
    return np.cumsum(step.astype(np.uint16).view(np.int16), axis=-1, dtype=np.int16)


def recordings(root: Path) -> Iterator[Row]:
    """Yield the recordings whose gain is known."""
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["gain_known"] != "0"]
    for shard in sorted({row["file"] for row in rows}):
        with np.load(root / shard, allow_pickle=False) as arrays:
            counts, leads = decode(arrays["lo"], arrays["hi"]), tuple(str(lead) for lead in arrays["leads"])
            lsb_uv, fs_hz = float(arrays["scale"]), float(arrays["fs"])
            if str(arrays["unit"]) != "uV":
                continue
        for row in rows:
            if row["file"] == shard:
                names = exchanged(leads) if row["source"] == CINC else leads
                yield Row(row, EcgRecord(samples=counts[int(row["row"])], lsb_uv=lsb_uv, fs_hz=fs_hz, leads=names))


def exchanged(leads: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with aVL and aVF exchanged.

    In this copy of CinC 2011 the rows so named hold each other's signal: they break Goldberger's relations by 150 uV
    as named and by 1.5 uV (rounding) when exchanged.
    """
    swap = {"aVL": "aVF", "aVF": "aVL"}
    return tuple(swap.get(lead, lead) for lead in leads)


def rejected(rows: list[Row], leads: tuple[str, ...]) -> tuple[int, Counter[Reason]]:
    """Return how many recordings the gate refuses, and how often for which reason."""
    reports = [assess(only(row.record, leads), leads=leads) for row in rows]
    return sum(not r.acceptable for r in reports), Counter(reason for r in reports for reason in r.reasons)


def only(record: EcgRecord, leads: tuple[str, ...]) -> EcgRecord:
    """Return the record with these leads: limb leads that it does not hold are derived, chest leads passed over."""
    names = tuple(lead for lead in leads if lead in record.leads or lead in LIMB_LEADS)
    counts = select_leads(record.samples, leads=record.leads, wanted=names)
    return record.with_(samples=np.clip(np.rint(counts), -32768, 32767).astype(np.int16), leads=names, offset_uv=())


def two(record: EcgRecord) -> EcgRecord:
    """Return leads I and II of a record."""
    return only(record, ("I", "II"))


def _counts(record: EcgRecord, change: Callable[[np.ndarray], np.ndarray]) -> EcgRecord:
    mv = change(two(record).to_mv(np.float64))
    return two(record).with_(samples=np.clip(np.rint(mv / (record.lsb_uv * 1e-3)), -32768, 32767).astype(np.int16))


def _noise(mv: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return mv + 0.15 * np.sin(2 * np.pi * 50 * np.arange(mv.shape[1]) / 500) + rng.normal(0, 0.1, mv.shape)


def _set(mv: np.ndarray, row: int, start: int, stop: int, value: float) -> np.ndarray:
    out = mv.copy()
    out[row, start:stop] = value
    return out


def _swing(mv: np.ndarray) -> np.ndarray:
    return mv + 1.5 * np.sin(2 * np.pi * 0.3 * np.arange(mv.shape[1]) / 500)


def _six_swapped(record: EcgRecord) -> EcgRecord:
    i, ii = two(record).to_mv(np.float64)
    six = derive_limb_leads(i, ii)[[0, 1, 2, 3, 5, 4]]
    return record.with_(samples=np.rint(six / (record.lsb_uv * 1e-3)).astype(np.int16), leads=LIMB_LEADS, offset_uv=())


def _gap(record: EcgRecord) -> EcgRecord:
    samples = two(record).samples.copy()
    samples[:, 2500:2650] = 0
    return two(record).with_(samples=samples, gaps=(Interval(2500, 2650),))


FAULTS: dict[str, tuple[Reason, Callable[[EcgRecord], EcgRecord]]] = {
    "lead II flat": (Reason.FLAT, lambda r: _counts(r, lambda mv: _set(mv, 1, 0, 5000, 0.01))),
    "lead II flat for 4 s": (Reason.FLAT, lambda r: _counts(r, lambda mv: _set(mv, 1, 1000, 3000, 0.01))),
    "lead I at the rail for 0.3 s": (Reason.SATURATED, lambda r: _counts(r, lambda mv: _set(mv, 0, 1000, 1150, 99.0))),
    "lead I stuck at 5 mV for 0.3 s": (Reason.SATURATED, lambda r: _counts(r, lambda mv: _set(mv, 0, 1000, 1150, 5.0))),
    "device reports overload for 0.3 s": (Reason.SATURATED, lambda r: two(r).with_(saturated=(Interval(9, 160),))),
    "lead-off for 1 s": (Reason.LEAD_OFF, lambda r: two(r).with_(lead_off=(LeadOff("II", 2000, 2500),))),
    "gap of 300 ms": (Reason.GAP, _gap),
    "9.8 s": (Reason.TOO_SHORT, lambda r: two(r).slice(0, 4900)),
    "4 s": (Reason.TOO_SHORT, lambda r: two(r).slice(0, 2000)),
    "50 Hz 0.15 mV + EMG 0.1 mV rms": (Reason.NOISE, lambda r: _counts(r, _noise)),
    "baseline swing 3 mV": (Reason.BASELINE, lambda r: _counts(r, _swing)),
    "aVL and aVF exchanged": (Reason.EINTHOVEN, _six_swapped),
    "ten times too large": (Reason.AMPLITUDE, lambda r: _counts(r, lambda mv: 10 * mv)),
    "ten times too small": (Reason.AMPLITUDE, lambda r: _counts(r, lambda mv: 0.1 * mv)),
    "mV read as uV": (Reason.AMPLITUDE, lambda r: _counts(r, lambda mv: 1e-3 * mv)),
    "white noise 0.1 mV only": (
        Reason.NO_BEATS,
        lambda r: _counts(r, lambda mv: np.random.default_rng(2).normal(0, 0.1, mv.shape)),
    ),
    "nothing but zeros": (Reason.FLAT, lambda r: _counts(r, lambda mv: 0 * mv)),
}


def print_sources(rows: list[Row]) -> None:
    """Print the refusals by source, for I and II, for the limb leads and for all leads."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_of(row.meta), []).append(row)
    print("| recordings | n | refused: I, II | refused: limb leads | refused: 12 leads | reasons (limb leads) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, members in sorted(groups.items()):
        cells = []
        for leads in (("I", "II"), LIMB_LEADS, LEADS):
            count, reasons = rejected(members, leads)
            cells.append(f"{count} ({100 * count / len(members):.2f} %)")
            if leads == LIMB_LEADS:
                why = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
        print(f"| {name} | {len(members)} | {' | '.join(cells)} | {why or '-'} |")


def group_of(meta: dict[str, str]) -> str:
    """Return the row of the table that a recording belongs to."""
    if meta["source"] == CINC:
        verdict = {"1": "acceptable", "0": "unacceptable"}.get(meta["q_acceptable"][:1], "neither")
        return f"CinC 2011, {verdict}"
    noted = any(meta[note] not in ("", "0", "0.0") for note in NOTES)
    return meta["source"] + (", with a quality note" if noted else ", no quality note")


def print_cinc(rows: list[Row]) -> None:
    """Print the accuracy against the CinC 2011 labels."""
    good = [row for row in rows if group_of(row.meta) == "CinC 2011, acceptable"]
    bad = [row for row in rows if group_of(row.meta) == "CinC 2011, unacceptable"]
    print("\n| leads | accuracy | bad ones refused | good ones accepted |\n| --- | --- | --- | --- |")
    for name, leads in (("I, II", ("I", "II")), ("limb leads", LIMB_LEADS), ("12 leads", LEADS)):
        refused_good, refused_bad = rejected(good, leads)[0], rejected(bad, leads)[0]
        accuracy = (len(good) - refused_good + refused_bad) / (len(good) + len(bad))
        print(f"| {name} | {accuracy:.3f} | {refused_bad / len(bad):.3f} | {1 - refused_good / len(good):.3f} |")


def print_faults(rows: list[Row]) -> None:
    """Print how often an injected fault is refused, and with the right reason."""
    clean = [row for row in rows if group_of(row.meta) == "PTB-XL 1.0.3, no quality note"]
    clean = [row for row in clean if assess(two(row.record)).acceptable]
    step = max(1, len(clean) // N_INJECTED)
    sample = [row.record for row in clean[::step][:N_INJECTED]]
    print(f"\n| fault injected into {len(sample)} accepted recordings | refused | with the right reason |")
    print("| --- | --- | --- |")
    for name, (reason, inject) in FAULTS.items():
        reports = [assess(inject(record)) for record in sample]
        refused = sum(not report.acceptable for report in reports) / len(reports)
        right = sum(reason in report.reasons for report in reports) / len(reports)
        print(f"| {name} ({reason}) | {100 * refused:.1f} % | {100 * right:.1f} % |")


def main() -> None:
    """Print the three tables."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = list(recordings(Path(sys.argv[1])))
    print_sources(rows)
    print_cinc(rows)
    print_faults(rows)


if __name__ == "__main__":
    main()
