"""The report page: says what the report says, shows a missed bar, escapes, asks for nothing from outside, stays small."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from export.errors import ExportError
from export.gates.gates import GateThresholds
from export.gates.outputs import Outputs
from export.gates.parity import compare_all, probabilities
from export.page.facts import PageFacts, gate_rows
from export.page.page import MAX_PAGE_BYTES, page_bytes
from export.page.plots import DENSITY_FROM, auroc_changes, crossings, density, exceedance, probability_panels
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.report.blocks import Plot

LABELS = ("RHS", "RBBB_any", "LVH")
RULE = DecisionRule(
    primary="RHS",
    calibrations={label: Calibration(0.8, -0.4) for label in LABELS},
    thresholds=dict.fromkeys(LABELS, 0.3),
    max_uncertainty=1.0,
)
N = 400


def _outputs(noise: float) -> dict[str, Outputs]:
    rng = np.random.default_rng(5)
    logits = rng.normal(-1.5, 2.0, (N, len(LABELS))).astype(np.float32)
    sure = rng.normal(-1.0, 0.1, (N, 1)).astype(np.float32)
    outputs = {"torch_fp32": Outputs(logits, sure), "tflite_fp32": Outputs(logits + np.float32(1e-6), sure)}
    for name in ("tflite_int8", "onnx_int8"):
        moved = logits + rng.normal(0, noise, logits.shape).astype(np.float32)
        outputs[name] = Outputs(moved, sure)
    return outputs


def _truth() -> np.ndarray:
    truth = (np.random.default_rng(5).normal(-1.5, 2.0, (N, len(LABELS))) > 0.8).astype(np.float64)
    truth[:, 2] = 0.0
    truth[:3, 2] = 1.0  # too few for a bar
    return truth


def _audit(name: str) -> dict[str, Any]:
    ecg = {"name": "ecg", "dtype": "float32", "shape": (1, 2, 2500)}
    ops = [{"region": "encoder", "op": "CONV_2D", "kind": name.split("_")[1].replace("fp32", "float"), "count": 5}]
    return {
        "format": name.split("_")[0],
        "n_bytes": 9,
        "inputs": [ecg],
        "outputs": [],
        "ops": ops,
        "problems": [],
    }


def _latency(runtime: str, basis: str = "MEASURED") -> dict[str, Any]:
    return {
        "runtime": runtime, "fp32_p10_ms": 0.4, "fp32_p50_ms": 0.5, "int8_p10_ms": 0.1, "int8_p50_ms": 0.2, "ratio": 0.25,
        "basis": basis, "where": "exporting host, 1 thread",
    }  # fmt: skip


def make_facts(noise: float = 0.01, **changes: Any) -> PageFacts:
    outputs = _outputs(noise)
    parity = compare_all(outputs, labels=LABELS, truth=_truth(), rule=RULE, gates=GateThresholds())
    names = [name for name in outputs if name != "torch_fp32"]
    report = {
        "recipe": "static_wi8_ai8_encoder",
        "sizes": dict.fromkeys(names, 150000),
        "audit": {name: _audit(name) for name in names},
        "parity": asdict(parity),
        "latency": [_latency("tflite")],
        "golden_tolerance": 0.21,
        "data": {
            "calibration_records": 256, "calibration_ids_sha256": "ab" * 32, "calibration_clipped": 2,
            "validation_records": N, "validation_positives": {"RHS": 77}, "store_sha256": "cd" * 32,
        },
        "versions": {"numpy": "2.0"},
    }  # fmt: skip
    p = {name: probabilities(one.logits, labels=LABELS, rule=RULE) for name, one in outputs.items()}
    facts = PageFacts(
        report=report,
        id="a-model",
        version="1.2.3",
        label_statement="Statements of ECG readers, not pulmonary hypertension.",
        intended_use="Tests.",
        labels=LABELS,
        p_fp32=p["torch_fp32"],
        p_files={name: p[name] for name in ("tflite_int8", "onnx_int8")},
        thresholds=RULE.thresholds,
        recipe={
            "recipe": {"name": "static_wi8_ai8_encoder", "weight_bits": 8, "tflite_ops": ["CONV_2D"]},
            "calibration": {"input_min_mv": -2.5, "input_max_mv": 3.75},
            "made": {"tflite_int8": "ef" * 32},
        },
        notes=("the rule was fitted on INT8 outputs",),
    )
    return replace(facts, **changes)


@pytest.fixture(scope="module")
def facts() -> PageFacts:
    return make_facts()


@pytest.fixture(scope="module")
def page(facts: PageFacts) -> str:
    return page_bytes(facts).decode()


class _Reader(HTMLParser):
    """Collects what a browser would load or run, and the balance of the tags."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.outside: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [
            f"{name}={value}" for name, value in attrs if name.rpartition(":")[2] in ("src", "href", "data", "action")
        ]
        self.outside += [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.slow
@pytest.mark.promise(119)
def test_it_loads_nothing_and_runs_nothing(page: str) -> None:
    found = read(page)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    inside = [re.fullmatch(r"(?:xlink:)?href=(?:#(\w+)|data:image/png;base64,[\w+/=]+)", one) for one in found.outside]
    assert all(inside), "only what the page holds itself"
    named = {one[1] for one in inside if one and one[1]} | set(
        re.findall(r"url\(([^)]*)\)", page.replace("url(#", "url("))
    )
    assert named
    for name in named:
        assert f'id="{name}"' in page
    assert "default-src 'none'" in page
    assert "url(" not in page.replace("url(#", "")
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.slow
def test_the_same_facts_give_the_same_bytes(page: str) -> None:
    assert page_bytes(make_facts()).decode() == page


def test_it_says_what_the_report_says(facts: PageFacts, page: str) -> None:
    words = " ".join(read(page).words)
    for text in (facts.label_statement, "a-model", "1.2.3", "ab" * 32, "cd" * 32, "ef" * 32, "fitted on INT8 outputs"):
        assert text in words
    assert "−2.500 mV, 3.750 mV" in words.replace("-", "−")
    for one in facts.against_trained().values():
        for pair in one["auroc"]:
            assert f"{pair['reference']:.4f}" in words
            assert f"{pair['candidate']:.4f}" in words
    # 3 audits, 3 of the float file, 6 for each of three comparisons, 2 sizes, latency, golden, data
    assert "All 29 bars passed." in words
    assert "too few" in words
    assert "MEASURED" in words


@pytest.mark.slow
def test_without_noise_no_recording_crosses_and_with_noise_the_page_counts_them() -> None:
    noisy = make_facts(noise=0.3)
    p = noisy.p_files["tflite_int8"]
    expected = int(((noisy.p_fp32[:, 0] >= 0.3) != (p[:, 0] >= 0.3)).sum())
    assert expected > 3
    assert crossings(noisy.p_fp32[:, 0], p[:, 0], threshold=0.3) == expected
    assert f">{expected} cross<" in page_bytes(noisy).decode()
    same = make_facts(p_files={"tflite_int8": noisy.p_fp32})
    assert ">0 cross<" in page_bytes(same).decode()


@pytest.mark.promise(119)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.5, 2.0])
def test_the_bars_of_the_page_are_those_that_judge_the_export(noise: float) -> None:
    report = make_facts(noise=noise).report
    missed = {row.group for row in gate_rows(report) if row.passed is False}
    judged = {failure.partition(":")[0] for failure in report["parity"]["failures"]}
    assert {group.partition(",")[0] for group in missed} == judged
    assert bool(missed) == (noise >= 0.1)


