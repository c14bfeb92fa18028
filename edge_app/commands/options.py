"""Options of the clinic's commands, declared once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

DeviceName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--device", help="Name or address of the device [default: the only one in reach]."),
]
SerialPath = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--serial", help="Serial port of the device instead of Bluetooth, for example /dev/ttyACM0."),
]
Simulated = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--simulated/--real", help="Simulated radio, or the machine's [default: a simulated one where it runs]."
    ),
]
AllowUnauthenticated = Annotated[
    bool,
    typer.Option("--allow-unauthenticated", help="Also a device that proves no key; the recording says so."),
]
Operator = Annotated[str, typer.Option("--operator", help="Name or number of the operator, stored with the result.")]
