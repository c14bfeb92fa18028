"""The command line: four outcomes, five exit codes, text or one JSON document, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_app import visit
from edge_app.cli import app
from edge_app.session.keys import KEYS_FILE
from edge_app.store.clock import is_id
from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.ecg.errors import BundleSelfTestError, RuntimeMissingError, StoreError
from lsemvae.formats.npz import read_npz, write_npz
from lsemvae.screen import screener as screening
from lsemvae.screen.ratchet import VersionRatchet
from lsemvae.screen.runtime.contract import RuntimeOutput
from lsemvae.terminal import console

Invoke = Callable[..., Any]


class Answers:
    """Stands in for the model: `logits` and `uncertainty` as told."""

    name, version = "fake", "1"
    logits: tuple[float, ...] = (2.0, 0.0, 0.0)
    uncertainty = -1.0

    def run(self, ecg: np.ndarray) -> RuntimeOutput:
        return RuntimeOutput(logits=np.array(self.logits, dtype=np.float32), uncertainty=self.uncertainty)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let the test choose what the model says; everything before it is real."""
    chosen = Answers()
    monkeypatch.setattr(screening, "load_runtime", lambda bundle, prefer=None: chosen)
    monkeypatch.setattr(screening, "self_test", lambda bundle, runtime: None)
    return chosen


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def invoke(bundle_dir: Path, trust_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call the command line with the test's bundle, keys and data folder."""
    monkeypatch.setenv("LSEMVAE_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: Any, signed: bool = True, **options: Any) -> Any:
        words = [str(argument) for argument in arguments]
        if signed and words[0] in ("screen", "demo", "run", "recover", "doctor"):
            words += ["--bundle", str(bundle_dir), "--trust", str(trust_dir)]
        result = CliRunner().invoke(app, words, **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return call


@pytest.mark.promise(63)
def test_detected_is_exit_code_0(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    result = invoke("screen", clean_csv)
    assert result.exit_code == 0, result.output
    assert "DETECTED: the ECG shows the pattern" in result.stdout
    assert "lead II, 12.0 s" in result.stdout
    assert "Recording quality: acceptable" in result.stdout
    assert f"in {home / STORE_FILE}" in result.stdout
    assert "test-model 1.2.0 on fake 1" in result.stdout


@pytest.mark.promise(63)
def test_not_detected_is_exit_code_0(invoke: Invoke, answers: Answers, clean_csv: Path) -> None:
    answers.logits = (-2.0, 0.0, 0.0)
    result = invoke("screen", clean_csv)
    assert result.exit_code == 0
    assert "NOT DETECTED: the ECG does not show" in result.stdout


@pytest.mark.promise(63)
def test_abstain_is_exit_code_3(invoke: Invoke, answers: Answers, clean_csv: Path) -> None:
    answers.uncertainty = 5.0
    result = invoke("screen", clean_csv)
    assert result.exit_code == 3
    assert "ABSTAIN: no result" in result.stdout
    assert "Why and what to do (UNCERTAIN)" in result.stdout


@pytest.mark.promise(63)
def test_error_of_the_model_is_exit_code_1(invoke: Invoke, answers: Answers, clean_csv: Path) -> None:
    answers.logits = (float("nan"), 0.0, 0.0)
    result = invoke("screen", clean_csv)
    assert result.exit_code == 1
    assert "ERROR: no result" in result.stdout
    assert "E_INFERENCE" in result.stdout


@pytest.mark.promise(63)
def test_a_bad_file_is_exit_code_1_with_code_sentence_and_advice(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("# fs_hz=500\nI,II\n1,2\n", encoding="ascii")
    result = invoke("screen", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "E_UNIT: " in result.stderr
    assert "What to do: " in result.stderr
    as_json = invoke("screen", path, "--json")
    values = json.loads(as_json.stdout)
    assert as_json.exit_code == 1
    assert values["outcome"] == "ERROR"
    assert values["error_code"] == "E_UNIT"
    assert set(values["error"]) == {"code", "message", "advice"}


def test_a_rate_and_unit_on_the_command_line(invoke: Invoke, answers: Answers, clean_csv: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(clean_csv.read_text().splitlines()[2:]) + "\n", encoding="ascii")
    assert invoke("screen", bare).exit_code == 1
    assert invoke("screen", bare, "--unit", "mV", "--fs-hz", 500).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [["screen"], ["screen", "a.csv", "--nonsense"], ["nonsense"], ["records", "show"], ["run", "--seconds", "5"]],
)
def test_wrong_usage_is_exit_code_2(invoke: Invoke, words: list[str]) -> None:
    assert invoke(*words, signed=False).exit_code == 2


def _flip(bundle_dir: Path) -> None:
    content = bytearray((bundle_dir / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_dir / "model.tflite").write_bytes(content)


@pytest.mark.promise(63)
@pytest.mark.parametrize("command", ["screen", "demo", "run", "doctor"])
def test_a_tampered_bundle_is_exit_code_4(
    invoke: Invoke, bundle_dir: Path, clean_csv: Path, home: Path, command: str
) -> None:
    _flip(bundle_dir)
    words = [command, *([clean_csv] if command == "screen" else []), *(["--yes"] if command == "run" else [])]
    result = invoke(*words)
    assert result.exit_code == 4
    assert "model.tflite" in result.output
    as_json = json.loads(invoke(*words, "--json").stdout)
    assert "E_BUNDLE_HASH" in json.dumps(as_json)
    assert not home.exists()


def test_a_bundle_of_a_stranger_is_exit_code_4(
    invoke: Invoke, bundle_dir: Path, clean_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "nobody").mkdir()
    result = invoke("screen", clean_csv, "--bundle", bundle_dir, "--trust", tmp_path / "nobody", signed=False)
    assert result.exit_code == 4
    assert "E_BUNDLE_SIGNATURE" in result.stderr


@pytest.mark.promise(31)
def test_an_older_bundle_is_exit_code_4_on_the_next_run(
    invoke: Invoke, answers: Answers, builder: Any, bundle_dir: Path, clean_csv: Path
) -> None:
    assert invoke("screen", clean_csv).exit_code == 0
    builder.changes["version"] = "1.1.0"
    builder.write(bundle_dir)
    result = invoke("screen", clean_csv)
    assert result.exit_code == 4
    assert "E_BUNDLE_VERSION" in result.stderr


def test_a_missing_runtime_is_exit_code_1(invoke: Invoke, clean_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise RuntimeMissingError("none")

    monkeypatch.setattr(screening, "load_runtime", missing)
    result = invoke("screen", clean_csv)
    assert result.exit_code == 1
    assert "E_RUNTIME" in result.stderr


def test_json_is_one_document_with_everything(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    values = json.loads(invoke("screen", clean_csv, "--json", "--operator", "op 3").stdout)
    assert values["outcome"] == "DETECTED"
    assert set(values["probabilities"]) == {"p_right_heart_strain", "p_LVH", "p_NORM"}
    assert is_id(values["stored"]["record_id"])
    with ClinicStore(home / STORE_FILE) as store:
        (row,) = store.get_results(values["stored"]["record_id"])
    assert row["operator"] == "op 3"
    assert row["id"] == values["stored"]["result_id"]


def test_no_store_keeps_nothing(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    result = invoke("screen", clean_csv, "--no-store", "--json")
    assert json.loads(result.stdout)["stored"] is None
    assert not (home / STORE_FILE).exists()


@pytest.mark.promise(55)
def test_the_name_of_the_file_is_not_stored(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    named = clean_csv.with_name("DOE_JANE_19700101.csv")
    clean_csv.rename(named)
    result = invoke("screen", named, "--json")
    assert result.exit_code == 0
    assert "DOE" not in result.output
    for path in home.rglob("*"):
        assert b"DOE" not in path.read_bytes()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_ascii(
    invoke: Invoke, answers: Answers, clean_csv: Path, encoding: str
) -> None:
    result = CliRunner(charset=encoding)
    arguments = ["screen", str(clean_csv), "--no-store"]
    outcome = result.invoke(
        app, [*arguments, "--bundle", str(clean_csv.parent / "bundle"), "--trust", str(clean_csv.parent / "trust")]
    )
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout_bytes.decode("ascii")
    assert "mV |" in outcome.stdout


def test_records_list_show_verify_export(
    invoke: Invoke, answers: Answers, clean_csv: Path, home: Path, tmp_path: Path
) -> None:
    record_id = json.loads(invoke("screen", clean_csv, "--json").stdout)["stored"]["record_id"]
    assert record_id in invoke("records", "list").stdout
    (summary,) = json.loads(invoke("records", "list", "--json").stdout)
    assert (summary["id"], summary["outcome"]) == (record_id, "DETECTED")
    shown = invoke("records", "show", record_id).stdout
    assert "lead II" in shown
    assert "DETECTED, probability 0.88" in shown
    assert json.loads(invoke("records", "show", record_id, "--json").stdout)["results"][0]["outcome"] == "DETECTED"
    assert json.loads(invoke("records", "show", record_id, "--json").stdout)["recording"]["id"] == record_id
    assert "sound" in invoke("records", "verify").stdout
    assert json.loads(invoke("records", "verify", "--json").stdout)["sound"] is True
    out = tmp_path / "copy.ecg.npz"
    assert invoke("records", "export", record_id, "--out", out).exit_code == 0
    with ClinicStore(home / STORE_FILE) as store:
        assert np.array_equal(read_npz(out).samples, store.get_record(record_id).samples)
    assert "exists already" in invoke("records", "export", record_id, "--out", out).stderr
    assert invoke("records", "export", record_id, "--out", tmp_path / "no" / "x.npz").exit_code == 1
    assert "E_STORE" in invoke("records", "show", "nothing").stderr


@pytest.mark.promise(49)
def test_records_verify_fails_on_a_changed_row(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    invoke("screen", clean_csv)
    with ClinicStore(home / STORE_FILE) as store:
        store._connection.execute("DROP TRIGGER results_no_update")
        store._connection.execute("UPDATE results SET content = '{}'")
    result = invoke("records", "verify")
    assert result.exit_code == 1
    assert "was changed" in result.stdout


def test_records_of_an_empty_folder(invoke: Invoke, home: Path) -> None:
    result = invoke("records", "list")
    assert result.exit_code == 1
    assert "E_STORE: There is no record store" in result.stderr
    assert not home.exists()


def test_bundle_show_and_verify(invoke: Invoke, bundle_dir: Path, trust_dir: Path, home: Path) -> None:
    shown = invoke("bundle", "show", bundle_dir, "--trust", trust_dir)
    assert shown.exit_code == 0
    assert "ECG readers, not pulmonary hypertension" in shown.stdout
    assert "p_right_heart_strain" in shown.stdout
    assert json.loads(invoke("bundle", "show", bundle_dir, "--trust", trust_dir, "--json").stdout)["id"] == "test-model"
    verified = invoke("bundle", "verify", bundle_dir, "--trust", trust_dir)
    assert verified.exit_code == 0
    assert "tflite: self-test passed on ai_edge_litert" in verified.stdout
    assert "onnx: self-test passed on onnxruntime" in verified.stdout
    values = json.loads(invoke("bundle", "verify", bundle_dir, "--trust", trust_dir, "--json").stdout)
    assert values["accepted"] is True
    assert set(values["tests"]) == {"tflite", "onnx"}
    assert VersionRatchet(home).highest("test-model", key_id=values["key_id"]) is None


def test_bundle_verify_says_which_model_was_not_tested(
    invoke: Invoke, bundle_dir: Path, trust_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lsemvae.screen.runtime.load as runtime

    real = runtime.load_runtime

    def without_onnx(bundle: Any, *, prefer: Any = None) -> Any:
        if prefer == "onnx":
            raise RuntimeMissingError("onnxruntime is missing")
        return real(bundle, prefer=prefer)

    monkeypatch.setattr(runtime, "load_runtime", without_onnx)
    verified = invoke("bundle", "verify", bundle_dir, "--trust", trust_dir)
    assert verified.exit_code == 0
    assert "onnx: not tested (onnxruntime is missing)" in verified.stdout

    def without_any(*_: Any, **__: Any) -> Any:
        raise RuntimeMissingError("nothing is installed")

    monkeypatch.setattr(runtime, "load_runtime", without_any)
    assert "E_RUNTIME" in invoke("bundle", "verify", bundle_dir, "--trust", trust_dir).stderr


def test_bundle_verify_fails_where_the_model_answers_otherwise(
    invoke: Invoke, bundle_dir: Path, trust_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lsemvae.screen.selftest as selftest

    def other(*_: Any) -> None:
        raise BundleSelfTestError("Golden logits: computed values differ")

    monkeypatch.setattr(selftest, "self_test", other)
    result = invoke("bundle", "verify", bundle_dir, "--trust", trust_dir)
    assert result.exit_code == 4
    assert "E_BUNDLE_SELFTEST" in result.stderr


def test_doctor_reports_every_part(invoke: Invoke) -> None:
    result = invoke("doctor", "--json")
    values = json.loads(result.stdout)
    assert result.exit_code == 0, result.stdout
    assert values["healthy"] is True
    names = [check["name"] for check in values["checks"]]
    assert names == ["system", "packages", "bundle", "store", "recovery", "disk", "clock", "bluetooth", "devices"]
    assert all(check["advice"] for check in values["checks"] if check["status"] != "ok")
    assert "[ok  ] bundle" in invoke("doctor").stdout


def test_doctor_says_which_devices_are_trusted(invoke: Invoke, home: Path) -> None:
    assert "edge_app devices trust" in invoke("doctor").stdout
    invoke("devices", "trust", input=f"E6L1:Bed-7:{'ab' * 32}\n")
    assert "[ok  ] devices   trusted: Bed-7" in invoke("doctor").stdout
    (home / KEYS_FILE).write_text("{", encoding="ascii")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "[fail] devices" in result.stdout


def test_doctor_writes_nothing(invoke: Invoke, home: Path) -> None:
    assert "nothing recorded yet" in invoke("doctor").stdout
    assert not home.exists()


def test_doctor_says_where_no_store_can_be(invoke: Invoke) -> None:
    result = invoke("doctor", "--data-dir", "/proc/version/data")
    assert result.exit_code == 1
    assert "cannot be created" in result.stdout


def test_doctor_checks_a_store_that_is_there(invoke: Invoke, answers: Answers, clean_csv: Path, home: Path) -> None:
    assert invoke("screen", clean_csv).exit_code == 0
    assert f"{home / STORE_FILE} is sound" in invoke("doctor").stdout


def test_doctor_finds_a_damaged_store(invoke: Invoke, home: Path) -> None:
    home.mkdir()
    (home / STORE_FILE).write_bytes(b"not a database" * 100)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "[fail] store" in result.stdout


def test_help_and_version(invoke: Invoke) -> None:
    for words in (["-h"], ["--help"], ["screen", "-h"], ["records", "-h"], ["bundle", "verify", "--help"]):
        result = invoke(*words, signed=False)
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
    assert invoke("--version").stdout.startswith("edge_app 0.")


def test_every_reporting_command_takes_json(invoke: Invoke) -> None:
    commands = (
        ["screen"], ["run"], ["demo"], ["recover"], ["doctor"], ["records", "list"], ["records", "show"],
        ["records", "verify"], ["records", "export"], ["bundle", "show"], ["bundle", "verify"],
    )  # fmt: skip
    for words in commands:
        assert "--json" in invoke(*words, "--help", signed=False).stdout, words


def test_a_stored_copy_can_be_screened_again(
    invoke: Invoke, answers: Answers, make_record: Callable[..., Any], tmp_path: Path
) -> None:
    write_npz(tmp_path / "r.ecg.npz", make_record())
    first = json.loads(invoke("screen", tmp_path / "r.ecg.npz", "--json").stdout)
    invoke("records", "export", first["stored"]["record_id"], "--out", tmp_path / "copy.ecg.npz")
    second = json.loads(invoke("screen", tmp_path / "copy.ecg.npz", "--json").stdout)
    assert second["stored"]["record_id"] == first["stored"]["record_id"]
    assert second["probabilities"] == first["probabilities"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_store_that_refuses_a_file_still_shows_its_outcome(
    invoke: Invoke, answers: Answers, clean_csv: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(visit, "keep", full)
    result = invoke("screen", clean_csv, *options)
    assert result.exit_code == 1
    assert "DETECTED" in result.stdout
    assert "E_STORE: database or disk is full" in result.stderr
    if options:
        assert json.loads(result.stdout)["error"]["code"] == "E_STORE"
    else:
        assert "Not stored." in result.stdout


@pytest.mark.slow
def test_a_full_disk_behind_standard_output_is_said(clean_csv: Path, bundle_dir: Path, trust_dir: Path) -> None:
    words = ["screen", str(clean_csv), "--no-store", "--bundle", str(bundle_dir), "--trust", str(trust_dir)]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                "from edge_app.cli import main; main()",
                *words,
                "--data-dir",
                str(clean_csv.parent),
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "E_STORE: Cannot write the answer to standard output: No space left on device." in process.stderr


def test_long_sentences_are_broken_between_words_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a sentence of many words " * 8 + "\n\x1b[32m" + "*" * 60 + "\x1b[0m"
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: False, raising=False)
    assert console.fit(text) == text
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    *sentence, strip = console.fit(text).split("\n")
    assert len(sentence) > 1
    assert max(len(line) for line in sentence) <= 40
    assert strip == text.split("\n")[1]
