"""A folder that a model hub understands: README.md with a YAML head, model.safetensors, config.json. Nothing is uploaded.

The head follows the model card metadata of the Hugging Face hub (its documentation, "Model Cards": `license`, `library_name`,
`tags`, `datasets`, `metrics`, `model-index`). The weights load again with `lsemvae.train.checkpoint`, checked before the folder is
handed over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from lsemvae.data.store import RecordStore
from lsemvae.data.tasks import BUILT_IN
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.card import INTENDED_USE, LABEL_STATEMENT, NOT_FOR, OWN_USE
from lsemvae.formats.whole import write_whole
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.report.html import markdown
from lsemvae.train.checkpoint import load_lsemvae, load_student
from lsemvae.train.run import folds_left_out, read_object, tasks_of

WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
COPIED: Final = (WEIGHTS, CONFIG)
# Calibration and operating points: a logit means little without them.
ALSO_COPIED: Final = ("decision.json",)
TAGS: Final = ("ecg", "electrocardiography", "time-series-classification", "variational-autoencoder", "edge")
_RESULTS_ADVICE: Final = (
    "Give the results.json of `lsemvae reproduce`, or the figures.json of `lsemvae report` with --row."
)

Net = StudentNet | LsEmvae
Loader = Callable[[Path], tuple[Net, dict[str, Any]]]
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

    Attributes
    ----------
    licence
        SPDX id in lower case. Empty: `apache-2.0` for a run on the built-in labels; a run on a cohort's own labels states none.
    datasets
        Names; where empty those of the store's sources that the run has seen.
    """

    name: str
    licence: str = ""
    datasets: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def write_hub_folder(run: Path, out: Path, card: HubCard, *, store: RecordStore | None = None) -> list[Path]:
    """Write the folder and load it again; return its files. `out` must not exist, or be empty."""
    run, out = Path(run), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FormatError(
            f"{out}: found something there, expected an empty or new folder", advice="Choose another --out."
        )
    model, _ = _loader(run)[0](run)
    readme = render(card, run, model, store)
    out.mkdir(parents=True, exist_ok=True)
    names = [*COPIED, *(name for name in ALSO_COPIED if (run / name).is_file())]
    for name in names:
        shutil.copyfile(run / name, out / name)
    write_whole(out / README, readme)
    check_same_weights(model, _loader(out)[0](out)[0], where=out)
    return [out / name for name in (*names, README)]


def render(card: HubCard, run: Path, model: Net, store: RecordStore | None) -> str:
    """Return README.md: YAML head, then what the labels are before anything else.

    A run on a cohort's own labels says so in the cohort's own words; a store of other data than the run's is refused.
    """
    config, noted, tasks = read_object(run / CONFIG), read_object(run / "run.json"), tasks_of(run)
    own = tasks.statement != BUILT_IN.statement
    left_out, data_sha256 = folds_left_out(run), str(noted.get("data_sha256", "unknown"))
    trained = None
    if store is not None:
        if store.data_hash != data_sha256:
            raise FormatError(
                f"{store.root}: found data {store.data_hash[:16]}, expected {data_sha256[:16]}, which the run names",
                advice="Give the record store that the run was trained on, or leave --data out.",
            )
        seen = (store.fold > 0) & ~np.isin(store.fold, left_out)
        trained = {
            "recordings": int(seen.sum()),
            "patients": len(np.unique(store.patient[seen])),
            "sources": sorted({str(source) for source in store.source[seen]}),
        }
    return markdown(
        "hub.md",
        name=card.name,
        licence=card.licence or ("" if own else "apache-2.0"),
        tags=TAGS,
        datasets=card.datasets or (trained["sources"] if trained else ()),
        results=card.results,
        task=tasks.statement if own else "statements of ECG readers, not pulmonary hypertension",
        statement=tasks.statement if own else LABEL_STATEMENT,
        intended_use=OWN_USE if own else INTENDED_USE,
        not_for=NOT_FOR,
        kind=config["kind"],
        stage=config.get("stage"),
        loader=_loader(run)[1],
        labels=model.config.labels,
        leads=model.config.leads,
        stated="what its label is" if own else "what a reader stated",
        descriptions=tasks.descriptions,
        n_parameters=sum(p.numel() for p in model.parameters()),
        trained=trained,
        left_out=left_out,
        data_sha256=data_sha256,
        git_revision=str(noted.get("git_revision", "unknown")),
        seed=noted.get("seed", "unknown"),
    )


def read_results(path: Path, *, row: str = "", leads: str = "I+II") -> tuple[Result, ...]:
    """Return the results of `lsemvae reproduce`, or one row of figures.json; a figure that is not there is left out.

    In the former, `rows` is a list, and `leads` names what its student sees.
    """
    rows = read_object(path).get("rows")
    try:
        if isinstance(rows, list):
            found = [(str(entry["label"]), str(entry.get("leads", leads)), entry["auroc"], entry) for entry in rows]
        elif isinstance(rows, dict) and row in rows:
            by_leads = rows[row]["auroc"]
            found = [
                (label, under, entry["value_low_high"], entry)
                for under, by_label in by_leads.items()
                for label, entry in by_label.items()
            ]
        else:
            known = f"the rows {', '.join(rows)}" if isinstance(rows, dict) else "no rows"
            raise FormatError(
                f"{path}: found {known}, expected among them {row or 'a list of rows'}", advice=_RESULTS_ADVICE
            )
        results = []
        for label, under, three, entry in found:
            if isinstance(three, list) and len(three) == 3 and None not in three:
                value, low, high = map(float, three)
                negatives = "" if entry.get("negatives") == "all" else str(entry.get("negatives", ""))
                counts = (int(entry["n"]), int(entry["positives"]))
                results.append(Result(label, under, (value, low, high), *counts, negatives))
        return tuple(results)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{path}: found results of another shape ({error!r})", advice=_RESULTS_ADVICE) from error


def check_same_weights(first: nn.Module, second: nn.Module, *, where: Path) -> None:
    """Raise FormatError unless both modules hold the same tensors, bit for bit."""
    a, b = first.state_dict(), second.state_dict()
    if set(a) != set(b) or any(not a[name].equal(b[name]) for name in a):
        raise FormatError(f"{where}: found other weights than the run has, expected the same", advice="Write it again.")


def _loader(run: Path) -> tuple[Loader, str]:
    kind = read_object(run / CONFIG).get("kind")
    if kind not in LOADERS:
        raise FormatError(
            f"{run}: found a run of kind {kind!r}, expected one of {', '.join(LOADERS)}",
            advice="Give the run folder of lsemvae pretrain, finetune or distill.",
        )
    return LOADERS[str(kind)]
