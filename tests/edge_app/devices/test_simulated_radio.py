"""Where simulator and app meet: a folder of our own, a socket that answers, a key that stays."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_app.devices import simulated_radio
from edge_app.devices.simulated_radio import (
    BUS_VARIABLE,
    bus_address,
    bus_socket,
    is_running,
    known_key,
    simulated_key,
    use,
)
from edge_app.devices.ways import Way, choose_radio, folder_for, keys_for, way_to
from lsemvae.ecg.errors import LinkError, StoreError


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv(BUS_VARIABLE, "unset")
    return tmp_path


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(bus_socket()))
        server.listen()
        yield server


def test_the_folder_is_nobody_elses(runtime: Path) -> None:
    folder = bus_socket().parent
    assert folder.is_relative_to(runtime)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_a_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (runtime / "lsemvae").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="expected one of our own"):
        bus_socket()
    assert not is_running()


def test_without_a_runtime_folder_the_temporary_one_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(simulated_radio.tempfile, "gettempdir", lambda: str(tmp_path))
    assert bus_socket() == tmp_path / f"lsemvae-{os.getuid()}" / "radio" / "bus"


def test_only_a_socket_that_answers_counts(listening: socket.socket) -> None:
    assert is_running()
    listening.close()
    assert bus_socket().exists()
    assert not is_running()


def test_the_key_stays_from_one_start_to_the_next() -> None:
    assert known_key() is None
    key = simulated_key("E6L-SIM")
    assert simulated_key("E6L-SIM") == key == known_key()
    path = bus_socket().parent / "device-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert simulated_key("E6L-TWO") != key


def test_a_damaged_key_is_made_anew() -> None:
    key = simulated_key("E6L-SIM")
    (bus_socket().parent / "device-key").write_text("E6L1:E6L-SIM:beef", encoding="ascii")
    assert known_key() is None
    assert simulated_key("E6L-SIM") != key


@pytest.mark.promise(145)
def test_a_running_simulation_is_used_and_said(listening: socket.socket) -> None:
    way = way_to()
    assert way.simulated
    assert os.environ[BUS_VARIABLE] == bus_address()
    assert "no real device" in way.note


@pytest.mark.promise(145)
def test_real_never_takes_the_simulation(listening: socket.socket) -> None:
    way = way_to(simulated=False)
    assert not way.simulated
    assert os.environ[BUS_VARIABLE] == "unset"
    assert not way.note


def test_without_a_simulation_the_machines_radio() -> None:
    assert not choose_radio(simulated=None)
    assert os.environ[BUS_VARIABLE] == "unset"
    with pytest.raises(LinkError, match="found no simulated radio") as caught:
        choose_radio(simulated=True)
    assert "edge_app devices simulate" in caught.value.advice


@pytest.mark.promise(145)
def test_what_was_played_is_kept_apart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ways = [Way(None, ""), Way(None, "", simulated=True), Way(None, "", replayed=True)]  # type: ignore[arg-type]
    assert [folder_for(way, home) for way in ways] == [home, home / "simulated", home / "replayed"]


def test_the_simulated_key_is_trusted_for_the_simulation_only(tmp_path: Path) -> None:
    key = simulated_key("E6L-SIM")
    assert keys_for(Way(None, "", simulated=True), tmp_path) == (key,)  # type: ignore[arg-type]
    assert keys_for(Way(None, ""), tmp_path) == ()  # type: ignore[arg-type]


def test_use_points_every_bluetooth_library_at_it() -> None:
    use()
    assert os.environ[BUS_VARIABLE] == f"unix:path={bus_socket()}"
