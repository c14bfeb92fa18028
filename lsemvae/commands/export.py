"""`lsemvae export`: a trained student, or the packaged one, as a signed bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json, say_progress
from lsemvae.terminal.options import Json

_KIB: Final = 1024
# The exporter's own default (a test compares them): `lsemvae --help` must not load the exporter.
_RECIPE: Final = "static_wi8_ai8_trunk"


@ends_well
def export(
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Run folder of a student with its decision.json [default: the packaged student]."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Bundle directory to make [default: ID-VERSION in this folder]."),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data",
            help="Record store or folder of recordings [default: the run's own; for the packaged student what "
            "LSEMVAE_DATA names, else the recordings that ship with it].",
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="tflite, onnx or all.")] = "all",
    int8: Annotated[bool, typer.Option("--int8/--fp32", help="Quantize as --recipe says, or keep floats.")] = True,
    strict: Annotated[
        bool,
        typer.Option("--strict-int8", help="Also make model.strict.tflite: INT8 in and out, for microcontrollers."),
    ] = False,
    qat: Annotated[
        bool, typer.Option("--qat", help="Fine-tune for INT8 where an output loses more AUROC than the gate allows.")
    ] = False,
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or a JSON file.")] = _RECIPE,
    max_model_kib: Annotated[int, typer.Option("--max-model-kib", help="Largest INT8 model file in KiB.")] = 300,
    key: Annotated[str, typer.Option(help="Name of the signing key; made on first use.")] = "default",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a trained student, or the packaged one, into a signed bundle; audit, parity and latency can fail it."""
    from export.gates.gates import GateThresholds
    from export.places import find_store
    from export.release.bundle import check_target
    from export.run import default_out, export_run
    from export.student_run.packaged import PACKAGED_RUN

    chosen = PACKAGED_RUN if run is None else run
    place = default_out(chosen) if out is None else out
    check_target(place, force=force)  # before recordings are looked for, which may take a conversion
    store = find_store(data, chosen, progress=say_progress)
    result = export_run(
        chosen,
        target=target,
        int8=int8,
        out=place,
        data=store,
        key=key,
        force=force,
        dry_run=dry_run,
        qat=qat,
        strict=strict,
        recipe=recipe,
        gates=replace(GateThresholds(), max_int8_bytes=max_model_kib * _KIB),
        progress=say_progress,
    )
    if as_json:
        say_json(result.to_dict())
        return
    say(result.text())
