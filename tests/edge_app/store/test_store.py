"""What was stored stays as it was stored: append-only, whole after a kill, clear when the disk will not."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from edge_app.store.clock import ID_LENGTH, is_id, new_id, now
from edge_app.store.records import STORE_FILE, ClinicStore
from edge_app.store.schema import APPLICATION_ID, SCHEMA_VERSION
from lsemvae.ecg.errors import StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import Interval, LeadOff, StartTime
from lsemvae.ecg.source import SourceInfo
from lsemvae.screen.screener import ScreenResult

Records = Callable[..., EcgRecord]

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / STORE_FILE


@pytest.fixture
def store(path: Path) -> Iterator[ClinicStore]:
    with ClinicStore(path) as opened:
        yield opened


@pytest.fixture
def result(screener_with: Any, make_record: Records) -> ScreenResult:
    return screener_with().screen(make_record())


def _full(make_record: Records) -> EcgRecord:
    record = make_record(start=StartTime("2026-01-31T12:00:00Z", "device"), device="E6L-7")
    samples = record.samples.copy()
    samples[:, 100:150] = 0
    return record.with_(
        samples=samples, gaps=(Interval(100, 150),), lead_off=(LeadOff("II", 5, 9),), saturated=(Interval(7, 8),),
        offset_uv=(12.5, -3.0), gain_known=False, source=SourceInfo(driver="hativ", gap_detectable=False, authenticated=False),
    )  # fmt: skip


def test_a_record_comes_back_as_it_went_in(store: ClinicStore, make_record: Records) -> None:
    record = _full(make_record)
    id_ = store.save_record(record)
    back = store.get_record(id_)
    assert np.array_equal(back.samples, record.samples)
    for name in (
        "lsb_uv",
        "fs_hz",
        "leads",
        "offset_uv",
        "start",
        "gaps",
        "lead_off",
        "saturated",
        "device",
        "gain_known",
        "source",
    ):
        assert getattr(back, name) == getattr(record, name), name
    assert back.record_id == id_


@pytest.mark.slow
@pytest.mark.promise(53)
def test_a_result_names_model_operator_device_time_and_its_source(
    store: ClinicStore, make_record: Records, screener_with: Any
) -> None:
    record = make_record(device="E6L-7")
    result = screener_with().screen(record)
    record_id, result_id = store.save(record, result, operator="op 3")
    (row,) = store.get_results(record_id)
    assert row["id"] == result_id
    assert row["outcome"] == "DETECTED"
    assert row["operator"] == "op 3"
    assert row["recording"]["device"] == "E6L-7"
    assert row["model"] == {"id": "test-model", "version": "1.2.0", "runtime": "fake 1"}
    assert row["time_source"] == "host"
    assert row["time_trusted"] in (0, 1)
    assert row["stored_utc"].endswith("Z")
    assert [lead["lead"] for lead in row["quality"]["leads"]] == ["I", "II"]


@pytest.mark.parametrize("trusted", [True, False])
def test_each_column_of_a_result_says_what_the_result_says(
    path: Path, make_record: Records, screener_with: Any, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """Whoever reads the table without our code must find the same as in `content`."""
    time = replace(now(), trusted=trusted)
    monkeypatch.setattr("edge_app.store.records.now", lambda: time)
    result = screener_with().screen(make_record(device="E6L-7"))
    with ClinicStore(path) as store:
        record_id, result_id = store.save(make_record(device="E6L-7"), result, operator="op 3")
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        row = dict(raw.execute("SELECT * FROM results").fetchone())
    decision = result.decision
    assert decision.interval is not None
    assert decision.interval[0] < decision.interval[1]
    expected = {
        "id": result_id, "record_id": record_id, "outcome": decision.outcome.value, "label": decision.label,
        "probability": decision.probability, "interval_low": decision.interval[0], "interval_high": decision.interval[1],
        "reasons": json.dumps(list(decision.reasons)), "error_code": None, "operator": "op 3", "device": "E6L-7",
        "model_id": result.model_id, "model_version": result.model_version, "runtime": result.runtime,
        "stored_utc": time.utc_iso, "time_trusted": int(trusted), "monotonic_s": time.monotonic_s, "boot_id": time.boot_id,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "answers",
    [{"logits": (-2.0, 0.0, 0.0)}, {"uncertainty": 3.0}, {"logits": (np.nan, 0.0, 0.0)}],
    ids=["no", "abstain", "error"],
)
def test_every_outcome_can_be_stored(
    store: ClinicStore, make_record: Records, screener_with: Any, answers: dict[str, Any]
) -> None:
    result = screener_with(**answers).screen(make_record())
    record_id, _ = store.save(make_record(), result)
    assert store.get_results(record_id)[0]["outcome"] == result.decision.outcome.value
    assert store.list_records()[0].outcome == result.decision.outcome.value


@pytest.mark.promise(48)
@pytest.mark.parametrize("table", ["records", "results"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {t} SET device = 'other'",
        "DELETE FROM {t}",
        "INSERT OR REPLACE INTO {t} SELECT * FROM {t}",
        "UPDATE OR IGNORE {t} SET id = id",
    ],
)
def test_rows_can_be_neither_changed_nor_deleted_by_any_connection(
    store: ClinicStore, path: Path, make_record: Records, result: ScreenResult, table: str, statement: str
) -> None:
    store.save(make_record(), result)
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        other.execute(statement.format(t=table))
    other.close()
    assert store.integrity_check() == []
    assert len(store.list_records()) == 1


def test_results_are_appended_in_order(store: ClinicStore, make_record: Records, screener_with: Any) -> None:
    record = make_record()
    record_id = store.save_record(record)
    for logit in (2.0, -2.0):
        store.save_result(record_id, screener_with(logits=(logit, 0.0, 0.0)).screen(record))
    assert [row["outcome"] for row in store.get_results(record_id)] == ["DETECTED", "NOT DETECTED"]
    assert store.list_records()[0].outcome == "NOT DETECTED"


def test_the_same_recording_twice_is_one_row(store: ClinicStore, make_record: Records, result: ScreenResult) -> None:
    record = make_record(record_id=new_id())
    assert store.save_record(record) == store.save_record(record) == record.record_id
    store.save(record, result)
    assert len(store.list_records()) == 1


@pytest.mark.promise(48)
def test_another_recording_under_the_same_id_is_refused(store: ClinicStore, make_record: Records) -> None:
    id_ = new_id()
    store.save_record(make_record(record_id=id_))
    with pytest.raises(StoreError, match="never replaced"):
        store.save_record(make_record(record_id=id_, amplitude=1.1))


def test_a_foreign_id_is_not_used_as_ours(store: ClinicStore, make_record: Records) -> None:
    assert is_id(store.save_record(make_record(record_id="Jane Doe")))


def test_unknown_ids_are_refused(store: ClinicStore, result: ScreenResult) -> None:
    for call in (store.get_record, store.get_results, lambda id_: store.save_result(id_, result)):
        with pytest.raises(StoreError, match="no recording with the id 'nothing'"):
            call("nothing")


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_id() for _ in range(500)]
    assert len(set(ids)) == 500
    assert all(is_id(id_) and len(id_) == ID_LENGTH for id_ in ids)
    assert ids[0][:8] <= ids[-1][:8]


def test_list_is_newest_first_and_limited(store: ClinicStore, make_record: Records) -> None:
    ids = [f"{k:026d}" for k in range(5)]
    for id_ in ids:
        store.save_record(make_record(record_id=id_))
    assert [summary.id for summary in store.list_records(limit=3)] == ids[:1:-1]


@pytest.mark.promise(54)
def test_files_are_private(store: ClinicStore, path: Path, make_record: Records) -> None:
    store.save_record(make_record())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.promise(54)
def test_a_folder_that_was_open_is_made_private_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    ClinicStore(tmp_path / "data" / STORE_FILE).close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.promise(50)
def test_durability_settings(store: ClinicStore) -> None:
    def pragma(name: str) -> Any:
        return store._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("user_version") == SCHEMA_VERSION
    assert pragma("application_id") == APPLICATION_ID


CHILD = """
import os, signal, sys
from pathlib import Path
import numpy as np
from edge_app.store.records import ClinicStore
from lsemvae.screen.screener import ScreenResult
from lsemvae.ecg.decision import Decision, Outcome
from lsemvae.ecg.record import EcgRecord

