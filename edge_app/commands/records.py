"""`edge_app records`: look at what was stored, check it, take a copy of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsemvae.terminal.console import ExitCode, reports_errors, say, say_json, strip_style
from lsemvae.terminal.options import DataDir, Json

if TYPE_CHECKING:
    from edge_app.store.records import ClinicStore

app = typer.Typer(no_args_is_help=True, help="Look at stored recordings and results.")

RecordId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a recording, from `records list`.", show_default=False)
]


def open_store(folder: Path | None, *, create: bool = False) -> ClinicStore:
    """Open the store of the data folder."""
    from edge_app.store.records import STORE_FILE, ClinicStore
    from lsemvae.screen.datadir import data_dir

    return ClinicStore(data_dir(folder) / STORE_FILE, create=create)


@app.command("list")
@reports_errors
def list_records(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List the newest recordings."""
    with open_store(data_dir) as store:
        summaries = store.list_records(limit=limit)
    if as_json:
        say_json([summary.to_dict() for summary in summaries])
        return
    say(f"{'id':<28}{'stored (UTC)':<26}{'length':>8}  {'outcome':<14}device")
    for summary in summaries:
        length = f"{summary.n_samples / summary.fs_hz:.1f} s"
        say(f"{summary.id:<28}{summary.stored_utc:<26}{length:>8}  {summary.outcome or '-':<14}{summary.device}")


@app.command("show")
@reports_errors
def show_record(record_id: RecordId, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Show one recording with all of its results."""
    from lsemvae.screen.screener import describe_record
    from lsemvae.terminal.result_view import describe_recording, draw

    with open_store(data_dir) as store:
        record, results = store.get_record(record_id), store.get_results(record_id)
    if as_json:
        say_json({"recording": describe_record(record), "results": results})
        return
    say(describe_recording(record))
    say(draw(record, strip_style()))
    for result in results:
        probability, model = result["probability"], result["model"]
        number = "" if probability is None else f", probability {probability:.2f}"
        reasons = f" ({', '.join(result['reasons'])})" if result["reasons"] else ""
        judged = f"{result['outcome']}{number}{reasons}"
        say(f"{result['stored_utc']}  {judged}, by {model['id']} {model['version']}")


@app.command("verify")
@reports_errors
def verify_records(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Check the whole store: structure, references and the SHA-256 of every row."""
    with open_store(data_dir) as store:
        faults = store.integrity_check()
        path = store.path
    if as_json:
        say_json({"path": str(path), "sound": not faults, "faults": faults})
    else:
        say(f"{path}: {'sound' if not faults else f'{len(faults)} faults'}")
        for fault in faults:
            say(f"  {fault}")
    if faults:
        raise typer.Exit(ExitCode.USER_ERROR)


@app.command("export")
@reports_errors
def export_record(
    record_id: RecordId,
    out: Annotated[Path, typer.Option("--out", help="File to write, .ecg.npz.")],
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Write a recording to a file that every part of this toolkit reads."""
    from lsemvae.ecg.errors import StoreError
    from lsemvae.formats.npz import write_npz

    if out.exists():
        raise StoreError(f"{out} exists already; nothing was written.", advice="Choose another name with --out.")
    with open_store(data_dir) as store:
        record = store.get_record(record_id)
    try:
        write_npz(out, record)
    except OSError as error:
        from lsemvae.screen.datadir import store_error

        raise store_error("write", out, error) from error
    if as_json:
        say_json({"id": record_id, "file": str(out)})
    else:
        say(f"Wrote {out}")
