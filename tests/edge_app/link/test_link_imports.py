"""What a fresh process loads: Bluetooth only where Bluetooth is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(child.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import edge_app.session",
        "import edge_app.session.spool",
        "import edge_app.link.base",
        "import edge_app.link.inprocess",
    ],
)
def test_sessions_spool_and_the_in_process_link_load_no_radio(statement):
    loaded = modules_after(statement)
    assert loaded.isdisjoint({"bleak", "dbus_fast", "bumble", "bleak_retry_connector", "scipy", "torch"})


@pytest.mark.promise(56)
def test_the_session_does_not_know_the_simulator():
    assert not [name for name in modules_after("import edge_app.session") if name.startswith("firmware_bridge.sim")]


def test_the_bluetooth_link_loads_bleak_but_not_the_simulator():
    loaded = modules_after("import edge_app.link.ble.transport")
    assert "bleak" in loaded
    assert not [name for name in loaded if name.startswith(("firmware_bridge.sim", "bumble"))]


@pytest.mark.promise(56)
def test_the_bridge_loads_no_event_loop_no_socket_and_no_simulator():
    protocol = ("codec", "control", "descriptor", "profile", "status")
    assembly = ("reassembly", "recording", "quantise")
    names = [*(f"protocol.{name}" for name in protocol), *(f"assembly.{name}" for name in assembly)]
    loaded = modules_after("import " + ", ".join(f"firmware_bridge.{name}" for name in names))
    assert loaded.isdisjoint({"asyncio", "socket", "bleak", "bumble", "dbus_fast"})
    assert not [name for name in loaded if name.startswith("firmware_bridge.sim")]


@pytest.mark.parametrize("name", ["link.serial.transport", "link.log.replay", "link.log.writer", "session.driver"])
def test_a_link_without_radio_loads_none_and_no_simulator(name):
    loaded = modules_after(f"import edge_app.{name}")
    assert loaded.isdisjoint({"bleak", "dbus_fast", "bumble", "serial", "scipy", "torch"})
    assert not [module for module in loaded if module.startswith("firmware_bridge.sim")]


def test_the_gatt_port_loads_bleak_but_no_simulator():
    loaded = modules_after("import edge_app.link.ble.port")
    assert "bleak" in loaded
    assert not [module for module in loaded if module.startswith(("firmware_bridge.sim", "bumble"))]


def test_serial_packets_load_no_loop_no_clock_and_no_port():
    loaded = modules_after("import firmware_bridge.protocol.serial_packets")
    assert loaded.isdisjoint({"asyncio", "socket", "serial", "bleak"})
