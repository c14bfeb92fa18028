"""`edge_app`: the command line of the clinic.

Nothing heavy is imported before a command runs: help and version need neither a runtime nor Bluetooth nor cryptography.
"""

from __future__ import annotations

from typing import Annotated

import typer

from edge_app.commands import devices, live, records, screen
from lsemvae.terminal import bundle_view as bundle
from lsemvae.terminal.console import ExitCode, reports_errors, say, say_json
from lsemvae.terminal.options import BundlePath, DataDir, Json, Trust, trusted_keys

_HELP = """Six-lead ECG screening without a network.

Every screening ends in one of four outcomes: DETECTED, NOT DETECTED, ABSTAIN (with reasons) or ERROR (with code and
advice). Exit codes: 0 ok, 1 error, 2 wrong usage, 3 abstain, 4 bundle refused.
"""

app = typer.Typer(
    name="edge_app",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("screen")(screen.screen)
app.command("run")(live.run)
app.command("demo")(live.demo)
app.command("recover")(live.recover)
app.add_typer(devices.app, name="devices")
app.add_typer(records.app, name="records")
app.add_typer(bundle.app, name="bundle")


def _version(*, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    say(f"edge_app {version('lsemvae')}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda wanted: _version(wanted=wanted), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command("doctor")
@reports_errors
def doctor(bundle: BundlePath = None, as_json: Json = False, data_dir: DataDir = None, trust: Trust = None) -> None:
    """Check bundle, store, disk, clock, Bluetooth and trusted devices."""
    from edge_app.doctor import Status, examine
    from lsemvae.screen.datadir import data_dir as choose

    checks = examine(choose(data_dir), bundle=bundle, trusted_keys=trusted_keys(trust))
    failed = [check for check in checks if check.status is Status.FAIL]
    if as_json:
        say_json({"healthy": not failed, "checks": [check.to_dict() for check in checks]})
    else:
        for check in checks:
            say(f"[{check.status.value:<4}] {check.name:<10}{check.detail}")
            if check.advice:
                say(f"{'':<7}{check.advice}")
    if failed:
        refused = any((check.code or "").startswith(("E_BUNDLE", "E_MANIFEST")) for check in failed)
        raise typer.Exit(ExitCode.BUNDLE_REFUSED if refused else ExitCode.USER_ERROR)


def main() -> None:
    """Run the command line."""
    app(prog_name="edge_app")
