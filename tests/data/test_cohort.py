"""A cohort as one TOML file and one CSV: from WFDB files or the folder format to a model's logits."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lsemvae.cli import app
from lsemvae.data.cohort import CheckedCohort, check_cohort, convert_cohort, read_cohort
from lsemvae.data.convert import convert_folder
from lsemvae.data.splits import patient_fold
from lsemvae.data.store import RecordStore, open_store
from lsemvae.data.tasks import BUILT_IN
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.frontend import apply_array
from lsemvae.ecg.leads import LEADS, derive_limb_leads
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.losses import masked_bce
from lsemvae.train.batches import load_batch
from lsemvae.train.finetune import FINETUNE, finetune
from lsemvae.train.pretrain import PRETRAIN, pretrain
from tests.data.test_folder_format import write_folder

N = 12
HEAD = """
[cohort]
name = "test"
licence = "none"
statement = "Labels are invented for a test."
csv = "table.csv"
uid = "uid"
patient = "patient"
signals = { kind = "wfdb", root = "signals", column = "path" }
"""
TASKS = """
[[task]]
name = "ph"
kind = "binary"
primary = true
threshold_of = "mpap"
positive = ">20"
description = "mPAP above 20 mmHg"

[[task]]
name = "post"
kind = "binary"
column = "pawp"
positive = ">15"
among = "ph"
description = "PAWP above 15 mmHg among PH"

