"""The notification log: what it holds, what it must never hold, and how damage to it is told."""

from __future__ import annotations

import asyncio
import json
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_app.link.inprocess import InProcessTransport
from edge_app.link.log import file as log_file
from edge_app.link.log.file import FORMAT, LogWriter, parse_log, read_log
from edge_app.link.log.writer import LoggingTransport
from edge_app.session import record_session
from firmware_bridge.sim.air.faults import Faults
from lsemvae.ecg.errors import FormatError, StoreError

pytestmark = pytest.mark.usefixtures("jumping_clock")

HEADER = json.dumps({"format": FORMAT, "driver": "e6l"}).encode() + b"\n"


def record(transport, *, seconds: float = 3.0, **options):
    return asyncio.run(record_session(transport, seconds=seconds, allow_unauthenticated=True, **options))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.jsonl"


def test_every_line_is_what_the_link_carried(source, path):
    class Spy(InProcessTransport):
        carried: list[tuple[str, str]]

        async def send(self, notification):
            if notification.channel.value in self._listeners:
                self.carried.append((notification.channel.value, notification.data.hex()))
            await super().send(notification)

    inner = Spy(source, speed=20.0, faults=Faults(corrupt=0.1))
    inner.carried = []
    with LoggingTransport(inner, path) as transport:
        result = record(transport)
    log = read_log(path)
    kinds = {"live", "control", "status", "bulk"}
    assert [(entry.channel, entry.data.hex()) for entry in log.entries if entry.channel in kinds] == inner.carried
    assert result.statistics.assembly.corrupt > 0
    assert log.entries[0].channel == "connect"
    assert (log.entries[0].mtu, log.entries[0].kind) == (247, "in-process")
    assert {"descriptor", "status_read", "request", "disconnect"} <= {entry.channel for entry in log.entries}
    assert [entry.t_us for entry in log.entries] == sorted(entry.t_us for entry in log.entries)


def test_the_first_line_is_the_format(source, path):
    with LoggingTransport(InProcessTransport(source, speed=20.0), path) as transport:
        record(transport)
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {"format": "e6l-log/1", "driver": "e6l"}


def test_no_name_no_address_and_no_time_of_day(source, path):
    name, address = "ward 7 Mrs Example", "F1:F2:F3:F4:F5:F6"

    class Named(InProcessTransport):
        async def connect(self):
            info = await super().connect()
            return type(info)(name=name, address=address, mtu=info.mtu, kind=info.kind)

    faults = Faults(disconnect_at=20)
    with LoggingTransport(Named(source, speed=20.0, faults=faults, name=name), path) as transport:
        record(transport, device=name, record_id="01J0000000000000000000000X")
    text = path.read_text()
    assert '"lost"' in text
    for secret in (name, "Example", address, address.replace(":", "").lower(), "01J00"):
        assert secret not in "".join(line.split('"hex"')[0] for line in text.splitlines()), secret
    assert name.encode().hex() not in text
    assert max(entry.t_us for entry in read_log(path).entries) < 60e6  # since the log began, not of the day
    fields = {key for line in text.splitlines() for key in json.loads(line)}
    assert fields == {"format", "driver", "t_us", "channel", "hex", "mtu", "kind"}


