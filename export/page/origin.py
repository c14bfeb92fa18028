"""The sections of the export report that describe: latency, files and operators, data, recipe, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from export.page.facts import PageFacts
from export.page.gates import kib
from export.page.plots import latency_bars
from lsemvae.report.page_html import Cell, Html, code, details, figure, number, pairs, paragraph, section, table

_KINDS = ("int8", "float", "border", "hybrid", "integer", "custom")


def latency_section(facts: PageFacts) -> Html:
    """INT8 against fp32, a table and a picture for each basis, so that no two kinds of figures share one."""
    rows = sorted(facts.report["latency"], key=lambda row: (row["basis"], row["where"]))
    if not rows:
        return section("Latency", paragraph("No INT8 file was timed."))
    return section("Latency", *(_latency(basis, list(of)) for basis, of in groupby(rows, key=lambda row: row["basis"])))


def _latency(basis: str, rows: list[Mapping[str, Any]]) -> str:
    head = ("runtime", "where", "fp32 p10 ms", "fp32 p50 ms", "INT8 p10 ms", "INT8 p50 ms", "INT8 / fp32 (p10)")
    figures = ("fp32_p10_ms", "fp32_p50_ms", "int8_p10_ms", "int8_p50_ms")
    body = [
        (row["runtime"], row["where"], *(number(row[key], 3) for key in figures), number(row["ratio"], 2))
        for row in rows
    ]
    caption = (
        f"{basis}. One inference, fp32 and INT8 in turns. Bars: tenth percentile, which other programs of the machine disturb least; "
        "ticks: median."
    )
    return table(head, body, left=2) + figure(latency_bars(rows), caption)


def models_section(facts: PageFacts) -> Html:
    """Size and operators of every file that the export made, also of those that do not ship."""
    kinds = [kind for kind in _KINDS if any(kind == row["kind"] for one in _audits(facts) for row in one["ops"])]
    rows = [
        _model_row(name, size, facts.report["audit"].get(name), kinds) for name, size in facts.report["sizes"].items()
    ]
    words = (
        "Operators by type: int8 computes in integers, float in float32, border converts between the two, hybrid is a float operator "
        "on integer weights, integer is arithmetic on shapes. Input and outputs of a shipped file are float32."
    )
    unfolded = "".join(
        details(f"operators of {name}", _operators(one)) for name, one in facts.report["audit"].items()
    )  # fmt: skip
    head = ("file", "size", *(f"{kind} operators" for kind in kinds), "audit")
    return section("Files and operators", paragraph(words, "note"), table(head, rows), unfolded)


def _audits(facts: PageFacts) -> Iterator[Mapping[str, Any]]:
    yield from facts.report["audit"].values()


def _model_row(name: str, size: int, audit: Mapping[str, Any] | None, kinds: list[str]) -> tuple[Cell, ...]:
    if audit is None:
        return (name, kib(size), *[None] * len(kinds), "not audited")
    counts = [sum(row["count"] for row in audit["ops"] if row["kind"] == kind) for kind in kinds]
    return (name, kib(size), *counts, "; ".join(audit["problems"]) or "clean")


def _operators(audit: Mapping[str, Any]) -> str:
    tensors = [
        (f"{side} {one['name']}", f"{one['dtype']} [{', '.join(map(str, one['shape']))}]")
        for side in ("input", "output")
        for one in audit[f"{side}s"]
    ]
    ops = [(row["region"], row["op"], row["kind"], row["count"]) for row in audit["ops"]]
    return pairs(tensors) + table(("region", "operator", "type", "count"), ops, left=3)


def origin_section(facts: PageFacts) -> Html:
    """Data, recipe and versions: what somebody needs to make the same files again."""
    data = facts.report["data"]
    parts: list[str] = [paragraph(note) for note in facts.notes]
    parts += ["<h3>Data</h3>\n", pairs(_data_rows(data, facts.recipe))]
    positives = data["validation_positives"]
    parts.append(table(("validation positives of", "number"), list(positives.items())) if positives else "")
    parts += ["<h3>Recipe</h3>\n", _recipe(facts.recipe)]
    parts += ["<h3>Versions</h3>\n", pairs(sorted(facts.report["versions"].items()))]
    return section("Data, recipe, versions", *parts)


def _data_rows(data: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = [("validation recordings", data["validation_records"])]
    if recipe is not None:
        used = recipe["calibration"]
        rows += [
            ("calibration recordings", data["calibration_records"]),
            ("of these at the front-end's clip", data["calibration_clipped"]),
            ("smallest and largest input", f"{used['input_min_mv']:.3f} mV, {used['input_max_mv']:.3f} mV"),
            ("SHA-256 of the list of calibration recordings", code(data["calibration_ids_sha256"])),
        ]
    return [*rows, ("SHA-256 of the data", code(data["store_sha256"] or "not stated"))]


def _recipe(recipe: Mapping[str, Any] | None) -> str:
    if recipe is None or recipe["recipe"] is None:
        return paragraph("None: a float bundle.")
    rows: list[tuple[str, Cell]] = [(key.replace("_", " "), _plain(value)) for key, value in recipe["recipe"].items()]
    made: list[tuple[str, Cell]] = [(f"SHA-256 of {name}", code(digest)) for name, digest in recipe["made"].items()]
    return pairs([*rows, *made])


def _plain(value: Any) -> Cell:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str | int | float) or value is None else str(value)
