"""A visit without a terminal: record, screen, store, drop the safety copy; a disk that refuses costs no outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edge_app
from edge_app import visit
from edge_app.link.inprocess import InProcessTransport
from edge_app.session.events import EventKind, SessionEvent, Watch
from edge_app.session.recorder import SPOOL_DIR, Recorded
from edge_app.session.wish import Wish
from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.ecg.errors import StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.screen.screener import Screener
from tests.edge_app.clock import jumping_clock  # noqa: F401

pytestmark = pytest.mark.usefixtures("jumping_clock")

Records = Callable[..., EcgRecord]
WISH = Wish(seconds=10.0, allow_unauthenticated=True)


@pytest.fixture
def screener(screener_with: Callable[..., Screener]) -> Screener:
    return screener_with()


@pytest.fixture
def recorded(tmp_path: Path, make_record: Records) -> Recorded:
    link = InProcessTransport(make_record(seconds=13.0), speed=20.0)
    return visit.record(link, WISH, folder=tmp_path)


def stored(folder: Path) -> list[str]:
    with ClinicStore(folder / STORE_FILE) as store:
        return [summary.id for summary in store.list_records()]


def test_a_visit_is_recorded_screened_stored_and_its_safety_copy_dropped(
    recorded: Recorded, screener: Screener, tmp_path: Path
) -> None:
    assert recorded.spool.exists()
    outcome = visit.conclude(recorded, screener, folder=tmp_path, operator="op 3")
    assert outcome.kept is not None
    assert (outcome.refusal, outcome.left) == (None, "")
    assert stored(tmp_path) == [outcome.kept.record_id]
    assert not recorded.spool.exists()
    assert set(outcome.kept.to_dict()) == {"path", "record_id", "result_id"}


def test_a_store_that_refuses_costs_no_outcome_and_the_safety_copy_stays(
    recorded: Recorded, screener: Screener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(ClinicStore, "save", full)
    outcome = visit.conclude(recorded, screener, folder=tmp_path)
    assert outcome.result.decision.outcome.value in ("DETECTED", "NOT DETECTED", "ABSTAIN")
    assert outcome.kept is None
    assert "full" in str(outcome.refusal)
    assert str(recorded.spool) in outcome.left
    assert "edge_app recover" in outcome.left
    assert recorded.spool.exists()


@pytest.mark.parametrize(
    "failure", [OSError(5, "Input/output error"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")]
)
def test_whatever_a_disk_or_a_text_does_the_outcome_is_returned(
    recorded: Recorded, screener: Screener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(ClinicStore, "save", refuses)
    outcome = visit.conclude(recorded, screener, folder=tmp_path)
    assert outcome.refusal is not None
    assert outcome.refusal.code == "E_STORE"
    assert recorded.spool.exists()


def test_an_operator_whose_name_no_database_takes_still_gets_the_outcome(
    recorded: Recorded, screener: Screener, tmp_path: Path
) -> None:
    outcome = visit.conclude(recorded, screener, folder=tmp_path, operator="M\udcfcller")
    assert outcome.result.decision is not None
    assert outcome.refusal is not None
    assert stored(tmp_path) == []


def test_a_safety_copy_that_cannot_be_removed_costs_no_outcome(
    recorded: Recorded, screener: Screener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stays(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stays)
        outcome = visit.conclude(recorded, screener, folder=tmp_path)
    assert outcome.kept is not None
    assert visit.interrupted(tmp_path) == 1
    (back,) = visit.bring_back(tmp_path, lambda: screener)
    assert back.kept is not None
    assert stored(tmp_path) == [outcome.kept.record_id], "brought back a second time, it is the same recording"


def test_without_an_interrupted_recording_no_model_is_opened(tmp_path: Path) -> None:
    def never() -> Screener:
        raise AssertionError("nothing is to be screened")

    assert visit.interrupted(tmp_path) == 0
    assert list(visit.bring_back(tmp_path, never)) == []


def test_an_interrupted_recording_is_brought_back_as_plain_values(
    recorded: Recorded, screener: Screener, tmp_path: Path
) -> None:
    assert visit.interrupted(tmp_path) == 1
    (back,) = visit.bring_back(tmp_path, lambda: screener, operator="op 4")
    values = json.loads(json.dumps(back.to_dict()))
    assert values["record_id"] == recorded.spool.stem
    assert values["outcome"] == back.outcome
    assert "error" not in values
    with ClinicStore(tmp_path / STORE_FILE) as store:
        assert store.get_results(recorded.spool.stem)[0]["operator"] == "op 4"


def test_a_file_is_judged_without_being_stored_if_asked(
    screener: Screener, make_record: Records, tmp_path: Path
) -> None:
    outcome = visit.judge(make_record(), screener, folder=tmp_path, store=False)
    assert (outcome.kept, outcome.refusal) == (None, None)
    assert not (tmp_path / STORE_FILE).exists()


def test_a_recording_is_kept_without_a_result(make_record: Records, tmp_path: Path) -> None:
    kept = visit.keep(make_record(), None, folder=tmp_path)
    assert set(kept.to_dict()) == {"path", "record_id"}
    assert stored(tmp_path) == [kept.record_id]


def test_a_screen_hears_of_each_event_while_it_is_recorded(make_record: Records, tmp_path: Path) -> None:
    heard: list[SessionEvent] = []
    link = InProcessTransport(make_record(seconds=13.0), speed=20.0)
    recorded = visit.record(link, WISH, folder=tmp_path, watch=Watch(on_event=heard.append))
    assert tuple(heard) == recorded.session.events
    assert heard[0].kind is EventKind.CONNECTED
    assert [path.name for path in (tmp_path / SPOOL_DIR).iterdir()] == [recorded.spool.name]


# -- the public names --------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in edge_app.__all__:
        assert getattr(edge_app, name) is not None
    assert set(edge_app.__all__) <= set(dir(edge_app))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edge_app.nothing  # type: ignore[attr-defined]


def test_to_import_the_package_loads_no_third_party_module() -> None:
    code = """
import sys
before = set(sys.modules)
import edge_app
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"edge_app"}))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_the_service_loads_no_terminal() -> None:
    code = "import sys, edge_app.visit, edge_app.session.recorder, edge_app.devices.ways; print('typer' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"
