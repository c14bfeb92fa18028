"""The heartbeat that a virtual device replays."""

from tests.edge.heartbeat import equals_source, signal_uv, source  # noqa: F401
