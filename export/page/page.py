"""`report.html`: the export report for a person, as one page that goes into the bundle.

The same facts give the same bytes: no clock, no random numbers. The page has no script and asks for nothing from outside.
"""

from __future__ import annotations

from typing import Final

from export.errors import ExportError
from export.page.facts import PageFacts
from export.page.gates import gate_rows
from export.page.origin import latency_section, models_section, origin_section
from export.page.sections import agreement_section, auroc_section, gates_section, probability_section
from lsemvae.report.page_html import Html, document, paragraph, text

__all__ = ["MAX_PAGE_BYTES", "PageFacts", "page_bytes"]

# The bundle has 1 MiB for everything; the page is read once, the models are loaded every day.
MAX_PAGE_BYTES: Final = 120 * 1024
# Cells along a side of a panel: as fine as the size allows.
_BINS: Final = (48, 36, 24, 12)


def page_bytes(facts: PageFacts) -> bytes:
    """Return the page, with panels as fine as its size allows.

    Raises
    ------
    ExportError
        It exceeds `MAX_PAGE_BYTES` even with the coarsest panels.
    """
    for bins in _BINS:
        page = _page(facts, bins=bins)
        if len(page) <= MAX_PAGE_BYTES:
            return page
    raise ExportError(
        f"the report page of {len(facts.labels)} outputs has {len(page)} bytes; expected at most {MAX_PAGE_BYTES}",
        advice="Shorten the labels and texts of the task set, or export fewer outputs.",
    )


def _page(facts: PageFacts, *, bins: int) -> bytes:
    return document(
        f"Export report: {facts.id} {facts.version}",
        _header(facts),
        gates_section(facts),
        agreement_section(facts),
        auroc_section(facts),
        probability_section(facts, bins=bins),
        latency_section(facts),
        models_section(facts),
        origin_section(facts),
    )


def _header(facts: PageFacts) -> str:
    rows = gate_rows(facts.report)
    missed = [row for row in rows if row.passed is False]
    judged = [row for row in rows if row.passed is not None]
    verdict = (
        f"{len(missed)} of {len(judged)} bars missed: this export must not ship."
        if missed
        else f"All {len(judged)} bars passed."
    )
    return "".join(
        [
            f"<header><h1>Export report: {text(facts.id)} {text(facts.version)}</h1>\n",
            paragraph(facts.label_statement, "statement"),
            paragraph(f"Use: {facts.intended_use}"),
            paragraph(f"Not for: {'; '.join(facts.not_for)}.") if facts.not_for else "",
            paragraph(Html(verdict), "verdict bad" if missed else "verdict good"),
            "</header>\n",
        ]
    )
