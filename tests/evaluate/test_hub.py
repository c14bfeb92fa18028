"""The hub folder: its head is YAML, its weights load again, and it says nothing that was not recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from lsemvae.commands.report import card as card_command
from lsemvae.commands.report import report as report_command
from lsemvae.data.convert import convert_folder
from lsemvae.data.labels import LABELS, Label
from lsemvae.data.rules import Quantity, bound
from lsemvae.data.tasks import TaskSet
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.hub import HubCard, check_same_weights, read_results, write_hub_folder
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, to_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import load_lsemvae, load_student, save_tensors
from lsemvae.train.run import write_json
from tests.data.test_folder_format import write_folder

yaml = pytest.importorskip(
    "yaml", reason="PyYAML comes with pre-commit and wfdb's tools; without it the head is not parsed"
)

ROWS = [
    {"label": "RHS", "negatives": "axis stated", "n": 1446, "positives": 50, "auroc": [0.943, 0.893, 0.979]},
    {"label": "MI", "negatives": "all", "n": 2684, "positives": 592, "auroc": [0.868, 0.851, 0.883]},
    {"label": "RAE", "negatives": "all", "n": 2684, "positives": 2, "auroc": [None, None, None]},
]


def _run(root: Path, kind: str, *, labels: tuple[str, ...] = LABELS, **noted: object) -> Path:
    torch.manual_seed(0)
    model: torch.nn.Module
    if kind == "student":
        student = StudentConfig(channels=(4, 4, 4, 4, 4), labels=labels)
        model, body, leads = StudentNet(student), to_json(student), student.leads
    else:
        teacher = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4, labels=labels)
        model, body, leads = LsEmvae(teacher), to_json(teacher), teacher.leads
    root.mkdir()
    save_tensors(root / "model.safetensors", model.state_dict())
    config = {"kind": kind, "stage": "finetune", "model": body, "labels": list(labels), "leads": list(leads)}
    write_json(root / "config.json", config)
    run = {
        "folds_left_out": [],
        "data_sha256": "a" * 64,
        "git_revision": "deadbeef",
        "seed": 3,
        "command": "/home/me/x",
    }
    write_json(root / "run.json", run | noted)
    return root


def _head(readme: str) -> dict[str, object]:
    _, head, _ = readme.split("---\n", 2)
    return dict(yaml.safe_load(head))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"rows": ROWS, "floor": {}, "teacher": []}))
    return path


@pytest.mark.promise(108)
@pytest.mark.parametrize("kind", ["student", "lsemvae"])
def test_the_folder_loads_again_and_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    run = _run(tmp_path / "run", kind)
    files = write_hub_folder(run, tmp_path / "out", HubCard("m"))
    assert sorted(path.name for path in files) == ["README.md", "config.json", "model.safetensors"]
    load = load_student if kind == "student" else load_lsemvae
    (first, _), (second, config) = load(run), load(tmp_path / "out")
    check_same_weights(first, second, where=tmp_path)
    assert config["labels"] == list(LABELS)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, len(config["leads"]), 2500)).astype(np.float32))
    given = (x,) if kind == "student" else (x, torch.ones(1, 12, dtype=torch.bool))
    with torch.no_grad():
        before, after = first(*given), second(*given)
    for a, b in zip(
        before if isinstance(before, tuple) else (before,), after if isinstance(after, tuple) else (after,), strict=True
    ):
        assert torch.equal(a, b)


def test_the_head_is_yaml_that_a_hub_reads(tmp_path: Path, results: Path) -> None:
    card = HubCard('a "quoted": name', datasets=("PTB-XL 1.0.3",), results=read_results(results))
    write_hub_folder(_run(tmp_path / "run", "student"), tmp_path / "out", card)
    head = _head((tmp_path / "out/README.md").read_text())
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "lsemvae"
    assert "ecg" in head["tags"]  # type: ignore[operator]
    assert head["datasets"] == ["PTB-XL 1.0.3"]
    index = head["model-index"][0]  # type: ignore[index]
    assert index["name"] == 'a "quoted": name'
    metrics = index["results"][0]["metrics"]
    assert [m["value"] for m in metrics] == [0.943, 0.868], "a figure that is not there is no entry"
    assert "50 of 1446 positive" in metrics[0]["name"]
    assert index["results"][0]["dataset"] == {"type": "ecg", "name": "PTB-XL 1.0.3"}


@pytest.mark.promise(108)
def test_the_text_says_first_what_the_labels_are_and_never_whose_machine(tmp_path: Path, results: Path) -> None:
    write_hub_folder(_run(tmp_path / "run", "student"), tmp_path / "out", HubCard("m", results=read_results(results)))
    text = (tmp_path / "out/README.md").read_text().split("---\n", 2)[2].strip()
    assert text.splitlines()[0] == f"**{LABEL_STATEMENT}**"
    assert "/home/me" not in text
    assert "no recording of its data is held out" in text
    assert "Figures of cross-validated models of the same recipe" in text
    assert "| RHS (negatives: axis stated) | I+II | 1,446 | 50 | 0.943 (0.893 to 0.979) |" in text


def test_without_results_and_data_nothing_is_claimed(tmp_path: Path) -> None:
    write_hub_folder(_run(tmp_path / "run", "student", folds_left_out=[9]), tmp_path / "out", HubCard("m"))
    text = (tmp_path / "out/README.md").read_text()
    assert not {"datasets", "metrics", "model-index"} & set(_head(text))
    assert "None recorded." in text
    assert "Folds left out in training: 9." in text
    assert "Trained on" not in text


def test_a_store_says_how_much_was_seen_and_one_of_other_data_is_refused(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-300, 300, (8, 8, 5000)).astype(np.int16)
    store = convert_folder(write_folder(tmp_path / "data", samples), tmp_path / "store")
    run = _run(tmp_path / "run", "student", data_sha256=store.data_hash, folds_left_out=[1])
    write_hub_folder(run, tmp_path / "out", HubCard("m"), store=store)
    seen = int(((store.fold > 0) & (store.fold != 1)).sum())
    text = (tmp_path / "out/README.md").read_text()
    assert f"Trained on {seen:,} recordings" in text
    assert _head(text)["datasets"] == sorted(set(store.source[(store.fold > 0) & (store.fold != 1)].tolist()))
    with pytest.raises(FormatError, match="which the run names"):
        write_hub_folder(_run(tmp_path / "other", "student"), tmp_path / "out2", HubCard("m"), store=store)
    assert not (tmp_path / "out2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_on_a_cohorts_own_labels_says_what_the_cohort_says(stage: str, tmp_path: Path) -> None:
    pressure = Label(name="PH", quantity=Quantity.of("mpap"), rule=bound(">20"), description="mPAP above 20 mmHg")
    own = TaskSet(name="rhc", statement="Mean pulmonary artery pressure by catheter.", labels=(pressure,))
    run = _run(tmp_path / "run", "lsemvae", labels=("PH",))
    config = json.loads((run / "config.json").read_text())
    del config["labels"], config["leads"]  # only a student's config.json repeats them beside the model
    write_json(run / "config.json", config | {"stage": stage})
    write_json(run / "tasks.json", own.to_json())
    write_hub_folder(run, tmp_path / "out", HubCard("m"))
    text = (tmp_path / "out/README.md").read_text()
    assert "license" not in _head(text), "nobody stated one"
    body = text.split("---\n", 2)[2].strip()
    assert body.splitlines()[0] == f"**{own.statement}**"
    assert LABEL_STATEMENT not in text
    assert "| PH | mPAP above 20 mmHg |" in text
    assert "right-heart strain" not in text
    assert ("no output has learned its label yet" in text) == (stage == "pretrain")
    write_hub_folder(run, tmp_path / "stated", HubCard("m", licence="cc-by-nc-4.0"))
    assert _head((tmp_path / "stated/README.md").read_text())["license"] == "cc-by-nc-4.0"


def test_calibration_travels_with_the_weights(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "student")
    (run / "decision.json").write_text('{"decision": {}}')
    write_hub_folder(run, tmp_path / "out", HubCard("m"))
    assert (tmp_path / "out/decision.json").read_bytes() == (run / "decision.json").read_bytes()


def test_a_folder_with_something_in_it_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "student")
    with pytest.raises(FormatError, match="expected an empty or new folder"):
        write_hub_folder(run, run, HubCard("m"))
    write_json(run / "config.json", {"kind": "other"})
    with pytest.raises(FormatError, match="found a run of kind 'other', expected one of student, lsemvae"):
        write_hub_folder(run, tmp_path / "out", HubCard("m"))


def test_other_weights_are_found(tmp_path: Path) -> None:
    a, b = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    b.load_state_dict(a.state_dict())
    check_same_weights(a, b, where=tmp_path)
    with torch.no_grad():
        b.bias += 1e-6
    with pytest.raises(FormatError, match="found other weights"):
        check_same_weights(a, b, where=tmp_path)


def test_results_of_the_report_are_read_by_row(tmp_path: Path) -> None:
    entry = {"n": 10, "positives": 5, "value_low_high": [0.9, 0.8, 0.95]}
    rows = {"base": {"auroc": {"6": {"RHS": entry, "RAE": {**entry, "value_low_high": None}}}}}
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"rows": rows}))
    assert [(r.label, r.leads, r.auroc) for r in read_results(path, row="base")] == [("RHS", "6", (0.9, 0.8, 0.95))]
    with pytest.raises(FormatError, match="found the rows base, expected among them nobody"):
        read_results(path, row="nobody")
    path.write_text(json.dumps({"rows": [{"auroc": [1, 2, 3]}]}))
    with pytest.raises(FormatError, match="results of another shape"):
        read_results(path)


def test_the_command_writes_the_folder_and_names_its_files(tmp_path: Path, results: Path) -> None:
    run = _run(tmp_path / "my-run", "student")
    app = Typer()
    app.command("card")(card_command)
    app.command("report")(report_command)
    words = [
        "card",
        str(run),
        "--out",
        str(tmp_path / "out"),
        "--results",
        str(results),
        "--dataset",
        "PTB-XL",
        "--json",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["files"] == ["model.safetensors", "config.json", "README.md"]
    head = _head((tmp_path / "out/README.md").read_text())
    assert head["model-index"][0]["name"] == "my-run"  # type: ignore[index]
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "expected an empty or new folder" in again.output
