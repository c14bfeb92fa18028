"""Texts of a bundle follow the task set that its run was trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from export.student_run.identity import load_identity
from lsemvae.data.labels import LABELS
from lsemvae.data.tasks import BUILT_IN
from lsemvae.train.run import TASKS_FILE

STATEMENT = "Each output is a right-heart-catheter finding of the clinic of Ratingen."


def _write(run: Path, tasks: object) -> None:
    (run / TASKS_FILE).write_text(json.dumps(tasks), encoding="utf-8")


def test_a_run_without_a_task_set_has_the_readers_statement_and_descriptions(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, LABELS)
    assert "None is pulmonary hypertension" in identity.label_statement
    assert identity.describe("RVH") == BUILT_IN.descriptions["RVH"]


@pytest.mark.promise(96)
def test_a_cohorts_statement_and_descriptions_reach_the_bundle_and_the_strain_use_does_not(tmp_path: Path) -> None:
    label = dataclasses.replace(BUILT_IN.labels[0], name="ph_mpap_gt_20", description="mPAP above 20 mmHg at rest")
    own = dataclasses.replace(BUILT_IN, name="ratingen", statement=STATEMENT, labels=(label,), measures=())
    _write(tmp_path, own.to_json())
    identity = load_identity(tmp_path, ("ph_mpap_gt_20",))
    assert identity.label_statement == STATEMENT
    assert identity.describe("ph_mpap_gt_20") == "mPAP above 20 mmHg at rest"
    assert "right-heart-strain" not in identity.intended_use


def test_a_cohort_with_built_in_tasks_still_says_its_own_statement(tmp_path: Path) -> None:
    _write(tmp_path, dataclasses.replace(BUILT_IN, statement=STATEMENT).to_json())
    assert load_identity(tmp_path, LABELS).label_statement == STATEMENT


def test_labels_that_the_task_set_does_not_know_get_the_owners_statement(tmp_path: Path) -> None:
    _write(tmp_path, BUILT_IN.to_json())
    assert "the owner of the training data" in load_identity(tmp_path, ("something",)).label_statement
