"""`edge_app devices simulate`: a six-lead device on the air of a simulated radio, for the other commands of this account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from lsemvae.terminal.console import reports_errors
from lsemvae.terminal.options import Json

if TYPE_CHECKING:
    from lsemvae.ecg.record import EcgRecord

_NAME = "E6L-SIM"

RecordFile = Annotated[
    Optional[Path],  # noqa: UP045 - evaluated at run time by the command line library
    typer.Option("--record", help="Recording to play: .ecg.npz, .csv, WFDB or DICOM [default: that of the demo]."),
]
Probability = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of packets that meet this fault.")]


@reports_errors
def simulate(
    record: RecordFile = None,
    speed: Annotated[float, typer.Option("--speed", min=0.1, max=50.0, help="Times real time.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End the stream after the recording, do not repeat it.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name of the device; 8 bytes are advertised.")] = _NAME,
    key: Annotated[bool, typer.Option("--key/--no-key", help="Whether the device can prove what it is.")] = True,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="Refuse a link without encryption.")] = False,
    devices: Annotated[int, typer.Option("--devices", min=1, max=9, help="So many devices of this name.")] = 1,
    mtu: Annotated[int, typer.Option("--mtu", min=23, max=517, help="Attribute MTU of the link.")] = 517,
    core: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--core/--mirror", help="Device in C or in Python [default: C where a compiler is there]."),
    ] = None,
    drop: Probability = 0.0,
    corrupt: Probability = 0.0,
    swap: Probability = 0.0,
    duplicate: Probability = 0.0,
    delay: Probability = 0.0,
    garbage: Probability = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the faults.")] = 0,
    as_json: Json = False,
) -> None:
    """Put a device on the air that plays a real ECG; the other commands find it. Needs no Bluetooth."""
    from edge_app.devices.simulated_radio import bus_socket, simulated_key
    from edge_app.devices.simulator import simulate_until_quit
    from edge_app.session.loop import run
    from firmware_bridge.sim.air.faults import Faults
    from firmware_bridge.sim.air.radio import RadioOptions

    recording = _recording(record)
    faults = Faults(
        drop=drop, corrupt=corrupt, swap=swap, duplicate=duplicate, delay=delay, garbage=garbage, seed=seed
    )  # fmt: skip
    options = RadioOptions(
        speed=speed, loop=not once, faults=faults, name=name, key=simulated_key(name) if key else None, core=core,
        mtu=mtu, encrypted=encrypted, devices=devices, bus=bus_socket(),
    )  # fmt: skip
    run(simulate_until_quit(recording, options, as_json=as_json))


def _recording(path: Path | None) -> EcgRecord:
    from edge_app.demo import demo_recording
    from lsemvae.formats.read import read_record

    return demo_recording() if path is None else read_record(path)
