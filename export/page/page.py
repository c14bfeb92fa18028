"""`report.html`: the export report for a person, as one page that goes into the bundle.

The same facts give the same bytes: no clock, no random numbers. The page has no script and asks for nothing from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import Any, Final

import numpy as np

from export.errors import ExportError
from export.page.facts import NOTHING, PageFacts, change, gate_rows, gated, is_float, kib, number, share
from export.page.plots import auroc_changes, crossings, exceedance, latency_bars, probability_panels
from lsemvae.report.blocks import Document, Folded, Plot, Said, Section, TextTable, columns
from lsemvae.report.html import html_page
from lsemvae.report.pictures import as_svg

# The bundle has 1 MiB for everything; the page is read once, the models are loaded every day.
MAX_PAGE_BYTES: Final = 120 * 1024
# Cells along a side of a panel: as fine as the size allows.
_BINS: Final = (48, 36, 24, 12)
# The primary output and the first of the others; the tables have all of them.
MAX_PANELS: Final = 16
_KINDS: Final = ("int8", "float", "border", "hybrid", "integer", "custom")


def page_bytes(facts: PageFacts) -> bytes:
    """Return the page, with panels as fine as its size allows.

    Raises
    ------
    ExportError
        It exceeds `MAX_PAGE_BYTES` even with the coarsest panels.
    """
    rows = gate_rows(facts.report)
    missed = [row for row in rows if row.passed is False]
    judged = [row for row in rows if row.passed is not None]
    verdict = (
        Said(f"{len(missed)} of {len(judged)} bars missed: this export must not ship.", "bad")
        if missed
        else Said(f"All {len(judged)} bars passed.", "good")
    )
    not_for = [f"Not for: {'; '.join(facts.not_for)}."] if facts.not_for else []
    before = (gates_section(facts), agreement_section(facts), auroc_section(facts))
    after = (latency_section(facts), models_section(facts), origin_section(facts))
    picture = cache(as_svg)  # only the panels depend on the size of a cell
    for bins in _BINS:
        sections = (*before, *([probability_section(facts, bins=bins)] if facts.drawn else []), *after)
        title = f"Export report: {facts.id} {facts.version}"
        lead = (f"Use: {facts.intended_use}", *not_for, verdict)
        page = html_page(Document(title, facts.label_statement, sections, lead), picture=picture).encode()
        if len(page) <= MAX_PAGE_BYTES:
            return page
    raise ExportError(
        f"the report page of {len(facts.labels)} outputs has {len(page)} bytes; expected at most {MAX_PAGE_BYTES}",
        advice="Shorten the labels and texts of the task set, or export fewer outputs.",
    )


def gates_section(facts: PageFacts) -> Section:
    """Return every bar of the export: found, expected, verdict; the missed ones also in the exporter's own words."""
    failures = [Said(failure, "bad") for failure in facts.report["parity"]["failures"]]
    tables = [
        TextTable(name, (), tuple((row.what, row.found, row.bar, _mark(passed=row.passed)) for row in rows))
        for name, rows in groupby(gate_rows(facts.report), key=lambda row: row.group)
    ]
    return Section("Bars", tuple(failures), tuple(tables), beside=True)


def agreement_section(facts: PageFacts) -> Section:
    """Return every comparison of the report in one table, and how |dp| is spread."""
    rows = []
    for one in facts.report["parity"]["comparisons"]:
        sizes = [one[key] for key in ("p99_dp", "max_dp", "max_dlogit", "p99_duncertainty", "max_duncertainty")]
        # two files in floats differ by far less than four decimals show
        tiny = is_float(one["candidate"])
        shown = [f"{size:.1e}" if tiny and math.isfinite(size) else number(size, 4) for size in sizes]
        shares = (share(one["decision_agreement"]), share(one["label_agreement"]))
        rows.append((one["candidate"], one["reference"], f"{one['n']:,}", *shares, *shown))
    head = (
        "file",
        "against",
        "recordings",
        "same outcome",
        "same side",
        "p99 |Δp|",
        "max |Δp|",
        "max |Δ logit|",
        "p99 |Δ unc.|",
        "max |Δ unc.|",
    )
    words = (
        "“Same outcome” is the share of recordings with the same one of the four outcomes, decided by the clinic's own code "
        f"for the primary output ({facts.primary}); “same side” the share of (recording, output) pairs on the same side of the "
        "output's operating point. Unc. is the model's uncertainty, the log of a standard deviation."
    )
    blocks: list[TextTable | Plot] = [TextTable("", head, columns(rows), figures_from=2)]
    if facts.drawn:
        blocks.append(exceedance(facts.differences(), bar=facts.report["parity"]["thresholds"]["max_p99_dp"]))
    return Section("Agreement with the trained model", (Said(words, "note"),), tuple(blocks))