@pytest.mark.slow
def test_a_missed_bar_is_the_first_thing_one_reads() -> None:
    bad = make_facts(noise=2.0)
    page = page_bytes(bad).decode()
    assert "bars missed: this export must not ship." in page.partition("</header>")[0]
    assert "✗ missed" in page
    for failure in bad.report["parity"]["failures"]:
        assert failure.replace("&", "&amp;").replace(">", "&gt;") in page


@pytest.mark.parametrize(
    ("change", "group"),
    [
        ({"golden_tolerance": 0.6}, "Golden recordings"),
        ({"sizes": {"tflite_int8": 400 * 1024}}, "Size"),
        ({"latency": [_latency("tflite") | {"ratio": 1.2}]}, "Latency, MEASURED"),
        ({"audit": {"tflite_int8": _audit("tflite_int8") | {"problems": ["encoder DIV must not run in INT8"]}}}, "Operators and types"),
    ],
)  # fmt: skip
def test_every_other_bar_can_be_missed(change: dict[str, Any], group: str) -> None:
    report = {**make_facts().report, **change}
    assert [row.group for row in gate_rows(report) if row.passed is False] == [group]


@pytest.mark.slow
@pytest.mark.promise(119)
def test_every_text_is_escaped() -> None:
    evil = '</p><script>alert("x")</script>&'
    report = make_facts().report
    named = {**report, "versions": {evil: evil}, "data": {**report["data"], "validation_positives": {evil: 1}}}
    page = page_bytes(
        make_facts(
            report=named,
            id=evil,
            version=evil,
            label_statement=evil,
            intended_use=evil,
            not_for=(evil,),
            notes=(evil,),
            labels=(evil, *LABELS[1:]),
        )
    ).decode()
    assert "script" not in read(page).tags
    assert "<script" not in page
    assert "&lt;/p&gt;&lt;script&gt;" in page


