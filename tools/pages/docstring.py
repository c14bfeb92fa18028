"""Numpydoc docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
from typing import Final

_HEAD: Final = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ROLE: Final = re.compile(r":(?:class|func|data|meth|mod):`~?([^`]+)`")
GENERATED: Final = "<!-- Written by `python -m tools.pages`. Change the code or tools/pages, not this file. -->"


def sections(thing: object) -> dict[str, str]:
    """Return the sections of a docstring by heading; the text before the first heading stands under ""."""
    doc = _ROLE.sub(r"`\1`", inspect.getdoc(thing) or "").replace("``", "`")
    parts = _HEAD.split(doc)
    return {"": parts[0].strip(), **{head: text.rstrip() for head, text in zip(parts[1::2], parts[2::2], strict=True)}}


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(sections(thing)[""].partition("\n\n")[0].split())


def entries(section: str) -> list[tuple[str, str]]:
    """Return the entries of a section: names (a type after a colon is left out), and their text as one line."""
    found: list[tuple[str, str]] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            found.append((line.partition(" :")[0].strip(), ""))
        elif line.strip() and found:
            name, text = found[-1]
            found[-1] = (name, f"{text} {line.strip()}".strip())
    return found


def meanings(thing: object, section: str = "Attributes") -> dict[str, str]:
    """Return what a section says of each name; names that share an entry share its text."""
    found = {}
    for names, text in entries(sections(thing).get(section, "")):
        for name in re.split(r",\s*", names):
            found[name.strip()] = text
    return found


def markdown(thing: object) -> list[str]:
    """Return a docstring as lines of Markdown: text, then each section as a list."""
    parts = sections(thing)
    lines = parts.pop("").splitlines()
    for head, text in parts.items():
        lines += ["", f"{head}:", ""]
        listed = [(name, words) for name, words in entries(text) if words]
        if listed:
            lines += [f"- {', '.join(f'`{n.strip()}`' for n in name.split(','))}: {words}" for name, words in listed]
        else:
            lines += inspect.cleandoc(text).splitlines()
    return lines
