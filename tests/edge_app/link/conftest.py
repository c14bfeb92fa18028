"""The heartbeat that a virtual device replays, and a clock that jumps to the next timer, for those that ask for it."""

from tests.edge_app.clock import jumping_clock  # noqa: F401
from tests.edge_app.heartbeat import equals_source, signal_uv, source  # noqa: F401