path, kill_at = Path(sys.argv[1]), int(sys.argv[2])
samples = np.ones((2, 6000), dtype=np.int16)
record = EcgRecord(samples=samples, lsb_uv=1.0, fs_hz=500.0, leads=("I", "II"), device="child")
result = ScreenResult(
    decision=Decision(outcome=Outcome.ERROR, error_code="E_TEST"), quality=None, record=record, model_id="m",
    model_version="1.0.0", runtime="r", label_statement="s", output_description="d",
)
store = ClinicStore(path)
seen = 0

def count(statement):
    global seen
    seen += 1
    if seen == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

store._connection.set_trace_callback(count)
store.save(record, result)
print(seen)
"""


def _child(path: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(kill_at)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.slow
@pytest.mark.promise(50)
def test_a_kill_at_any_statement_leaves_both_rows_or_none(
    path: Path, make_record: Records, result: ScreenResult
) -> None:
    with ClinicStore(path) as store:
        first, _ = store.save(make_record(), result)
    whole = _child(path, 0)
    assert whole.returncode == 0, whole.stderr
    statements = int(whole.stdout)
    assert statements >= 5
    for kill_at in range(1, statements + 1):
        killed = _child(path, kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        with ClinicStore(path) as store:
            assert store.integrity_check() == []
            summaries = store.list_records()
            assert first in {summary.id for summary in summaries}
            assert all(summary.outcome is not None for summary in summaries)
            assert len(summaries) == 2


@pytest.mark.promise(50)
def test_a_commit_that_returned_survives_a_kill(path: Path) -> None:
    code = CHILD + "\nos.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", code, str(path), "0"], check=False, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    with ClinicStore(path) as store:
        assert [summary.outcome for summary in store.list_records()] == ["ERROR"]
        assert store.integrity_check() == []


def test_a_failed_result_takes_its_record_back(
    store: ClinicStore, make_record: Records, result: ScreenResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edge_app.store.records as module

    monkeypatch.setattr(module, "_result_columns", lambda _: {"outcome": "MAYBE", "content": "{}"})
    with pytest.raises(StoreError, match="does not take this row of results"):
        store.save(make_record(), result)
    assert store.list_records() == []


@pytest.mark.parametrize(
    "changes",
    [{"probability": None}, {"probability": 1.5}, {"outcome": "MAYBE"}, {"outcome": "ERROR", "error_code": None}],
)
def test_the_tables_take_no_result_that_contradicts_itself(
    store: ClinicStore,
    make_record: Records,
    result: ScreenResult,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    import edge_app.store.records as module

    real = module._result_columns
    monkeypatch.setattr(module, "_result_columns", lambda r: real(r) | changes)
    with pytest.raises(StoreError, match="CHECK constraint"):
        store.save(make_record(), result)


@pytest.mark.promise(51)
def test_a_full_disk_is_said_and_nothing_is_lost(
    store: ClinicStore, make_record: Records, result: ScreenResult
) -> None:
    first, _ = store.save(make_record(), result)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full") as caught:
        store.save(make_record(), result)
    assert caught.value.code == "E_STORE"
    assert "free some space" in caught.value.advice
    assert [summary.id for summary in store.list_records()] == [first]
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.save(make_record(), result)
    assert store.integrity_check() == []


@pytest.mark.promise(51)
def test_a_read_only_store_is_said(store: ClinicStore, make_record: Records) -> None:
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="readonly") as caught:
        store.save_record(make_record())
    assert "read-only" in caught.value.advice


def test_a_folder_that_cannot_be_created_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")
    for folder in (tmp_path / "file" / "data", Path("/proc/lsemvae-test")):
        with pytest.raises(StoreError, match="Cannot create the data folder") as caught:
            ClinicStore(folder / STORE_FILE)
        assert "--data-dir" in caught.value.advice


@contextmanager
def _as_ordinary_user() -> Iterator[None]:
    """Root may write anywhere, so under root act as nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.promise(51)
