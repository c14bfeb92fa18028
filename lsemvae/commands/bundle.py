"""`lsemvae bundle`: look at a bundle, check it, and compare two before one goes to the boards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.bundle_view import show_bundle, verify_bundle
from lsemvae.terminal.console import ExitCode, fit, say, say_json
from lsemvae.terminal.options import Json, Trust, trusted_keys

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help="Look at a model bundle, check it, or compare two.")
# What the clinic says about a bundle is said by the clinic's code here too.
app.command("show")(show_bundle)
app.command("verify")(verify_bundle)


@app.command("diff")
@ends_well
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Bundle that the boards run.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Bundle that is to replace it.", show_default=False)],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 where the bundles differ, as git diff does.")
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Say what differs between two signed bundles, and what that means for a board that runs the first."""
    from lsemvae.screen.diff.compare import diff_bundles
    from lsemvae.screen.diff.text import diff_lines

    keys = trusted_keys(trust)
    found = diff_bundles(_opened("A", a, keys), _opened("B", b, keys))
    if as_json:
        say_json(found.to_dict())
    else:
        for line in diff_lines(found):
            say(fit(line))
    if exit_code and not found.equal:
        raise typer.Exit(ExitCode.USER_ERROR)


def _opened(side: str, path: Path, keys: tuple[bytes, ...]) -> Bundle:
    """Open a bundle; a refusal says which of the two it is about."""
    from lsemvae.ecg.errors import BundleError, ManifestError
    from lsemvae.screen.bundle import open_bundle

    try:
        return open_bundle(path, trusted_keys=keys)
    except (BundleError, ManifestError) as error:
        raise type(error)(f"{side} ({path.name}): {error}", advice=error.advice) from error
