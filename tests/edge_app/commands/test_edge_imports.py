"""What an edge process loads and how much memory it takes, and that it uses no network; each in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FORBIDDEN = (
    "torch",
    "scipy",
    "pandas",
    "matplotlib",
    "sklearn",
    "lsemvae.data",
    "lsemvae.model",
    "lsemvae.train",
    "export",
)

# Bar of the edge process. Read from the kernel's high-water mark, which a new program starts afresh.
MAX_RSS_MIB = 90

PROBE = """
import json, sys
sys.argv = ["edge_app", *json.loads(sys.stdin.readline())]
def report():
    names = sorted(sys.modules)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("\\n@@" + json.dumps({"modules": names, "rss_kib": int(peak.split()[1])}))
import atexit
atexit.register(report)
from edge_app.cli import main
main()
"""

DENY = """
import socket, sys
def denied(event, args):
    if event.startswith("socket.") and event not in ("socket.__new__",):
        print("DENIED", event, args[1:], file=sys.stderr, flush=True)
        raise PermissionError(f"network use: {event}")
    if event == "socket.__new__" and args[1] in (socket.AF_INET, socket.AF_INET6):
        print("DENIED", event, args[1:], file=sys.stderr, flush=True)
        raise PermissionError("network use: socket")
sys.addaudithook(denied)
"""


def _run(arguments: list[str], *, prelude: str = "") -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    process = subprocess.run(
        [sys.executable, "-c", prelude + PROBE],
        input=json.dumps(arguments) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert "@@" in process.stdout, process.stderr
    return process, json.loads(process.stdout.rpartition("@@")[2])


def _loaded(report: dict[str, Any], *names: str) -> list[str]:
    return [m for m in report["modules"] if any(m == name or m.startswith(f"{name}.") for name in names)]


@pytest.fixture
def options(bundle_dir: Path, trust_dir: Path, tmp_path: Path) -> list[str]:
    return ["--bundle", str(bundle_dir), "--trust", str(trust_dir), "--data-dir", str(tmp_path / "home")]


@pytest.mark.promise(58)
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["screen", "--help"], ["run", "--help"], ["records", "-h"]]
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    process, report = _run(words)
    assert process.returncode == 0, process.stderr
    heavy = (
        "numpy",
        "ai_edge_litert",
        "onnxruntime",
        "bleak",
        "dbus_fast",
        "cryptography",
        "pydicom",
        "sqlite3",
        "asyncio",
    )
    assert _loaded(report, *heavy, *FORBIDDEN) == []


@pytest.mark.slow
@pytest.mark.promise(57, 60)
def test_screening_a_file_loads_no_laboratory_and_no_radio(options: list[str], clean_csv: Path) -> None:
    process, report = _run(["screen", str(clean_csv), *options])
    assert process.returncode in (0, 3), process.stderr
    assert "Stored as" in process.stdout
    assert _loaded(report, *FORBIDDEN, "bleak", "dbus_fast", "bumble", "pydicom", "onnxruntime", "ssl", "asyncio") == []
    assert report["rss_kib"] / 1024 <= MAX_RSS_MIB


@pytest.mark.slow
@pytest.mark.promise(57)
def test_the_demonstration_loads_no_laboratory(options: list[str]) -> None:
    process, report = _run(["demo", "--speed", "20", *options])
    assert process.returncode in (0, 3), process.stderr
    assert _loaded(report, *FORBIDDEN, "bleak", "bumble") == []


@pytest.mark.slow
@pytest.mark.promise(59)
def test_screening_uses_no_network(options: list[str], clean_csv: Path) -> None:
    process, _ = _run(["screen", str(clean_csv), *options], prelude=DENY)
    assert process.returncode in (0, 3), process.stderr
    assert "DENIED" not in process.stderr


@pytest.mark.promise(59)
def test_the_denial_is_real() -> None:
    """The spy of the test above sees a connection, a look-up and a datagram."""
    for use in (
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    ):
        process = subprocess.run(
            [sys.executable, "-c", f"{DENY}\nimport socket\n{use}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "DENIED" in process.stderr


@pytest.mark.parametrize("answer", ["screen", "records"])
def test_a_closed_pipe_or_bad_folder_gives_no_traceback(options: list[str], clean_csv: Path, answer: str) -> None:
    words = ["screen", str(clean_csv), *options] if answer == "screen" else ["records", "list"]
    words = [*words, "--data-dir", "/proc/no-such-place"]
    process, _ = _run(words)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "E_STORE" in process.stderr
