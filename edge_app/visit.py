"""One visit: a recording is made, screened and stored; what a crash interrupted is brought back. No terminal here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lsemvae.terminal.result_view import Kept

if TYPE_CHECKING:
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.screen.screener import ScreenResult


def keep(record: EcgRecord, result: ScreenResult, *, folder: Path | None, operator: str) -> Kept:
    """Store a recording with its result in the data folder."""
    from edge_app.store.records import STORE_FILE, RecordStore
    from lsemvae.screen.datadir import data_dir

    with RecordStore(data_dir(folder) / STORE_FILE) as store:
        record_id, result_id = store.save(record, result, operator=operator)
        return Kept(path=store.path, record_id=record_id, result_id=result_id)
