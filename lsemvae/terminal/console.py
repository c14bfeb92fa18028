"""What the commands of both programs share: exit codes, errors as code, sentence and advice, text or JSON."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from lsemvae.ecg.errors import EcgError
    from lsemvae.terminal.strip import StripStyle

P = ParamSpec("P")
R = TypeVar("R")

# Name of the parameter that asks for JSON, in every command that reports.
JSON_PARAMETER: Final = "as_json"

_MAX_WIDTH: Final = 120

# Which extra brings a package that a command may find missing.
_EXTRA_PACKAGES: Final = {
    "edge": ("ai_edge_litert", "bleak", "bleak_retry_connector", "cryptography"),
    "dicom": ("pydicom",),
    "train": ("torch", "safetensors", "sklearn", "wfdb", "matplotlib"),
    "explain": ("captum",),
    "serial": ("serial",),
    "sim": ("bumble", "dbus_fast", "cffi"),
    "export": ("litert_torch", "litert_quantizer", "onnx", "onnxscript", "onnxruntime"),
}


class ExitCode(IntEnum):
    """What the shell learns. Scripts rely on these numbers."""

    OK = 0
    USER_ERROR = 1
    USAGE = 2
    ABSTAIN = 3
    BUNDLE_REFUSED = 4


def exit_code_of(error: EcgError) -> ExitCode:
    """Return the exit code of an error: 4 for a refused bundle, 1 for everything that a user can mend."""
    from lsemvae.ecg.errors import BundleError, ManifestError

    return ExitCode.BUNDLE_REFUSED if isinstance(error, BundleError | ManifestError) else ExitCode.USER_ERROR


def say(text: str = "") -> None:
    """Print a line for the operator; a terminal that lacks a character gets a question mark, never a crash."""
    encoding = sys.stdout.encoding or "ascii"
    _write(text.encode(encoding, errors="replace").decode(encoding))


def fit(text: str) -> str:
    """Break lines between words where a person reads them in a terminal; files and pipes get whole lines."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size((100, 24)).columns
    return "\n".join(
        line if len(line) <= width or "\x1b" in line else textwrap.fill(line, width, subsequent_indent="  ")
        for line in text.split("\n")
    )


def _write(text: str) -> None:
    try:
        typer.echo(text)
    except BrokenPipeError:  # whoever reads has seen enough; the command line library ends the program quietly
        raise
    except OSError as error:
        from lsemvae.ecg.errors import StoreError

        raise StoreError(
            f"Cannot write the answer to standard output: {error.strerror or type(error).__name__}.",
            advice="Free some space where the output goes. What was stored before is safe: edge_app records list",
        ) from error


def say_progress(text: str) -> None:
    """Print a passing remark on the error stream, where it never mixes with JSON."""
    encoding = sys.stderr.encoding or "ascii"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding), err=True)


def say_json(value: Mapping[str, Any] | list[Any]) -> None:
    """Print one JSON document; ASCII, so that any terminal and any pipe takes it."""
    _write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def say_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON document on one line and pass it on at once: what happens, as it happens."""
    _write(json.dumps(value, ensure_ascii=True, allow_nan=False))
    sys.stdout.flush()


def report_error(error: EcgError, *, as_json: bool, extra: Mapping[str, Any] | None = None) -> None:
    """Print an error: as a JSON document on standard output, or as code, sentence and advice on the error stream."""
    if as_json:
        say_json({**(extra or {}), "error": error.to_dict()})
        return
    say_progress(f"{error.code}: {error}")
    say_progress(f"What to do: {error.advice}")


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command so that an `EcgError` ends it with its message and exit code, and never with a traceback.

    The error classes are loaded when something was raised: they bring numpy, which `--help` does without.
    """

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            from lsemvae.ecg.errors import EcgError, RuntimeMissingError

            known = error if isinstance(error, EcgError) else None
            if isinstance(error, ModuleNotFoundError):
                name = (error.name or "").partition(".")[0]
                extra = next((extra for extra, packages in _EXTRA_PACKAGES.items() if name in packages), None)
                if extra is not None:
                    known = RuntimeMissingError(
                        f"found no package {name}, expected it for this command",
                        advice=f"Install it with: pip install 'lsemvae[{extra}]'",
                    )
            if known is None:
                raise
            report_error(known, as_json=bool(kwargs.get(JSON_PARAMETER, False)))
            raise typer.Exit(exit_code_of(known)) from error

    return guarded


def strip_style() -> StripStyle:
    """Return how to draw on this terminal: its width, its characters, and colour only where it is wanted."""
    from lsemvae.terminal.strip import StripStyle

    try:
        "\u28ff\u2502\u2514".encode(sys.stdout.encoding or "ascii")
        unicode = True
    except (UnicodeEncodeError, LookupError):
        unicode = False
    return StripStyle(
        width=min(_MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns),
        unicode=unicode,
        colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )
