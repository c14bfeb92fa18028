"""Commands on the pages are those of the programs: lines parse, options exist, the reference is complete. Nothing is executed."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.docs.pages import FENCE, PAGES, ROOT, name_of, prose
from tools.pages.commands import COMMANDS, PROGRAMS, options, section, usage

# Base of all errors of usage; typer exports only this child of it.
USAGE_ERROR = typer.BadParameter.__mro__[1]
INLINE = re.compile(r"`((?:lsemvae|edge_app) [a-z][^`]*)`")
REFERENCE = ROOT / "docs/reference/commands.md"


def code_lines(page: Path) -> Iterator[str]:
    """Command lines of the code blocks of a page, joined where they continue; blocks marked `text` show output."""
    for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind not in ("text", "python"):
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def split(line: str) -> list[list[str]]:
    """Words of each command of a line, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words left over for it."""
    command, rest = PROGRAMS[words[0]], words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def named(words: list[str]) -> list[str]:
    """Words without the folder of an environment before the program's name."""
    return [words[0].rpartition("/")[2], *words[1:]] if words else []


SHOWN = [
    (name_of(page), named(words))
    for page in PAGES
    for line in code_lines(page)
    for words in split(line)
    if named(words)[:1] and named(words)[0] in PROGRAMS
]
MENTIONED = [(name_of(page), text) for page in PAGES if page != REFERENCE for text in INLINE.findall(prose(page))]


def fault_of(words: list[str]) -> str | None:
    """What is wrong with a command line, or None: parsed as the program would, values and what is needed included."""
    command, rest = find(words)
    if hasattr(command, "commands"):
        return f"found {' '.join(words)}, expected a command of {command.name}"
    try:
        command.make_context(words[0], rest)
    except USAGE_ERROR as error:
        return str(error.format_message())
    return None


@pytest.mark.promise(65)
@pytest.mark.parametrize(("page", "words"), SHOWN, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_command_lines_parse(page: str, words: list[str]) -> None:
    assert fault_of(words) is None, page


@pytest.mark.parametrize(("page", "text"), MENTIONED, ids=lambda value: value)
def test_commands_in_the_text_exist(page: str, text: str) -> None:
    command, rest = find(shlex.split(text))
    known = {"--help", "--version"} if hasattr(command, "commands") else {"--help", *options(command)}
    unknown = [word for word in rest if word.startswith("--") and word not in known]
    assert not unknown, f"{page}: {text}"
    assert not (hasattr(command, "commands") and rest and not rest[0].startswith("-")), f"{page}: {text}"


def test_the_readme_shows_commands_of_both_programs() -> None:
    assert {words[0] for page, words in SHOWN if page == "README.md"} == set(PROGRAMS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lsemvae nonsense", "nonsense"),
        ("lsemvae evaluate --data x --nope", "--nope"),
        ("lsemvae evaluate", "--data"),
        ("edge_app run --seconds soon", "--seconds"),
        ("edge_app records", "records"),
    ],
)
def test_a_line_that_is_wrong_is_found(line: str, words: str) -> None:
    assert words in str(fault_of(line.split()))


@pytest.mark.promise(64)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_json(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip().endswith(".")
    assert "--json" in options(command)
    for parameter in command.params:
        assert (parameter.help or "").strip().endswith((".", "]")), f"{name}: {parameter.name} has no help"


def test_every_group_has_help_in_both_spellings() -> None:
    for root in PROGRAMS.values():
        assert root.help
        assert set(root.context_settings["help_option_names"]) == {"-h", "--help"}
        assert all(child.help for child in root.commands.values())


@pytest.mark.promise(64)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_reference_with_all_its_options(name: str) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert "\n".join(section(name)) in text
    assert f"| `{usage(name)}` |" in text
    assert all(f"`{option}" in "\n".join(section(name)) for option in options(COMMANDS[name]))


@pytest.mark.promise(65)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"`make ([\w][\w-]*)`", text)) | set(re.findall(r"^make ([\w][\w-]*)", text, re.MULTILINE))
    shown |= set(re.findall(r"python3 tasks\.py ([\w-]+)", text))
    assert shown <= targets


@pytest.mark.promise(65)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_extras_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    shown = re.findall(r"(?:lsemvae|'\.|\"\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8"))
    assert {name for names in shown for name in names.split(",")} <= set(extras)