@pytest.mark.slow
def test_float_files_have_numbers_but_no_pictures(page: str) -> None:
    base = make_facts()
    with_float = replace(base, p_files={"tflite_fp32": base.p_fp32, **base.p_files})
    assert page_bytes(with_float).decode() == page


@pytest.mark.parametrize("which", ["tflite_int8", "torch_fp32"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_refused_export_with_outputs_that_are_not_finite_has_a_page_that_says_so(which: str, value: float) -> None:
    outputs = _outputs(0.01)
    outputs[which].logits[3, 1] = value
    parity = compare_all(outputs, labels=LABELS, truth=_truth(), rule=RULE, gates=GateThresholds())
    p = {name: probabilities(one.logits, labels=LABELS, rule=RULE) for name, one in outputs.items()}
    files = {name: p[name] for name in ("tflite_int8", "onnx_int8")}
    report = {**make_facts().report, "parity": asdict(parity), "golden_tolerance": None, "latency": []}
    page = page_bytes(make_facts(report=report, p_fp32=p["torch_fp32"], p_files=files)).decode()
    words = " ".join(read(page).words)
    assert "tflite_int8: NaN or infinity, nothing is drawn." in words
    assert ("onnx_int8: NaN or infinity" in words) == (which == "torch_fp32")
    assert "this export must not ship" in words
    assert "not reached" in words


def test_a_float_bundle_has_a_page_too() -> None:
    report = {**make_facts().report, "recipe": None, "latency": []}
    page = page_bytes(make_facts(report=report, p_files={}, recipe=None)).decode()
    words = " ".join(read(page).words)
    assert "No file of this bundle is quantized" in words
    assert "None: a float bundle." in words
    assert "calibration recordings" not in words


@pytest.mark.slow
def test_figures_of_two_bases_share_no_table() -> None:
    rows = [_latency("tflite"), _latency("board", basis="PROJECTED")]
    page = page_bytes(make_facts(report={**make_facts().report, "latency": rows})).decode()
    latency = page.partition("<h2>Latency</h2>")[2].partition("</section>")[0]
    tables = re.findall(r'<table class="data">.*?</table>', latency, re.DOTALL)
    assert ["tflite" in one for one in tables] == [True, False]
    assert ["board" in one for one in tables] == [False, True]
    assert [latency.count(f">{basis}.") for basis in ("MEASURED", "PROJECTED")] == [1, 1]


@pytest.mark.slow
def test_scattered_probabilities_make_coarser_panels_not_a_larger_page() -> None:
    labels = tuple(f"output_{k}" for k in range(20))
    rng = np.random.default_rng(0)
    p = [rng.uniform(0.001, 0.999, (3000, 20)) for _ in range(3)]
    base = make_facts()
    wide = replace(base, labels=labels, p_fp32=p[0], p_files={"tflite_int8": p[1], "onnx_int8": p[2]}, thresholds={})
    page = page_bytes(wide)
    assert len(page) <= MAX_PAGE_BYTES
    assert b"4 more outputs are in the tables above" in page
    assert page.count(b"<image ") == 2 * 16


@pytest.mark.slow
def test_a_page_that_cannot_be_small_is_refused() -> None:
    labels = tuple(f"{k:0200d}" for k in range(300))
    p = np.full((2, 300), 0.5)
    with pytest.raises(ExportError, match=f"expected at most {MAX_PAGE_BYTES}"):
        page_bytes(
            make_facts(labels=labels, p_fp32=p, p_files=dict.fromkeys(("tflite_int8", "onnx_int8"), p), thresholds={})
        )


@pytest.mark.parametrize(
    ("p", "found"),
    [
        (np.full((N, 2), 0.5), "shape"),
        (np.full((N, 3), np.nan), "no numbers from 0 to 1"),
        (np.full((N, 3), 1.5), "no numbers from 0 to 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(p: np.ndarray, found: str) -> None:
    with pytest.raises(ExportError, match=found):
        make_facts(p_files={"tflite_int8": p})


def test_probabilities_without_a_comparison_are_refused(facts: PageFacts) -> None:
    with pytest.raises(ExportError, match="found probabilities of model_b"):
        page_bytes(replace(facts, p_files={"model_b": facts.p_fp32}))
    with pytest.raises(ExportError, match="without parity"):
        replace(facts, report={k: v for k, v in facts.report.items() if k != "parity"})


def drawn(plot: Plot) -> Figure:
    figure = Figure(figsize=plot.size_in)
    plot.draw(figure)
    return figure


def test_the_panel_counts_every_recording() -> None:
    rng = np.random.default_rng(2)
    reference, candidate = rng.uniform(0, 1, (2, 500))
    limits = (0.01, 0.99)
    assert density(reference, candidate, bins=1, limits=limits).tolist() == [[len(DENSITY_FROM)]], (
        "one cell with all 500"
    )
    alone = density(reference[:1], candidate[:1], bins=9, limits=limits)
    assert sorted(alone.ravel().tolist()) == [0] * 80 + [1]


def test_a_probability_on_the_diagonal_is_drawn_on_the_diagonal_and_one_above_it_above() -> None:
    p = np.array([0.5, 0.9])
    assert np.argwhere(density(p, p, bins=9, limits=(0.01, 0.99))).tolist() == [[4, 4], [6, 6]]
    assert np.argwhere(density(p[:1], p[1:], bins=9, limits=(0.01, 0.99))).tolist() == [[6, 4]], (
        "[candidate, reference]"
    )


def test_a_panel_stands_for_each_output_and_shows_where_it_decides(facts: PageFacts) -> None:
    figure = drawn(probability_panels(facts, "tflite_int8", (2, 0), bins=12))
    assert [axes.get_title("left") for axes in figure.axes] == ["LVH", "RHS"]
    for axes in figure.axes:
        assert len(axes.images) == 1
        assert axes.get_ylim()[0] < axes.get_ylim()[1], "upwards is more probable"
        x, y = axes.lines[-1].get_data()
        assert np.nanmedian(x) == pytest.approx(np.log(0.3 / 0.7))
        assert np.nanmedian(y) == pytest.approx(np.log(0.3 / 0.7))


def test_the_curve_meets_one_percent_at_the_99th_percentile() -> None:
    dp = np.random.default_rng(4).exponential(0.01, (5000, 4))
    axes = drawn(exceedance({"tflite_int8": dp}, bar=0.05)).axes[0]
    curve = next(line for line in axes.lines if line.get_label() == "tflite_int8")
    x, y = np.log(curve.get_data())
    assert np.exp(np.interp(-np.log(0.01), -y, x)) == pytest.approx(float(np.quantile(dp, 0.99)), rel=0.02)
    assert x[-1] == pytest.approx(np.log(dp.max())), "the curve ends at the largest difference"


@pytest.mark.parametrize(
    ("reach", "ticks"),
    [
        (0.004, ["−0.003", "0", "+0.003"]),
        (0.11, ["−0.1", "−0.05", "0", "+0.05", "+0.1"]),
        (1.0, ["−1", "−0.5", "0", "+0.5", "+1"]),
    ],
)
def test_the_axis_of_changes_is_readable_for_small_and_large_changes(reach: float, ticks: list[str]) -> None:
    pair = {"label": "RHS", "positives": 50, "reference": 1.0, "candidate": 1.0 - reach / 1.08}
    axes = drawn(auroc_changes({"tflite_int8": [pair]}, bars=GateThresholds().to_dict())).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks
    assert [label.get_text() for label in axes.get_yticklabels()] == ["RHS (50)"]


def test_marks_are_open_where_no_bar_holds() -> None:
    many = {"label": "RHS", "positives": 50, "reference": 0.9, "candidate": 0.9}
    figure = drawn(
        auroc_changes(
            {"tflite_int8": [many, {**many, "label": "RAE", "positives": 2}]}, bars=GateThresholds().to_dict()
        )
    )
    marks = {
        float(line.get_ydata()[0]): line.get_markerfacecolor()
        for line in figure.axes[0].lines
        if line.get_marker() == "o" and len(line.get_ydata())
    }
    assert marks[0.0] != "none"
    assert marks[1.0] == "none"


@pytest.mark.slow
def test_numbers_in_the_words_of_a_picture_are_whole() -> None:
    page = page_bytes(make_facts()).decode()
    for words in ("0.0001", "0.001", "p99 above 0.05: refused", "+0.003", "0.100 ms", "0.400 ms"):
        assert f">{words}</text>" in page
