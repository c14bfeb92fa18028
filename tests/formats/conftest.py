"""A clean recording of leads I and II, as a record and as a file."""

from tests.bundles import (  # noqa: F401 - pytest finds fixtures by name
    clean_csv,
    make_record,
)