def test_only_the_owner_may_read_it(path):
    LogWriter(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_is_never_written_over_another_file(path):
    path.write_text("mine")
    with pytest.raises(StoreError, match="expected a new file"):
        LogWriter(path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        LogWriter(tmp_path / "nowhere" / "log")


def test_a_full_disk_ends_the_log_not_the_recording(source, path, monkeypatch, equals_source):
    real, count = os.write, iter(range(10**6))

    def write(fd, data):
        if bytes(data[:8]) == b'{"t_us":' and next(count) > 30:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(log_file.os, "write", write)
    with LoggingTransport(InProcessTransport(source, speed=20.0), path) as transport:
        result = record(transport)
    assert result.complete
    equals_source(result.record)
    assert "No space" in transport.log.failed
    assert len(read_log(path).entries) == 31


def test_a_log_does_not_grow_without_end(path, monkeypatch):
    monkeypatch.setattr(log_file, "MAX_LOG_BYTES", 10_000)
    with LogWriter(path) as log:
        for number in range(200):
            log.append("live", bytes(100), t_us=number)
    assert "longer than" in log.failed
    assert path.stat().st_size < 10_300


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"[1]", "expected a JSON object"),
        (b'{"channel":"live","hex":"00"}', "found t_us None"),
        (b'{"t_us":-1,"channel":"live","hex":"00"}', "found t_us -1"),
        (b'{"t_us":true,"channel":"live","hex":"00"}', "found t_us True"),
        (b'{"t_us":1.5,"channel":"live","hex":"00"}', "found t_us 1.5"),
        (b'{"t_us":1,"channel":7,"hex":"00"}', "found channel '7'"),
        (b'{"t_us":1,"channel":"live"}', "found hex 'None'"),
        (b'{"t_us":1,"channel":"live","hex":"0"}', "hexadecimal"),
        (b'{"t_us":1,"channel":"live","hex":"zz"}', "hexadecimal"),
        (b'{"t_us":1,"channel":"connect","hex":"","mtu":"big"}', "found mtu big"),
        (b'{"t_us":1,"channel":"connect","hex":"","kind":1}', "found kind 1"),
        (b'{"t_us":99999999999999,"channel":"live","hex":"00"}', "found t_us 99999999999999"),
        (b'{"t_us":' + b"9" * 5000 + b"}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_a_damaged_line_is_left_out_and_named_by_number(line, why):
    good = b'{"t_us":0,"channel":"live","hex":"01"}\n'
    log = parse_log(HEADER + good + line + b"\n" + good)
    assert [entry.data for entry in log.entries] == [b"\x01", b"\x01"]
    (damaged,) = log.damaged
    assert damaged.number == 3
    assert damaged.message.startswith("log line 3: ")
    assert why in damaged.message
    assert len(damaged.message) < 200


def test_a_time_that_goes_back_is_damage():
    line = b'{"t_us":%d,"channel":"live","hex":"01"}\n'
    log = parse_log(HEADER + line % 10 + line % 5 + line % 20)
    assert [entry.t_us for entry in log.entries] == [10, 20]
    assert [item.number for item in log.damaged] == [3]


def test_a_torn_last_line_is_named_too():
    log = parse_log(HEADER + b'{"t_us":1,"channel":"live","hex":"01"}\n{"t_us":2,"chan')
    assert (len(log.entries), [item.number for item in log.damaged]) == (1, [3])


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "expected JSON"), (b"\x00\x01", "expected JSON"), (b'{"a":1}\n', "found format None"), (b"[]\n", "object")],
)
def test_what_is_no_log_is_refused(data, found):
    with pytest.raises(FormatError, match="log line 1") as caught:
        parse_log(data)
    assert found in str(caught.value)


def test_a_log_of_another_version_shows_both_sides_and_advice():
    with pytest.raises(FormatError, match=r"found format 'e6l-log/2', expected 'e6l-log/1'") as caught:
        parse_log(b'{"format":"e6l-log/2"}\n')
    assert "Update this program" in caught.value.advice


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        read_log(tmp_path / "none")


def test_a_huge_file_is_not_read(path, monkeypatch):
    monkeypatch.setattr(log_file, "_READ_BYTES", 100)
    path.write_bytes(HEADER + bytes(200))
    with pytest.raises(FormatError, match="more than"):
        read_log(path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_after_the_first_line_are_entries_or_named_lines(data):
    log = parse_log(HEADER + data)
    assert len(log.entries) + len(log.damaged) == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_alone_are_refused_with_advice(data):
    with pytest.raises(FormatError) as caught:
        parse_log(data)
    assert caught.value.advice
