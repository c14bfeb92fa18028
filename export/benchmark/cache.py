"""The cache folder, under the benchmark's own name."""

from export.cache import cache_folder

__all__ = ["cache_folder"]
