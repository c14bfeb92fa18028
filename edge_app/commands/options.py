"""Options of the clinic's commands, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edge_app.session.wish import DriverChoice

# `Optional[...]` because the command line library evaluates annotations at run time.
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
DriverName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--driver", help="Driver of another maker's device, see docs/reference/devices.md [default: e6l]."),
]
LsbUv = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--lsb-uv", help="Weight of one code in uV, where the driver cannot know it."),
]
DriverOptions = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--driver-option", metavar="NAME=VALUE", help="Parameter of the driver; may be given several times."),
]
Operator = Annotated[str, typer.Option("--operator", help="Name or number of the operator, stored with the result.")]


def driver_choice(
    name: str | None, *, lsb_uv: float | None, options: list[str] | None, replay: Path | None = None,
    simulated: bool | None = None,
) -> DriverChoice | None:  # fmt: skip
    """Return the driver that the options (or a log) name; None for a six-lead device.

    Raises
    ------
    typer.BadParameter
        Options of a driver without a driver, or a simulated device with one.
    FormatError
        The driver or an option is unknown, or the log is of another one.
    """
    from edge_app.devices.ways import driver_of

    found = driver_of(name, replay)
    if found is None:
        if lsb_uv is not None or options:
            raise typer.BadParameter(
                "--lsb-uv and --driver-option need --driver: a six-lead device states its own scale."
            )
        return None
    if simulated:
        raise typer.BadParameter(f"--simulated: the simulated device speaks E6L, not {found}.")
    from edge_app.session.wish import DriverChoice

    return DriverChoice.parse(found, lsb_uv=lsb_uv, texts=options or [])
