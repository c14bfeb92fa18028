"""The report: complete, self-contained, honest about what is not there, and the label statement first on every page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from typer.testing import CliRunner

from lsemvae.data.folder import EcgFolder
from lsemvae.ecg.errors import FormatError, LeadError
from lsemvae.evaluate import report
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.evidence import gather
from lsemvae.evaluate.extras import (
    KNOWN,
    Extras,
    Latent,
    read_decoder,
    read_extras,
    read_latent,
    read_outcomes,
    read_pareto,
)
from lsemvae.evaluate.plots import front, mean_precision, mean_roc, net_benefit, principal_plane, reliability_bins
from lsemvae.evaluate.predictions import PredictionTable, load_all
from lsemvae.evaluate.report import Detail, ReportJob, latent_categories, report_sections, write_report
from lsemvae.evaluate.truth import join_truth
from lsemvae.report import pdf, pictures
from lsemvae.report.blocks import Document, Folded, Plot, Said, Section, TextTable
from lsemvae.report.html import html_page
from lsemvae.report.pdf import write_pdf

LEADS = ("I", "II", "V1")
PARETO = [
    {"name": "small", "n_parameters": 8000, "int8_kib": 12, "latency_ms": 0.4, "auroc": {"RHS": [0.9, 0.85, 0.94]}},
    {
        "name": "large",
        "n_parameters": 135000,
        "int8_kib": 160,
        "latency_ms": None,
        "auroc": {"RHS": [0.92, 0.88, 0.95], "LVH": None},
    },
]


class _Page(HTMLParser):
    """Checks nesting, and gathers tags, attributes and text."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(data.strip())


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory, cohort: list[dict[str, str]]) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    rng = np.random.default_rng(0)
    (folder / "pareto.json").write_text(json.dumps(PARETO))
    (folder / "decoder.json").write_text(
        json.dumps([{"name": "six", "n": 9, "r2": {k: [0.5, 0.4, 0.6] for k in LEADS}}])
    )
    (folder / "expected.json").write_text(json.dumps(["base", "mopoe"]))
    uid = np.array([row["uid"] for row in cohort])
    np.savez(folder / "latent.npz", uid=uid, twelve=rng.normal(size=(len(uid), 5)), six=rng.normal(size=(len(uid), 5)))
    with (folder / "cv-predictions.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["uid", "outcome"])
        writer.writerows([u, "ABSTAIN" if k % 10 == 0 else "DETECTED"] for k, u in enumerate(uid))
    return folder


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory, tables: dict[str, PredictionTable]) -> Path:
    folder = tmp_path_factory.mktemp("table")
    for name in ("base", "strong"):
        tables[name].save(folder / f"{name}.npz")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, cohort_folder: Path, predictions: Path, extras: Path) -> Path:
    """A whole report with coarse pictures, its PDF without the tables, which are most of its pages."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "DPI", 40)
        patch.setattr(
            report, "write_pdf", lambda path, whole: write_pdf(path, replace(whole, sections=whole.sections[-4:]))
        )
        write_report(ReportJob(cohort_folder, predictions, (extras,), reference="base", n_bootstrap=20), out)
    return out


@pytest.fixture(scope="module")
def page(written: Path) -> _Page:
    return _Page((written / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_first_line_of_the_page_says_what_the_labels_are(page: _Page) -> None:
    assert page.text[1] == LABEL_STATEMENT, "the first text after the title of the window"
    assert page.open == []


@pytest.mark.promise(106)
def test_the_page_needs_nothing_from_outside(page: _Page) -> None:
    assert not any(tag in ("script", "link", "iframe", "object") for tag, _ in page.found)
    sources = [attrs["src"] for tag, attrs in page.found if tag == "img"]
    assert len(sources) == 9
    assert all(str(src).startswith("data:image/png;base64,iVBOR") for src in sources)
    assert all(attrs.get("alt") for tag, attrs in page.found if tag == "img")
    assert all(str(attrs["href"]).startswith("#s") for tag, attrs in page.found if tag == "a")


def test_every_part_is_there_and_the_row_that_was_not_run_is_named(page: _Page) -> None:
    text = "\n".join(page.text)
    for title in (
        "Evidence table", "Differences between rows", "Calibration: base on leads 6", "Parts: base on leads 6",
        "Sets instead of calls: base on leads 6", "Size and speed", "Shared latent", "Decoder", "Limits",
    ):  # fmt: skip
        assert title in text
    assert "Not run: mopoe." in text
    assert "Not there: nothing." in text


@pytest.mark.slow
@pytest.mark.promise(106)
def test_the_pdf_has_the_statement_on_every_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pages: list[Figure] = []
    real = PdfPages.savefig
    monkeypatch.setattr(PdfPages, "savefig", lambda self, figure: pages.append(figure) or real(self, figure))
    table = TextTable("Long", ("a", "b"), tuple((str(k), "x\ny") for k in range(40)))
    plot = Plot("P", lambda figure: figure.subplots().plot([1, 2]), "a line", size_in=(10, 5))
    sections = (Section("One", ("text",), (table, plot, plot)), Section("Two", (), (plot,)))
    count = write_pdf(tmp_path / "x.pdf", Document("T", LABEL_STATEMENT, sections))
    assert count == len(pages) == 6
    for figure in pages:
        first = max(figure.texts, key=lambda text: text.get_position()[1])
        assert LABEL_STATEMENT.startswith(first.get_text())
        assert len(figure.texts) > 3, "no page is empty below its head"
    assert (tmp_path / "x.pdf").read_bytes().count(b"/Type /Page ") == count


def test_a_table_too_wide_for_a_page_is_cut_and_repeats_its_first_column() -> None:
    table = TextTable("Wide", ("row", *(f"column {k}" for k in range(20))), (("base", *["0.943\n(0.893-0.979)"] * 20),))
    parts = list(pdf.fitting(table))
    assert len(parts) > 1
    assert all(part.headers[0] == "row" and sum(widths) <= 770 for part, _, widths in parts)
    assert [h for part, _, _ in parts for h in part.headers[1:]] == list(table.headers[1:])


@pytest.mark.slow
def test_the_same_sections_give_the_same_files(tmp_path: Path) -> None:
    plot = Plot("P", lambda figure: figure.subplots().plot([1, 2]), "a line", size_in=(4, 3))
    document = Document("T", LABEL_STATEMENT, (Section("One", ("text",), (TextTable("T", ("a",), (("1",),)), plot)),))
    for name in ("one.pdf", "two.pdf"):
        write_pdf(tmp_path / name, document)
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()
    for picture in (pictures.as_png, pictures.as_svg):
        assert html_page(document, picture=picture) == html_page(document, picture=picture)


@pytest.mark.slow
@pytest.mark.promise(106)
def test_an_input_that_is_not_there_is_named_and_no_figure_stands_for_it(
    cohort_folder: Path, predictions: Path
) -> None:
    tables, folder = load_all(predictions), EcgFolder(cohort_folder)
    known = gather(tables, folder, reference="base", n_bootstrap=5)
    sections = report_sections(Detail(known, known, "base", "I"), Extras(), command="x")
    prose = " ".join(text for section in sections for text in section.prose)
    for name in KNOWN:
        assert f"{name} (" in prose
    for title in ("Size and speed", "Shared latent", "Decoder"):
        section = next(s for s in sections if s.title == title)
        assert section.blocks == ()
        assert section.prose[0].startswith("Not there: ")


def test_figures_json_holds_the_numbers_of_the_table(written: Path) -> None:
    found = json.loads((written / "figures.json").read_text())
    assert found["label_statement"] == LABEL_STATEMENT
    value, low, high = found["rows"]["strong"]["auroc"]["6"]["MI"]["value_low_high"]
    assert f"{value:.3f} ({low:.3f}-{high:.3f})" in (written / "evidence-table.md").read_text()
    assert found["rows"]["base"]["minus_reference"]["6"]["MI"] is None


def test_text_from_files_cannot_become_markup() -> None:
    evil = '"><script>x</script>'
    table = TextTable("a&b", ("<i>",), (("<u>",), (Said("<s>\n<s>", "good"),)), note="<em>")
    plot = Plot("<h6>", lambda figure: figure.subplots().set_title(evil), alt=evil, note="<q>", size_in=(3, 2))
    section = Section("<b>", ("<script>x</script>",), (table, plot, Folded("<del>", (table,))))
    document = Document("<h5>", "<ins>", (section,), lead=("<tt>",))
    for picture in (pictures.as_png, pictures.as_svg):
        page = _Page(html_page(document, picture=picture))
        assert page.open == []
        tags = {tag for tag, _ in page.found}
        assert not {"b", "script", "i", "u", "s", "em", "h6", "q", "del", "h5", "ins", "tt"} & tags
        assert "<script>x</script>" in page.text
        assert {"alt": evil, "aria-label": evil}.items() & {item for _, attrs in page.found for item in attrs.items()}


def test_the_command_takes_a_shells_pattern(
    cohort_folder: Path, predictions: Path, extras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from lsemvae.commands import report as cli_report

    asked: list[ReportJob] = []
    monkeypatch.setattr(report, "write_report", lambda job, out: asked.append(job) or {})
    app = typer.Typer()
    app.command("report")(cli_report.report)
    app.command("card")(cli_report.card)
    files = [str(extras / name) for name in ("decoder.json", "pareto.json")]
    words = [
        "report",
        "--data",
        str(cohort_folder),
        "--predictions",
        str(predictions),
        "--extras",
        *files,
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert [str(path) for path in asked[0].extras] == files


def test_an_unknown_row_or_lead_set_is_refused(cohort_folder: Path, predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected among them nobody"):
        write_report(ReportJob(cohort_folder, predictions, reference="base", row="nobody", n_bootstrap=5), tmp_path)
    with pytest.raises(FormatError, match="found the lead set 7"):
        write_report(ReportJob(cohort_folder, predictions, reference="base", lead_set="7", n_bootstrap=5), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_extras_come_from_files_folders_and_patterns(extras: Path, tmp_path: Path) -> None:
    assert read_extras([extras]).missing() == []
    assert read_extras([extras / "*.json"]).missing() == ["latent.npz", "cv-predictions.csv"]
    (tmp_path / "other.json").write_text("{}")
    assert read_extras([tmp_path / "other.json"]).unused == ("other.json",)
    (tmp_path / "pareto.json").write_text("[]")
    with pytest.raises(FormatError, match=r"expected one pareto\.json"):
        read_extras([extras, tmp_path])
    with pytest.raises(FormatError, match="found no such file or folder"):
        read_extras([tmp_path / "nothing.json"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"int8_kib": -1}, "found int8_kib -1 of small"),
        ({"auroc": {"RHS": [0.9, 0.95, 0.8]}}, "low <= high"),
        ({"auroc": {"RHS": 0.9}}, "low <= high"),
        ({"auroc": []}, "expected an object"),
        ({"name": ""}, "list of objects with a name"),
    ],
)
def test_a_wrong_pareto_file_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    (tmp_path / "pareto.json").write_text(json.dumps([PARETO[0] | change]))
    with pytest.raises(FormatError, match=said):
        read_pareto(tmp_path / "pareto.json")


def test_what_was_not_measured_is_left_out_of_the_pareto_figure(extras: Path) -> None:
    large = read_pareto(extras / "pareto.json")[1]
    assert large.latency_ms is None
    assert set(large.auroc) == {"RHS"}


def test_wrong_decoder_latent_and_outcome_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "decoder.json").write_text(json.dumps([{"name": "a", "r2": {"V9": [0, 0, 0]}}]))
    with pytest.raises(LeadError, match="V9"):
        read_decoder(tmp_path / "decoder.json")
    path = tmp_path / "latent.npz"
    np.savez(path, uid=np.array(["a", "b"]), twelve=np.zeros((2, 3)), six=np.zeros((2, 4)))
    with pytest.raises(FormatError, match="two \\[record, d\\]"):
        read_latent(path)
    np.savez(path, uid=np.array(["a", "b"]), twelve=np.full((2, 3), np.nan), six=np.zeros((2, 3)))
    with pytest.raises(FormatError, match="not finite"):
        read_latent(path)
    path.write_bytes(b"no zip")
    with pytest.raises(FormatError, match="cannot be read as latent summaries"):
        read_latent(path)
    (tmp_path / "cv-predictions.csv").write_text("uid,outcome\na,MAYBE\n")
    with pytest.raises(FormatError, match="MAYBE"):
        read_outcomes(tmp_path / "cv-predictions.csv")


def test_the_plane_is_fitted_on_twelve_leads_and_its_shares_are_variances() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)) * np.array([1.0, 5, 0.1, 2]) + 7
    mean, axes, shares = principal_plane(x)
    plane = (x - mean) @ axes
    np.testing.assert_allclose(plane.var(0) / x.var(0).sum(), shares, rtol=1e-9)
    assert np.argmax(np.abs(axes[:, 0])) == 1
    np.testing.assert_array_equal(principal_plane(x.copy())[1], axes)


def test_latent_points_are_coloured_by_the_rarest_statement(
    cohort_folder: Path, make_table: Callable[..., PredictionTable]
) -> None:
    truth = join_truth(EcgFolder(cohort_folder), [make_table("base", 1.0)], ("RHS", "RBBB_any", "NORM"))
    uid = np.append(truth.uid[::-1], "stranger")
    found, category = latent_categories(Latent(uid, np.zeros((len(uid), 2)), np.zeros((len(uid), 2))), truth)
    assert len(found.uid) == len(truth.uid)
    by_uid = dict(zip(truth.uid, truth.y, strict=True))
    for name, k in zip(found.uid, category, strict=True):
        rhs, rbbb, norm = by_uid[name] == 1
        assert k == (0 if rhs else 1 if rbbb else 2 if norm else 3)


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    points = [(10.0, 0.9), (20.0, 0.89), (30.0, 0.95), (5.0, 0.7), (30.0, 0.93)]
    assert front(points) == [3, 0, 2]


def test_curves_of_a_perfect_score() -> None:
    y, p = np.repeat([1.0, 0], [5, 20]), np.repeat([[0.9, 0.1]], 2, axis=0).repeat([5, 20], axis=1)
    fpr, tpr = mean_roc(y, p)
    assert (fpr[0], tpr[0]) == (0, 0)
    assert (tpr[fpr > 0] == 1).all()
    assert (mean_precision(y, p)[1] == 1).all()
    assert net_benefit(y, p, np.array([0.5]))[0] == pytest.approx(0.2)


def test_net_benefit_of_calling_everyone_by_hand() -> None:
    y = np.repeat([1.0, 0], [10, 90])
    assert net_benefit(y, np.ones(100), np.array([0.2]))[0] == pytest.approx(0.1 - 0.9 * 0.25)


def test_reliability_counts_recordings_not_seeds() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = (rng.random(200) < p).astype(float)
    once, thrice = reliability_bins(y, p), reliability_bins(y, np.stack([p] * 3))
    np.testing.assert_allclose(once[1], thrice[1])
    np.testing.assert_allclose(once[2], thrice[2])