def test_a_read_only_file_and_a_read_only_folder_are_said() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        ClinicStore(folder / STORE_FILE).close()
        (folder / STORE_FILE).chmod(0o400)
        (folder / "locked").mkdir()
        (folder / "locked").chmod(0o500)
        folder.chmod(0o755)
        with _as_ordinary_user():
            with pytest.raises(StoreError, match="Permission denied") as caught:
                ClinicStore(folder / STORE_FILE)
            assert "writable" in caught.value.advice
            with pytest.raises(StoreError, match="Permission denied"):
                ClinicStore(folder / "locked" / "data" / STORE_FILE)


@pytest.mark.promise(52)
def test_a_store_of_a_newer_app_is_left_alone(path: Path) -> None:
    ClinicStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=f"schema version {SCHEMA_VERSION + 1}; this app knows version {SCHEMA_VERSION}"
    ) as caught:
        ClinicStore(path)
    assert "update" in caught.value.advice
    assert path.read_bytes() == before


@pytest.mark.promise(52)
def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="application id"):
        ClinicStore(path)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError) as caught:
        ClinicStore(path)
    assert "not a record store" in caught.value.advice
    assert path.read_bytes().startswith(b"this is not")


def test_a_missing_store_is_said_where_none_may_be_created(path: Path) -> None:
    with pytest.raises(StoreError, match="no record store"):
        ClinicStore(path, create=False)
    assert not path.parent.exists()


