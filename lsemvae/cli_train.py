"""Commands that make models: convert, pretrain, finetune, distill, calibrate, reproduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edge_app.cli_options import Json
from edge_app.console import say, say_json, say_progress
from lsemvae.cli_errors import ends_well

if TYPE_CHECKING:
    import numpy as np

    from lsemvae.data.store import RecordStore
    from lsemvae.model.config import TrainConfig

Data = Annotated[Path, typer.Option("--data", help="Record store made by `lsemvae convert`.", show_default=False)]
Out = Annotated[
    Path, typer.Option("--out", help="Run folder; a run that was begun there is resumed.", show_default=False)
]
Epochs = Annotated[Optional[int], typer.Option(help="Epochs, fixed beforehand [default: the preset's].", min=1)]  # noqa: UP045
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and augmentation.")]
LeftOut = Annotated[str, typer.Option("--leave-out", help="Folds that this run must not see, as 1,2,3.")]


def _folds(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise typer.BadParameter(f"found {text!r}, expected fold numbers such as 1,2,3") from error


def _rows(store: RecordStore, left_out: tuple[int, ...]) -> np.ndarray:
    import numpy as np

    from lsemvae.data.splits import check_disjoint
    from lsemvae.ecg.errors import FormatError

    known = sorted({int(fold) for fold in store.fold if fold > 0})
    if unknown := sorted(set(left_out) - set(known)):
        raise FormatError(
            f"found folds {unknown} to leave out, expected some of {known}, which the store has",
            advice="Correct --leave-out: a fold that is not there leaves nothing out.",
        )
    rows = np.flatnonzero((store.fold > 0) & ~np.isin(store.fold, list(left_out)))
    if not len(rows):
        raise FormatError(
            f"found no recording outside folds {list(left_out)}, expected some to train on",
            advice="Leave fewer folds out. Recordings without a fold (strat_fold) are never trained on.",
        )
    check_disjoint([str(p) for p in store.patient], rows, np.flatnonzero(np.isin(store.fold, list(left_out))))
    return rows


def _train_config(preset: TrainConfig, epochs: int | None, seed: int) -> TrainConfig:
    return replace(preset, epochs=epochs or preset.epochs, seed=seed)


def _say_epoch(row: dict[str, float | int | str]) -> None:
    say_progress(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


@dataclass(frozen=True)
class _Asked:
    """What the three training commands ask for alike."""

    data: Path
    out: Path
    epochs: int | None
    seed: int
    leave_out: str
    as_json: bool


def _train(asked: _Asked, stage: Callable[..., object], preset: TrainConfig, *, parent: Path | None = None) -> None:
    """Open the store, leave the folds out, run the stage in its run folder (after `parent`) and say where it lies."""
    from lsemvae.data.store import open_store

    left_out = _folds(asked.leave_out)
    store = open_store(asked.data)
    folders = (asked.out,) if parent is None else (parent, asked.out)
    config = _train_config(preset, asked.epochs, asked.seed)
    stage(store, *folders, _rows(store, left_out), train=config, left_out=left_out, report=_say_epoch)
    _done(asked.out, as_json=asked.as_json)


def _done(out: Path, *, as_json: bool) -> None:
    if as_json:
        say_json({"run": str(out)})
    else:
        say(f"run folder: {out}")


@ends_well
def convert(
    data: Annotated[
        Path, typer.Option("--data", help="Folder with metadata.csv, or a tree of WFDB records.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Record store to make; must not exist.", show_default=False)],
    patients: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="CSV with columns record,patient: whose WFDB record is whose [MIMIC-IV-ECG: from the path]."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run recordings through the front-end into a record store that training reads."""
    from lsemvae.data.convert import convert_folder, convert_wfdb, read_patients

    def progress(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            say_progress(f"{done}/{total} recordings")

    if (data / "metadata.csv").is_file():
        store = convert_folder(data, out, progress=progress)
    else:
        store = convert_wfdb(data, out, patients=read_patients(patients) if patients else None, progress=progress)
    refused = store.index["refused"]
    if as_json:
        say_json({"store": str(out), "recordings": len(store), "refused": refused, "data_sha256": store.data_hash})
        return
    say(f"{len(store)} recordings in {out}; {len(refused)} refused")
    for row in refused[:10]:
        say(f"  {row['uid']}: {row['code']}: {row['message']}")


@ends_well
def pretrain(
    data: Data, out: Out, epochs: Epochs = None, seed: Seed = 0, leave_out: LeftOut = "", as_json: Json = False
) -> None:
    """Pre-train LS-EMVAE on recordings without labels, under the lead sets met in use."""
    from lsemvae.train.pretrain import PRETRAIN
    from lsemvae.train.pretrain import pretrain as run

    _train(_Asked(data, out, epochs, seed, leave_out, as_json), run, PRETRAIN)


@ends_well
def finetune(
    data: Data,
    pretrained: Annotated[Path, typer.Option("--from", help="Run folder of `lsemvae pretrain`.", show_default=False)],
    out: Out,
    epochs: Epochs = None,
    seed: Seed = 0,
    leave_out: LeftOut = "",
    as_json: Json = False,
) -> None:
    """Fine-tune a pre-trained LS-EMVAE on labels, for 12, 6, two or one leads at once."""
    from lsemvae.train.finetune import FINETUNE
    from lsemvae.train.finetune import finetune as run

    _train(_Asked(data, out, epochs, seed, leave_out, as_json), run, FINETUNE, parent=pretrained)


@ends_well
def distill(
    data: Data,
    teacher: Annotated[Path, typer.Option("--teacher", help="Run folder of `lsemvae finetune`.", show_default=False)],
    out: Out,
    epochs: Epochs = None,
    seed: Seed = 0,
    leave_out: LeftOut = "",
    as_json: Json = False,
) -> None:
    """Distil a fine-tuned LS-EMVAE into the edge student on leads I and II."""
    from lsemvae.train.distill import DISTILL
    from lsemvae.train.distill import distill as run

    _train(_Asked(data, out, epochs, seed, leave_out, as_json), run, DISTILL, parent=teacher)


@ends_well
def calibrate(
    run: Annotated[Path, typer.Argument(help="Run folder of a student that left folds out.", show_default=False)],
    data: Data,
    as_json: Json = False,
) -> None:
    """Fit calibration and operating points on the folds a student has not seen; writes RUN/decision.json for export."""
    from lsemvae.data.store import open_store
    from lsemvae.evaluate.heldout import calibrate_run

    rule = calibrate_run(run, open_store(data))
    if as_json:
        say_json(rule.to_dict())
        return
    say(f"primary output {rule.primary}: called from probability {rule.thresholds[rule.primary]:.3f}")
    say(f"decision rule: {run / 'decision.json'}")


@ends_well
def reproduce(
    data: Annotated[
        Path, typer.Option("--data", help="Development recordings (folder with metadata.csv).", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for store, runs, bundles and figures.", show_default=False)
    ],
    quick: Annotated[bool, typer.Option("--quick", help="One epoch a stage: a smoke test, never a number.")] = False,
    version: Annotated[str, typer.Option("--bundle-version", help="Version written into the bundle.")] = "0.1.0",
    key: Annotated[str, typer.Option(help="Name of the signing key; made on first use.")] = "default",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train, cross-validate, calibrate, export and describe the shipped bundle, resuming what was begun."""
    from edge_app.screening import open_screener
    from lsemvae.reproduce import Job
    from lsemvae.reproduce import reproduce as run
    from lsemvae.train.pipeline import Budget

    budget = Budget().quick() if quick else Budget()
    job = Job(
        data=data,
        out=out,
        budget=budget.seeded(seed),
        version=version,
        key=key,
        say=say_progress,
        open_screener=lambda public: lambda path: open_screener(path, trusted_keys=(public,)),
    )
    out.mkdir(parents=True, exist_ok=True)
    bundle = run(job)
    if as_json:
        say_json(
            {
                "bundle": str(bundle),
                "results": str(out / "results.json"),
                "predictions": str(out / "cv-predictions.csv"),
            }
        )
        return
    say(f"bundle: {bundle}")
    say(f"card: {bundle / 'card.md'}; held-out predictions: {out / 'cv-predictions.csv'}")
