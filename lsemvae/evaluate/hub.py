"""A folder that a model hub understands: README.md with a YAML head, model.safetensors, config.json. Nothing is uploaded.

The head follows the model card metadata of the Hugging Face hub (its documentation, "Model Cards": `license`, `library_name`,
`tags`, `datasets`, `metrics`, `model-index`). The weights load again with `lsemvae.train.checkpoint`, checked before the folder is
handed over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lsemvae.data.labels import DESCRIPTIONS
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.card import INTENDED_USE, LABEL_STATEMENT, NOT_FOR
from lsemvae.formats.whole import write_whole
from lsemvae.train.checkpoint import load_lsemvae, load_student
from lsemvae.train.run import folds_left_out, read_object

WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
COPIED = (WEIGHTS, CONFIG)
ALSO_COPIED = ("decision.json",)
"""Calibration and operating points: a logit means little without them."""
TAGS = ("ecg", "electrocardiography", "time-series-classification", "variational-autoencoder", "edge")
_RESULTS_ADVICE = "Give the results.json of `lsemvae reproduce`, or the figures.json of `lsemvae report` with --row."

Loader = Callable[[Path], tuple[nn.Module, dict[str, Any]]]
LOADERS: Mapping[str, tuple[Loader, str]] = {
    "student": (load_student, "load_student"),
    "lsemvae": (load_lsemvae, "load_lsemvae"),
}


@dataclass(frozen=True, slots=True)
class Result:
    """AUROC of one label under one lead set with its 95 % interval, on `n` held-out recordings."""

    label: str
    leads: str
    auroc: tuple[float, float, float]
    n: int
    positives: int
    negatives: str = ""

    @property
    def name(self) -> str:
        """Label, leads and, where they differ from all, which negatives."""
        return f"{self.label}, leads {self.leads}" + (f", negatives: {self.negatives}" if self.negatives else "")


@dataclass(frozen=True)
class HubCard:
    """What the README says beyond the run folder.

    `licence` is an SPDX id in lower case; `datasets` are names, where empty those of the store's sources that the run has seen.
    """

    name: str
    licence: str = "apache-2.0"
    datasets: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def write_hub_folder(run: Path, out: Path, card: HubCard, *, store: RecordStore | None = None) -> list[Path]:
    """Write the folder and load it again; returns its files. `out` must not exist, or be empty."""
    run, out = Path(run), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FormatError(
            f"{out}: found something there, expected an empty or new folder", advice="Choose another --out."
        )
    model, config = _loader(run)[0](run)
    facts = _facts(run, model, config, store)
    card = replace(card, datasets=card.datasets or tuple(facts.get("sources", ())))
    out.mkdir(parents=True, exist_ok=True)
    names = [*COPIED, *(name for name in ALSO_COPIED if (run / name).is_file())]
    for name in names:
        shutil.copyfile(run / name, out / name)
    write_whole(out / README, render(card, facts))
    check_same_weights(model, _loader(out)[0](out)[0], where=out)
    return [out / name for name in (*names, README)]


def read_results(path: Path, *, row: str = "", leads: str = "I+II") -> tuple[Result, ...]:
    """Results of `lsemvae reproduce` (`rows` is a list; `leads` names what its student sees) or one row of figures.json."""
    rows = read_object(path).get("rows")
    try:
        if isinstance(rows, list):
            return tuple(_of_reproduce(entry, leads) for entry in rows if _has_auroc(entry.get("auroc")))
        if isinstance(rows, dict) and row in rows:
            return tuple(_of_figures(rows[row]["auroc"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{path}: found results of another shape ({error!r})", advice=_RESULTS_ADVICE) from error
    found = f"the rows {', '.join(rows)}" if isinstance(rows, dict) else "no rows"
    raise FormatError(f"{path}: found {found}, expected among them {row or 'a list of rows'}", advice=_RESULTS_ADVICE)


def check_same_weights(first: nn.Module, second: nn.Module, *, where: Path) -> None:
    """FormatError unless both modules hold the same tensors, bit for bit."""
    a, b = first.state_dict(), second.state_dict()
    if set(a) != set(b) or any(not a[name].equal(b[name]) for name in a):
        raise FormatError(f"{where}: found other weights than the run has, expected the same", advice="Write it again.")


def render(card: HubCard, facts: Mapping[str, Any]) -> str:
    """README.md: YAML head, then the label statement before anything else."""
    head = {
        "license": card.licence,
        "library_name": "lsemvae",
        "tags": list(TAGS),
        **({"datasets": list(card.datasets)} if card.datasets else {}),
        **({"metrics": ["roc_auc"], "model-index": [_index(card)]} if card.results else {}),
    }
    return "\n".join(["---", *_yaml(head), "---", "", *_body(card, facts), ""])


def _loader(run: Path) -> tuple[Loader, str]:
    kind = read_object(run / CONFIG).get("kind")
    if kind not in LOADERS:
        raise FormatError(
            f"{run}: found a run of kind {kind!r}, expected one of {', '.join(LOADERS)}",
            advice="Give the run folder of lsemvae pretrain, finetune or distill.",
        )
    return LOADERS[str(kind)]


def _facts(run: Path, model: nn.Module, config: Mapping[str, Any], store: RecordStore | None) -> dict[str, Any]:
    noted = read_object(run / "run.json")
    facts = {
        "kind": config["kind"],
        "loader": _loader(run)[1],
        "labels": list(config["labels"]),
        "leads": list(config["leads"]),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "left_out": folds_left_out(run),
        "git_revision": noted.get("git_revision", "unknown"),
        "data_sha256": noted.get("data_sha256", "unknown"),
        "seed": noted.get("seed", "unknown"),
        "versions": noted.get("versions", {}),
    }
    return {**facts, **(_of_store(store, facts) if store is not None else {})}


def _of_store(store: RecordStore, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was trained on; a store of other data is refused."""
    if store.data_hash != facts["data_sha256"]:
        raise FormatError(
            f"{store.root}: found data {store.data_hash[:16]}, expected {str(facts['data_sha256'])[:16]}, which the run names",
            advice="Give the record store that the run was trained on, or leave --data out.",
        )
    seen = (store.fold > 0) & ~np.isin(store.fold, facts["left_out"])
    return {
        "n_train": int(seen.sum()),
        "n_patients": len(np.unique(store.patient[seen])),
        "sources": sorted({str(source) for source in store.source[seen]}),
    }


