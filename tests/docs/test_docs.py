"""What the pages say is true: commands, options, links, extras, errors, and what the labels are. Nothing is executed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import edge_app.cli
import lsemvae.cli
from lsemvae.ecg.errors import ADVICE, EcgError

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS: dict[str, Any] = {"lsemvae": get_command(lsemvae.cli.app), "edge_app": get_command(edge_app.cli.app)}
BUNDLE = ROOT / "edge_app/bundle"
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""Base of all errors of usage; typer exports only this child of it."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:lsemvae|edge_app) [a-z][^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
LIST_OF_COMMANDS = "commands.md"


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below `command` with the words that call it; a group is not a command."""
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
        return
    for name, child in sorted(children.items()):
        yield from leaves(child, (*words, name))


COMMANDS = {
    " ".join((program, *words)): command for program, root in PROGRAMS.items() for words, command in leaves(root)
}


def options(command: Any) -> list[str]:
    """Long names of a command's options, in the order of its help; hidden ones are for laboratories."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    names = (name for parameter in shown for name in (*parameter.opts, *parameter.secondary_opts))
    return [name for name in names if name.startswith("--")]


def code_lines(page: Path) -> Iterator[str]:
    """Command lines of the code blocks of a page, joined where they continue; blocks marked `text` show output."""
    for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind != "text":
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


SHOWN = [
    (page.name, words)
    for page in PAGES
    for line in code_lines(page)
    for words in split(line)
    if words and words[0] in PROGRAMS
]
MENTIONED = [
    (page.name, text) for page in PAGES for text in INLINE.findall(re.sub(FENCE, "", page.read_text(encoding="utf-8")))
]


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


def row_of(name: str) -> str:
    """The row that commands.md holds for a command."""
    command = COMMANDS[name]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [(p.metavar or p.name).upper() for p in arguments]
    words = " ".join([name, *(s if p.required else f"[{s}]" for p, s in zip(arguments, shown, strict=True))])
    return f"| `{words}` | {command.help.strip().splitlines()[0]} | {' '.join(f'`{o}`' for o in options(command))} |"


def test_the_page_of_commands_is_that_of_the_programs() -> None:
    lines = (ROOT / "docs" / LIST_OF_COMMANDS).read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [row_of(name) for name in COMMANDS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"`make ([\w-]+)`", text)) | set(re.findall(r"^make ([\w-]+)", text, re.MULTILINE))
    shown |= set(re.findall(r"python3 tasks\.py ([\w-]+)", text))
    assert shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    shown = re.findall(r"(?:lsemvae|'\.|\"\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8"))
    assert {name for names in shown for name in names.split(",")} <= set(extras)


LINKS = [
    (page, target.split("#")[0])
    for page in PAGES
    for target in LINK.findall(page.read_text(encoding="utf-8"))
    if not re.match(r"[a-z]+:|#", target)
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda v: v.name if isinstance(v, Path) else v)
def test_links_point_to_files(page: Path, target: str) -> None:
    path = (page.parent / target).resolve()
    assert path.is_relative_to(ROOT)
    assert path.exists(), f"{page.name} links to {target}, which is not there"


def error_classes() -> list[type[EcgError]]:
    """Every error class of the four packages: the modules that define a class named ...Error are loaded, no others."""
    for room in ("lsemvae", "export", "edge_app", "firmware_bridge"):
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.ClassDef) and node.name.endswith("Error") for node in ast.walk(tree)):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found, waiting = [EcgError], [EcgError]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return [kind for kind in found if not kind.__module__.startswith("test")]


def test_every_error_has_advice_and_a_code_of_its_own_or_its_parents() -> None:
    kinds = error_classes()
    assert len({kind.__module__ for kind in kinds}) >= 3
    owners: dict[str, str] = {}
    for kind in kinds:
        error = kind("found a, expected b")
        assert error.advice.strip(), kind
        assert error.code.startswith("E_"), kind
        if "code" in vars(kind):
            assert owners.setdefault(kind.code, kind.__name__) == kind.__name__, f"{kind.code} belongs to two classes"
    assert set(ADVICE) <= set(owners)


def test_readme_card_and_manifest_say_what_the_labels_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = readme[: readme.index("\n## ")]
    assert "statements made by ECG readers" in opening
    assert "has not been trained or tested on pulmonary hypertension" in " ".join(opening.split())
    statement = json.loads((BUNDLE / "manifest.json").read_text(encoding="ascii"))["label_statement"]
    first = (BUNDLE / "card.md").read_text(encoding="utf-8").splitlines()[0]
    for text in (statement, first):
        assert "ECG readers" in text
        assert re.search(r"not pulmonary hypertension|None is pulmonary hypertension", text)


def test_the_shipped_bundle_is_at_most_one_mebibyte() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 1 << 20
