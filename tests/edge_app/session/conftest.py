"""The heartbeat that a virtual device replays, and a clock that jumps to the next timer."""

from __future__ import annotations

import pytest

from tests.edge_app.clock import jumping_clock  # noqa: F401
from tests.edge_app.heartbeat import equals_source, signal_uv, source  # noqa: F401


@pytest.fixture(autouse=True)
def _no_session_waits_on_the_wall_clock(request: pytest.FixtureRequest) -> None:
    if "real_clock" not in request.fixturenames:
        request.getfixturevalue("jumping_clock")


@pytest.fixture
def real_clock() -> None:
    """A thread reads a real line: the wall clock is its clock."""
