"""DICOM ECG: leads by meaning and code, microvolts by sensitivity, and no patient anywhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_app.demo import demo_recording
from lsemvae.ecg.errors import EcgError
from lsemvae.ecg.leads import LEADS, einthoven_residual
from lsemvae.ecg.runs import Interval, LeadOff, StartTime
from lsemvae.formats.dicom import read_dicom
from lsemvae.formats.read import read_record

pydicom = pytest.importorskip("pydicom", reason="NEEDS the package pydicom (extra dicom)")

SAMPLE = Path(pydicom.__file__).parent / "data" / "test_files" / "waveform_ecg.dcm"


@pytest.fixture(scope="module")
def original() -> Any:
    dataset = pydicom.dcmread(SAMPLE)
    dataset.WaveformSequence = dataset.WaveformSequence[:1]
    return dataset


@pytest.fixture
def dataset(original: Any) -> Any:
    return copy.deepcopy(original)


@pytest.fixture
def written(dataset: Any, tmp_path: Path) -> Callable[..., Path]:
    """Change the recording as told and write it."""

    def write(change: Callable[[Any], Any] | None = None) -> Path:
        if change is not None:
            change(dataset)
        path = tmp_path / "ecg.dcm"
        dataset.save_as(path)
        return path

    return write


def _group(dataset: Any) -> Any:
    return dataset.WaveformSequence[0]


def _channel(dataset: Any, k: int = 3) -> Any:
    return _group(dataset).ChannelDefinitionSequence[k]


def test_the_recording_that_pydicom_ships() -> None:
    record = read_record(SAMPLE)
    assert record.leads == LEADS
    assert (record.fs_hz, record.n_samples, record.lsb_uv) == (1000.0, 10000, 1.25)
    assert record.device == "Mortara Instrument, Inc. el250"
    assert record.start is None
    counts = np.frombuffer(_group(pydicom.dcmread(SAMPLE)).WaveformData, dtype="<i2").reshape(10000, 12)
    assert np.array_equal(record.samples, counts.T)


def test_its_limb_leads_obey_einthoven() -> None:
    record = demo_recording()
    assert einthoven_residual(record.to_mv(), leads=record.leads) < 0.005


@pytest.mark.promise(55)
def test_nothing_about_the_patient_is_read(monkeypatch: pytest.MonkeyPatch, written: Callable[..., Path]) -> None:
    """Canary names in every text of the file: none of them reaches the record."""

    def mark(dataset: Any) -> None:
        for element in dataset:
            if element.VR in ("PN", "LO", "SH", "LT") and "Manufacturer" not in element.keyword:
                element.value = "CANARY"

    record = read_dicom(written(mark))
    assert "CANARY" not in repr(record)
    assert "CANARY" not in record.device + record.record_id


@pytest.mark.promise(1)
def test_leads_follow_their_names_not_their_place(written: Callable[..., Path]) -> None:
    def swap(dataset: Any) -> None:
        channels = _group(dataset).ChannelDefinitionSequence
        channels[4].ChannelSourceSequence, channels[5].ChannelSourceSequence = (
            channels[5].ChannelSourceSequence,
            channels[4].ChannelSourceSequence,
        )

    record = read_dicom(written(swap))
    assert record.leads[4:6] == ("aVF", "aVL")


@pytest.mark.parametrize(("scheme", "code"), [("SCPECG", "5.6.3-9-62"), ("MDC", "2:62")])
def test_a_lead_without_words_is_known_by_its_code(written: Callable[..., Path], scheme: str, code: str) -> None:
    def strip(dataset: Any) -> None:
        source = _channel(dataset).ChannelSourceSequence[0]
        source.CodeMeaning, source.CodeValue, source.CodingSchemeDesignator = "", code, scheme

    assert read_dicom(written(strip)).leads[3] == "aVR"


def test_sensitivity_correction_and_unit_give_the_step(written: Callable[..., Path]) -> None:
    def millivolts(dataset: Any) -> None:
        for channel in _group(dataset).ChannelDefinitionSequence:
            channel.ChannelSensitivity = "0.002"
            channel.ChannelSensitivityCorrectionFactor = "1.5"
            channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"

    assert read_dicom(written(millivolts)).lsb_uv == pytest.approx(3.0)


def test_leads_of_different_steps_keep_their_microvolts(written: Callable[..., Path]) -> None:
    def coarse(dataset: Any) -> None:
        _channel(dataset, 6).ChannelSensitivity = "5"

    record, plain = read_dicom(written(coarse)), read_dicom(SAMPLE)
    assert record.to_mv()[6] == pytest.approx(4 * plain.to_mv()[6], abs=0.001)
    assert record.to_mv()[1] == pytest.approx(plain.to_mv()[1], abs=0.001)


def test_padding_becomes_gap_and_lead_off(written: Callable[..., Path]) -> None:
    def pad(dataset: Any) -> None:
        counts = np.frombuffer(_group(dataset).WaveformData, dtype="<i2").reshape(10000, 12).copy()
        counts[9000:] = -32768
        counts[100:200, 2] = -32768
        _group(dataset).WaveformData = counts.tobytes()
        _group(dataset).add_new(0x5400100A, "OW", (-32768).to_bytes(2, "little", signed=True))

    record = read_dicom(written(pad))
    assert record.gaps == (Interval(9000, 10000),)
    assert record.lead_off == (LeadOff("III", 100, 200),)
    assert not record.samples[:, 9000:].any()
    assert record.received_samples == 9000


@pytest.mark.filterwarnings("ignore:Invalid value for VR DT")
@pytest.mark.parametrize(
    ("time", "zone", "expected"),
    [
        ("20130125105919", "+0100", "2013-01-25T09:59:19+00:00"),
        ("20130125105919.5+0530", None, "2013-01-25T05:29:19+00:00"),
        ("20130125105919-0800", "+0100", "2013-01-25T18:59:19+00:00"),
        ("20130125105919", None, None),
        ("20130125", "+0100", None),
        ("20139925105919", "+0100", None),
    ],
)
def test_start_time_only_with_its_zone(
    written: Callable[..., Path], time: str, zone: str | None, expected: str | None
) -> None:
    def stamp(dataset: Any) -> None:
        dataset.AcquisitionDateTime = time
        if zone is not None:
            dataset.TimezoneOffsetFromUTC = zone

    assert read_dicom(written(stamp)).start == (StartTime(expected, "file") if expected else None)


def _no_unit(d: Any) -> None:
    del _channel(d).ChannelSensitivityUnitsSequence


def _no_sensitivity(d: Any) -> None:
    del _channel(d).ChannelSensitivity


def _strange_unit(d: Any) -> None:
    _channel(d).ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"


def _unknown_lead(d: Any) -> None:
    source = _channel(d).ChannelSourceSequence[0]
    source.CodeMeaning, source.CodeValue = "Lead Q", "5.6.3-9-999"


def _duplicate_lead(d: Any) -> None:
    _channel(d).ChannelSourceSequence = _channel(d, 0).ChannelSourceSequence


def _contradiction(d: Any) -> None:
    _channel(d).ChannelSourceSequence[0].CodeMeaning = "Lead V5"


def _nameless(d: Any) -> None:
    del _channel(d).ChannelSourceSequence


def _truncated(d: Any) -> None:
    _group(d).WaveformData = _group(d).WaveformData[:-24]


def _no_samples(d: Any) -> None:
    _group(d).NumberOfWaveformSamples, _group(d).WaveformData = 0, b""


def _bytes(d: Any) -> None:
    _group(d).WaveformBitsAllocated, _group(d).WaveformSampleInterpretation = 8, "SB"


def _derived(d: Any) -> None:
    _group(d).WaveformOriginality = "DERIVED"


def _no_waveform(d: Any) -> None:
    del d.WaveformSequence


def _slow(d: Any) -> None:
    _group(d).SamplingFrequency = "5"


def _no_rate(d: Any) -> None:
    del _group(d).SamplingFrequency


def _eleven(d: Any) -> None:
    _group(d).ChannelDefinitionSequence = _group(d).ChannelDefinitionSequence[:11]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_no_unit, "E_UNIT", "Lead aVR has no sensitivity with a unit"),
        (_no_sensitivity, "E_UNIT", "no sensitivity"),
        (_strange_unit, "E_UNIT", "mm"),
        (_unknown_lead, "E_LEAD", "Lead Q"),
        (_duplicate_lead, "E_LEAD", "twice"),
        (_contradiction, "E_LEAD", "code of aVR"),
        (_nameless, "E_LEAD", "does not say which lead"),
        (_truncated, "E_TRUNCATED", "239976 bytes"),
        (_no_samples, "E_LENGTH", "0 samples"),
        (_bytes, "E_FORMAT", "8 bit"),
        (_derived, "E_FORMAT", "derived"),
        (_no_waveform, "E_FORMAT", "no waveform"),
        (_slow, "E_RATE", "5"),
        (_no_rate, "E_FORMAT", "SamplingFrequency"),
        (_eleven, "E_FORMAT", "defines 11"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_recording_that_is_not_usable(written: Callable[..., Path], change: Any, code: str, words: str) -> None:
    with pytest.raises(EcgError) as caught:
        read_dicom(written(change))
    assert caught.value.code == code, caught.value
    assert words in str(caught.value)
    assert caught.value.advice


@pytest.mark.promise(24)
@pytest.mark.parametrize("keep", [132, 400, 2000, 100_000, 239_000])
def test_a_file_cut_off_anywhere_is_an_error_with_advice(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(SAMPLE.read_bytes()[:keep])
    with pytest.raises(EcgError) as caught:
        read_dicom(path)
    assert caught.value.code in ("E_FORMAT", "E_TRUNCATED")


@pytest.mark.promise(25)
def test_flipped_bytes_never_escape_as_another_exception(tmp_path: Path) -> None:
    content = SAMPLE.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.dcm"
    for _ in range(40):
        changed = bytearray(content)
        for position in rng.integers(128, 6000, size=3):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        with suppress(EcgError):
            read_dicom(path)


def test_a_file_that_only_says_it_is_dicom(tmp_path: Path) -> None:
    path = tmp_path / "ecg.dcm"
    path.write_bytes(b"no such thing" * 50)
    with pytest.raises(EcgError, match="cannot be read as DICOM"):
        read_record(path)
