"""A command whose packages are not installed says which extra brings them, instead of a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import lsemvae.terminal.console as console


@pytest.mark.promise(95)
@pytest.mark.parametrize(
    ("package", "extra"),
    [("torch", "train"), ("safetensors", "train"), ("onnxruntime", "export"), ("pydicom", "dicom")],
)
def test_a_missing_package_names_its_extra(package: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    @console.reports_errors
    def command() -> None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.nn")

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == console.ExitCode.USER_ERROR
    assert capsys.readouterr().err == (
        f"E_RUNTIME: found no package {package}, expected it for this command\n"
        f"What to do: Install it with: pip install 'lsemvae[{extra}]'\n"
    )


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("x", name="lsemvae.nope"), ModuleNotFoundError("x"), ZeroDivisionError(), KeyError("")],
)
def test_a_fault_of_the_program_is_not_called_a_missing_package(error: Exception) -> None:
    @console.reports_errors
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        command()


@pytest.mark.slow
@pytest.mark.promise(95)
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
