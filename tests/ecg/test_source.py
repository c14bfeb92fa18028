"""What a source cannot know travels with the recording and keeps anything from being concluded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_app.store.codec import decode_record, encode_record, encode_samples
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.reasons import Reason, advice
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.source import OF_A_FILE, SourceInfo, missing_knowledge
from lsemvae.formats.npz import read_npz, write_npz

KNOWN = SourceInfo(driver="e6l", authenticated=True)
BLIND = SourceInfo(driver="some-board", gap_detectable=False, calibrated=False, timestamped=False)


def record(source: SourceInfo = OF_A_FILE, **changes) -> EcgRecord:
    samples = np.arange(20, dtype=np.int16).reshape(2, 10)
    fields = {"samples": samples, "lsb_uv": 1.0, "fs_hz": 500.0, "leads": ("I", "II"), "source": source, **changes}
    return EcgRecord(**fields)


def test_a_file_knows_everything_and_proves_nothing() -> None:
    assert record().source == SourceInfo()
    assert record().source.authenticated is None
    assert missing_knowledge(record().source) == ()


@pytest.mark.parametrize("source", [OF_A_FILE, KNOWN, SourceInfo(driver="e6l", authenticated=False)])
def test_it_survives_the_file_and_the_store(source: SourceInfo, tmp_path: Path) -> None:
    kept = record(source)
    write_npz(tmp_path / "r.ecg.npz", kept)
    assert read_npz(tmp_path / "r.ecg.npz").source == source
    assert decode_record(encode_record(kept), encode_samples(kept)).source == source


def test_a_recording_of_a_file_is_stored_as_older_releases_read_it(tmp_path: Path) -> None:
    assert "source" not in encode_record(record())


def test_every_thing_that_is_not_known_has_its_reason_and_advice() -> None:
    found = missing_knowledge(record(BLIND, gain_known=False).source)
    assert found == (Reason.GAPS_UNKNOWN, Reason.UNCALIBRATED)
    assert all(advice(reason) for reason in found)


def test_millivolts_from_a_source_without_scale_are_refused() -> None:
    with pytest.raises(FormatError, match="not calibrated"):
        record(BLIND)


@pytest.mark.parametrize(
    "values",
    [
        {"calibrated": "false"},
        {"driver": 3},
        {"authenticated": 1},
        {"gap_detectable": None},
        {"colour": "red"},
        ["e6l"],
    ],
)
def test_values_of_another_kind_are_refused(values) -> None:
    with pytest.raises(FormatError, match="source"):
        SourceInfo.from_dict(values)


def test_a_record_takes_no_other_kind_of_source() -> None:
    with pytest.raises(FormatError, match="expected a SourceInfo"):
        record("e6l")  # type: ignore[arg-type]
