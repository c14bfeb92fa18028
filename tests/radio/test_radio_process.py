"""The test radio leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_app.link.ble.transport import BleTransport
from edge_app.session import SessionResult, record_session
from firmware_bridge.protocol.control import Request, StartParams, decode_reply, decode_start_reply
from firmware_bridge.protocol.profile import Op
from firmware_bridge.sim.air import bus
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.air.radio import RadioOptions, serve
from firmware_bridge.sim.device.device import Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import source_from_record
from firmware_bridge.sim.server import COMMANDS
from lsemvae.ecg.errors import LinkError

_PATIENCE_S = 20.0


def gone(folder: Path) -> bool:
    """Whether the folder becomes empty: the keeper removes it after the daemon has ended."""
    until = time.monotonic() + _PATIENCE_S
    while any(folder.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_server_leaves_no_dbus_daemon_and_no_folder(needs_dbus, source_record, tmp_path_factory, number):
    folder = tmp_path_factory.mktemp("b")  # short: the path of a socket has at most 108 bytes
    command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(source_record[1])]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["event"] == "ready"
        assert any(folder.iterdir())
        server.send_signal(number)
        assert server.wait(timeout=_PATIENCE_S) == (0 if number is signal.SIGTERM else -number)
    assert gone(folder)


def test_a_daemon_that_cannot_start_is_said_and_leaves_no_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(bus, "find_dbus_daemon", lambda: "/bin/false")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LinkError, match="ended without an address"), bus.private_bus():
        pass
    assert not any(tmp_path.iterdir())


def server(record: Path, *options: str) -> tuple[subprocess.Popen[str], dict]:
    """A running radio, and the first thing that it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(record), *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def ended(process: subprocess.Popen[str], *lines: str) -> tuple[list[dict], int]:
    """What it said to some commands until it had quit, and its status."""
    said, _ = process.communicate("".join(f"{line}\n" for line in (*lines, "quit")), timeout=_PATIENCE_S)
    return [json.loads(line) for line in said.splitlines()], process.returncode


def test_a_killed_radio_is_started_again_at_the_same_address(needs_dbus, source_record, tmp_path):
    path = tmp_path / "a bus"
    boots = []
    for _ in range(2):
        process, first = server(source_record[1], "--bus", str(path))
        boots.append(first)
        process.kill()
        process.communicate()
    assert [event["event"] for event in boots] == ["ready", "ready"]
    assert boots[0]["bus"] == boots[1]["bus"] == f"unix:path={tmp_path}/a%20bus"


def test_a_bus_in_use_is_refused_and_goes_on_working(needs_dbus, source_record, tmp_path):
    path = tmp_path / "bus"
    process, _ = server(source_record[1], "--bus", str(path))
    second, refusal = server(source_record[1], "--bus", str(path))
    assert ended(second)[1] == 1
    assert refusal["code"] == "E_LINK"
    assert "found a bus in use" in refusal["message"]
    assert "end it, or choose another path" in refusal["advice"]
    said, status = ended(process, "report")
    assert (said[0]["event"], status) == ("report", 0)
    assert not path.exists()


def test_a_foreign_bus_at_the_path_is_never_taken_over(needs_dbus, tmp_path):
    path = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with pytest.raises(LinkError, match="found a bus in use"), bus.private_bus(path):
            pass
    assert path.is_socket()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "found something that is no socket"),
        ("absent/bus", "No such file"),
        ("x" * 120, "expected 107 at most"),
    ],
)
def test_a_path_where_no_socket_can_be_is_refused_with_advice(needs_dbus, tmp_path, name, words):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(LinkError, match=words) as caught, bus.private_bus(tmp_path / name):
        pass
    assert caught.value.advice
    assert (tmp_path / "file").read_text() == "kept"


def test_every_command_is_obeyed_and_nonsense_is_answered(needs_dbus, source_record):
    arguments = {
        "power_cycle": "0.01", "battery": "50", "faults": '{"drop": 0.1}', "impostor": "on", "fail_connect": "1",
        "pairing": "off",
    }  # fmt: skip
    process, ready = server(source_record[1], "--key", "E6L1:Bed-7:" + "ab" * 32)
    assert ready["name"] == "Bed-7"
    right = [f"{name} {arguments.get(name, '')}" for name in COMMANDS]
    right.insert(right.index("service_stop "), "service_restart")
    wrong = [
        "dance",
        "impostor maybe",
        'faults {"drop": 2}',
        'faults {"x": 1}',
        "battery full",
        "battery 300",
        "power_cycle",
        "power_cycle -1",
    ]
    said, status = ended(process, *right, *wrong)
    assert status == 0
    unknown = [event["found"] for event in said if event["event"] == "unknown_command"]
    assert unknown == wrong


@pytest.mark.parametrize(
    ("options", "status"), [(("--drop", "2"), 2), (("--faults", '{"x": 1}'), 2), (("--key", "nonsense"), 1)]
)
def test_options_that_make_no_sense_end_it_at_once(source_record, options, status):
    command = [sys.executable, "-m", "firmware_bridge.sim.server", "--record", str(source_record[1]), *options]
    child = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert child.returncode == status
    assert "expected" in child.stdout + child.stderr


def test_the_radio_runs_as_a_library_and_tells_where_streams_begin(needs_dbus, source_record, monkeypatch, tmp_path):
    events: list[tuple[str, dict]] = []

    def said(event: str, /, **details) -> None:
        events.append((event, details))

    async def one_session() -> SessionResult:
        options = RadioOptions(speed=10, bus=tmp_path / "bus", devices=2)
        async with serve(source_record[0], options, on_event=said) as radio:
            monkeypatch.setenv(bus.BUS_VARIABLE, radio.bus)
            transport = BleTransport(address="F1:F2:F3:F4:F5:F7", scan_s=5)  # the second of two with one name
            return await record_session(transport, seconds=2, allow_unauthenticated=True)

    result = asyncio.run(one_session())
    assert result.complete
    ((_, stream),) = [event for event in events if event[0] == "stream"]
    assert stream["device"] == "F1:F2:F3:F4:F5:F7"
    assert (stream["source_index"], stream["resumed"]) == (0, False)
    assert not (tmp_path / "bus").exists()


def test_a_power_cycle_sets_clock_and_numbers_to_zero(source_record):
    class Host:
        mtu = 247

        def __init__(self) -> None:
            self.got: list[Notification] = []

        async def send(self, notification: Notification) -> None:
            self.got.append(notification)

        async def drop(self) -> None:
            pass

    async def started_at(player: DevicePlayer) -> int:
        host = Host()
        player.attach(host)
        await player.control(Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes())
        player.detach(host)
        reply = next(item for item in host.got if item.channel is Channel.CONTROL)
        return decode_start_reply(decode_reply(reply.data).data).t_us

    async def run() -> tuple[int, int]:
        player = DevicePlayer(VirtualDevice(source_from_record(source_record[0])), speed=1000)
        player.start()
        await asyncio.sleep(0.05)
        before = await started_at(player)
        await player.power_off()
        player.power_on()
        after = await started_at(player)
        await player.close()
        return before, after

    before, after = asyncio.run(run())
    assert before >= 50e6 > after  # device time: 0.05 s at a thousand times real time
