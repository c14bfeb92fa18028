"""One recording of a store explained, as files: picture, numbers, map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError, LeadError
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS, MEASURED_LEADS
from lsemvae.explain import figure
from lsemvae.explain.attribution import N_STEPS, Attribution, Explained, attribute
from lsemvae.explain.sanity import Subject, limb_identifiability
from lsemvae.explain.statement import MAP_STATEMENT, label_statement
from lsemvae.explain.summary import WaveSums, wave_sums
from lsemvae.explain.waves import WAVES, Wave, delineate, wave_codes
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.train.run import write_json

SCHEMA: Final = "lsemvae-explain/1"


@dataclass(frozen=True, slots=True)
class RecordMap:
    """One recording explained: input `[channel, time]` in mV, its map, waves and sums."""

    uid: str
    patient: str
    x_mv: npt.NDArray[np.float32]
    attribution: Attribution
    waves: tuple[Wave, ...]
    sums: WaveSums

    @property
    def subject(self) -> Subject:
        """What the checks look at."""
        return Subject(self.patient, self.x_mv, self.attribution.values)


def row_of(store: RecordStore, uid: str) -> int:
    """Return the row of a recording in the store."""
    rows = np.flatnonzero(store.uid == uid)
    if not rows.size:
        raise FormatError(
            f"{store.root}: found no recording {uid!r}, expected one of {len(store)} such as {store.uid[0]!r}",
            advice="Name a recording by the uid that metadata.csv gives it.",
        )
    return int(rows[0])


def channels_of(store: RecordStore, row: int, explained: Explained, *, limb_only: bool) -> tuple[str, ...]:
    """Return the measured channels that a recording has and the model reads; `limb_only` leaves chest leads out."""
    has = {lead for lead, there in zip(LEADS, store.present[row], strict=True) if there}
    if missing := [lead for lead in MEASURED_LEADS if lead not in has]:
        raise LeadError(
            f"{store.uid[row]}: found no lead {' and no lead '.join(missing)}, expected I and II",
            advice="Choose another recording: without both, nothing can be attributed to the limb leads.",
        )
    return tuple(c for c in explained.channels if c in has and not (limb_only and c in CHEST_LEADS))


def explain_row(store: RecordStore, row: int, *, explained: Explained, label: str, n_steps: int = N_STEPS) -> RecordMap:
    """Attribute one recording of the store on `explained.channels` and sum the map over its waves."""
    x = store.millivolts([row], leads=explained.channels)[0]
    fs_hz = float(store.index["fs_hz"])
    found = attribute(x, explained=explained, label=label, n_steps=n_steps)
    waves = delineate(x[[explained.channels.index(lead) for lead in MEASURED_LEADS]], fs_hz=fs_hz)
    codes = wave_codes(waves, n_samples=x.shape[1])
    sums = wave_sums(found.values, x_mv=x, codes=codes, channels=explained.channels)
    return RecordMap(str(store.uid[row]), str(store.patient[row]), x, found, waves, sums)


def write_record(
    out: Path,
    store: RecordStore,
    uid: str,
    *,
    explained: Explained,
    label: str,
    limb_only: bool = False,
    n_steps: int = N_STEPS,
) -> dict[str, Any]:
    """Write `<uid>-<label>.png`, `.json` and `.npz` (map, samples, classes) for one recording; return what the JSON holds."""
    store.check_frontend()
    row = row_of(store, uid)
    channels = channels_of(store, row, explained, limb_only=limb_only)
    narrowed = explained if channels == explained.channels else explained.on(channels)
    found = explain_row(store, row, explained=narrowed, label=label, n_steps=n_steps)
    stated = float(store.labels[row, store.label_names.index(label)]) if label in store.label_names else np.nan
    data = {
        **head(narrowed, label, store),
        "uid": uid,
        "stated": None if np.isnan(stated) else stated,
        **found.attribution.to_dict(),
        "sums": found.sums.to_dict(),
        "waves": [[w.kind, w.onset, w.peak, w.offset] for w in found.waves],
    }
    if isinstance(explained.model, LsEmvae):
        data["logit_of_stored_leads"] = _stored_logit(store, row, narrowed, label)
        data["limb_leads"] = limb_identifiability(
            found.x_mv, explained=narrowed, label=label, n_steps=n_steps
        ).to_dict()
    _write_record_files(out, found, data, fs_hz=float(store.index["fs_hz"]))
    return data


def _write_record_files(out: Path, found: RecordMap, data: dict[str, Any], *, fs_hz: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{file_name(found.uid)}-{file_name(found.attribution.label)}"
    a = found.attribution
    shares = ", ".join(f"{w} {100 * v:.0f} %" for w, v in zip(WAVES, found.sums.share.sum(0), strict=True))
    net = ", ".join(f"{w} {v:+.2f}" for w, v in zip(WAVES, found.sums.net_logit.sum(0), strict=True))
    stated = {1.0: "stated by the reader", 0.0: "not stated by the reader", None: "no statement known"}[data["stated"]]
    notes = [
        f"logit {a.logit:+.2f}, of a flat line {a.baseline_logit:+.2f} ({data['model']}); {a.label} {stated}",
        f"net contribution in logits: {net};  share of |attribution|: {shares}",
    ]
    if not found.waves:
        notes.append("No beat was found: every sample counts as between.")
    png = stem.with_name(stem.name + ".png")
    figure.draw_record(
        png,
        found.x_mv,
        attribution=a,
        waves=found.waves,
        fs_hz=fs_hz,
        notes=notes,
        statement=data["label_statement"],
        title=f"{found.uid}: what moved the output {a.label}",
    )
    codes = wave_codes(found.waves, n_samples=found.x_mv.shape[1])
    np.savez(
        stem.with_name(stem.name + ".npz"),
        attribution=a.values,
        x_mv=found.x_mv,
        wave=codes,
        channels=np.array(a.channels),
        waves=np.array(WAVES),
    )
    write_json(stem.with_name(stem.name + ".json"), data)


def head(explained: Explained, label: str, store: RecordStore) -> dict[str, Any]:
    """Return what every report begins with."""
    name = "student on I and II"
    if explained.kind != "student":
        chest = [c for c in explained.channels if c in CHEST_LEADS]
        listed = "the six limb leads" + (" and " + ", ".join(chest) if chest else "")
        name = f"LS-EMVAE on {listed}, attributed to what was measured"
    return {
        "schema": SCHEMA,
        "label_statement": label_statement(label, tasks=store.tasks),
        "map_statement": MAP_STATEMENT,
        "method": f"integrated gradients from 0 mV (captum {version('captum')})",
        "model": name,
        "channels": list(explained.channels),
        "label": label,
    }


def _stored_logit(store: RecordStore, row: int, explained: Explained, label: str) -> float:
    """Return the logit with the limb leads as stored instead of derived: how little the derivation changes."""
    model = explained.model
    leads = tuple(model.config.leads)
    x = torch.from_numpy(store.millivolts([row], leads=leads))
    used = [lead in LIMB_LEADS or lead in explained.channels for lead in leads]
    there = [bool(store.present[row, LEADS.index(lead)]) for lead in leads]
    present = torch.tensor([[u and t for u, t in zip(used, there, strict=True)]])
    with torch.no_grad():
        return float(model(x, present)[0, explained.output(label)])


def file_name(text: str) -> str:
    """Return a uid or a label as part of a file's name: what is no letter, digit, dot or dash becomes `_`."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", text)
