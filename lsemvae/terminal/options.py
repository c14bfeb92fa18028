"""Options that commands of both programs share, declared once, and the screener that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from lsemvae.screen.screener import Screener

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DataDir = Annotated[
    Optional[Path],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--data-dir", help="Folder of recordings [default: $LSEMVAE_HOME or ~/.local/share/lsemvae]."),
]
BundlePath = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--bundle", help="Model bundle, a directory or a .zip [default: the one shipped with the app]."),
]
Trust = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--trust", help="Folder of *.pub keys to trust instead of those shipped with the app."),
]


def trusted_keys(folder: Path | None) -> tuple[bytes, ...]:
    """Return the keys of `folder`, or those shipped with the app."""
    from lsemvae.screen.trust import TRUST_DIR, load_trusted_keys

    return load_trusted_keys(TRUST_DIR if folder is None else folder)


def screener_for(bundle: Path | None, *, trust: Path | None, data_dir: Path | None) -> Screener:
    """Open a bundle as the clinic does: signed, not older than what was used before, and tested on this machine."""
    from lsemvae.screen.datadir import data_dir as choose
    from lsemvae.screen.ratchet import VersionRatchet
    from lsemvae.screen.screener import open_screener

    return open_screener(bundle, trusted_keys=trusted_keys(trust), ratchet=VersionRatchet(choose(data_dir)))
