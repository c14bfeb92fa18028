"""Commands that write figures down: report, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json
from lsemvae.terminal.options import Json


@ends_well
def report(
    data: Annotated[Path, typer.Option("--data", help="Recordings (folder with metadata.csv).", show_default=False)],
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions", help="Folder of recorded predictions (<row>.npz, <row>.json).", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.", show_default=False)],
    extras: Annotated[
        Optional[list[Path]],  # noqa: UP045 - evaluated at run time by the command line library
        typer.Option(
            help="pareto.json, decoder.json, latent.npz, cv-predictions.csv, expected.json, or a folder of them."
        ),
    ] = None,
    more: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="More extras, as a shell's pattern leaves them.", show_default=False),
    ] = None,
    reference: Annotated[str, typer.Option(help="Row that the others are compared with.")] = "ls_emvae",
    row: Annotated[str, typer.Option(help="Row shown in depth [default: the reference].", show_default=False)] = "",
    lead_set: Annotated[str, typer.Option("--lead-set", help="Leads of the row in depth: 12, 6, I+II or I.")] = "6",
    as_json: Json = False,
) -> None:
    """Write tables and figures from recorded predictions: one HTML file, one PDF, the evidence table, the numbers."""
    from lsemvae.evaluate.report import ReportJob, write_report

    places = (*(extras or ()), *(more or ()))
    job = ReportJob(data, predictions, places, reference=reference, row=row, lead_set=lead_set)
    paths = write_report(job, out)
    if as_json:
        say_json({name: str(path) for name, path in paths.items()})
        return
    for path in paths.values():
        say(str(path))


@ends_well
def card(
    run: Annotated[Path, typer.Argument(help="Run folder of pretrain, finetune or distill.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder to make; must be empty or not exist.", show_default=False)],
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--data", help="Record store that the run was trained on: adds how much and what it has seen."),
    ] = None,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="results.json of `lsemvae reproduce`, or figures.json of `lsemvae report` with --row."),
    ] = None,
    row: Annotated[str, typer.Option(help="Row of figures.json that is this model's recipe.", show_default=False)] = "",
    name: Annotated[str, typer.Option(help="Name of the model [default: the run folder's].", show_default=False)] = "",
    dataset: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Name of a data set it was trained on [default: the store's sources, if --data is given]."),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            help="Licence of the weights, as an SPDX id [default: apache-2.0; none for a cohort's own labels].",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Write a hub-style folder: README.md with a YAML head, weights, config. Nothing leaves this machine."""
    from lsemvae.data.store import open_store
    from lsemvae.evaluate.hub import HubCard, read_results, write_hub_folder

    store = open_store(data) if data is not None else None
    found = read_results(results, row=row) if results is not None else ()
    described = HubCard(name or run.resolve().name, licence.lower(), tuple(dataset or ()), found)
    paths = write_hub_folder(run, out, described, store=store)
    if as_json:
        say_json({"folder": str(out), "files": [path.name for path in paths]})
        return
    say(f"{out}: {', '.join(path.name for path in paths)}")
