"""`edge_app screen`: from a file to an outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from edge_app.commands.options import Operator
from lsemvae.terminal.console import exit_code_of, report_error, reports_errors, say_progress
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, screener_for
from lsemvae.terminal.result_view import exit_code_of_result, show, show_unstored

if TYPE_CHECKING:
    from edge_app.visit import VisitResult

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Recording: .ecg.npz, .csv, WFDB .hea or DICOM.", show_default=False)
]
Unit = Annotated[
    Optional[str],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--unit", help="Unit of a CSV file that states none: uV, mV or V."),
]
Rate = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--fs-hz", help="Rate in Hz of a CSV file that states none."),
]
Store = Annotated[bool, typer.Option("--store/--no-store", help="Keep the recording and its result.")]


@reports_errors
def screen(
    file: FileArgument,
    bundle: BundlePath = None,
    unit: Unit = None,
    fs_hz: Rate = None,
    as_json: Json = False,
    store: Store = True,
    operator: Operator = "",
    data_dir: DataDir = None,
    trust: Trust = None,
) -> None:
    """Screen a recording from a file."""
    from edge_app.visit import judge
    from lsemvae.ecg.errors import EcgError
    from lsemvae.formats.read import read_record

    screener = screener_for(bundle, trust=trust, data_dir=data_dir)
    try:
        record = read_record(file, unit=unit, fs_hz=fs_hz)
    except EcgError as error:
        report_error(error, as_json=as_json, extra=screener.error(error).to_dict())
        raise typer.Exit(exit_code_of(error)) from error
    end_with(judge(record, screener, folder=data_dir, operator=operator, store=store), as_json=as_json)


def end_with(outcome: VisitResult, *, as_json: bool, extra: dict[str, Any] | None = None) -> NoReturn:
    """Show an outcome and end the command with its exit code; what the store refused is shown all the same.

    Parameters
    ----------
    extra
        More fields of the JSON document.
    """
    if outcome.refusal is not None:
        show_unstored(outcome.result, outcome.refusal, as_json=as_json, extra=extra)
        if outcome.left:
            say_progress(outcome.left)
        raise typer.Exit(exit_code_of(outcome.refusal))
    kept = None if outcome.kept is None else outcome.kept.to_dict()
    show(outcome.result, kept=kept, as_json=as_json, extra=extra)
    raise typer.Exit(exit_code_of_result(outcome.result))
