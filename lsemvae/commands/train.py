"""Commands that make models: convert, pretrain, finetune, distill, calibrate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json, say_progress
from lsemvae.terminal.options import Json

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
Device = Annotated[str, typer.Option(help="cpu, or cuda (with bfloat16 where that is safe).")]
LeftOut = Annotated[str, typer.Option("--leave-out", help="Folds that this run must not see, as 1,2,3.")]

# The one defect of the reference that belongs to the optimizer, not to the model.
LOST_GRADIENTS: Final = "lost_gradients"


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
    """Run `stage` on the recordings outside the folds left out (after the run `parent`), and say where its run lies.

    `stage(store, [parent,] out, rows, *, train, left_out, report)` is one of the functions of `lsemvae.train`.
    """
    # Wrong usage is said before anything heavy is loaded or opened.
    try:
        left_out = tuple(sorted({int(part) for part in asked.leave_out.split(",") if part.strip()}))
    except ValueError as error:
        raise typer.BadParameter(f"found {asked.leave_out!r}, expected fold numbers such as 1,2,3") from error

    import numpy as np

    from lsemvae.data.splits import check_disjoint
    from lsemvae.data.store import open_store
    from lsemvae.ecg.errors import FormatError
    from lsemvae.train.loop import epoch_text

    store = open_store(asked.data)
    known = sorted({int(fold) for fold in store.fold if fold > 0})
    if unknown := sorted(set(left_out) - set(known)):
        raise FormatError(
            f"found folds {unknown} to leave out, expected some of {known}, which the store has",
            advice="Correct --leave-out: a fold that is not there leaves nothing out.",
        )
    held = np.isin(store.fold, list(left_out))
    rows = np.flatnonzero((store.fold > 0) & ~held)
    if not len(rows):
        raise FormatError(
            f"found no recording outside folds {list(left_out)}, expected some to train on",
            advice="Leave fewer folds out. Recordings without a fold (strat_fold) are never trained on.",
        )
    check_disjoint([str(p) for p in store.patient], rows, np.flatnonzero(held))
    folders = (asked.out,) if parent is None else (parent, asked.out)
    config = replace(preset, epochs=asked.epochs or preset.epochs, seed=asked.seed)

    def report(row: dict[str, float | int | str]) -> None:
        say_progress(epoch_text(row))

    stage(store, *folders, rows, train=config, left_out=left_out, report=report)
    if asked.as_json:
        say_json({"run": str(asked.out)})
    else:
        say(f"run folder: {asked.out}")


@ends_well
def convert(
    out: Annotated[Path, typer.Option("--out", help="Record store to make; must not exist.", show_default=False)],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data", help="Folder with metadata.csv, or a tree of WFDB records; with --cohort, where its paths begin."
        ),
    ] = None,
    cohort: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Cohort file (TOML): own labels and measurements from a CSV. See docs/how-to/cohorts.md."),
    ] = None,
    patients: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="CSV with the columns record,patient: which patient each WFDB record belongs to "
            "[default: MIMIC-IV-ECG's patient, from the path]."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run recordings through the front-end into a record store that training reads."""
    from lsemvae.data.cohort import convert_cohort
    from lsemvae.data.convert import convert_folder, convert_wfdb, read_patients

    def progress(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            say_progress(f"{done}/{total} recordings")

    if data is None and cohort is None:
        raise typer.BadParameter("found neither --data nor --cohort, expected one: what is to be converted?")
    if cohort is not None and patients is not None:
        raise typer.BadParameter(
            "found --patients beside --cohort, expected the cohort file to name the patient column"
        )
    if cohort is not None:
        store = convert_cohort(cohort, out, data=data, progress=progress)
    elif data is not None and (data / "metadata.csv").is_file():
        store = convert_folder(data, out, progress=progress)
    elif data is not None:
        store = convert_wfdb(data, out, patients=read_patients(patients) if patients else None, progress=progress)
    _say_store(store, as_json=as_json)


def _say_store(store: RecordStore, *, as_json: bool) -> None:
    """Print what a conversion made: recordings, each label's classes, measured values, what was masked or refused."""
    refused, notes, tasks = store.index["refused"], store.index["notes"], store.tasks
    if as_json:
        say_json(
            {
                "store": str(store.root),
                "recordings": len(store),
                "refused": refused,
                "data_sha256": store.data_hash,
                "statement": tasks.statement,
                "primary": tasks.primary,
                "labels": store.label_counts(),
                "measures": store.measure_counts(),
                "notes": notes,
            }
        )
        return
    say(f"{len(store)} recordings in {store.root}; {len(refused)} refused")
    for row in refused[:10]:
        say(f"  {row['uid']}: {row['code']}: {row['message']}")
    say(f"{tasks.name}: {tasks.statement}")
    for name, counts in store.label_counts().items():
        say(f"  {name}: {counts['positive']} positive, {counts['negative']} negative, {counts['unknown']} unknown")
    for name, count in store.measure_counts().items():
        say(f"  {name}: measured in {count}")
    for note in notes:
        say(f"note: {note}")


@ends_well
def pretrain(
    data: Data,
    out: Out,
    preset: Annotated[
        str, typer.Option(help="base (this project's), or paper (the published sizes and schedule).")
    ] = "base",
    size: Annotated[
        float, typer.Option(help="One factor on all widths; 0.5 is the small model of the evidence table.")
    ] = 1.0,
    switch: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Switch one defect of the reference on, by name, for an ablation; may be repeated."),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    leave_out: LeftOut = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Pre-train LS-EMVAE on recordings without labels, under the lead sets that occur in use (12, 6, two, one)."""
    from lsemvae.model.presets import PAPER_PRETRAIN
    from lsemvae.model.presets import preset as configured
    from lsemvae.model.switches import with_defects
    from lsemvae.train.pretrain import PRETRAIN
    from lsemvae.train.pretrain import pretrain as run

    wanted = switch or []

    def stage(store: RecordStore, out: Path, rows: np.ndarray, **common: Any) -> None:
        model = configured(preset, labels=store.label_names, measures=store.measure_names, size=size)
        model = with_defects(model, *(name for name in wanted if name != LOST_GRADIENTS))
        run(store, out, rows, model=model, device=device, **common)

    train = replace(PAPER_PRETRAIN if preset == "paper" else PRETRAIN, lost_gradients=LOST_GRADIENTS in wanted)
    _train(_Asked(data, out, epochs, seed, leave_out, as_json), stage, train)


@ends_well
def finetune(
    data: Data,
    pretrained: Annotated[Path, typer.Option("--from", help="Run folder of `lsemvae pretrain`.", show_default=False)],
    out: Out,
    epochs: Epochs = None,
    seed: Seed = 0,
    leave_out: LeftOut = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Fine-tune a pre-trained LS-EMVAE on labels: one model that reads 12, 6, two leads or one.

    A model of preset `paper` keeps its encoders as they are: only a small classifier on top of them is trained.
    """
    from lsemvae.model.presets import PAPER_PROBE
    from lsemvae.train.finetune import FINETUNE
    from lsemvae.train.finetune import finetune as run
    from lsemvae.train.run import read_object

    of_paper = read_object(pretrained / "config.json").get("kind") == "paper"
    asked = _Asked(data, out, epochs, seed, leave_out, as_json)
    _train(asked, partial(run, device=device), PAPER_PROBE if of_paper else FINETUNE, parent=pretrained)


@ends_well
def distill(
    data: Data,
    teacher: Annotated[
        list[Path],
        typer.Option(
            "--teacher",
            help="Run folder of `lsemvae finetune`; given several times, the teachers' logits are averaged.",
            show_default=False,
        ),
    ],
    out: Out,
    size: Annotated[str, typer.Option(help="Size of the student: xs, s, m, l or xl (20 k to 500 k parameters).")] = "m",
    recipe: Annotated[
        str,
        typer.Option(
            help="quick: the teacher answers once per recording. patient: four times the epochs, and the teacher "
            "answers on the same augmented recordings that the student sees."
        ),
    ] = "quick",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Also learn the teacher's answers on recordings without labels.")
    ] = False,
    views: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Augmented views of each recording that the teacher answers on; 0: a new one every time "
            "[default: the recipe's].",
            min=0,
        ),
    ] = None,
    feature: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Weight of matching the teacher's latent map; 0: do not match it [default: the recipe's].", min=0.0
        ),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    leave_out: LeftOut = "",
    as_json: Json = False,
) -> None:
    """Distil one or more fine-tuned LS-EMVAEs into the edge student on leads I and II."""
    from lsemvae.train.distill import distill as run
    from lsemvae.train.distill import student_for
    from lsemvae.train.recipes import recipe_of

    train, options = recipe_of(recipe, views=views, feature=feature, unlabelled=unlabelled)

    def stage(store: RecordStore, out: Path, rows: np.ndarray, **common: Any) -> None:
        run(store, teacher, out, rows, student=student_for(store, teacher, size), options=options, **common)

    _train(_Asked(data, out, epochs, seed, leave_out, as_json), stage, train)


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
