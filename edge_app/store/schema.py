"""Tables of the record store, and the triggers that make them append-only.

Version 1. A change of the tables raises `SCHEMA_VERSION` and adds a migration; a store of a newer app is refused.
"""

from __future__ import annotations

from typing import Final

# Stored in the file (PRAGMA user_version).
SCHEMA_VERSION: Final = 1

# Stored in the file (PRAGMA application_id): "LSEM", so that another program's database is never taken for ours.
APPLICATION_ID: Final = 0x4C53454D

_TABLES: Final = (
    """
    CREATE TABLE records (
        id            TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 26),
        stored_utc    TEXT NOT NULL,
        time_source   TEXT NOT NULL,
        time_trusted  INTEGER NOT NULL CHECK (time_trusted IN (0, 1)),
        monotonic_s   REAL NOT NULL,
        boot_id       TEXT NOT NULL,
        started_utc   TEXT,
        started_by    TEXT,
        device        TEXT NOT NULL,
        fs_hz         REAL NOT NULL CHECK (fs_hz > 0),
        n_leads       INTEGER NOT NULL CHECK (n_leads > 0),
        n_samples     INTEGER NOT NULL CHECK (n_samples > 0),
        header        TEXT NOT NULL,
        samples       BLOB NOT NULL CHECK (length(samples) = 2 * n_leads * n_samples),
        sha256        TEXT NOT NULL CHECK (length(sha256) = 64)
    )
    """,
    """
    CREATE TABLE results (
        id             TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 26),
        record_id      TEXT NOT NULL REFERENCES records (id),
        stored_utc     TEXT NOT NULL,
        time_source    TEXT NOT NULL,
        time_trusted   INTEGER NOT NULL CHECK (time_trusted IN (0, 1)),
        monotonic_s    REAL NOT NULL,
        boot_id        TEXT NOT NULL,
        outcome        TEXT NOT NULL CHECK (outcome IN ('DETECTED', 'NOT DETECTED', 'ABSTAIN', 'ERROR')),
        label          TEXT NOT NULL,
        probability    REAL CHECK (probability BETWEEN 0 AND 1),
        interval_low   REAL,
        interval_high  REAL,
        reasons        TEXT NOT NULL,
        error_code     TEXT,
        quality        TEXT NOT NULL,
        operator       TEXT NOT NULL,
        device         TEXT NOT NULL,
        model_id       TEXT NOT NULL,
        model_version  TEXT NOT NULL,
        runtime        TEXT NOT NULL,
        content        TEXT NOT NULL,
        sha256         TEXT NOT NULL CHECK (length(sha256) = 64),
        CHECK (outcome NOT IN ('DETECTED', 'NOT DETECTED') OR probability IS NOT NULL),
        CHECK (outcome <> 'ERROR' OR error_code IS NOT NULL)
    )
    """,
    "CREATE INDEX results_by_record ON results (record_id)",
)

# INSERT OR REPLACE would delete the old row without firing its DELETE trigger, so a known id is refused on insert too.
_TRIGGER: Final = """
    CREATE TRIGGER {table}_no_{verb} BEFORE {event} ON {table} {condition}
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""

_EVENTS: Final = (
    ("update", "UPDATE", ""),
    ("delete", "DELETE", ""),
    ("replace", "INSERT", "WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)"),
)


def statements() -> tuple[str, ...]:
    """Return the statements that create an empty store of this version; run them in one transaction."""
    triggers = (
        _TRIGGER.format(table=table, verb=verb, event=event, condition=condition.format(table=table))
        for table in ("records", "results")
        for verb, event, condition in _EVENTS
    )
    return (
        *_TABLES,
        *triggers,
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
    )
