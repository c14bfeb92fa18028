"""What the whole suite shares: the development recordings, system programs, and a loud list of what was skipped for want of them."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MISSING_NEEDS: dict[str, set[str]] = {}


def _skip_for(need: str, request: pytest.FixtureRequest) -> None:
    MISSING_NEEDS.setdefault(need, set()).add(request.node.nodeid)
    pytest.skip(f"NEEDS {need}")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


def find_data_dir() -> Path | None:
    """The development recordings: LSEMVAE_DATA, or ../shared/data/ecg beside the checkout."""
    candidates = [os.environ.get("LSEMVAE_DATA", ""), str(ROOT.parent / "shared" / "data" / "ecg")]
    for candidate in filter(None, candidates):
        if (Path(candidate) / "metadata.csv").is_file():
            return Path(candidate)
    return None


@pytest.fixture
def ecg_data_dir(request: pytest.FixtureRequest) -> Path:
    found = find_data_dir()
    if found is None:
        _skip_for("the development recordings (set LSEMVAE_DATA to the folder with metadata.csv)", request)
    assert found is not None
    return found


@pytest.fixture
def needs_dbus(request: pytest.FixtureRequest) -> str:
    program = shutil.which("dbus-daemon")
    if program is None:
        _skip_for("the program dbus-daemon (Debian package: dbus)", request)
    assert program is not None
    return program


@pytest.fixture(scope="module")
def needs_core(request: pytest.FixtureRequest) -> None:
    """The device core in C, built before the first test that runs it."""
    from firmware_bridge.sim.device.core_build import load_core, missing_for_core

    lacking = missing_for_core()
    if lacking:
        _skip_for(f"{', '.join(lacking)} for the C core", request)
    load_core()


@pytest.fixture
def needs_qemu(request: pytest.FixtureRequest) -> None:
    from tools.arm64.programs import missing_programs

    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        _skip_for(f"an x86-64 Linux to emulate a board on (this is {platform.system()} {platform.machine()})", request)
    absent = missing_programs()
    if absent:
        _skip_for(f"{', '.join(absent)} (Debian packages: qemu-user mmdebstrap gcc libc6-dev)", request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not MISSING_NEEDS:
        return
    terminalreporter.section("NOT RUN FOR WANT OF SOMETHING", sep="!", red=True, bold=True)
    for need, tests in sorted(MISSING_NEEDS.items()):
        terminalreporter.write_line(f"missing: {need} -> {len(tests)} tests skipped", red=True, bold=True)
        for test in sorted(tests):
            terminalreporter.write_line(f"  {test}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """LSEMVAE_REQUIRE_ALL=1 (set by .ci/run) turns a skipped need into a failure."""
    if MISSING_NEEDS and os.environ.get("LSEMVAE_REQUIRE_ALL") == "1" and exitstatus == 0:
        session.exitstatus = 1