def test_a_damaged_file_is_found_at_open(path: Path, make_record: Records) -> None:
    with ClinicStore(path) as store:
        for _ in range(5):
            store.save_record(make_record())
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = bytes(4096 * 2)
    path.write_bytes(content)
    with pytest.raises(StoreError):
        ClinicStore(path)


def test_a_large_file_is_checked_at_open_only_after_a_crash(
    path: Path, make_record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edge_app.store.database as database

    real, checks = sqlite3.connect, []

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        connection.set_trace_callback(lambda sql: checks.append(sql) if "quick_check" in sql else None)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    ClinicStore(path).close()
    assert len(checks) == 1
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)
    ClinicStore(path).close()
    assert len(checks) == 1
    with ClinicStore(path) as store:
        store.save_record(make_record())
        ClinicStore(path).close()
    assert len(checks) == 2, "the open store's write-ahead log looks like that of a crash"


@pytest.mark.promise(49)
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("records", "header", "'{}'"),
        ("records", "samples", "zeroblob(length(samples))"),
        ("results", "content", "'{}'"),
    ],
)
def test_verify_names_a_row_that_was_changed_behind_the_triggers(
    store: ClinicStore, make_record: Records, result: ScreenResult, table: str, column: str, value: str
) -> None:
    record_id, result_id = store.save(make_record(), result)
    store._connection.execute(f"DROP TRIGGER {table}_no_update")
    store._connection.execute(f"UPDATE {table} SET {column} = {value}")
    (fault,) = store.integrity_check()
    assert fault in (f"record {record_id} was changed", f"result {result_id} was changed")
    if table == "records":
        with pytest.raises(StoreError, match="SHA-256"):
            store.get_record(record_id)


@pytest.mark.promise(49)
def test_verify_names_a_result_without_its_record(
    store: ClinicStore, make_record: Records, result: ScreenResult
) -> None:
    store.save(make_record(), result)
    store._connection.execute("PRAGMA foreign_keys = OFF")
    store._connection.execute("DROP TRIGGER records_no_delete")
    store._connection.execute("DELETE FROM records")
    assert store.integrity_check() == ["dangling reference in results"]


@pytest.mark.slow
def test_two_processes_may_store_at_once(path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], errors
    with ClinicStore(path) as store:
        assert len(store.list_records()) == 3
        assert store.integrity_check() == []
