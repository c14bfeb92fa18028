"""The evidence table: truth joined by uid, figures as by hand, verdicts only where the interval says so, absent rows named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lsemvae.data.folder import EcgFolder
from lsemvae.ecg.errors import FormatError
from lsemvae.evaluate.card import LABEL_STATEMENT
from lsemvae.evaluate.evidence import Comparison, Evidence, gather
from lsemvae.evaluate.metrics import Estimate
from lsemvae.evaluate.predictions import PredictionTable
from lsemvae.evaluate.resampling import patient_weights
from lsemvae.evaluate.subgroups import AGE_BANDS, subgroup_masks, subgroup_rows
from lsemvae.evaluate.tables import (
    ExpectedRow,
    auroc_table,
    difference_table,
    evidence_markdown,
    expected_rows,
    gap_table,
    row_order,
    row_table,
)
from lsemvae.evaluate.truth import aligned, join_truth

Make = Callable[..., PredictionTable]


@pytest.fixture(scope="module")
def evidence(tables: dict[str, PredictionTable], cohort_folder: Path) -> Evidence:
    return gather(tables, EcgFolder(cohort_folder), reference="base", n_bootstrap=200)


def test_truth_is_joined_by_uid_whatever_the_order(make_table: Make, cohort_folder: Path) -> None:
    table = make_table("base", 2.0)
    back = np.arange(len(table.uid))[::-1]
    turned = replace(table, uid=table.uid[back], fold=table.fold[back], logits=table.logits[:, :, back])
    truth = join_truth(EcgFolder(cohort_folder), [turned], ("RHS", "NORM"))
    assert truth.uid.tolist() == sorted(table.uid.tolist())
    np.testing.assert_array_equal(aligned(turned, truth.uid), aligned(table, truth.uid))


def test_right_heart_negatives_count_only_with_a_stated_axis(evidence: Evidence, cohort: list[dict[str, str]]) -> None:
    by_uid = {row["uid"]: row for row in cohort}
    for uid, y in zip(evidence.truth.uid, evidence.truth.of("RHS"), strict=True):
        row = by_uid[str(uid)]
        expected = 1.0 if row["y_RHS"] == "1" else (0.0 if row["heart_axis"] else math.nan)
        assert y == expected or (math.isnan(y) and math.isnan(expected))


def test_only_recordings_of_known_gain_are_in_the_table(evidence: Evidence, cohort: list[dict[str, str]]) -> None:
    assert set(evidence.truth.uid) == {row["uid"] for row in cohort if row["gain_known"] == "1"}


@pytest.mark.promise(107)
def test_a_recording_of_another_folder_or_fold_is_refused(make_table: Make, cohort_folder: Path) -> None:
    table = make_table("base", 2.0, keep=5)
    folder = EcgFolder(cohort_folder)
    with pytest.raises(FormatError, match=r"found 1 recordings \(for one, stranger\) that"):
        join_truth(folder, [replace(table, uid=np.array(["stranger", *table.uid[1:]]))], ("RHS",))
    with pytest.raises(FormatError, match=f"found r0000 in fold {table.fold[0] + 1}, expected fold {table.fold[0]}"):
        join_truth(folder, [replace(table, fold=table.fold + (np.arange(5) == 0))], ("RHS",))


def test_a_row_that_does_not_score_a_recording_has_nan_there(make_table: Make, cohort_folder: Path) -> None:
    part, whole = make_table("part", 2.0, keep=100), make_table("base", 2.0)
    evidence = gather({"part": part, "base": whole}, EcgFolder(cohort_folder), reference="base", n_bootstrap=50)
    scores = evidence.scores("part", "6", "MI")
    assert np.isfinite(scores[0]).tolist() == [str(u) < "r0100" for u in evidence.truth.uid]
    assert evidence.against_reference("part", "6", "MI").n == int(np.isfinite(scores[0]).sum())


def test_the_figure_is_the_mean_over_seeds_with_their_spread(evidence: Evidence) -> None:
    found = evidence.figure("base", "6", "MI")
    y = evidence.truth.of("MI")
    by_seed = [roc_auc_score(y, one) for one in evidence.scores("base", "6", "MI")]
    assert found.auroc.value == pytest.approx(np.mean(by_seed), abs=1e-9)
    assert found.seed_sd == pytest.approx(np.std(by_seed, ddof=1), abs=1e-9)
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert (found.n, found.positives) == (len(y), int(y.sum()))


def test_a_seed_that_was_not_run_does_not_count(make_table: Make, cohort_folder: Path) -> None:
    table = make_table("base", 2.0)
    logits = table.logits.copy()
    logits[1] = np.nan
    evidence = gather(
        {"base": replace(table, logits=logits)}, EcgFolder(cohort_folder), reference="base", n_bootstrap=20
    )
    assert evidence.scores("base", "6", "MI").shape[0] == 1
    assert math.isnan(evidence.figure("base", "6", "MI").seed_sd)


@pytest.mark.promise(103)
def test_verdicts_follow_the_interval() -> None:
    def verdict(low: float, high: float) -> str:
        return Comparison(Estimate((low + high) / 2, low, high), 0.5, 10, 5).verdict

    assert [verdict(0.01, 0.2), verdict(-0.2, -0.01), verdict(-0.1, 0.2), verdict(math.nan, math.nan)] == [
        "better",
        "worse",
        "none",
        "-",
    ]


@pytest.mark.promise(103)
def test_a_stronger_row_is_better_a_weaker_worse_and_a_copy_none(
    evidence: Evidence, make_table: Make, cohort_folder: Path
) -> None:
    assert evidence.against_reference("strong", "6", "NORM").verdict == "better"
    assert evidence.against_reference("weak", "6", "NORM").verdict == "worse"
    twins = {name: make_table(name, 2.0) for name in ("base", "twin")}
    same = gather(twins, EcgFolder(cohort_folder), reference="base", n_bootstrap=50).against_reference(
        "twin", "6", "NORM"
    )
    assert (same.difference.value, same.p_value, same.verdict) == (0.0, 1.0, "none")


def test_the_gap_is_twelve_minus_six_of_one_row(evidence: Evidence) -> None:
    gap = evidence.twelve_minus_six("base", "MI")
    twelve, six = (evidence.figure("base", leads, "MI").auroc.value for leads in ("12", "6"))
    assert gap.difference.value == pytest.approx(twelve - six, abs=1e-9)


@pytest.mark.promise(103)
def test_an_expected_row_that_is_not_there_is_printed_as_not_run(evidence: Evidence) -> None:
    rows = row_order(evidence, expected_rows(["strong", {"name": "mopoe", "group": "baseline", "title": "MoPoE"}]))
    assert [row.name for row in rows] == ["base", "strong", "mopoe", "weak"]
    for table in (auroc_table(evidence, rows, "6"), difference_table(evidence, rows, "6"), gap_table(evidence, rows)):
        line = next(row for row in table.rows if row[0] == "mopoe")
        assert set(line[1:]) == {"not run"}
    assert next(row for row in row_table(evidence, rows).rows if row[0] == "mopoe")[:4] == (
        "mopoe",
        "baseline",
        "MoPoE",
        "not run",
    )


def test_a_lead_set_that_was_not_run_is_a_dash(make_table: Make, cohort_folder: Path) -> None:
    table = make_table("base", 2.0)
    six_only = replace(table, lead_sets=("6",), logits=table.logits[:, 1:2])
    evidence = gather({"base": six_only}, EcgFolder(cohort_folder), reference="base", n_bootstrap=20)
    rows = (ExpectedRow("base"),)
    assert set(auroc_table(evidence, rows, "12").rows[0][1:]) == {"-"}
    assert set(gap_table(evidence, rows).rows[0][1:]) == {"-"}
    assert "-" not in auroc_table(evidence, rows, "6").rows[0][1:]


def test_the_markdown_begins_with_what_the_labels_are_and_holds_every_row(evidence: Evidence) -> None:
    text = evidence_markdown(evidence, expected_rows(["mopoe"]))
    assert text.splitlines()[0] == f"**{LABEL_STATEMENT}**"
    for heading in (
        "AUROC, twelve leads",
        "AUROC, lead I",
        "AUROC minus base, six limb leads",
        "twelve leads minus AUROC with six",
    ):
        assert heading in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| strong")}
    assert widths == {12, 10}, "every table's rows have the cells of their header"


def test_holm_is_over_all_rows_and_labels_of_a_table(evidence: Evidence) -> None:
    assert "over the 20 comparisons here" in difference_table(evidence, row_order(evidence), "6").note


def test_an_unknown_reference_and_a_wrong_list_are_refused(
    tables: dict[str, PredictionTable], cohort_folder: Path
) -> None:
    with pytest.raises(FormatError, match="expected among them the reference nobody"):
        gather(tables, EcgFolder(cohort_folder), reference="nobody", n_bootstrap=5)
    with pytest.raises(FormatError, match="found 3, expected a row name"):
        expected_rows([3])
    with pytest.raises(FormatError, match="found dict, expected a list"):
        expected_rows({})


def test_a_row_may_state_its_own_fold_groups(make_table: Make, cohort_folder: Path) -> None:
    table = make_table("base", 2.0)
    stated = replace(table, about={"fold_groups": [[1, 4, 7], [2, 5, 8], [3, 6, 9]]})
    folder = EcgFolder(cohort_folder)
    for row, expected in ((table, lambda fold: (fold - 1) // 3), (stated, lambda fold: (fold - 1) % 3)):
        evidence = gather({"base": row}, folder, reference="base", n_bootstrap=5)
        np.testing.assert_array_equal(evidence.groups("base"), expected(evidence.truth.fold))


def test_age_bands_do_not_overlap_and_leave_no_age_out() -> None:
    for age in np.arange(0, 110, 0.5):
        assert sum(low <= age < high for low, high, _ in AGE_BANDS) == 1


def test_subgroup_figures_are_those_of_the_part_alone(evidence: Evidence) -> None:
    truth, p = evidence.truth, evidence.scores("base", "6", "MI")
    rows = {row.name: row for row in subgroup_rows(truth, "MI", p, 0.0, weights=evidence.weights)}
    women = truth.sex == "F"
    y = truth.of("MI")[women]
    assert rows["women"].n == int(women.sum())
    assert rows["women"].auroc.value == pytest.approx(np.mean([roc_auc_score(y, one[women]) for one in p]))
    assert rows["women"].sensitivity.value == pytest.approx((p[:, women][:, y == 1] >= 0).mean(), abs=1e-6)
    assert rows["women"].n + rows["men"].n == rows["all"].n


def test_a_part_with_fewer_than_five_positives_is_a_dash(evidence: Evidence) -> None:
    truth, p = evidence.truth, evidence.scores("base", "6", "MI")
    few = np.flatnonzero(truth.of("MI") == 1)[:4]
    keep = np.concatenate([few, np.flatnonzero(truth.of("MI") == 0)[:40]])
    rows = subgroup_rows(truth.part(keep), "MI", p[:, keep], 0.0, weights=patient_weights(truth.patient[keep], n=20))
    assert rows[0].positives == 4
    assert all(math.isnan(e.value) for e in (rows[0].auroc, rows[0].sensitivity, rows[0].specificity))


def test_abstention_is_a_share_of_recorded_outcomes_with_its_interval(evidence: Evidence) -> None:
    truth = evidence.truth
    abstained = np.where(np.arange(len(truth.uid)) % 4 == 0, 1.0, 0.0)
    abstained[::7] = np.nan
    rows = subgroup_rows(
        truth, "MI", evidence.scores("base", "6", "MI"), 0.0, weights=evidence.weights, abstained=abstained
    )
    assert rows[0].abstained.value == pytest.approx(np.nanmean(abstained))
    assert rows[0].abstained.low < rows[0].abstained.value < rows[0].abstained.high
    assert {kind for kind, _, _ in subgroup_masks(truth)} == {"all", "sex", "age", "gain"}
