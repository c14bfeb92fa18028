"""A missing part of the test radio is named, with the command that brings it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from firmware_bridge.sim import server
from firmware_bridge.sim.air.bus import find_dbus_daemon
from firmware_bridge.sim.air.radio import check_radio_requirements
from lsemvae.ecg.errors import LinkError


@pytest.mark.parametrize("name", ["bumble", "dbus_fast"])
def test_a_missing_module_names_the_extra(monkeypatch, name):
    present = importlib.util.find_spec("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else present)
    with pytest.raises(LinkError, match=f"found no module {name}") as caught:
        check_radio_requirements()
    assert "lsemvae[sim]" in caught.value.advice


def test_a_missing_dbus_daemon_names_the_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(LinkError, match="found no program dbus-daemon") as caught:
        find_dbus_daemon()
    assert "apt-get install dbus" in caught.value.advice


def test_the_server_says_it_as_json_and_ends_with_1(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert server.main(["--record", str(Path("any.ecg.npz"))]) == 1
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["code"]) == ("error", "E_LINK")
    assert event["advice"]
