"""A clock that jumps to the next timer, for those that ask for it."""

from tests.edge.clock import jumping_clock  # noqa: F401
