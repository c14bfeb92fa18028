"""How well `lsemvae.explain.waves` agrees with LUDB's cardiologists; prints the table of docs/explanation/explain.md.

Run `python tests/explain/ludb_waves.py DATA_FOLDER`, the folder that holds metadata.csv and signals/ludb_delineation_dev.npz.
LUDB's boundaries are drawn lead by lead; the reference here is what I and II say together: first onset to last offset.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from lsemvae.data.convert import twelve_leads_mv
from lsemvae.data.folder import EcgFolder, by_shard
from lsemvae.explain.waves import WAVES, Wave, delineate, wave_codes

FS_HZ = 250.0
LUDB_FS_HZ = 500.0
TOLERANCE_S = 0.15
"""Two marks are of one wave within 150 ms (ANSI/AAMI EC57, taken up by the LUDB paper)."""
KINDS = ("P", "QRS", "T")
LEADS_USED = (0, 1)


@dataclass
class Agreement:
    """Counts over recordings: waves found, missed and invented, errors of boundaries in ms, samples by class."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    missed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    invented: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    onset_ms: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})
    offset_ms: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})
    samples: np.ndarray = field(default_factory=lambda: np.zeros((4, 4), int))  # [reference, found]
    isoelectric_uv: list[float] = field(default_factory=list)

    def add(self, reference: list[Wave], waves: tuple[Wave, ...], *, n_samples: int) -> None:
        """Count one recording, between the first and the last sample that the cardiologists marked."""
        first, last = min(w.onset for w in reference), max(w.offset for w in reference)
        inside = [w for w in waves if first <= w.peak <= last]
        for kind in KINDS:
            self._match([w for w in reference if w.kind == kind], [w for w in inside if w.kind == kind], kind)
        span = slice(first, last + 1)
        truth = wave_codes(tuple(reference), n_samples=n_samples)[span]
        np.add.at(self.samples, (truth, wave_codes(waves, n_samples=n_samples)[span]), 1)

    def _match(self, reference: list[Wave], waves: list[Wave], kind: str) -> None:
        free = list(waves)
        for truth in reference:
            near = [w for w in free if abs(w.peak - truth.peak) <= TOLERANCE_S * FS_HZ]
            if not near:
                self.missed[kind] += 1
                continue
            best = min(near, key=lambda w: abs(w.peak - truth.peak))
            free.remove(best)
            self.found[kind] += 1
            self.onset_ms[kind].append((best.onset - truth.onset) / FS_HZ * 1e3)
            self.offset_ms[kind].append((best.offset - truth.offset) / FS_HZ * 1e3)
        self.invented[kind] += len(free)

    def sensitivity(self, kind: str) -> float:
        """Share of the reference waves that were found."""
        return self.found[kind] / (self.found[kind] + self.missed[kind])

    def precision(self, kind: str) -> float:
        """Share of the waves found that the reference has."""
        return self.found[kind] / (self.found[kind] + self.invented[kind])

    def sample_rates(self, kind: str) -> tuple[float, float]:
        """Share of the reference's samples of a class that are called so, and of those called so that are."""
        k = WAVES.index(kind)
        return self.samples[k, k] / self.samples[k].sum(), self.samples[k, k] / self.samples[:, k].sum()


def reference_waves(marks: np.ndarray) -> list[Wave]:
    """Rows `[lead, wave, onset, peak, offset]` at 500 Hz -> waves at 250 Hz, joined over leads I and II where they overlap."""
    joined: list[Wave] = []
    for code, kind in enumerate(KINDS):
        rows = marks[np.isin(marks[:, 0], LEADS_USED) & (marks[:, 1] == code)][:, 2:]
        rows = rows[(rows[:, 0] <= rows[:, 1]) & (rows[:, 1] <= rows[:, 2])]  # ludb_111 has a peak without boundaries
        groups: list[list[np.ndarray]] = []
        for row in rows[np.argsort(rows[:, 0])]:
            if groups and row[0] <= max(member[2] for member in groups[-1]):
                groups[-1].append(row)
            else:
                groups.append([row])
        for group in groups:
            on, peak, off = min(g[0] for g in group), np.median([g[1] for g in group]), max(g[2] for g in group)
            joined.append(Wave(kind, *(round(float(v) * FS_HZ / LUDB_FS_HZ) for v in (on, peak, off))))  # type: ignore[arg-type]
    return sorted(joined, key=lambda w: w.onset)


def recordings(data: Path) -> list[tuple[str, np.ndarray, list[Wave]]]:
    """uid, front-end output `[2, time]` of I and II in mV, and reference of each LUDB recording."""
    marks = np.load(data / "signals/ludb_delineation_dev.npz", allow_pickle=False)["waves"]
    folder = EcgFolder(data)
    out = []
    for row in by_shard([r for r in folder.rows if r["source"].startswith("LUDB")]):
        x, _ = twelve_leads_mv(folder.record(row))
        own = marks[marks[:, 0] == int(row["source_record"])][:, 1:]
        out.append((row["uid"], x[:2], reference_waves(own)))
    return out


def measure(pairs: list[tuple[str, np.ndarray, list[Wave]]]) -> Agreement:
    """Delineate each recording and count."""
    total = Agreement()
    for _, x, reference in pairs:
        total.add(reference, delineate(x, fs_hz=FS_HZ), n_samples=x.shape[1])
        for p, qrs in pairwise(reference):  # PR segment: between P offset and QRS onset
            if p.kind == "P" and qrs.kind == "QRS" and qrs.onset - p.offset > 2:
                total.isoelectric_uv.append(float(np.abs(x[:, p.offset + 1 : qrs.onset].mean(axis=1)).mean() * 1e3))
    return total


def table(a: Agreement) -> str:
    """The agreement as rows of Markdown."""
    lines = []
    for kind in KINDS:
        on, off = np.array(a.onset_ms[kind]), np.array(a.offset_ms[kind])
        recall, precision = a.sample_rates(kind)
        lines.append(
            f"| {kind} | {a.found[kind] + a.missed[kind]} | {a.sensitivity(kind):.3f} | {a.precision(kind):.3f} "
            f"| {on.mean():+.0f} ± {on.std():.0f} ({np.median(np.abs(on)):.0f}) | {off.mean():+.0f} ± {off.std():.0f} "
            f"({np.median(np.abs(off)):.0f}) | {recall:.3f} | {precision:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables: chosen on (every second recording), the others, all."""
    pairs = recordings(Path(sys.argv[1]))
    for name, part in (("constants chosen on these", pairs[0::2]), ("not looked at", pairs[1::2]), ("all", pairs)):
        a = measure(part)
        print(f"\n{name}: {len(part)} recordings; |PR level| median {np.median(a.isoelectric_uv):.0f} uV")
        print(table(a))


if __name__ == "__main__":
    main()
