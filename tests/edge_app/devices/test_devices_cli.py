"""`edge_app devices` without a radio: keys, logs, drivers, wrong words."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_app.link.inprocess import InProcessTransport
from edge_app.link.log.file import LogWriter
from edge_app.link.log.writer import LoggingTransport
from edge_app.session import record_session
from edge_app.session.keys import KEYS_FILE
from edge_app.store.records import STORE_FILE, ClinicStore
from firmware_bridge.protocol.authenticity import DeviceKey
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.formats.npz import read_npz

pytestmark = pytest.mark.usefixtures("jumping_clock")

Invoke = Callable[..., Any]

KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))
OTHER = DeviceKey(name="E6L-0042", secret=bytes(32))
FS_HZ = 500.0


@pytest.fixture
def home(environment: dict[str, str]) -> Path:
    return Path(environment["LSEMVAE_HOME"])


@pytest.fixture
def ecg() -> EcgRecord:
    rng = np.random.default_rng(3)
    return record_from_physical(
        np.cumsum(rng.normal(0, 5, (2, 6000)), axis=1), unit="uV", fs_hz=FS_HZ, leads=("I", "II")
    )


@pytest.fixture
def log(tmp_path: Path, ecg: EcgRecord) -> tuple[Path, EcgRecord]:
    """The notification log of a session, and the record it ended with."""
    path = tmp_path / "session.jsonl"
    with LoggingTransport(InProcessTransport(ecg, speed=20.0), path) as transport:
        session = record_session(transport, seconds=10.0, allow_unauthenticated=True)
        return path, asyncio.run(session).record


# -- keys ----------------------------------------------------------------------------------------------------------------


def test_a_device_is_trusted_by_its_code(invoke: Invoke, home: Path) -> None:
    result = invoke("trust", input=KEY.to_text() + "\n")
    assert result.exit_code == 0, result.output
    assert f"Trusted: E6L-0042 (key {KEY.fingerprint})" in result.output
    assert stat.S_IMODE((home / KEYS_FILE).stat().st_mode) == 0o600


@pytest.mark.promise(136)
def test_no_command_shows_a_key(invoke: Invoke) -> None:
    shown = invoke("trust", input=KEY.to_text() + "\n").output
    shown += invoke("keys").output + invoke("keys", "--json").output + invoke("forget", "E6L-0042", "--json").output
    assert KEY.fingerprint in shown
    assert KEY.secret.hex() not in shown.lower()


def test_a_known_name_with_another_key_is_refused(invoke: Invoke) -> None:
    invoke("trust", input=KEY.to_text())
    result = invoke("trust", "--json", input=OTHER.to_text())
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert KEY.fingerprint in error["message"]
    assert OTHER.secret.hex() not in result.output
    assert invoke("trust", "--replace", input=OTHER.to_text()).exit_code == 0
    assert json.loads(invoke("keys", "--json").stdout) == [{"name": "E6L-0042", "fingerprint": OTHER.fingerprint}]


@pytest.mark.parametrize("text", ["", "E6L1:E6L-0042:beef", "https://example.org", "\x00\xff"])
def test_what_is_no_code_is_refused_and_not_repeated(invoke: Invoke, home: Path, text: str) -> None:
    result = invoke("trust", input=text)
    assert result.exit_code == 1
    assert "expected E6L1:NAME:KEY" in result.stderr
    assert not text or text not in result.output
    assert not (home / KEYS_FILE).exists()


def test_to_forget_an_unknown_name_lists_the_known_ones(invoke: Invoke) -> None:
    invoke("trust", input=KEY.to_text())
    result = invoke("forget", "E6L-9999")
    assert result.exit_code == 1
    assert "E6L-0042" in result.stderr


def test_without_keys_the_list_says_what_to_do(invoke: Invoke) -> None:
    assert "edge_app devices trust" in invoke("keys").output


# -- replay --------------------------------------------------------------------------------------------------------------


@pytest.mark.promise(145)
def test_a_log_is_replayed_stored_and_written(
    invoke: Invoke, log: tuple[Path, EcgRecord], home: Path, tmp_path: Path
) -> None:
    path, expected = log
    out = tmp_path / "replayed.ecg.npz"
    result = invoke("record", "--replay", path, "--seconds", 10, "--speed", 20, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["session"]["complete"]
    assert values["session"]["missing_samples"] == 0
    np.testing.assert_array_equal(read_npz(out).samples, expected.samples)
    with ClinicStore(home / "replayed" / STORE_FILE, create=False) as store:
        stored = store.get_record(values["stored"]["record_id"])
    np.testing.assert_array_equal(stored.samples, expected.samples)
    assert stored.source.authenticated is False
    assert not (home / STORE_FILE).exists(), "what was played never lies among the recordings of patients"
    assert not list((home / "replayed" / "spool").iterdir())


def test_the_text_says_what_the_recording_is(invoke: Invoke, log: tuple[Path, EcgRecord]) -> None:
    result = invoke("record", "--replay", log[0], "--seconds", 10, "--speed", 20)
    assert "lead II, 10.0 s" in result.stdout
    assert "Link: 5000 of 5000 samples, nothing missing" in result.stdout
    assert "THE DEVICE PROVED NO KEY" in result.stdout
    assert "not screened" in result.stdout


def test_an_existing_file_is_never_overwritten(invoke: Invoke, log: tuple[Path, EcgRecord], tmp_path: Path) -> None:
    out = tmp_path / "there.ecg.npz"
    out.write_bytes(b"kept")
    result = invoke("record", "--replay", log[0], "--out", out)
    assert result.exit_code == 1
    assert "nothing was recorded" in result.stderr
    assert out.read_bytes() == b"kept"


def test_a_file_that_is_no_log_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    wrong = tmp_path / "photo.jpg"
    wrong.write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    result = invoke("record", "--replay", wrong, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["advice"]


@pytest.fixture
def board_log(tmp_path: Path) -> Path:
    """Ten seconds of a ProtoCentral ADS1293 board on its serial line, three channels of 24 bits."""
    path = tmp_path / "board.jsonl"
    with LogWriter(path, driver="protocentral-ads1293") as writer:
        writer.append("connect", b"", t_us=0)
        for index in range(1000):
            codes = (100 * (index % 50)).to_bytes(4, "little", signed=True) * 3
            packet = bytes((0x0A, 0xFA, len(codes), 0, 2)) + codes + bytes((0, 0x0B))
            writer.append("", packet, t_us=index * 10_000)
    return path


def test_a_log_of_a_driver_says_what_its_source_cannot_know(invoke: Invoke, board_log: Path) -> None:
    result = invoke("record", "--replay", board_log, "--seconds", 5)
    assert result.exit_code == 0, result.output
    assert "5.0 s, 100 Hz, leads I, II" in result.stdout
    assert "lost samples would not show; the scale is unknown" in result.stdout
    known = invoke("record", "--replay", board_log, "--lsb-uv", 0.1, "--driver-option", "fs_hz=128", "--seconds", 5)
    assert "128 Hz" in known.stdout
    assert "scale is unknown" not in known.stdout


def test_another_driver_than_the_log_s_is_refused(invoke: Invoke, board_log: Path) -> None:
    result = invoke("record", "--replay", board_log, "--driver", "hativ")
    assert result.exit_code == 1
    assert "found a log of driver protocentral-ads1293" in result.stderr


# -- wrong words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("record", "--driver", "acme"), 1, "expected one of e6l"),
        (("record", "--driver", "hativ", "--driver-option", "speed=3"), 1, "expected NAME=VALUE with one of: order"),
        (("record", "--driver", "movesense", "--driver-option", "fs_hz=fast"), 1, "expected a number"),
        (("record", "--driver", "movesense", "--driver-option", "fs_hz=201"), 1, "found 201 Hz"),
        (("record", "--driver", "protocentral-ads1293"), 1, "found no serial port"),
        (("record", "--driver", "hativ", "--simulated"), 2, "speaks E6L"),
        (("record", "--lsb-uv", "1"), 2, "need --driver"),
        (("record", "--serial", "/dev/none", "--device", "E6L-0042"), 1, "expected one way to a device"),
        (("record", "--serial", "/dev/none"), 1, "/dev/none"),
        (("record", "--simulated"), 1, "found no simulated radio"),
        (("scan", "--simulated"), 1, "found no simulated radio"),
        (("stream", "--seconds", "0"), 2, "--seconds"),
        (("simulate", "--drop", "1.5"), 2, "--drop"),
        (("simulate", "--record", "none.csv"), 1, "none.csv"),
    ],
)
def test_wrong_words_end_with_what_to_do(invoke: Invoke, words: tuple[str, ...], code: int, said: str) -> None:
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert code == 2 or "What to do:" in result.stderr
