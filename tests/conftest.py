"""What the whole suite shares: the development recordings, system programs, and a loud list of what was skipped for want of them.

`make test` leaves out what is marked slow and everything in the folders below; `make check` runs it all.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDS = "NEEDS "
# Radios, emulated machines and the evidence of whole runs: minutes, and programs that a bare machine lacks.
SLOW_FOLDERS = ("tests/radio/", "tests/aarch64/")


# A student converted for real, five runtimes with a browser: whichever test comes first pays for them.
SLOW_FIXTURES = {"exported", "legacy_run", "browser_session"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what lies in a slow folder or shares what is slow to make."""
    for item in items:
        if item.nodeid.startswith(SLOW_FOLDERS) or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    # The longest files first, so that no process is left alone with one at the end.
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW_FOLDERS))


def skip_for(need: str) -> NoReturn:
    """Skip a test for want of something; the summary lists it, and LSEMVAE_REQUIRE_ALL=1 makes it a failure."""
    pytest.skip(f"{NEEDS}{need}")


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
        skip_for("the development recordings (set LSEMVAE_DATA to the folder with metadata.csv)")
    assert found is not None
    return found


@pytest.fixture
def needs_dbus(request: pytest.FixtureRequest) -> str:
    program = shutil.which("dbus-daemon")
    if program is None:
        skip_for("the program dbus-daemon (Debian package: dbus)")
    assert program is not None
    return program


@pytest.fixture(scope="module")
def needs_core(request: pytest.FixtureRequest) -> None:
    """The device core in C, built before the first test that runs it."""
    from firmware_bridge.sim.device.core_build import load_core, missing_for_core

    lacking = missing_for_core()
    if lacking:
        skip_for(f"{', '.join(lacking)} for the C core")
    load_core()


@pytest.fixture
def needs_qemu(request: pytest.FixtureRequest) -> None:
    from tools.arm64.programs import missing_programs

    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        skip_for(f"an x86-64 Linux to emulate a board on (this is {platform.system()} {platform.machine()})")
    absent = missing_programs()
    if absent:
        skip_for(f"{', '.join(absent)} (Debian packages: qemu-user mmdebstrap gcc libc6-dev)")


def _missing(terminalreporter: pytest.TerminalReporter) -> dict[str, list[str]]:
    """Return what was missing, and which tests were skipped for it; from the reports, so that parallel runs count as well."""
    found: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        if NEEDS in reason:
            found.setdefault(reason.partition(NEEDS)[2], []).append(report.nodeid)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = _missing(terminalreporter)
    if missing:
        terminalreporter.section("NOT RUN FOR WANT OF SOMETHING", sep="!", red=True, bold=True)
    for need, tests in sorted(missing.items()):
        terminalreporter.write_line(f"missing: {need} -> {len(tests)} tests skipped", red=True, bold=True)
        for test in sorted(tests):
            terminalreporter.write_line(f"  {test}")
    left_out = len(terminalreporter.stats.get("deselected", []))
    if left_out:
        terminalreporter.write_line(f"{left_out} slow tests were left out: make check runs them")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """LSEMVAE_REQUIRE_ALL=1 (set by .ci/run) turns a skipped need into a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and os.environ.get("LSEMVAE_REQUIRE_ALL") == "1" and reporter is not None and _missing(reporter):
        session.exitstatus = 1
