"""`lsemvae report`: HTML, PDF, Markdown and JSON from recorded predictions, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsemvae.data.folder import EcgFolder
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.evidence import TABLE_LABELS, Evidence, gather
from lsemvae.evaluate.metrics import N_BOOTSTRAP, Estimate
from lsemvae.evaluate.predictions import LEAD_SETS, load_all
from lsemvae.evaluate.report_detail import Detail
from lsemvae.evaluate.report_extras import read_extras
from lsemvae.evaluate.report_sections import report_sections
from lsemvae.evaluate.tables import evidence_markdown
from lsemvae.formats.whole import write_whole
from lsemvae.report.html import html_report
from lsemvae.report.pdf import write_pdf
from lsemvae.train.run import write_json

TITLE = "LS-EMVAE: evidence from held-out recordings"
HTML, PDF, MARKDOWN, FIGURES = "report.html", "report.pdf", "evidence-table.md", "figures.json"


@dataclass(frozen=True)
class ReportJob:
    """What to read and what to look at in depth.

    Attributes
    ----------
    data
        Folder with metadata.csv.
    predictions
        Folder of recorded predictions.
    extras
        Files, folders or patterns of `report_extras`.
    reference, row, lead_set
        The row others are compared with; the row and lead set shown in depth (`row` empty: the reference).
    """

    data: Path
    predictions: Path
    extras: tuple[Path, ...] = ()
    reference: str = "ls_emvae"
    row: str = ""
    lead_set: str = "6"
    n_bootstrap: int = N_BOOTSTRAP

    def command(self) -> str:
        """The command that makes the same report again."""
        words = ["lsemvae report --data DIR", f"--predictions {self.predictions}"]
        words += [f"--extras {place}" for place in self.extras]
        words += [
            f"--reference {self.reference}",
            *([f"--row {self.row}"] if self.row else []),
            f"--lead-set {self.lead_set}",
        ]
        return " ".join([*words, "--out OUT"])


def write_report(job: ReportJob, out: Path) -> dict[str, Path]:
    """Write report.html, report.pdf, evidence-table.md and figures.json into `out`; returns their paths by name."""
    extras = read_extras(job.extras)
    tables, folder = load_all(job.predictions), EcgFolder(job.data)
    evidence = gather(tables, folder, reference=job.reference, n_bootstrap=job.n_bootstrap)
    everything = gather(tables, folder, reference=job.reference, n_bootstrap=job.n_bootstrap, known_gain=False)
    row = job.row or job.reference
    detail = Detail(evidence, everything, row, job.lead_set, extras.outcomes)
    sections = report_sections(detail, extras, command=job.command())
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / name for name in (HTML, PDF, MARKDOWN, FIGURES)}
    write_whole(paths[HTML], html_report(TITLE, LABEL_STATEMENT, sections))
    write_pdf(paths[PDF], TITLE, LABEL_STATEMENT, sections)
    write_whole(paths[MARKDOWN], evidence_markdown(evidence, extras.expected or ()))
    write_json(paths[FIGURES], figures(evidence))
    return paths


def figures(evidence: Evidence, labels: Sequence[str] = TABLE_LABELS) -> dict[str, Any]:
    """AUROC, difference to the reference and twelve-minus-six gap of every row, as numbers for other programs."""
    rows: dict[str, Any] = {}
    for name in evidence.tables:
        rows[name] = {
            "auroc": {leads: {label: _figure(evidence, name, leads, label) for label in labels} for leads in LEAD_SETS},
            "minus_reference": {
                leads: {label: _three(evidence.against_reference(name, leads, label).difference) for label in labels}
                for leads in LEAD_SETS
            },
            "twelve_minus_six": {label: _three(evidence.twelve_minus_six(name, label).difference) for label in labels},
        }
    return {"label_statement": LABEL_STATEMENT, "reference": evidence.reference, "rows": rows}


def _figure(evidence: Evidence, row: str, lead_set: str, label: str) -> dict[str, Any]:
    found = evidence.figure(row, lead_set, label)
    return {"n": found.n, "positives": found.positives, "value_low_high": _three(found.auroc)}


def _three(e: Estimate) -> list[float] | None:
    return None if e.value != e.value else [round(v, 5) for v in (e.value, e.low, e.high)]
