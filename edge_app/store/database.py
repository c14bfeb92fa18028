"""Open the SQLite file of the record store safely, and say in plain words what SQLite could not do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_app.store.schema import APPLICATION_ID, SCHEMA_VERSION, statements
from lsemvae.ecg.errors import StoreError
from lsemvae.screen.datadir import FILE_MODE, ensure_dir, store_error

# Another process of the app commits within milliseconds; five seconds mean that something hangs.
_BUSY_TIMEOUT_S: Final = 5.0

# Opening checks the structure of the whole file while that takes a few seconds at most on a memory card (about 2,000
# recordings of 30 kB), and of a larger one only after a crash, which leaves the write-ahead log behind.
# `records verify` always does.
CHECKED_BYTES: Final = 64 * 1024 * 1024

# WAL with FULL: one fdatasync for each commit, and a commit that returned survives a power cut.
_PRAGMAS: Final = (
    "foreign_keys = ON",
    "recursive_triggers = ON",
    "trusted_schema = OFF",
    "journal_mode = WAL",
    "synchronous = FULL",
)

# SQLite's result names, by what the operator can do about them.
_ADVICE: Final = {
    "SQLITE_FULL": "The disk is full: free some space, then repeat. Recordings stored before are safe.",
    "SQLITE_READONLY": "The folder is read-only: check how the disk is mounted, or choose another with --data-dir.",
    "SQLITE_CANTOPEN": "Check that the folder exists and may be written to, or choose another with --data-dir.",
    "SQLITE_IOERR": "The disk reports errors: copy the data folder to another disk before anything else.",
    "SQLITE_CORRUPT": "The store is damaged: stop recording, copy the data folder away and ask for help.",
    "SQLITE_NOTADB": "The file is not a record store: choose another folder with --data-dir, or move the file away.",
    "SQLITE_BUSY": "Another program holds the store: close it, then repeat.",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite into `StoreError` with advice."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), None)
        raise StoreError(f"The record store {path} refused: {error} ({name}).", advice=advice) from error


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the store, create it where asked and missing, and check it.

    Raises
    ------
    StoreError
        The file is missing, not ours, damaged, written by a newer app, or the disk is full or read-only.
    """
    if create:
        ensure_dir(path.parent)
        try:  # private from its first moment; SQLite gives its side files the same mode
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        except OSError as error:
            raise store_error("open", path, error) from error
    elif not path.is_file():
        raise StoreError(
            f"There is no record store at {path}.",
            advice="Nothing was recorded here yet, or the recordings are in another folder: name it with --data-dir.",
        )
    left_open = path.with_name(f"{path.name}-wal").exists()
    with translated(path):
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            _check_or_create_schema(connection, path)
            if left_open or path.stat().st_size <= CHECKED_BYTES:
                answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if answer != "ok":
                    raise StoreError(f"The record store {path} is damaged: {answer}.", advice=_ADVICE["SQLITE_CORRUPT"])
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """Run statements all or none; the write lock is taken at once, so a second writer waits instead of failing late."""
    with translated(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _check_or_create_schema(connection: sqlite3.Connection, path: Path) -> None:
    if not _has_tables(connection):
        with transaction(connection, path):
            if not _has_tables(connection):  # another process may have been first
                for statement in statements():
                    connection.execute(statement)
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(
            f"{path} has application id {application:#x}; expected {APPLICATION_ID:#x}.",
            advice=_ADVICE["SQLITE_NOTADB"],
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"The record store {path} has schema version {version}; this app knows version {SCHEMA_VERSION}.",
            advice="A newer app wrote it: update this one. Nothing was changed.",
        )


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
