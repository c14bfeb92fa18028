"""A data folder of release 0.3.0 opens: its store, its memory of bundle versions, and a recording that a crash interrupted.

`tests/golden/home-0.3.0` was written by the program of that release (`edge_app demo`, and once more killed after some seconds); the
recording is the one that pydicom ships.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_app import visit
from edge_app.demo import demo_recording
from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.screen.datadir import data_dir
from lsemvae.screen.ratchet import RATCHET_FILE, VersionRatchet
from lsemvae.screen.screener import open_screener

EARLIER = Path(__file__).resolve().parents[1] / "golden" / "home-0.3.0"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy, since opening a store may write to it."""
    folder = data_dir(tmp_path / "home")
    (folder / "spool").mkdir(parents=True)
    shutil.copy(EARLIER / "records.sqlite3", folder / STORE_FILE)
    shutil.copy(EARLIER / "versions.json", folder / RATCHET_FILE)
    shutil.copy(EARLIER / "interrupted.spool", folder / "spool" / "01M8QZ9Q6HKB2F3HC9K38BYFH4.spool")
    return folder


def test_what_was_stored_is_read_back(home: Path) -> None:
    said = json.loads((EARLIER / "said.json").read_text())
    with ClinicStore(home / STORE_FILE, create=False) as store:
        assert store.integrity_check() == []
        (summary,) = store.list_records()
        (row,) = store.get_results(said["record_id"])
        record = store.get_record(said["record_id"])
    assert (summary.id, summary.outcome) == (said["record_id"], said["outcome"])
    assert {name: row[name] for name in ("id", "outcome", "probability", "interval")} == {
        "id": said["result_id"],
        **{name: said[name] for name in ("outcome", "probability", "interval")},
    }
    played = demo_recording()
    rows = [played.leads.index(lead) for lead in record.leads]
    difference_mv = (
        record.to_mv() - played.to_mv()[rows]
    )  # its level aside: a record keeps it as the offset of each lead
    assert np.ptp(difference_mv, axis=-1).max() < 2e-3


def test_the_same_recording_has_the_same_outcome_today(home: Path) -> None:
    said = json.loads((EARLIER / "said.json").read_text())
    with ClinicStore(home / STORE_FILE, create=False) as store:
        decision = open_screener().screen(store.get_record(said["record_id"])).decision
    assert decision.outcome.value == said["outcome"]
    assert decision.probability == pytest.approx(said["probability"], abs=1e-6)


def test_an_interrupted_recording_is_brought_back_into_the_old_store(home: Path) -> None:
    ratchet = VersionRatchet(home)
    (brought,) = visit.bring_back(home, lambda: open_screener(ratchet=ratchet))
    assert brought.kept is not None
    assert (brought.outcome, "6.7 s recovered" in brought.summary) == ("ABSTAIN", True)
    assert not list((home / "spool").iterdir())
    with ClinicStore(home / STORE_FILE, create=False) as store:
        assert len(store.list_records()) == 2
        assert store.integrity_check() == []
