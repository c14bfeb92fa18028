"""docs/reference/python-api.md: the names that programs may rely on, with signature and docstring."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from tools.pages.docstring import GENERATED, markdown, summary

# The names that every release has, in the order of a reader's way; further ones of a package's `__all__` follow them.
PUBLIC: Final[dict[str, tuple[str, ...]]] = {
    "lsemvae": (
        "read_record",
        "EcgRecord",
        "assess_quality",
        "apply_frontend",
        "open_screener",
        "Screener",
        "ScreenResult",
        "Outcome",
        "open_bundle",
        "load_model",
        "open_store",
        "derive_limb_leads",
        "LEADS",
        "__version__",
    ),
    "edge_app": ("record_session",),
    "export": ("export_run",),
    "firmware_bridge": ("decode_frame", "Recording"),
}
_TITLES: Final = {
    "lsemvae": "`lsemvae`: recordings, quality, screening, models",
    "edge_app": "`edge_app`: record from a device",
    "export": "`export`: from a run to a signed bundle",
    "firmware_bridge": "`firmware_bridge`: bytes of a device",
}
_HEAD: Final = f"""{GENERATED}

# Python API

These names stay as they are within a major version. Everything else may move from one release to the next. Importing a package is cheap:
each name loads what it needs when it is first used, so `import lsemvae` needs no torch. Errors: [errors.md](errors.md). The same things
as commands: [commands.md](commands.md). Complete programs: [examples](../../examples).

```python
from lsemvae import open_screener, read_record

result = open_screener().screen(read_record("recording.ecg.npz"))
print(result.decision.outcome)
```
"""
ROOT: Final = Path(__file__).resolve().parents[2]
_ADDRESS: Final = re.compile(r"<.* at 0x[0-9a-f]+>")


def public_names(package: str) -> list[str]:
    """Return the public names of a package."""
    return list(dict.fromkeys([*PUBLIC[package], *getattr(importlib.import_module(package), "__all__", ())]))


def page(_root: Path) -> str:
    """Return the text of the page; a name that is not there ends with an AttributeError that names it."""
    lines = [_HEAD]
    for package in PUBLIC:
        module = importlib.import_module(package)
        lines += [f"## {_TITLES[package]}", ""]
        for name in public_names(package):
            lines += _entry(package, name, getattr(module, name))
    return "\n".join(lines).rstrip() + "\n"


def _entry(package: str, name: str, thing: Any) -> list[str]:
    """Return the lines of one name."""
    lines = [f"### `{package}.{name}`", ""]
    if name == "__version__":
        return [*lines, "The installed version, as text.", ""]
    if not (inspect.isclass(thing) or callable(thing)):
        return [*lines, _value(thing), ""]
    if inspect.isclass(thing) and issubclass(thing, Enum):
        members = ", ".join(f"`{member.name}` (`{member.value}`)" for member in thing)
        return [*lines, *markdown(thing), "", f"Members: {members}.", ""]
    lines += ["```python", _signature(name, thing), "```", "", *markdown(thing), ""]
    if inspect.isclass(thing):
        lines += _members(thing)
    return lines


def _value(thing: object) -> str:
    """Return a constant in words that are the same on every machine."""
    if isinstance(thing, Path):
        shown = thing.relative_to(ROOT) if thing.is_relative_to(ROOT) else thing.name
        return f"The path of `{shown}`."
    if isinstance(thing, Mapping):
        return f"A mapping with the keys {', '.join(f'`{key}`' for key in thing)}."
    text = repr(thing)
    return (
        f"`{text}`"
        if len(text) <= 200 and " at 0x" not in text
        else f"A constant of the type `{type(thing).__name__}`."
    )


def _signature(name: str, thing: Any) -> str:
    """Return the call as it stands in the source, one parameter a line where it is long."""
    signature = inspect.signature(thing)
    kinds = inspect.Parameter
    shown: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is kinds.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        annotation = "" if parameter.annotation is kinds.empty else f": {_plain(parameter.annotation)}"
        default = "" if parameter.default is kinds.empty else f" = {_default(parameter.default)}"
        shown.append(f"{parameter.name}{annotation}{default if annotation else default.replace(' ', '')}")
    returned = signature.return_annotation
    arrow = "" if returned is kinds.empty or inspect.isclass(thing) else f" -> {_plain(returned)}"
    prefix = "async def " if inspect.iscoroutinefunction(thing) else "class " if inspect.isclass(thing) else "def "
    call = f"({', '.join(shown)})" if shown or not inspect.isclass(thing) else ""
    line = f"{prefix}{name}{call}{arrow}: ..."
    if len(line) <= 100:
        return line
    return "\n".join([f"{prefix}{name}(", *(f"    {part}," for part in shown), f"){arrow}: ..."])


def _default(value: object) -> str:
    """Return a default value; of one that is long only its kind; of a path that of the checkout, the same on every machine."""
    if isinstance(value, Path):
        return f'Path("{value.relative_to(ROOT) if value.is_relative_to(ROOT) else value.name}")'
    text = _ADDRESS.sub("...", repr(value))
    if '"' not in text:
        text = text.replace("'", '"')  # as the formatter writes it, which looks at pages too
    return text if len(text) <= 60 else f"{type(value).__name__}(...)"


def _plain(annotation: object) -> str:
    """Return a type as it is written in the source."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _members(kind: type) -> list[str]:
    """Return the public methods and properties of a class, one line each."""
    lines = []
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not inspect.isfunction(function):
            continue
        text = summary(function)
        shown = name if isinstance(member, property) else f"{name}({', '.join(_arguments(function))})"
        lines.append(f"- `.{shown}`: {text}")
    return ["Members:", "", *lines, ""] if lines else []


def _arguments(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
