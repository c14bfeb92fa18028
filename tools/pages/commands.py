"""docs/reference/commands.md: every command of both programs, with each argument and option and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

import edge_app.cli
import lsemvae.cli
from tools.pages.docstring import GENERATED

PROGRAMS: Final[dict[str, Any]] = {
    "lsemvae": get_command(lsemvae.cli.app),
    "edge_app": get_command(edge_app.cli.app),
}
_ROOMS: Final = {"lsemvae": "The laboratory", "edge_app": "The clinic"}

_HEAD: Final = f"""{GENERATED}

# Commands

Every command of both programs with its options. `-h` after a command prints the same. `--version` stands before a command.
The same things from Python: [python-api.md](python-api.md). What an error code means: [errors.md](errors.md).

| exit code | meaning |
| --- | --- |
| 0 | done; for a screening: DETECTED or NOT DETECTED |
| 1 | an error, with a code, a sentence and advice |
| 2 | the command was typed wrong |
| 3 | ABSTAIN: the recording cannot be judged |
| 4 | the model bundle was refused |
"""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below `command` with the words that call it; a group is not a command."""
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
        return
    for name, child in sorted(children.items()):
        yield from leaves(child, (*words, name))


COMMANDS: Final[dict[str, Any]] = {
    " ".join((program, *words)): command for program, root in PROGRAMS.items() for words, command in leaves(root)
}


def options(command: Any) -> list[str]:
    """Return the long names of a command's options, in the order of its help; hidden ones are for laboratories."""
    return [name for parameter in _shown(command) for name in _names(parameter) if name.startswith("--")]


def _shown(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def _names(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []


def usage(name: str) -> str:
    """Return a command with its arguments as they are typed; what may be left out stands in brackets."""
    arguments = [p for p in COMMANDS[name].params if p.param_type_name == "argument"]
    shown = [((p.metavar or p.name).upper(), p.required) for p in arguments]
    return " ".join([name, *(word if required else f"[{word}]" for word, required in shown)])


def section(name: str) -> list[str]:
    """Return the lines of one command."""
    command = COMMANDS[name]
    lines = [f"### `{usage(name)}`", ""]
    for paragraph in command.help.strip().split("\n\n"):
        lines += [" ".join(paragraph.split()), ""]
    for parameter in _shown(command):
        names = _names(parameter) or [(parameter.metavar or parameter.name).upper()]
        default, said = parameter.default, (parameter.help or "").strip()
        takes_value = parameter.param_type_name == "option" and not parameter.is_flag
        value = f" {parameter.metavar or 'VALUE'}" if takes_value else ""
        if takes_value and isinstance(default, str | int | float) and default != "" and "[default" not in said:
            said += f" Default: `{default}`."
        spelled = ", ".join(f"`{name}{value}`" for name in names)
        lines.append(f"- {spelled}{' (needed)' if parameter.required else ''}: {said}")
    return [*lines, ""]


def page(_root: Path) -> str:
    """Return the text of the page."""
    lines = [_HEAD]
    for program in PROGRAMS:
        names = [name for name in COMMANDS if name.split()[0] == program]
        lines += [f"## {_ROOMS[program]}: `{program}`", "", "| command | what it does |", "| --- | --- |"]
        lines += [f"| `{usage(name)}` | {COMMANDS[name].help.strip().splitlines()[0]} |" for name in names]
        lines.append("")
        for name in names:
            lines += section(name)
    return "\n".join(lines).rstrip() + "\n"
