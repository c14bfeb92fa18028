"""What the exporter offers to others: names that are there, and cost nothing before they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import export


def test_every_public_name_is_there_and_is_listed() -> None:
    assert set(export.__all__) <= set(dir(export))
    for name in export.__all__:
        assert getattr(export, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = export.nothing


def test_the_package_alone_loads_no_heavy_library() -> None:
    code = "import sys, export; print(sorted(set(sys.modules) & {'torch', 'numpy', 'lsemvae.data', 'export.run'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
