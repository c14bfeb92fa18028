"""The test radio leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_bridge.sim import bus
from lsemvae.ecg.errors import LinkError

_PATIENCE_S = 20.0


def gone(folder: Path) -> bool:
    """Whether the folder becomes empty: the keeper removes it after the daemon has ended."""
    until = time.monotonic() + _PATIENCE_S
    while any(folder.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_server_leaves_no_dbus_daemon_and_no_folder(needs_dbus, source_record, tmp_path, number):
    command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(source_record[1])]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["event"] == "ready"
        assert any(tmp_path.iterdir())
        server.send_signal(number)
        assert server.wait(timeout=_PATIENCE_S) == (0 if number is signal.SIGTERM else -number)
    assert gone(tmp_path)


def test_a_daemon_that_cannot_start_is_said_and_leaves_no_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(bus, "find_dbus_daemon", lambda: "/bin/false")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LinkError, match="ended without an address"), bus.private_bus():
        pass
    assert not any(tmp_path.iterdir())
