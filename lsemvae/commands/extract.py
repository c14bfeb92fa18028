"""`lsemvae extract`: write one recording of a data folder to a file that the clinic and the simulated device read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json
from lsemvae.terminal.options import Json

# Recordings that the error for an unknown uid lists, so that its spelling can be seen.
_SHOWN: Final = 5


@ends_well
def extract(
    uid: Annotated[
        str, typer.Argument(metavar="UID", help="Recording, from the column uid of metadata.csv.", show_default=False)
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder with metadata.csv and signals/.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, .ecg.npz.")],
    as_json: Json = False,
) -> None:
    """Write one recording of a data folder to a file, for `edge_app screen` and `edge_app devices simulate`."""
    from lsemvae.data.folder import EcgFolder
    from lsemvae.ecg.errors import FormatError, StoreError
    from lsemvae.formats.npz import write_npz

    if out.exists():
        raise StoreError(f"found {out} already, expected no such file", advice="Choose another name with --out.")
    folder = EcgFolder(data)
    row = next((row for row in folder.rows if row["uid"] == uid), None)
    if row is None:
        some = ", ".join(row["uid"] for row in folder.rows[:_SHOWN])
        raise FormatError(
            f"found no recording {uid!r}, expected one of {len(folder.rows)} in the column uid: {some}, ...",
            advice="Look the uid up in metadata.csv.",
        )
    record = folder.record(row)
    write_npz(out, record)
    if as_json:
        say_json({"uid": uid, "file": str(out), "leads": list(record.leads), "fs_hz": record.fs_hz})
    else:
        say(f"Wrote {out}: {record.duration_s:g} s, {record.fs_hz:g} Hz, leads {', '.join(record.leads)}")
