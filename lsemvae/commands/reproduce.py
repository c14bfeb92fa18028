"""`lsemvae reproduce`: make the shipped bundle and the evidence table from the development recordings; it may be stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json, say_progress
from lsemvae.terminal.options import Json

_PARTS: Final = ("all", "bundle", "table")


@ends_well
def reproduce(
    data: Annotated[
        Path, typer.Option("--data", help="Development recordings (folder with metadata.csv).", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for store, runs, bundles, predictions and figures.", show_default=False),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="One epoch a stage on a few recordings: a smoke test, never a number.")
    ] = False,
    part: Annotated[str, typer.Option(help="bundle (the shipped student), table (the evidence) or all.")] = "all",
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Rows of the table, as resnet1d,mvae [default: all]."),
    ] = None,
    version: Annotated[str, typer.Option("--bundle-version", help="Version written into the bundle.")] = "0.3.0",
    key: Annotated[str, typer.Option(help="Name of the signing key; made on first use.")] = "default",
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and augmentation.")] = 0,
    as_json: Json = False,
) -> None:
    """Train, cross-validate, calibrate, export and describe the shipped bundle; run the evidence table and its report."""
    from lsemvae.screen.screener import open_screener
    from lsemvae.study.reproduce import Job
    from lsemvae.study.reproduce import reproduce as run
    from lsemvae.study.rows import chosen_rows
    from lsemvae.train.pipeline import Budget

    if part not in _PARTS:
        raise typer.BadParameter(f"found --part {part!r}, expected one of {', '.join(_PARTS)}")
    budget = Budget().quick() if quick else Budget()
    job = Job(
        data=data,
        out=out,
        budget=budget.seeded(seed),
        version=version,
        key=key,
        say=say_progress,
        open_screener=lambda public: lambda path: open_screener(path, trusted_keys=(public,)),
        quick=quick,
        rows=chosen_rows(rows.split(",") if rows else None),
    )
    out.mkdir(parents=True, exist_ok=True)
    made = run(job, part=part)
    if as_json:
        say_json({name: str(path) for name, path in made.items()})
        return
    for name, path in made.items():
        say(f"{name}: {path}")
