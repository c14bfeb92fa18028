"""What is asked of one benchmark, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from export.benchmark.basis import BenchmarkSection, Figure
from export.benchmark.devices import BOARDS, HOST, Device, board
from export.benchmark.errors import BenchmarkError
from lsemvae.screen.manifest import Manifest

SCHEMA: Final = "lsemvae-benchmark/1"
# What no figure of a model's inference says, whatever its basis.
NOT_COVERED: Final = (
    "thermal throttling and frequency scaling over a day",
    "reading from and writing to the SD card",
    "the load of Bluetooth, of the screen and of the rest of the app (front-end and quality gate included)",
)
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BenchmarkJob:
    """One benchmark.

    Attributes
    ----------
    bundle
        Folder with the bundle's files; who signed it is checked by the caller.
    device
        `host`, or a name of `export.benchmark.devices.BOARDS`.
    ssh
        Board to measure on (`user@host`); None measures or projects here.
    peers
        Whether the peers are measured on this host, too: about half a minute, more where float forms are converted.
    run_dir
        Run folder of the bundle's student: with it its float forms join the peers. None leaves them out, and says so.
    screening_every_min
        For the energy: minutes between two screenings.
    """

    bundle: Path
    manifest: Manifest
    device: str
    ssh: str | None = None
    python: str = "python3"
    runs: int = 300
    run_dir: Path | None = None
    peers: bool = False
    screening_every_min: float = 10.0
    progress: Progress = field(default=lambda _: None)

    def __post_init__(self) -> None:
        if self.device != HOST:
            board(self.device)
        if self.runs < 1:
            raise BenchmarkError(f"found {self.runs} runs, expected at least 1")

    @property
    def board(self) -> Device | None:
        """The board in question, None for this host."""
        return None if self.device == HOST else BOARDS[self.device]

    def model(self, target: str) -> Path | None:
        """Return the path of a model of the bundle, None where it has no such form."""
        name = self.manifest.models.get(target)
        return None if name is None else self.bundle / name


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """All tables of one benchmark, and what they rest on.

    Attributes
    ----------
    refused
        Figures that were asked for and are not given, each with its reason.
    """

    title: str
    device: str
    bundle: Mapping[str, Any]
    sections: Sequence[BenchmarkSection]
    refused: Sequence[str] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured_on_device(self) -> bool:
        """Whether a figure was read off the machine that the benchmark is about."""
        return any(section.measured_on == self.device for section in self.sections)

    def figure(self, name: str) -> Figure | None:
        """Return the first figure of that name, None where there is none."""
        return next((f for s in self.sections for _, row in s.rows for f in row if f.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON; every figure carries its basis."""
        return {
            "schema": SCHEMA,
            "title": self.title,
            "device": self.device,
            "bundle": dict(self.bundle),
            "sections": [section.to_dict() for section in self.sections],
            "refused": list(self.refused),
            "not_covered": list(NOT_COVERED),
            "evidence": dict(self.evidence),
        }


def bundle_dict(job: BenchmarkJob) -> dict[str, Any]:
    """Return what the report says of the bundle: identity, and the size and hash of each model file."""
    models = {}
    for target, name in sorted(job.manifest.models.items()):
        content = (job.bundle / name).read_bytes()
        models[target] = {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {
        "id": job.manifest.id,
        "version": job.manifest.version,
        "label_statement": job.manifest.label_statement,
        "models": models,
    }
