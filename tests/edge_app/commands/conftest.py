"""A clock that jumps to the next timer, for those that ask for it."""

from tests.edge_app.clock import jumping_clock  # noqa: F401
