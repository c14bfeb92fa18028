"""A command whose packages are not installed says which extra brings them, instead of a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lsemvae.terminal.console as console


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "train"), ("safetensors", "train"), ("onnxruntime", "export")]
)
def test_a_missing_package_names_its_extra(package: str, extra: str) -> None:
    error = ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.nn")
    known = console._as_ecg_error(error)
    assert known is not None
    assert package in str(known)
    assert f"lsemvae[{extra}]" in known.advice
    assert console._as_ecg_error(ModuleNotFoundError("x", name="lsemvae.nope")) is None


def test_defect_a_command_without_torch_ends_with_advice_not_a_traceback(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        f"sys.argv = ['lsemvae', 'pretrain', '--data', {str(tmp_path)!r}, '--out', {str(tmp_path / 'o')!r}, '--json']; "
        "from lsemvae.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], "torch" in error["message"]) == ("E_RUNTIME", True)
    assert "Traceback" not in done.stderr
