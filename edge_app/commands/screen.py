"""`edge_app screen`: from a file to an outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edge_app.commands.options import Operator
from edge_app.visit import keep
from lsemvae.terminal.console import exit_code_of, report_error, reports_errors
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, screener_for
from lsemvae.terminal.result_view import exit_code_of_result, show, show_unstored

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
    from lsemvae.ecg.errors import EcgError, StoreError
    from lsemvae.formats.read import read_record

    screener = screener_for(bundle, trust=trust, data_dir=data_dir)
    try:
        record = read_record(file, unit=unit, fs_hz=fs_hz)
    except EcgError as error:
        report_error(error, as_json=as_json, extra=screener.error(error).to_dict())
        raise typer.Exit(exit_code_of(error)) from error
    result = screener.screen(record)
    try:
        kept = keep(record, result, folder=data_dir, operator=operator) if store else None
    except StoreError as error:
        show_unstored(result, error, as_json=as_json)
        raise typer.Exit(exit_code_of(error)) from error
    show(result, kept=kept, as_json=as_json)
    raise typer.Exit(exit_code_of_result(result))
