"""What a fresh process loads with each transport: no radio for a serial line, no simulator for a log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"bleak", "dbus_fast", "bumble", "serial", "scipy", "torch"}


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(child.stdout))


@pytest.mark.parametrize("name", ["serial_port", "replay", "notification_log", "driver_session"])
def test_a_transport_without_radio_loads_none_and_no_simulator(name):
    loaded = modules_after(f"import edge_app.link.{name}")
    assert loaded.isdisjoint(HEAVY)
    assert not [module for module in loaded if module.startswith("firmware_bridge.sim")]


def test_the_gatt_port_loads_bleak_but_no_simulator():
    loaded = modules_after("import edge_app.link.ble.port")
    assert "bleak" in loaded
    assert not [module for module in loaded if module.startswith(("firmware_bridge.sim", "bumble"))]


def test_serial_packets_load_no_loop_no_clock_and_no_port():
    loaded = modules_after("import firmware_bridge.protocol.serial_packets")
    assert loaded.isdisjoint({"asyncio", "socket", "serial", "bleak"})
