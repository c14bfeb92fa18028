"""`lsemvae benchmark`: what a bundle costs on a machine, and how each figure is known."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import ExitCode, say, say_json, say_progress
from lsemvae.terminal.options import Json, Trust, trusted_keys

if TYPE_CHECKING:
    from lsemvae.screen.bundle import Bundle


@ends_well
def benchmark(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Bundle directory or .zip [default: the shipped one]."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="host, pi4, pi5 or zero2w.")] = "host",
    ssh: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--ssh", help="Measure on this board (user@host); it needs numpy and a runtime, no torch."),
    ] = None,
    python: Annotated[str, typer.Option("--python", help="Interpreter on the board.")] = "python3",
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--run",
            help="With --peers: run folder of the bundle's student, for its float forms [default: the packaged one].",
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", help="Inferences per measurement.")] = 300,
    peers: Annotated[
        bool,
        typer.Option("--peers/--no-peers", help="Measure the peers on this host, too: half a minute, and needs torch."),
    ] = False,
    every_min: Annotated[
        float, typer.Option("--every-min", help="For the energy: minutes between two screenings.")
    ] = 10.0,
    picture: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--picture", help="Also draw the latencies to this PNG file."),
    ] = None,
    require_measured: Annotated[
        bool, typer.Option("--require-measured", help="End with 3 where nothing was measured on the device itself.")
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle here or on a board, or project it for a board that is not there; each figure says how it is known."""
    from export.benchmark.job import BenchmarkJob
    from export.benchmark.present import report_lines
    from export.benchmark.run import run_benchmark
    from lsemvae.screen.bundle import open_bundle

    opened = open_bundle(bundle, trusted_keys=trusted_keys(trust))
    with tempfile.TemporaryDirectory(prefix="lsemvae-benchmark-") as folder:
        for name, content in opened.files.items():
            (Path(folder) / name).write_bytes(content)
        job = BenchmarkJob(
            bundle=Path(folder),
            manifest=opened.manifest,
            device=device,
            ssh=ssh,
            python=python,
            runs=runs,
            run_dir=_packaged_run(opened) if run is None and peers else run,
            peers=peers,
            screening_every_min=every_min,
            progress=say_progress,
        )
        report = run_benchmark(job)
    if picture is not None:
        from export.benchmark.picture import draw

        draw(report, picture)
    if as_json:
        say_json(report.to_dict())
    else:
        for line in report_lines(report):
            say(line)
        if picture is not None:
            say(f"picture: {picture}")
    if require_measured and not report.measured_on_device:
        raise typer.Exit(ExitCode.ABSTAIN)


def _packaged_run(opened: Bundle) -> Path | None:
    """Return the packaged student's run folder where the bundle is the one that it exports to."""
    from export.student_run.identity import load_identity
    from export.student_run.packaged import PACKAGED_RUN
    from export.student_run.source import load_run

    identity = load_identity(PACKAGED_RUN, load_run(PACKAGED_RUN).labels)
    same = (identity.id, identity.version) == (opened.manifest.id, opened.manifest.version)
    return PACKAGED_RUN if same else None
