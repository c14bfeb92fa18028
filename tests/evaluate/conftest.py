"""A small made-up cohort with recorded predictions: what the tests of tables and reports share."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lsemvae.data.labels import LABELS, metadata_column
from lsemvae.evaluate.predictions import LEAD_SETS, PredictionTable

N_RECORDINGS, N_PATIENTS = 360, 300


@pytest.fixture(scope="session")
def cohort() -> list[dict[str, str]]:
    """Rows of a metadata.csv: nine folds that never cut a patient, two sexes, four age bands, a few of unknown gain."""
    rng = np.random.default_rng(1)
    patient = np.concatenate([np.arange(N_PATIENTS), rng.integers(0, N_PATIENTS, N_RECORDINGS - N_PATIENTS)])
    y = (rng.random((N_RECORDINGS, len(LABELS))) < 0.2).astype(int)
    rows = []
    for k in range(N_RECORDINGS):
        row = {
            "uid": f"r{k:04d}", "file": "none.npz", "row": str(k), "patient": f"p{patient[k]:03d}",
            "strat_fold": str(patient[k] % 9 + 1), "age": str(35 + (int(patient[k]) * 7) % 55),
            "sex": "F" if patient[k] % 2 else "M", "gain_known": "0" if k % 6 == 0 else "1",
            "heart_axis": "MID" if k % 3 else "",
        }  # fmt: skip
        rows.append(row | {metadata_column(label): str(y[k, j]) for j, label in enumerate(LABELS)})
    return rows


@pytest.fixture(scope="session")
def cohort_folder(cohort: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    with (folder / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(cohort[0]))
        writer.writeheader()
        writer.writerows(cohort)
    return folder


@pytest.fixture(scope="session")
def make_table(cohort: list[dict[str, str]]) -> Callable[..., PredictionTable]:
    """A row whose logits are the label times `strength` plus noise, weaker with fewer leads."""

    def make(
        name: str, strength: float, *, seeds: int = 2, noise: int = 0, keep: int = N_RECORDINGS
    ) -> PredictionTable:
        y = np.array([[float(row[metadata_column(label)]) for label in LABELS] for row in cohort[:keep]])
        logits = np.empty((seeds, len(LEAD_SETS), keep, len(LABELS)), np.float32)
        for seed in range(seeds):
            for k, share in enumerate((1.0, 0.8, 0.75, 0.5)):
                rng = np.random.default_rng([noise, seed, k])
                logits[seed, k] = strength * share * y + rng.normal(size=y.shape) - 2
        uid = np.array([row["uid"] for row in cohort[:keep]])
        fold = np.array([int(row["strat_fold"]) for row in cohort[:keep]])
        about = {"group": "made up", "title": f"row {name}", "n_parameters": 1234, "seconds_per_fold": [60, 120]}
        return PredictionTable(name, LEAD_SETS, LABELS, tuple(range(seeds)), uid, fold, logits, about)

    return make


@pytest.fixture(scope="session")
def tables(make_table: Callable[..., PredictionTable]) -> dict[str, PredictionTable]:
    made = (make_table("base", 2.0), make_table("strong", 5.0, noise=1), make_table("weak", 0.3, noise=2))
    return {table.name: table for table in made}