def auroc_section(facts: PageFacts) -> Section:
    """Return AUROC of each output before and after, with the band that is allowed."""
    title, found = "AUROC by output", facts.against_trained()
    broken = [Said(f"{name}: NaN or infinity, nothing is drawn.", "bad") for name in facts.broken]
    if not found:
        return Section(title, tuple(broken) or ("No file of this bundle is quantized; nothing is to be compared.",))
    words = (
        "Both columns are computed on the same validation recordings, and the model may have seen some of them in training: "
        "the change is what this page is about. How well the model does on people it has not seen stands in the model card, with intervals."
    )
    head = (
        "output",
        "positives",
        "AUROC trained",
        "AUROC file",
        "change",
        "bar",
        "p99 |Δp|",
        "max |Δp|",
        "mean Δp",
        "operating point",
        "cross it",
    )
    blocks: list[TextTable | Plot] = [
        TextTable(
            f"{name} against the trained model", head, columns(list(_output_rows(facts, name, one))), figures_from=1
        )
        for name, one in found.items()
    ]
    if any(one["auroc"] for one in found.values()):
        pairs = {name: one["auroc"] for name, one in found.items()}
        blocks.insert(0, auroc_changes(pairs, bars=facts.report["parity"]["thresholds"]))
    return Section(title, (*broken, Said(words, "note")), tuple(blocks))


