"""`lsemvae`: the command line of the laboratory.

Nothing heavy is imported before a command runs: help needs neither torch nor a runtime.
"""

from __future__ import annotations

from typing import Annotated

import typer

from lsemvae.commands import benchmark as cli_benchmark
from lsemvae.commands import bundle as cli_bundles
from lsemvae.commands import evaluate as cli_bundle
from lsemvae.commands import explain as cli_explain
from lsemvae.commands import export as cli_export
from lsemvae.commands import extract as cli_extract
from lsemvae.commands import report as cli_report
from lsemvae.commands import reproduce as cli_reproduce
from lsemvae.commands import train as cli_train
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
app.command("convert")(cli_train.convert)
app.command("extract")(cli_extract.extract)
app.command("pretrain")(cli_train.pretrain)
app.command("finetune")(cli_train.finetune)
app.command("distill")(cli_train.distill)
app.command("calibrate")(cli_train.calibrate)
app.command("reproduce")(cli_reproduce.reproduce)
app.command("evaluate")(cli_bundle.evaluate)
app.command("report")(cli_report.report)
app.command("card")(cli_report.card)
app.command("explain")(cli_explain.explain)
app.command("export")(cli_export.export)
app.command("benchmark")(cli_benchmark.benchmark)
app.command("screen")(cli_bundle.screen)
app.command("doctor")(cli_bundle.doctor)
app.add_typer(cli_bundles.app, name="bundle")


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