[[task]]
name = "mpap"
kind = "regression"
column = "mpap"
unit = "mmHg"
range = [5, 120]
description = "mPAP"
"""
FLAG = """
[[task]]
name = "flag"
kind = "binary"
column = "flag"
{keys}
description = "a flag"
"""


def rows_of(n: int = N) -> list[dict[str, str]]:
    """A table with every third pressure unmeasured."""
    return [
        {
            "uid": f"e{k}",
            "patient": f"p{k // 2}",
            "path": f"r{k}",
            "mpap": "" if k % 3 == 0 else f"{12 + 2 * k}",
            "pawp": "" if k % 4 == 0 else f"{10 + k}",
        }
        for k in range(n)
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_cohort(root: Path, text: str, rows: Sequence[Mapping[str, object]]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "cohort.toml").write_text(text, encoding="utf-8")
    write_csv(root / "table.csv", rows)
    return root / "cohort.toml"


def check(root: Path, text: str, rows: Sequence[Mapping[str, object]]) -> CheckedCohort:
    return check_cohort(read_cohort(write_cohort(root, text, rows)))


def beats_mv(k: int, n_samples: int = 5000, fs_hz: float = 500.0) -> np.ndarray:
    """Something like an ECG in mV `[12, time]`, with a height of its own for each k."""
    t = np.arange(n_samples) / fs_hz
    wave = (0.3 + 0.05 * k) * np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004) + 0.01 * np.sin(9 * t + k)
    chest = np.stack([wave * scale for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 0.9)])
    return np.concatenate([derive_limb_leads(wave, 0.7 * wave + 0.02 * np.cos(5 * t)), chest])


def write_wfdb(root: Path, name: str, k: int) -> None:
    import wfdb

    root.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=500, units=["mV"] * 12, sig_name=list(LEADS), p_signal=beats_mv(k).T, fmt=["16"] * 12,
        adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(root),
    )  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    for k in range(N):
        write_wfdb(root / "signals", f"r{k}", k)
    return write_cohort(root, HEAD + TASKS, rows_of())


@pytest.fixture(scope="module")
def store(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    return convert_cohort(cohort, tmp_path_factory.mktemp("out") / "store")


# From a cohort file to a trained model


@pytest.mark.promise(96)
def test_a_cohort_file_and_a_table_become_a_store(store: RecordStore) -> None:
    assert store.label_names == ("ph", "post")
    assert store.measure_names == ("mpap",)
    assert store.uid.tolist() == [row["uid"] for row in rows_of()]
    mpap = np.array([float(row["mpap"] or "nan") for row in rows_of()])
    np.testing.assert_array_equal(store.measures[:, 0], mpap)
    np.testing.assert_array_equal(store.labels[:, 0], np.where(np.isnan(mpap), np.nan, mpap > 20))
    assert np.isnan(store.labels[store.labels[:, 0] != 1, 1]).all(), "a phenotype exists among PH only"
    assert store.fold.tolist() == [patient_fold(row["patient"], n_folds=10) for row in rows_of()]
    expected = apply_array(np.round(beats_mv(3) * 1000)[1:2] / 1000, fs_hz=500)[0]
    np.testing.assert_allclose(store.millivolts([3], leads=("II",))[0, 0], expected, atol=1e-3)


def test_the_store_keeps_what_its_labels_are(store: RecordStore) -> None:
    tasks = open_store(store.root).tasks
    assert tasks.statement == "Labels are invented for a test."
    assert tasks.primary == "ph"
    assert tasks.descriptions["post"] == "PAWP above 15 mmHg among PH"
    assert store.label_counts()["ph"] == {"positive": 5, "negative": 3, "unknown": 4}
    assert store.measure_counts() == {"mpap": 8}


def test_a_store_without_a_task_set_has_the_built_in_one_or_none(store: RecordStore, tmp_path: Path) -> None:
    bare = {key: value for key, value in store.index.items() if key != "tasks"}
    with pytest.raises(FormatError, match="found the labels ph, post, expected RHS"):
        _ = dataclasses.replace(store, index=bare).tasks
    built_in = bare | {"labels": list(BUILT_IN.label_names), "measures": list(BUILT_IN.measure_names)}
    assert dataclasses.replace(store, index=built_in).tasks == BUILT_IN
    swapped = {**store.index, "labels": ["post", "ph"]}
    with pytest.raises(FormatError, match="found the labels post, ph, expected ph, post"):
        _ = dataclasses.replace(store, index=swapped).tasks


@pytest.mark.slow
@pytest.mark.promise(96)
def test_a_cohort_trains_from_conversion_to_logits(store: RecordStore, tmp_path: Path) -> None:
    """No code between the table and the model: pre-train and fine-tune for one tiny epoch on the converted store."""
    model = LsEmvaeConfig(
        channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4, labels=store.label_names, measures=store.measure_names
    )
    rows = np.arange(len(store))
    few = {"epochs": 1, "batch": 6}
    pretrain(store, tmp_path / "p", rows, model=model, train=dataclasses.replace(PRETRAIN, **few))
    net = finetune(store, tmp_path / "p", tmp_path / "f", rows, train=dataclasses.replace(FINETUNE, **few))
    batch = load_batch(store, rows)
    with torch.no_grad():
        encoded = net.encoders(batch.x, batch.present.any(0))
        logits = net.read(net.fuse(encoded, batch.present), torch.Generator()).logits
    assert logits.shape == (N, 2)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.promise(97)
def test_an_unmeasured_cell_has_no_gradient(store: RecordStore) -> None:
    """NaN in the store is not a negative in the loss: the logit of an unmeasured cell is not pushed anywhere."""
    labels = torch.from_numpy(store.labels)
    logits = torch.zeros_like(labels, requires_grad=True)
    masked_bce(logits, labels).backward()
    assert logits.grad is not None
    unknown = torch.isnan(labels)
    assert unknown.any()
    assert (~unknown).any()
    assert bool((logits.grad[unknown] == 0).all())
    assert bool((logits.grad[~unknown] != 0).all())


def test_the_command_says_what_the_labels_are_and_how_many(cohort: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["convert", "--cohort", str(cohort), "--out", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    assert "test: Labels are invented for a test." in done.output
    assert "ph: 5 positive, 3 negative, 4 unknown" in done.output
    assert "mpap: measured in 8" in done.output


def test_the_command_needs_data_or_a_cohort(cohort: Path, tmp_path: Path) -> None:
    bare = CliRunner().invoke(app, ["convert", "--out", str(tmp_path / "store")])
    assert bare.exit_code == 2
    both = ["convert", "--cohort", str(cohort), "--patients", "p.csv", "--out", str(tmp_path / "store")]
    assert CliRunner().invoke(app, both).exit_code == 2
    (tmp_path / "bad.toml").write_text("[cohort]\n")
    done = CliRunner().invoke(app, ["convert", "--cohort", str(tmp_path / "bad.toml"), "--out", "s", "--json"])
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], "line 1" in error["message"]) == ("E_FORMAT", True)


def test_data_says_where_the_paths_of_a_cohort_file_begin(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text(cohort.read_text())
    assert read_cohort(tmp_path / "elsewhere.toml", data=cohort.parent).csv == cohort.parent / "table.csv"
    with pytest.raises(FormatError, match=r"table\.csv: cannot be read"):
        check_cohort(read_cohort(tmp_path / "elsewhere.toml"))


def test_a_recording_that_cannot_be_read_is_refused_by_its_uid_and_the_rest_kept(cohort: Path, tmp_path: Path) -> None:
    rows = rows_of()
    rows[5]["path"] = "nowhere"
    text = (HEAD + TASKS).replace('root = "signals"', f'root = "{(cohort.parent / "signals").as_posix()}"')
    store = convert_cohort(write_cohort(tmp_path / "c", text, rows), tmp_path / "store")
    assert [(row["uid"], row["code"]) for row in store.index["refused"]] == [("e5", "E_FORMAT")]
    assert "e5" not in store.uid
    np.testing.assert_array_equal(store.measures[6], [26.0], "the row after next keeps its own value")


# The folder format


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write_folder(tmp_path / "data", rng.normal(0, 200, (8, 8, 5000)).astype(np.int16))


def test_a_folder_gets_labels_of_its_own(folder: Path, tmp_path: Path) -> None:
    rows = [{"uid": f"r{k}", "patient": f"p{k}", "mpap": 15 + 3 * k, "gain": int(k != 7)} for k in (7, 2, 5, 0)]
    text = HEAD.replace('{ kind = "wfdb", root = "signals", column = "path" }', '{ kind = "folder", root = "../data" }')
    amplitude = TASKS.split("[[task]]")[3].replace('"mpap"\nkind', '"r_mv"\nkind') + "amplitude = true\n"
    text = (
        text
        + 'gain_known = "gain"\n'
        + TASKS.replace('among = "ph"\n', "").replace('"pawp"', '"mpap"')
        + "[[task]]"
        + amplitude
    )
    store = convert_cohort(write_cohort(tmp_path / "c", text, rows), tmp_path / "store")
    whole = convert_folder(folder, tmp_path / "whole")
    for k, uid in enumerate(store.uid):
        np.testing.assert_array_equal(store.samples[k], whole.samples[whole.uid.tolist().index(uid)])
    by_uid = dict(zip(store.uid.tolist(), store.measures.tolist(), strict=True))
    assert by_uid["r5"] == [30.0, 30.0]
    assert by_uid["r7"][0] == 36.0
    assert np.isnan(by_uid["r7"][1]), "an amplitude without a gain is unknown"
    assert store.gain_known.tolist() == [uid != "r7" for uid in store.uid.tolist()]


def test_a_uid_that_the_folder_does_not_have_is_refused(folder: Path, tmp_path: Path) -> None:
    text = HEAD.replace('{ kind = "wfdb", root = "signals", column = "path" }', '{ kind = "folder", root = "../data" }')
    rows = [{"uid": f"r{k}", "patient": "p", "mpap": 10 + 8 * k, "pawp": 10 + 9 * (k % 2)} for k in range(9)]
    with pytest.raises(FormatError, match=r"line 10: found the recording 'r8', expected a uid of"):
        convert_cohort(write_cohort(tmp_path / "c", text + TASKS, rows), tmp_path / "store")


def test_the_built_in_statements_are_a_cohort_too(folder: Path, tmp_path: Path) -> None:
    text = (HEAD + 'tasks = "built-in"\nfold = "strat_fold"\n').replace("table.csv", "../data/metadata.csv")
    text = text.replace('{ kind = "wfdb", root = "signals", column = "path" }', '{ kind = "folder", root = "../data" }')
    metadata = list(csv.DictReader((folder / "metadata.csv").read_text().splitlines()))
    every = {**dict.fromkeys(BUILT_IN.columns, ""), "heart_axis": "MID"}
    write_csv(folder / "metadata.csv", [{**every, **row} for row in metadata])
    store = convert_cohort(write_cohort(tmp_path / "c", text, rows_of()), tmp_path / "store")
    whole = convert_folder(folder, tmp_path / "whole")
    np.testing.assert_array_equal(store.labels, whole.labels)
    np.testing.assert_array_equal(store.fold, whole.fold)
    assert store.tasks.statement == "Labels are invented for a test."
    with pytest.raises(FormatError, match=r"found tasks = .built-in. beside 3 \[\[task\]\]"):
        read_cohort(write_cohort(tmp_path / "d", text + TASKS, rows_of()))


# What the table can get wrong


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({3: {"patient": ""}}, r"line 5: found patient '', expected a patient: splits never cut a patient"),
        ({3: {"uid": "NA"}}, r"line 5: found uid 'NA', expected a uid"),
        ({3: {"uid": "e1"}}, r"line 5: found uid 'e1' a second time \(first in line 3\), expected each recording once"),
        ({4: {"mpap": "high"}}, r"line 6: e4: found mpap 'high', expected a number or nothing"),
        ({4: {"mpap": "250"}}, r"line 6: e4: found mpap '250', expected 5 to 120 mmHg"),
        (
            {4: {"mpap": "0"}, 7: {"mpap": "0"}},
            r"line 6: e4: found mpap '0', expected 5 to 120 mmHg; 2 such lines: 6, 9",
        ),
        ({4: {"path": ""}}, r"line 6: found no path in path, expected the path of a WFDB record"),
        ({4: {None: ["more"]}}, r"line 6: found 6 cells, expected 5 as in the header"),
    ],
)
def test_a_bad_cell_is_named_by_line_found_and_expected(
    tmp_path: Path, change: dict[int, dict[str | None, object]], found: str
) -> None:
    rows = rows_of()
    path = write_cohort(tmp_path, HEAD + TASKS, rows)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(rows[0])
    for k, row in enumerate(rows):
        cells = {**row, **change.get(k, {})}
        extra = cells.pop(None, [])
        writer.writerow([*cells.values(), *extra])  # type: ignore[misc]
    (tmp_path / "table.csv").write_text(table.getvalue())
    with pytest.raises(FormatError, match=found) as caught:
        convert_cohort(path, tmp_path / "store")
    assert str(caught.value).startswith(f"{tmp_path / 'table.csv'}, line ")
    assert caught.value.advice
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('column = "pawp"', 'column = "PAWP"', r"table\.csv, line 1: found the columns uid, patient.*expected also PAWP"),
        ('patient = "patient"', 'patient = "subject"', r"expected also subject"),
        ('patient = "patient"\n', "", r"\[cohort\] patient: found nothing, expected a text"),
        ("statement", "statment", r"line 5: \[cohort\] statment: found an unknown key, expected one of name"),
        ('statement = "Labels are invented for a test."\n', "", r"\[cohort\] statement: found nothing, expected a text"),
        ('kind = "wfdb"', 'kind = "edf"', r"line 9: \[cohort.signals\] kind: found 'edf', expected one of wfdb, folder, npy"),
        ('column = "path"', 'colunm = "path"', r"line 9: \[cohort.signals\] colunm: found an unknown key"),
        ("[cohort]", "[cohrt]", r"cohrt: found an unknown key, expected one of cohort, task"),
        ('positive = ">20"', 'positive = ">200"', r"line 16: \[task\] positive: found 0 positive, 8 negative and 4 unknown"),
        ('positive = ">15"', 'positive = ">-1"', r"found 4 positive, 0 negative and 8 unknown recordings for post"),
        ('uid = "uid"', 'uid = "uid"\nfolds = { a = 1 }', r"line 8: \[cohort\] folds: found folds without fold"),
        ('uid = "uid"', 'uid = "uid"\nfold = "uid"\nfolds = { a = -1 }', r"folds: found .*-1.* expected whole numbers"),
        ('uid = "uid"', 'uid = "uid"\nfold = "uid"\nfolds = { a = 1 }', r"found uid 'e0', expected one of a"),
        ('uid = "uid"', 'uid = "uid"\ngain_known = 1', r"gain_known: found 1, expected true, false or the name of a column"),
        ('uid = "uid"', 'uid = "uid"\ngain_known = "path"', r"found path 'r0', expected 1 or 0 \(gain_known\)"),
        ('uid = "uid"', 'uid = "uid"\nsex = "path"', r"found path 'r0', expected one of m, male, f, female or nothing"),
        ('uid = "uid"', 'uid = "uid"\nage = "path"', r"found path 'r0', expected a number or nothing"),
        (TASKS, "", r'found no \[\[task\]\], expected at least one, or tasks = "built-in"'),
    ],
)  # fmt: skip
def test_a_cohort_file_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, found: str) -> None:
    text = HEAD + TASKS
    assert old in text
    with pytest.raises(FormatError, match=found) as caught:
        check(tmp_path, text.replace(old, new, 1), rows_of())
    assert caught.value.advice


def test_a_doubled_column_and_an_empty_table_are_refused(tmp_path: Path) -> None:
    path = write_cohort(tmp_path, HEAD + TASKS, rows_of())
    (tmp_path / "table.csv").write_text("uid,patient,path,mpap,mpap,pawp\n")
    with pytest.raises(FormatError, match="found the column 'mpap' twice"):
        check_cohort(read_cohort(path))
    (tmp_path / "table.csv").write_text("uid,patient,path,mpap,pawp\n")
    with pytest.raises(FormatError, match="found a header and 0 recordings"):
        check_cohort(read_cohort(path))


def test_a_patient_in_two_folds_is_refused_but_fold_0_is_nobodys(tmp_path: Path) -> None:
    text = (HEAD + TASKS).replace('uid = "uid"', 'uid = "uid"\nfold = "fold"')
    good = [{**row, "fold": 0 if k % 2 else k // 2 + 1} for k, row in enumerate(rows_of())]
    assert [row.fold for row in check(tmp_path, text, good).values[:4]] == [1, 0, 2, 0]
    bad = [{**row, "fold": k + 1} for k, row in enumerate(rows_of())]
    with pytest.raises(FormatError, match=r"line 3: found patient 'p0' in fold 2, expected fold 1 as in line 2"):
        check(tmp_path, text, bad)
    with pytest.raises(FormatError, match="found fold '', expected a whole number from 0"):
        check(tmp_path, text, [{**row, "fold": ""} for row in rows_of()])


def test_age_sex_split_and_missing_texts_are_read(tmp_path: Path) -> None:
    keys = 'uid = "uid"\nage = "age"\nsex = "sex"\nsplit = "part"\nmissing = ["-", "29999"]\nsex_male = ["1"]\nsex_female = ["0"]'
    rows = [{**row, "age": "-", "sex": str(k % 2), "part": "train"} for k, row in enumerate(rows_of())]
    rows[1] |= {"age": "71.5", "sex": "-", "mpap": "29999"}
    values = check(tmp_path, (HEAD + TASKS).replace('uid = "uid"', keys), rows).values
    assert np.isnan(values[0].age)
    assert (values[1].age, values[0].sex_male, values[3].sex_male, values[1].split) == (71.5, 0.0, 1.0, "train")
    assert np.isnan([values[1].sex_male, values[1].labels[0], values[1].measures[0]]).all()


# The trap: zeros where nobody measured


def trap_rows(n: int = 120) -> list[dict[str, str]]:
    """EchoNext's pattern: every other row has no value, and its flag is 0."""
    rows = rows_of(n)
    for k, row in enumerate(rows):
        value = "" if k % 2 else f"{30 + k % 40}"
        row |= {"mpap": f"{10 + k % 30}", "value": value, "flag": str(int(value != "" and float(value) >= 45))}
        row |= {"pawp": f"{10 + k % 15}", "note": "" if k % 5 else "text", "other": f"{k}"}
    return rows


