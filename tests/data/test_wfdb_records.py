"""WFDB records in the laboratory: units, gains, names and patients are stated or the record is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsemvae.data.convert import convert_wfdb, read_patients
from lsemvae.ecg.errors import EcgError, FormatError, LeadError, SampleError, TruncatedError, UnitError
from lsemvae.ecg.leads import LEADS
from lsemvae.formats.wfdb import read_wfdb

LINE = "a.dat 16 1000/mV 16 0 0 0 0 {}"


def _write(root: Path, lines: list[str], *, head: str | None = None, name: str = "a", samples: int = 5000) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.hea").write_text("\n".join([head or f"{name} {len(lines)} 500 {samples}", *lines]) + "\n")
    rng = np.random.default_rng(0)
    rng.integers(-900, 900, (5000, max(1, len(lines)))).astype("<i2").tofile(root / f"{name}.dat")
    return root / f"{name}.hea"


def test_a_good_record_is_read(tmp_path: Path) -> None:
    record = read_wfdb(_write(tmp_path, [LINE.format("I"), LINE.format("v1")]))
    assert (record.leads, record.fs_hz, record.n_samples) == (("I", "V1"), 500.0, 5000)


@pytest.mark.parametrize(
    ("lines", "error", "found"),
    [
        (["a.dat 16 1000/mV 16 0 0 0 0 I", "a.dat 16 1/uV 16 0 0 0 0 II"], UnitError, r"found units \['mV', 'uV'\]"),
        (["a.dat 16 1000/mmHg 16 0 0 0 0 I"], UnitError, "found unit 'mmHg', expected one of"),
        (["a.dat 16 0 16 0 0 0 0 I"], UnitError, "expected counts per unit"),
        (["a.dat 16 0/mV 16 0 0 0 0 I"], UnitError, "expected counts per unit"),
        (["a.dat 16"], LeadError, "lead name last"),
        (["a.dat 16 1000/mV 16 0 0 0 0 RESP"], LeadError, "'RESP'"),
        ([LINE.format("I"), LINE.format("i")], LeadError, "found lead I twice"),
        (["zz.dat 16 1000/mV 16 0 0 0 0 I"], FormatError, r"zz\.dat"),
        (["a.dat 99 1000/mV 16 0 0 0 0 I"], FormatError, "found a header that cannot be read"),
    ],
)
def test_defect_a_wfdb_record_that_leaves_something_open_is_refused(
    tmp_path: Path, lines: list[str], error: type[EcgError], found: str
) -> None:
    with pytest.raises(error, match=found) as caught:
        read_wfdb(_write(tmp_path, lines))
    assert caught.value.advice


@pytest.mark.parametrize(
    ("head", "error"),
    [("a 0 500 5000", LeadError), ("\x00 garbage", FormatError), ("\n", FormatError), ("a 1 500 9000", TruncatedError)],
)
def test_defect_a_broken_header_is_no_truncated_file_and_the_reverse(
    tmp_path: Path, head: str, error: type[EcgError]
) -> None:
    with pytest.raises(EcgError) as caught:
        read_wfdb(_write(tmp_path, [LINE.format("I")] if "1 500" in head else [], head=head))
    assert type(caught.value) is error


def test_missing_samples_are_refused(tmp_path: Path) -> None:
    header = _write(tmp_path, [LINE.format("I")])
    counts = np.fromfile(tmp_path / "a.dat", "<i2")
    counts[7] = -32768
    counts.tofile(tmp_path / "a.dat")
    with pytest.raises(SampleError, match="found 1 missing samples"):
        read_wfdb(header)


def test_a_record_of_v1_alone_is_stored_as_v1_alone(tmp_path: Path) -> None:
    _write(tmp_path / "p10000001", [LINE.format("V1")])
    store = convert_wfdb(tmp_path, tmp_path / "store")
    assert [lead for lead, here in zip(LEADS, store.present[0], strict=True) if here] == ["V1"]
    assert not store.millivolts([0], leads=("I", "II")).any()


def test_defect_leak_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    """By name --patients tells whose a record is: two patients' files of one name would become one patient's."""
    for patient in ("anna", "bert"):
        _write(tmp_path / patient, [LINE.format("I")])
    with pytest.raises(FormatError, match="found record 'a' twice"):
        convert_wfdb(tmp_path, tmp_path / "store", patients={"a": "anna"})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"record,patient\na,anna\na,bert\n", r"found record 'a' of patients \['anna', 'bert'\], expected one"),
        (b"name,who\na,anna\n", "expected record and patient"),
        (b"record,patient\n\xff,anna\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_defect_leak_a_table_of_patients_is_whole_and_does_not_contradict_itself(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    if content is not None:
        (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(FormatError, match=found) as caught:
        read_patients(tmp_path / "p.csv")
    assert "record,patient" in caught.value.advice


def test_defect_an_empty_tree_names_both_formats(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"found neither metadata\.csv nor a \.hea file"):
        convert_wfdb(tmp_path, tmp_path / "store")