def _index(card: HubCard) -> dict[str, Any]:
    dataset = card.datasets[0] if card.datasets else "not stated"
    metrics = [
        {
            "type": "roc_auc",
            "value": round(r.auroc[0], 4),
            "name": f"AUROC {r.name} (95 % interval {r.auroc[1]:.3f} to {r.auroc[2]:.3f}; {r.positives} of {r.n} positive)",
        }
        for r in card.results
    ]
    task = {"type": "other", "name": "statements of ECG readers, not pulmonary hypertension"}
    return {
        "name": card.name,
        "results": [{"task": task, "dataset": {"type": "ecg", "name": dataset}, "metrics": metrics}],
    }


def _body(card: HubCard, facts: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"**{LABEL_STATEMENT}**", "", f"# {card.name}", "")
    yield f"- Intended use: {INTENDED_USE}"
    yield f"- Not for: {', '.join(NOT_FOR)}."
    yield f"- Model: {facts['kind']}, {facts['n_parameters']:,} parameters; leads {', '.join(facts['leads'])} in mV, 250 Hz, 10 s."
    yield from _trained(facts)
    yield from ("", "## Outputs", "", "| output | what a reader stated |", "| --- | --- |")
    yield from (
        f"| {label} | {DESCRIPTIONS.get(label, 'see the task file of the data')} |" for label in facts["labels"]
    )
    yield from ("", "## Held-out results", "", *_results(card, facts))
    yield from ("", "## Use", "", "```python", f"from lsemvae.train.checkpoint import {facts['loader']}", "")
    yield from (
        f'model, config = {facts["loader"]}("FOLDER")',
        "```",
        "",
        "Logits are not probabilities: decision.json, where it is",
    )
    yield "there, holds calibration and operating points. Recordings pass through `lsemvae.ecg.frontend` before the model."


def _trained(facts: Mapping[str, Any]) -> Iterator[str]:
    if "n_train" in facts:
        yield (
            f"- Trained on {facts['n_train']:,} recordings of {facts['n_patients']:,} patients: {', '.join(facts['sources'])}."
        )
    yield f"- Data SHA-256 `{str(facts['data_sha256'])[:16]}`, code `{str(facts['git_revision'])[:12]}`, seed {facts['seed']}."
    left = ", ".join(map(str, facts["left_out"]))
    yield f"- Folds left out in training: {left or 'none; no recording of its data is held out for this very model'}."


def _results(card: HubCard, facts: Mapping[str, Any]) -> Iterator[str]:
    if not card.results:
        yield "None recorded."
        return
    if not facts["left_out"]:
        yield "Figures of cross-validated models of the same recipe (as INT8 bundles, where `lsemvae reproduce` recorded them)."
        yield "This very model has seen all folds."
        yield ""
    yield from ("| label | leads | n | positive | AUROC (95 % interval) |", "| --- | --- | --- | --- | --- |")
    for r in card.results:
        value, low, high = r.auroc
        label = r.label + (f" (negatives: {r.negatives})" if r.negatives else "")
        yield f"| {label} | {r.leads} | {r.n:,} | {r.positives} | {value:.3f} ({low:.3f} to {high:.3f}) |"


def _has_auroc(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(v is not None for v in values)


def _of_reproduce(entry: Mapping[str, Any], leads: str) -> Result:
    negatives = str(entry.get("negatives", ""))
    value, low, high = map(float, entry["auroc"])
    return Result(
        str(entry["label"]), str(entry.get("leads", leads)), (value, low, high), int(entry["n"]), int(entry["positives"]),
        "" if negatives == "all" else negatives,
    )  # fmt: skip


def _of_figures(by_leads: Mapping[str, Mapping[str, Any]]) -> Iterator[Result]:
    for leads, by_label in by_leads.items():
        for label, found in by_label.items():
            if _has_auroc(found["value_low_high"]):
                value, low, high = map(float, found["value_low_high"])
                yield Result(label, leads, (value, low, high), int(found["n"]), int(found["positives"]))


def _yaml(values: Any, depth: int = 0) -> Iterator[str]:
    """Block YAML of nested objects and lists; scalars as JSON, which YAML contains."""
    pad = "  " * depth
    if isinstance(values, Mapping):
        for key, value in values.items():
            if isinstance(value, Mapping | list):
                yield f"{pad}{key}:"
                yield from _yaml(value, depth + 1)
            else:
                yield f"{pad}{key}: {_scalar(value)}"
    elif isinstance(values, Sequence):
        for value in values:
            lines = list(_yaml(value, depth + 1)) if isinstance(value, Mapping | list) else [f"{pad}  {_scalar(value)}"]
            yield f"{pad}- {lines[0].lstrip()}"
            yield from lines[1:]


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