def flag(keys: str) -> str:
    return HEAD + TASKS + FLAG.format(keys=keys)


@pytest.mark.promise(97)
def test_the_echonext_trap_is_refused_with_its_counts(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        check(tmp_path, flag("complete = true"), trap_rows())
    message = str(caught.value)
    assert "complete: found no positive in the 60 rows where value is empty" in message
    assert "in the 60 where it is filled" in message
    assert 'measured = "..."' in caught.value.advice
    assert 'unrelated = ["value"]' in caught.value.advice


def test_a_mask_turns_the_zeros_of_the_trap_into_unknowns_and_says_how_many(tmp_path: Path) -> None:
    checked = check(tmp_path, flag('measured = "value"'), trap_rows())
    y = np.array([row.labels[2] for row in checked.values])
    assert np.isnan(y[1::2]).all()
    assert set(y[::2]) == {0.0, 1.0}
    (note,) = checked.notes
    assert note.startswith("flag: 60 rows hold a 0 and 0 a 1 where value is empty; they are left out as unknown")
    prevalence = float(y[::2].mean())
    assert f"Prevalence {prevalence / 2:.3f} with them, {prevalence:.3f} without" in note


def test_a_complete_flag_passes_where_its_zeros_follow_no_gap(tmp_path: Path) -> None:
    """Whether by chance (few rows), by positives among the gaps, by a text column, or by the author's word."""
    few = check(tmp_path, flag("complete = true"), trap_rows(24))
    assert np.isfinite([row.labels[2] for row in few.values]).all()
    mixed = trap_rows()
    mixed[1]["flag"] = "1"
    check(tmp_path, flag("complete = true"), mixed)
    check(tmp_path, flag('complete = true\nunrelated = ["value"]'), trap_rows())
    words = [{**row, "value": row["value"] and "x" + row["value"]} for row in trap_rows()]
    check(tmp_path, flag("complete = true"), words)


def test_a_column_that_only_positives_have_is_no_trap(tmp_path: Path) -> None:
    rows = [{**row, "value": "3" if row["flag"] == "1" else ""} for row in trap_rows()]
    check(tmp_path, flag("complete = true"), rows)


def test_a_mask_that_is_itself_a_flag_masks_nothing_and_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "was_measured": str(int(row["value"] != ""))} for row in trap_rows()]
    with pytest.raises(FormatError, match="measured: found the column was_measured, which holds 1 and 0") as caught:
        check(tmp_path, flag('measured = "was_measured"'), rows)
    assert "missing = [...]" in caught.value.advice


def test_a_mask_without_any_measurement_leaves_no_class(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found 0 positive, 0 negative and 120 unknown recordings for flag"):
        check(tmp_path, flag('measured = "value"'), [{**row, "value": ""} for row in trap_rows()])


@pytest.mark.promise(97)
@settings(max_examples=15, deadline=None)
@given(gaps=st.lists(st.booleans(), min_size=24, max_size=24), zero=st.sampled_from(["0", "", "NA", "1"]))
def test_no_gap_of_a_measurement_ever_becomes_a_known_label(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[bool], zero: str
) -> None:
    """From the CSV to the label array: where the measurement is empty the label is NaN, whatever the flag says."""
    gaps = [False, False, *gaps[2:]]
    rows = trap_rows(24)
    for k, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        row |= {"value": "" if gap else "50", "flag": zero if gap else str(k % 2)}
    checked = check(tmp_path_factory.getbasetemp() / "gaps", flag('measured = "value"'), rows)
    y = np.array([row.labels[2] for row in checked.values])
    np.testing.assert_array_equal(np.isnan(y), gaps)
