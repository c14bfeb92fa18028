"""The record store: every recording and every result, written once, never changed.

SQLite with write-ahead log and synchronous=FULL. A recording and its result are one transaction. The samples are stored
as they were measured (int16 counts, little endian, ``[lead, time]``), with a header that rebuilds the `EcgRecord`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from edge_app.store.clock import HostTime, is_id, new_id, now
from edge_app.store.codec import decode_record, encode_record, encode_samples
from edge_app.store.database import connect, transaction, translated
from lsemvae.ecg.errors import StoreError
from lsemvae.ecg.record import EcgRecord

if TYPE_CHECKING:
    from lsemvae.screen.screener import ScreenResult

STORE_FILE: Final = "records.sqlite3"

# Until a time server or a person vouches for it, all the host knows of the time is its own clock.
_TIME_SOURCE: Final = "host"

_SUMMARY: Final = """
    SELECT r.id, r.stored_utc, r.device, r.fs_hz, r.n_leads, r.n_samples,
           (SELECT outcome FROM results WHERE record_id = r.id ORDER BY id DESC LIMIT 1)
    FROM records AS r ORDER BY r.id DESC LIMIT ?
"""


# What the SHA-256 of a row covers.
_HASHED: Final = {
    "record": "SELECT id, sha256, header, samples FROM records",
    "result": "SELECT id, sha256, record_id, content FROM results",
}


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """One line of the list of recordings; `outcome` is that of the newest result, None before the first."""

    id: str
    stored_utc: str
    device: str
    fs_hz: float
    n_leads: int
    n_samples: int
    outcome: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class ClinicStore:
    """Append-only store of recordings and results.

    Parameters
    ----------
    path
        The SQLite file.
    create
        Create it where it is missing; False for commands that only read.

    Raises
    ------
    StoreError
        It cannot be opened; the code is E_STORE and the advice says why.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._connection = connect(path, create=create)

    def __enter__(self) -> ClinicStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; SQLite then folds the write-ahead log into it."""
        self._connection.close()

    def save_record(self, record: EcgRecord) -> str:
        """Store a recording and return its id.

        The record keeps its own id where that has our form. Storing the same recording again, as after a crash between
        the spool and the store, is no error and stores nothing.
        """
        with transaction(self._connection, self.path):
            return self._insert_record(record, now())

    def save_result(self, record_id: str, result: ScreenResult, *, operator: str = "") -> str:
        """Store one result of a stored recording and return the result's id."""
        with transaction(self._connection, self.path):
            return self._insert_result(record_id, result, operator, now())

    def save(self, record: EcgRecord, result: ScreenResult, *, operator: str = "") -> tuple[str, str]:
        """Store a recording and its result together, both or neither; return their ids."""
        with transaction(self._connection, self.path):
            time = now()
            record_id = self._insert_record(record, time)
            return record_id, self._insert_result(record_id, result, operator, time)

    def list_records(self, *, limit: int = 100) -> list[RecordSummary]:
        """Return the newest recordings, newest first."""
        with translated(self.path):
            return [RecordSummary(*row) for row in self._connection.execute(_SUMMARY, (limit,))]

    def get_record(self, record_id: str) -> EcgRecord:
        """Return a recording, checked against its SHA-256."""
        with translated(self.path):
            row = self._connection.execute(
                "SELECT header, samples, sha256 FROM records WHERE id = ?", (record_id,)
            ).fetchone()
        if row is None:
            raise self._unknown(record_id)
        header, samples, expected = row
        found = _digest(header, samples)
        if found != expected:
            raise StoreError(f"Recording {record_id} has SHA-256 {found}; {expected} was stored.")
        return decode_record(header, samples).with_(record_id=record_id)

    def get_results(self, record_id: str) -> list[dict[str, Any]]:
        """Return the results of a recording, oldest first, as they were stored."""
        with translated(self.path):
            if self._connection.execute("SELECT 1 FROM records WHERE id = ?", (record_id,)).fetchone() is None:
                raise self._unknown(record_id)
            rows = self._connection.execute(
                "SELECT id, stored_utc, time_source, time_trusted, operator, content FROM results"
                " WHERE record_id = ? ORDER BY id",
                (record_id,),
            ).fetchall()
        names = ("id", "stored_utc", "time_source", "time_trusted", "operator")
        return [dict(zip(names, row[:5], strict=True)) | json.loads(row[5]) for row in rows]

    def integrity_check(self) -> list[str]:
        """Check file structure, references and every SHA-256; return the faults found, none if the store is sound."""
        with translated(self.path):
            structure = [row[0] for row in self._connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            dangling = [
                f"dangling reference in {row[0]}" for row in self._connection.execute("PRAGMA foreign_key_check")
            ]
            changed = [
                f"{kind} {id_} was changed"
                for kind, query in _HASHED.items()
                for id_, expected, *parts in self._connection.execute(query)
                if _digest(*parts) != expected
            ]
        return structure + dangling + changed

    def _insert_record(self, record: EcgRecord, time: HostTime) -> str:
        id_ = record.record_id if is_id(record.record_id) else new_id()
        header, samples = encode_record(record), encode_samples(record)
        digest = _digest(header, samples)
        stored = self._connection.execute("SELECT sha256 FROM records WHERE id = ?", (id_,)).fetchone()
        if stored is not None:
            if stored[0] != digest:
                raise StoreError(f"A different recording is stored under the id {id_}; records are never replaced.")
            return id_
        start = record.start
        self._insert(
            "records",
            _time_columns(time)
            | {
                "id": id_,
                "started_utc": start.utc_iso if start else None,
                "started_by": start.source if start else None,
                "device": record.device,
                "fs_hz": record.fs_hz,
                "n_leads": record.n_leads,
                "n_samples": record.n_samples,
                "header": header,
                "samples": samples,
                "sha256": digest,
            },
        )
        return id_

    def _insert_result(self, record_id: str, result: ScreenResult, operator: str, time: HostTime) -> str:
        if self._connection.execute("SELECT 1 FROM records WHERE id = ?", (record_id,)).fetchone() is None:
            raise self._unknown(record_id)
        id_ = new_id()
        columns = _result_columns(result)
        identity = {"id": id_, "record_id": record_id, "operator": operator}
        digest = _digest(record_id, columns["content"])
        self._insert("results", _time_columns(time) | columns | identity | {"sha256": digest})
        return id_

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        try:
            self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)
        except sqlite3.IntegrityError as error:
            raise StoreError(f"The store does not take this row of {table}: {error}.") from error

    def _unknown(self, record_id: str) -> StoreError:
        return StoreError(
            f"There is no recording with the id {record_id!r}.",
            advice="List the recordings with: edge_app records list",
        )


def _time_columns(time: HostTime) -> dict[str, Any]:
    return {
        "stored_utc": time.utc_iso,
        "time_source": _TIME_SOURCE,
        "time_trusted": int(time.trusted),
        "monotonic_s": time.monotonic_s,
        "boot_id": time.boot_id,
    }


def _result_columns(result: ScreenResult) -> dict[str, Any]:
    decision = result.decision
    low, high = decision.interval or (None, None)
    quality = result.quality.to_dict() if result.quality is not None else None
    return {
        "outcome": decision.outcome.value,
        "label": decision.label,
        "probability": decision.probability,
        "interval_low": low,
        "interval_high": high,
        "reasons": _json(list(decision.reasons)),
        "error_code": decision.error_code,
        "quality": _json(quality),
        "device": result.record.device if result.record is not None else "",
        "model_id": result.model_id,
        "model_version": result.model_version,
        "runtime": result.runtime,
        "content": _json(result.to_dict()),
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(*parts: str | bytes) -> str:
    """Return the SHA-256 over the parts, each preceded by its length, so that no two different rows hash alike."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()
