"""Commands that use a bundle: evaluate, screen, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import exit_code_of, report_error, say, say_json, say_progress
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, trusted_keys

if TYPE_CHECKING:
    from lsemvae.screen.screener import Screener

_COLUMNS = ("label", "negatives", "n", "positives", "auroc", "auprc", "brier", "ece", "sensitivity", "specificity")


@ends_well
def evaluate(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(
            help="Bundle, or a folder of cross-validation bundles with folds.json [default: the shipped one]."
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", help="Folder with metadata.csv and signals/.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    split: Annotated[str, typer.Option(help="Value of the `split` column, or all.")] = "all",
    predictions: Annotated[Optional[Path], typer.Option(help="Write one row per recording to this CSV file.")] = None,  # noqa: UP045
    known_gain: Annotated[
        bool, typer.Option("--known-gain", help="Leave out recordings whose overall gain is unknown.")
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Score a folder of recordings through the clinic's code; figures with intervals where the folder has labels."""
    from lsemvae.evaluate.scoring import check_writable, reports, score_folder, write_predictions
    from lsemvae.screen.screener import open_screener

    if predictions is not None:
        check_writable(predictions)
    keys = trusted_keys(trust)

    def opener(path: Path | None) -> Screener:
        return open_screener(path, trusted_keys=keys)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 100 == 0 or done == total):
            say_progress(f"{done}/{total} recordings")

    scores = score_folder(
        data, bundle=bundle, split=split, open_screener=opener, known_gain=known_gain, progress=progress
    )
    if predictions is not None:
        write_predictions(predictions, scores)
    rows = reports(scores)
    outcomes = scores.outcome_counts()
    if as_json:
        say_json(
            {
                "bundle": str(bundle) if bundle else "shipped",
                "split": split,
                "recordings": len(scores.rows),
                "outcomes": outcomes,
                "results": rows,
                "label_statement": scores.label_statement,
                "possibly_seen_in_training": scores.possibly_seen,
                "predictions": str(predictions) if predictions else None,
            }
        )
        return
    say(scores.label_statement)
    say(f"{len(scores.rows)} recordings: " + ", ".join(f"{name} {count}" for name, count in outcomes.items()))
    if scores.possibly_seen:
        say(
            f"NOT HELD OUT? {scores.possibly_seen} recordings carry a fold that this model did not leave out in training. "
            "If they are of its training data, these figures show memory, not skill."
        )
    if not rows:
        say("The folder states none of the bundle's labels: predictions only.")
    else:

        def cell(value: Any) -> str:
            if isinstance(value, list):
                return "-" if value[0] is None else "{:.3f} ({:.3f}-{:.3f})".format(*value)
            return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

        lines = [_COLUMNS, *([cell(row[name]) for name in _COLUMNS] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if predictions is not None:
        say(f"predictions: {predictions}")


@ends_well
def screen(
    file: Annotated[Path, typer.Argument(help="Recording: .ecg.npz, .csv, WFDB .hea or DICOM.", show_default=False)],
    bundle: BundlePath = None,
    unit: Annotated[Optional[str], typer.Option(help="Unit of a CSV file that states none: uV, mV or V.")] = None,  # noqa: UP045
    fs_hz: Annotated[Optional[float], typer.Option("--fs-hz", help="Rate of a CSV without one, in Hz.")] = None,  # noqa: UP045
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Screen one recording exactly as the clinic does; nothing is stored, and no version is remembered."""
    from lsemvae.ecg.errors import EcgError
    from lsemvae.formats.read import read_record
    from lsemvae.screen.screener import open_screener
    from lsemvae.terminal.result_view import exit_code_of_result, show

    screener = open_screener(bundle, trusted_keys=trusted_keys(trust))
    try:
        record = read_record(file, unit=unit, fs_hz=fs_hz)
    except EcgError as error:
        report_error(error, as_json=as_json, extra=screener.error(error).to_dict())
        raise typer.Exit(exit_code_of(error)) from error
    result = screener.screen(record)
    show(result, kept=None, as_json=as_json)
    raise typer.Exit(exit_code_of_result(result))


_LABORATORY = (
    "torch",
    "safetensors",
    "scikit-learn",
    "wfdb",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "litert-torch",
    "litert-quantizer",
)


@ends_well
def doctor(data_dir: DataDir = None, trust: Trust = None, bundle: BundlePath = None, as_json: Json = False) -> None:
    """Say what is installed here, what that allows, and what is missing for the rest."""
    from importlib.metadata import PackageNotFoundError, version

    from edge_app import examine
    from lsemvae.screen.datadir import data_dir as choose

    checks = [check.to_dict() for check in examine(choose(data_dir), bundle=bundle, trusted_keys=trusted_keys(trust))]
    packages: dict[str, str | None] = {}
    for name in _LABORATORY:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    if as_json:
        say_json({"laboratory": packages, "clinic": checks})
        return
    say("laboratory (train, export):")
    for name, found in packages.items():
        say(f"  {name}: {found or 'not installed; pip install lsemvae[export]'}")
    say("clinic:")
    for check in checks:
        advice = f" -> {check['advice']}" if check["advice"] else ""
        say(f"  {check['status']:4} {check['name']}: {check['detail']}{advice}")
