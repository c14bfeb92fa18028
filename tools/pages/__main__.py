"""`python -m tools.pages` writes the generated pages of docs/; with `--check` it only says which are out of date."""

from __future__ import annotations

import sys

from tools.pages import stale, write


def main() -> int:
    """Write or check; the exit code is 1 where a check finds an old page."""
    checking = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not checking:
        sys.exit(__doc__)
    old = stale()
    if not checking:
        write(old)
    for path in old:
        sys.stdout.write(f"{path}: {'out of date' if checking else 'written'}\n")
    return 1 if checking and old else 0


if __name__ == "__main__":
    sys.exit(main())
