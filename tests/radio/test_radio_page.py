"""docs/how-to/bluetooth.md names every error and every fault that there is."""

from __future__ import annotations

import dataclasses

import pytest

from edge_app.link import radio_errors
from edge_app.session import DeviceNotAuthenticatedError
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.server import COMMANDS

ERRORS = [kind.code for kind in radio_errors.RadioError.__subclasses__()] + [DeviceNotAuthenticatedError.code]
SHARES = [field.name for field in dataclasses.fields(Faults) if field.type == "float"]


@pytest.fixture(scope="module")
def page(repo_root) -> str:
    return (repo_root / "docs/how-to/bluetooth.md").read_text()


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_the_radio_is_in_the_table(page, code):
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{code}` |")]
    assert all(cell.strip() for cell in row.split("|")[1:-1])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_simulator_is_on_the_page(page, name):
    assert f"`{name}" in page


@pytest.mark.parametrize("share", SHARES)
def test_every_fault_of_frames_is_on_the_page(page, share):
    assert f"--{share}" in page
