"""The reference pages that are written from the code, so that they cannot say something else than the code does."""

from tools.pages.write import PAGES, ROOT, stale, write

__all__ = ["PAGES", "ROOT", "stale", "write"]
