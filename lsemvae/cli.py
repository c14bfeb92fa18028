"""`lsemvae`: the command line of the laboratory.

Nothing heavy is imported before a command runs: help needs neither torch nor a runtime.
"""

from __future__ import annotations

from typing import Annotated

import typer

from lsemvae.commands import benchmark, bundle, evaluate, explain, export, extract, report, reproduce, train
from lsemvae.terminal.console import ExitCode, say

_HELP = """Train, evaluate and export lead-specific ECG models, and screen recordings with the result.

The labels that ship are statements of ECG readers, not pulmonary hypertension.
Exit codes: 0 ok, 1 error, 2 wrong usage, 3 abstain, 4 bundle refused.
"""

app = typer.Typer(
    name="lsemvae",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("convert")(train.convert)
app.command("extract")(extract.extract)
app.command("pretrain")(train.pretrain)
app.command("finetune")(train.finetune)
app.command("distill")(train.distill)
app.command("calibrate")(train.calibrate)
app.command("reproduce")(reproduce.reproduce)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("card")(report.card)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("benchmark")(benchmark.benchmark)
app.command("screen")(evaluate.screen)
app.command("doctor")(evaluate.doctor)
app.add_typer(bundle.app, name="bundle")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    say(f"lsemvae {version('lsemvae')}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.USER_ERROR) from None