def _output_rows(facts: PageFacts, name: str, one: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    bars, by_label = facts.report["parity"]["thresholds"], {pair["label"]: pair for pair in one["auroc"]}
    for k, label in enumerate(facts.labels):
        reference, candidate = facts.p_fp32[:, k], facts.drawn[name][:, k]
        dp = candidate - reference
        pair, threshold = by_label.get(label), facts.thresholds.get(label)
        cells: tuple[str, ...] = ("one answer only", NOTHING, NOTHING, NOTHING, _mark(passed=None))
        if pair is not None:
            verdict: str = Said("too few", "note")
            if gated(pair, bars):
                verdict = _mark(passed=abs(change(pair)) <= bars["max_auroc_change"])
            aurocs = (number(pair["reference"], 4), number(pair["candidate"], 4))
            cells = (f"{pair['positives']:,}", *aurocs, number(change(pair), 4, signed=True), verdict)
        yield (
            f"{label} (primary)" if label == facts.primary else label,
            *cells,
            number(float(np.quantile(np.abs(dp), 0.99)), 4),
            number(float(np.abs(dp).max()), 4),
            number(float(dp.mean()), 4, signed=True),
            number(threshold, 3),
            NOTHING if threshold is None else f"{crossings(reference, candidate, threshold=threshold):,}",
        )


def probability_section(facts: PageFacts, *, bins: int) -> Section:
    """Return calibrated probability of each file over that of the trained model, a panel per output."""
    first = [k for k, label in enumerate(facts.labels) if label == facts.primary]
    shown = [*first, *(k for k in range(len(facts.labels)) if k not in first)][:MAX_PANELS]
    hidden = len(facts.labels) - len(shown)
    words = (
        "Across: calibrated probability of the trained model; upwards: of the file; both on a logit scale. On the line both say "
        "the same. Dashed: the output's operating point; recordings in the upper left and lower right quarter cross it."
        + (f" {hidden} more outputs are in the tables above." if hidden else "")
    )
    panels = tuple(probability_panels(facts, name, shown, bins=bins) for name in facts.drawn)
    return Section("Probabilities, file against trained model", (Said(words, "note"),), panels)


def latency_section(facts: PageFacts) -> Section:
    """Return INT8 against fp32, a table and a picture for each basis, so that no two kinds of figures share one."""
    head = ("runtime", "where", "fp32 p10 ms", "fp32 p50 ms", "INT8 p10 ms", "INT8 p50 ms", "INT8 / fp32 (p10)")
    keys = ("fp32_p10_ms", "fp32_p50_ms", "int8_p10_ms", "int8_p50_ms")
    blocks: list[TextTable | Plot] = []
    timed = sorted(facts.report["latency"], key=lambda row: (row["basis"], row["where"]))
    for basis, of in groupby(timed, key=lambda row: row["basis"]):
        rows = list(of)
        cells = [(r["runtime"], r["where"], *(number(r[key], 3) for key in keys), number(r["ratio"], 2)) for r in rows]
        blocks += [TextTable("", head, columns(cells), figures_from=2), latency_bars(basis, rows)]
    return Section("Latency", () if blocks else ("No INT8 file was timed.",), tuple(blocks))


def models_section(facts: PageFacts) -> Section:
    """Return size and operators of every file that the export made, also of those that do not ship."""
    audits = facts.report["audit"]
    kinds = [kind for kind in _KINDS if any(kind == row["kind"] for one in audits.values() for row in one["ops"])]
    rows = []
    for name, size in facts.report["sizes"].items():
        counts, state = [NOTHING] * len(kinds), "not audited"
        if name in audits:
            ops = audits[name]["ops"]
            counts = [f"{sum(row['count'] for row in ops if row['kind'] == kind):,}" for kind in kinds]
            state = "; ".join(audits[name]["problems"]) or "clean"
        rows.append((name, kib(size), *counts, state))
    words = (
        "Operators by type: int8 computes in integers, float in float32, border converts between the two, hybrid is a float operator "
        "on integer weights, integer is arithmetic on shapes. Input and outputs of a shipped file are float32."
    )
    unfolded = []
    for name, one in audits.items():
        tensors = [
            (f"{side} {tensor['name']}", f"{tensor['dtype']} [{', '.join(map(str, tensor['shape']))}]")
            for side in ("input", "output")
            for tensor in one[f"{side}s"]
        ]
        ops = [(row["region"], row["op"], row["kind"], f"{row['count']:,}") for row in one["ops"]]
        listed = TextTable("", ("region", "operator", "type", "count"), columns(ops), figures_from=3)
        unfolded.append(Folded(f"operators of {name}", (TextTable("", (), columns(tensors)), listed)))
    head = ("file", "size", *(f"{kind} operators" for kind in kinds), "audit")
    table = TextTable("", head, columns(rows), figures_from=1)
    return Section("Files and operators", (Said(words, "note"),), (table, *unfolded))


def origin_section(facts: PageFacts) -> Section:
    """Return data, recipe and versions: what somebody needs to make the same files again."""
    data, recipe = facts.report["data"], facts.recipe
    rows = [("validation recordings", _words(data["validation_records"]))]
    made: list[tuple[str, str]] = []
    if recipe is not None:
        used = recipe["calibration"]
        rows += [
            ("calibration recordings", _words(data["calibration_records"])),
            ("of these at the front-end's clip", _words(data["calibration_clipped"])),
            ("smallest and largest input", f"{used['input_min_mv']:.3f} mV, {used['input_max_mv']:.3f} mV"),
            ("SHA-256 of the list of calibration recordings", Said(data["calibration_ids_sha256"], "code")),
        ]
        if recipe["recipe"] is not None:
            made = [(key.replace("_", " "), _words(value)) for key, value in recipe["recipe"].items()]
            made += [(f"SHA-256 of {name}", Said(digest, "code")) for name, digest in recipe["made"].items()]
    rows.append(("SHA-256 of the data", Said(data["store_sha256"] or "not stated", "code")))
    positives = [(label, _words(count)) for label, count in data["validation_positives"].items()]
    versions = [(name, _words(version)) for name, version in sorted(facts.report["versions"].items())]
    head = ("validation positives of", "number")
    tables = (
        TextTable("Data", (), columns(rows)),
        *([TextTable("", head, columns(positives), figures_from=1)] if positives else []),
        TextTable("Recipe", (), columns(made), note="" if made else "None: a float bundle."),
        TextTable("Versions", (), columns(versions)),
    )
    return Section("Data, recipe, versions", facts.notes, tables)


def _mark(*, passed: bool | None) -> Said:
    """Return the verdict on one bar; None where no bar is set."""
    if passed is None:
        return Said("no bar", "note")
    return Said("✓ passed", "good") if passed else Said("✗ missed", "bad")


def _words(value: Any) -> str:
    """Return a value of the report: numbers with thousands, nothing as a dash, a list with commas."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, 4)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
