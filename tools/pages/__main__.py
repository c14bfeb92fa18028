"""`python -m tools.pages` writes the generated pages of docs/; with `--check` it only says which are out of date."""

from __future__ import annotations

import sys

from tools.pages import PAGES, ROOT


def main() -> int:
    """Write or check; the exit code is 1 where a check finds an old page, or a page cannot be made."""
    checking = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not checking:
        sys.exit(__doc__)
    status = 0
    for name, page in PAGES.items():
        path = ROOT / name
        try:
            text = page(ROOT)
        except (
            ImportError,
            AttributeError,
            KeyError,
        ) as error:  # a name that the page needs is not there: the other pages still are
            sys.stdout.write(f"{name}: {type(error).__name__}: {error}\n")
            status = 1
            continue
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if checking:
            status = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}: {'out of date' if checking else 'written'}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
