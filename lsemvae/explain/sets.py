"""A set of recordings explained: where their maps lie, and whether the maps pass the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS, MEASURED_LEADS
from lsemvae.explain import figure
from lsemvae.explain.attribution import N_STEPS, Explained
from lsemvae.explain.report import RecordMap, explain_row, file_name, head
from lsemvae.explain.sanity import Deletion, Randomised, deletion, randomised_weights
from lsemvae.explain.summary import Summary, summarise
from lsemvae.train.run import folds_left_out, read_object, write_json

# With fewer recordings an interval over patients says nothing.
FEWEST_RECORDS: Final = 5
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SetMap:
    """A set explained: recordings by group (`stated`, `not stated`, or `all`), and whether the model was trained on them."""

    groups: dict[str, list[RecordMap]]
    held_out: str
    summaries: dict[str, Summary]
    randomised: list[Randomised]
    deletions: list[Deletion]


def write_set(
    out: Path,
    store: RecordStore,
    run_dir: Path,
    *,
    explained: Explained,
    label: str,
    n: int,
    limb_only: bool = False,
    n_steps: int = N_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `summary-<label>.png` and `.json` for up to `n` recordings of each group; return what the JSON holds."""
    store.check_frontend()
    narrowed = explained.on(MEASURED_LEADS) if limb_only and explained.channels != MEASURED_LEADS else explained
    held_out = seen_by(run_dir, store)
    groups = choose_rows(store, label, n=n, channels=narrowed.channels, folds=held_out, seed=seed)
    found = explain_set(
        store,
        groups,
        explained=narrowed,
        label=label,
        n_steps=n_steps,
        seed=seed,
        progress=progress,
        held_out=f"folds {', '.join(map(str, held_out))}" if held_out else "",
    )
    data = {
        **head(narrowed, label, store),
        "held_out": found.held_out or None,
        "n_steps": n_steps,
        "seed": seed,
        "groups": {name: s.to_dict() for name, s in found.summaries.items()},
        "uids": {name: [m.uid for m in maps] for name, maps in found.groups.items()},
        "largest_completeness_residual": max(m.attribution.residual for maps in found.groups.values() for m in maps),
        "without_beats": sum(not m.waves for maps in found.groups.values() for m in maps),
        "sanity": {
            "randomised_weights": [r.to_dict() for r in found.randomised],
            "deletion": [d.to_dict() for d in found.deletions],
        },
    }
    held = (
        f"recordings of {found.held_out}, which the model has not seen"
        if found.held_out
        else "recordings that the model may have been trained on"
    )
    random = next(r for r in found.randomised if r.part == "all")
    zero, line = found.deletions
    verdict = {True: "passes", False: "FAILS", None: ""}
    notes = [
        f"{data['model']}; {held}; bars: mean and 95 % interval over patients",
        f"Random weights: rank correlation of |map| {random.plain.text(2)}, with the voltage held fixed "
        f"{random.given_voltage.text(2)}: {verdict[random.passes]}",
        f"A tenth of the time set to 0 mV: logit moves {zero.attributed.text(2)} where attributed, {zero.elsewhere.text(2)} elsewhere: "
        f"{verdict[zero.passes]}; {zero.largest.text(2)} where the voltage is largest",
        f"Bridged by lines: {line.attributed.text(2)} where attributed, {line.elsewhere.text(2)} elsewhere: {verdict[line.passes]}; "
        f"{line.largest.text(2)} where the voltage is largest",
    ]
    out.mkdir(parents=True, exist_ok=True)
    stem = f"summary-{file_name(label)}"
    figure.draw_summary(
        out / f"{stem}.png",
        found.summaries,
        statement=data["label_statement"],
        notes=notes,
        title=f"Where the maps of {label} lie",
    )
    write_json(out / f"{stem}.json", data)
    return data


def explain_set(
    store: RecordStore,
    groups: dict[str, npt.NDArray[np.int64]],
    *,
    explained: Explained,
    label: str,
    held_out: str = "",
    n_steps: int = N_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> SetMap:
    """Attribute the rows of each group, summarise them, and check the maps on all of them together."""
    total, done = sum(map(len, groups.values())), 0
    maps: dict[str, list[RecordMap]] = {name: [] for name in groups}
    for name, rows in groups.items():
        for row in rows:
            maps[name].append(explain_row(store, int(row), explained=explained, label=label, n_steps=n_steps))
            done += 1
            if progress:
                progress(done, total)
    summaries = {
        name: summarise([m.sums for m in found], patients=[m.patient for m in found], seed=seed)
        for name, found in maps.items()
    }
    subjects = [m.subject for found in maps.values() for m in found]
    return SetMap(
        groups=maps,
        held_out=held_out,
        summaries=summaries,
        randomised=[
            randomised_weights(subjects, explained=explained, label=label, part=part, n_steps=n_steps, seed=seed)
            for part in ("read_out", "all")
        ],
        deletions=[
            deletion(subjects, explained=explained, label=label, fill=f, seed=seed) for f in ("baseline", "line")
        ],
    )


def choose_rows(
    store: RecordStore, label: str, *, n: int, channels: Sequence[str], folds: Sequence[int], seed: int = 0
) -> dict[str, npt.NDArray[np.int64]]:
    """Draw up to `n` rows for each group that has enough: with and without the statement, or all where the store has no such label.

    Rows have all `channels` at a known gain, and lie in `folds` where some are given.
    """
    usable = store.present[:, [LEADS.index(c) for c in channels]].all(1) & store.gain_known.astype(bool)
    if folds:
        usable &= np.isin(store.fold, list(folds))
    if label in store.label_names:
        y = store.labels[:, store.label_names.index(label)]
        groups = {"stated": usable & (y == 1), "not stated": usable & (y == 0)}
    else:
        groups = {"all": usable}
    rng = np.random.default_rng(seed)
    drawn = {name: np.sort(rng.permutation(np.flatnonzero(mask))[:n]) for name, mask in groups.items()}
    kept = {name: rows for name, rows in drawn.items() if len(rows) >= FEWEST_RECORDS}
    if not kept:
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in drawn.items())
        raise FormatError(
            f"{store.root}: found too few recordings for {label} ({counts}), expected at least {FEWEST_RECORDS} in a group",
            advice="Ask for more with --summary, or use a store with more recordings that have these leads.",
        )
    return kept


def seen_by(run_dir: Path, store: RecordStore) -> list[int]:
    """Return the folds that a run left out, where it was trained on this store; empty where it saw all, or other data."""
    run = read_object(Path(run_dir) / "run.json")
    same = (run.get("data_sha256"), run.get("folds_sha256", store.folds_hash)) == (store.data_hash, store.folds_hash)
    return folds_left_out(Path(run_dir)) if same else []
