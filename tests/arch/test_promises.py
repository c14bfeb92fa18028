"""docs/promises.md: each row is a promise that names tests, and those tests exist and run."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/promises.md"
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.*) \|$", re.MULTILINE)
NODE = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<test>test_\w+)(?:\[(?P<case>[^\]]+)\])?")
SWITCHED_OFF = {"skip", "xfail"}


@dataclass(frozen=True, slots=True)
class Found:
    """A test function of a file: its marks, and the texts of its parametrisation."""

    marks: frozenset[str]
    cases: frozenset[str]


def promises() -> list[tuple[int, str, list[str]]]:
    """Rows of the page: number, promise, node ids of its tests."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [(int(number), text, re.findall(r"`([^`]*)`", tests)) for number, text, tests in rows]


@cache
def collected(path: Path) -> dict[str, Found]:
    """Test functions of a file by name, without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {
        node.name: Found(frozenset(map(_mark, node.decorator_list)), frozenset(_cases(node.decorator_list, values)))
        for node in functions
        if node.name.startswith("test_")
    }


def _mark(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)


def _cases(decorators: list[ast.expr], values: dict[str, ast.expr]) -> set[str]:
    """Constants in the arguments of `parametrize`, where a name stands for what the module assigns to it."""
    found: set[str] = set()
    for decorator in decorators:
        if not isinstance(decorator, ast.Call) or _mark(decorator) != "parametrize":
            continue
        for argument in decorator.args[1:]:
            value = values.get(argument.id, argument) if isinstance(argument, ast.Name) else argument
            found |= {str(node.value) for node in ast.walk(value) if isinstance(node, ast.Constant)}
    return found


def fault_of(node_id: str) -> str | None:
    """What is wrong with a node id, or None."""
    match = NODE.fullmatch(node_id)
    if match is None:
        return f"{node_id}: expected tests/ROOM/test_X.py::test_name"
    path = ROOT / match["file"]
    if not path.is_file():
        return f"{node_id}: found no such file"
    test = collected(path).get(match["test"])
    if test is None:
        return f"{node_id}: found no such test in {match['file']}"
    if test.marks & SWITCHED_OFF:
        return f"{node_id}: is switched off"
    if match["case"] and not set(match["case"].split("-")) <= test.cases:
        return f"{node_id}: found no such case, expected some of {sorted(test.cases)}"
    return None


def test_numbers_are_consecutive() -> None:
    numbers = [number for number, _, _ in promises()]
    assert numbers == list(range(1, len(numbers) + 1))
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| *\d", line)]
    assert len(rows) == len(numbers) > 50, "every row is read"


@pytest.mark.parametrize("row", promises(), ids=lambda row: str(row[0]))
def test_every_promise_names_tests_that_exist(row: tuple[int, str, list[str]]) -> None:
    _, text, tests = row
    assert text.endswith("."), "a promise is a sentence"
    assert tests, "a promise without a test is none"
    assert len(set(tests)) == len(tests)
    assert [fault for fault in map(fault_of, tests) if fault] == []


def test_no_sentence_is_promised_twice() -> None:
    texts = [text for _, text, _ in promises()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("node_id", "words"),
    [
        ("tests/arch/test_promises.py::test_of_dreams", "no such test"),
        ("tests/arch/test_dreams.py::test_x", "no such file"),
        ("test_numbers_are_consecutive", "expected tests/"),
        ("tests/arch/test_promises.py::test_a_test_that_is_not_there_is_found[dreams]", "no such case"),
        ("tests/arch/test_promises.py::test_switched_off_example", "switched off"),
    ],
)
def test_a_test_that_is_not_there_is_found(node_id: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = collected(Path(__file__)) | {"test_switched_off_example": Found(frozenset({"skip"}), frozenset())}
    monkeypatch.setitem(globals(), "collected", lambda _: known)
    assert words in str(fault_of(node_id))
    assert fault_of("tests/arch/test_promises.py::test_a_test_that_is_not_there_is_found[no such file]") is None


def test_the_page_says_what_is_promised_nowhere() -> None:
    _, _, nowhere = PAGE.read_text(encoding="utf-8").partition("## Promised nowhere yet")
    assert len(re.findall(r"^- ", nowhere, re.MULTILINE)) >= 10
