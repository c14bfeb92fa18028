"""The ready-made cohort files and the page that explains them, on synthetic tables with the published columns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lsemvae.cli import app
from lsemvae.data import cohort as cohort_module
from lsemvae.data import signals as signals_module
from lsemvae.data import task_toml as task_module
from lsemvae.data.cohort import check_cohort, read_cohort
from tests.data.test_cohort import write_csv, write_wfdb

ROOT = Path(__file__).resolve().parents[2]
READY = ROOT / "docs/cohorts"


def published(name: str, n: int = 60) -> list[dict[str, object]]:
    """A synthetic table with the columns that the data set publishes (research notes, public layouts) or the file asks for."""
    gap = [k % 3 == 0 for k in range(n)]
    if name == "echonext":
        flags = ("lvef_lte_45", "lvwt_gte_13", "aortic_stenosis_moderate_or_greater", "pasp_gte_45", "tr_max_gte_32",
                 "rv_systolic_dysfunction_moderate_or_greater", "shd_moderate_or_greater")  # fmt: skip
        return [
            {
                "ecg_key": f"k{k}", "patient_key": f"p{k // 2}", "age_at_ecg": 40 + k, "sex": "Male" if k % 2 else "Female",
                "acquisition_year": 2015, "most_recent_ecg": 1, "split": ("train", "val", "test", "train")[k // 2 % 4],
                "ventricular_rate": 70, "qt_corrected": 420,
                **{f"{flag}_flag": 0 if gap[k] else k % 2 for flag in flags},
                "lvef_value": "" if gap[k] else 20 + k, "pasp_value": "" if gap[k] else 20 + k,
                "tr_max_velocity_value": "" if gap[k] else 1.5 + k / 20,
                "rv_systolic_function_value": "" if gap[k] else ("normal", "moderate")[k % 2],
            }
            for k in range(n)
        ]  # fmt: skip
    person = [{"path": f"r{k}", "age": 40 + k, "sex": k % 2 if name == "ukb" else "MF"[k % 2]} for k in range(n)]
    if name == "ukb":
        return [
            {"eid": 1000000 + k, **row, "lav_ml": "" if gap[k] else 40 + 2 * k, "lvm_g": 70 + 2 * k}
            for k, row in enumerate(person)
        ]
    return [
        {
            "ecg_id": f"e{k}", "patient_id": f"p{k}", **row,
            "mpap_mmhg": "" if gap[k] else 12 + k, "pawp_mmhg": "" if k % 5 == 0 else 8 + k % 20,
        }
        for k, row in enumerate(person)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "table", "primary"),
    [
        ("aspire", "aspire.csv", "ph"),
        ("ukb", "ukb.csv", "cmr_pawp_equation_gt_15"),
        ("echonext", "echonext_metadata_100k.csv", "pasp_ge_45"),
    ],
)
def test_a_ready_made_file_reads_the_published_columns(tmp_path: Path, name: str, table: str, primary: str) -> None:
    rows = published(name)
    write_csv(tmp_path / table, rows)
    checked = check_cohort(read_cohort(READY / f"{name}.toml", data=tmp_path))
    tasks = checked.cohort.tasks
    assert tasks.primary == primary
    y = np.array([row.labels[0] for row in checked.values])
    np.testing.assert_array_equal(np.isnan(y), [k % 3 == 0 for k in range(len(rows))], "unmeasured is unknown")
    assert {row.sex_male for row in checked.values} == {0.0, 1.0}
    assert "pressure" in tasks.statement


def test_echonext_flags_are_read_only_where_they_were_measured(tmp_path: Path) -> None:
    write_csv(tmp_path / "echonext_metadata_100k.csv", published("echonext"))
    checked = check_cohort(read_cohort(READY / "echonext.toml", data=tmp_path))
    assert not any(column in ("pasp_gte_45_flag", "tr_max_gte_32_flag") for column in checked.cohort.tasks.columns)
    (note,) = checked.notes
    assert note.startswith("rv_dysfunction: 20 rows hold a 0 and 0 a 1 where rv_systolic_function_value is empty")
    rv = checked.cohort.tasks.label_names.index("rv_dysfunction")
    assert np.isnan([row.labels[rv] for row in checked.values[::3]]).all()
    assert {row.fold for row in checked.values} == {1, 9, 10}
    assert checked.cohort.gain_known is False


def test_the_uk_biobank_file_computes_the_equation_and_says_that_it_is_no_pressure(tmp_path: Path) -> None:
    rows = published("ukb")
    write_csv(tmp_path / "ukb.csv", rows)
    checked = check_cohort(read_cohort(READY / "ukb.toml", data=tmp_path))
    expected = 6.1352 + 0.07204 * float(str(rows[40]["lav_ml"])) + 0.02256 * float(str(rows[40]["lvm_g"]))
    assert checked.values[40].measures[0] == pytest.approx(expected, rel=1e-6)
    assert "No pressure was measured in anybody" in checked.cohort.tasks.statement
    assert "not a measured pressure" in checked.cohort.tasks.descriptions[checked.cohort.tasks.primary]


def test_the_mimic_file_reads_what_its_sql_makes_of_the_published_tables(tmp_path: Path) -> None:
    """record_list.csv and structured_measurement.csv, as published, through the SQL beside the file."""
    if sqlite3.sqlite_version_info < (3, 25):
        pytest.fail(f"found SQLite {sqlite3.sqlite_version}, expected 3.25 for window functions")
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE record_list (subject_id, study_id, file_name, ecg_time, path)")
        base.execute(
            "CREATE TABLE structured_measurement "
            "(subject_id, measurement_id, measurement_datetime, test_type, measurement, result, unit)"
        )
        for k in range(20):
            path = f"files/p1000/p1000000{k}/s{k}/{k}"
            base.execute("INSERT INTO record_list VALUES (?,?,?,?,?)", (k, 100 + k, k, "2150-01-10 08:00:00", path))
            for day, velocity in (("2150-01-05", 9), ("2150-01-20", 2 + k / 10), ("2150-03-01", 7), ("2152-01-01", 6)):
                study = (k, f"{k}-{day}", f"{day} 09:00:00", "TTE")
                result = "unable to assess" if k % 4 == 0 else str(velocity)
                base.execute(
                    "INSERT INTO structured_measurement VALUES (?,?,?,?,'tr_velocity',?,'m/s')", (*study, result)
                )
                base.execute("INSERT INTO structured_measurement VALUES (?,?,?,?,'tr_mmhg',?,'mmHg')", (*study, "25"))
        cursor = base.execute((READY / "mimic_echo.sql").read_text(encoding="utf-8"))
        rows = [dict(zip([c[0] for c in cursor.description], row, strict=True)) for row in cursor]
    base.close()
    assert [row["days_to_echo"] for row in rows] == [10.042] * 20, "the nearest that follows, not one before"
    write_csv(tmp_path / "mimic_echo.csv", rows)
    checked = check_cohort(read_cohort(READY / "mimic_echo.toml", data=tmp_path))
    y = np.array([row.labels[0] for row in checked.values])
    expected = [np.nan if k % 4 == 0 else float(2 + k / 10 > 2.8) for k in range(20)]
    np.testing.assert_array_equal(y, expected)
    assert checked.cohort.signals.columns == ("path",)


def test_every_ready_made_file_is_tested() -> None:
    assert sorted(path.stem for path in READY.glob("*.toml")) == ["aspire", "echonext", "mimic_echo", "ukb"]


def test_the_worked_example_of_the_page_gives_the_output_that_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/how-to/cohorts.md").read_text(encoding="utf-8")
    table, toml, shown = (page.split(f"```{kind}\n", 1)[1].split("```", 1)[0] for kind in ("csv", "toml", "text"))
    (tmp_path / "hospital.csv").write_text(table)
    (tmp_path / "hospital.toml").write_text(toml)
    for k in range(1, 9):
        write_wfdb(tmp_path / "records", f"e{k}", k)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["convert", "--cohort", "hospital.toml", "--out", "store"])
    assert done.exit_code == 0, done.output
    assert [line for line in shown.splitlines() if line not in done.output] == []


def test_the_page_lists_every_key() -> None:
    """A key that is read and not described would be found by nobody; one that is described and not read is refused."""
    page = (ROOT / "docs/how-to/cohorts.md").read_text(encoding="utf-8")
    for keys in (cohort_module._KEYS, *signals_module._KEYS.values(), *task_module._KEYS.values()):
        assert [key for key in keys if f"`{key}`" not in page and key != "kind"] == []
