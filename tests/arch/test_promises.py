"""Promises and tests belong together: each sentence has a test that runs, and no test claims a sentence that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import promises
from tools.promises import DOORS, MAX_SENTENCE, Proof

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/promises.md"
SENTENCES = promises.promises(ROOT)
PROOFS = promises.proofs(ROOT)


def unproved(sentences: list[promises.Promise], proofs: list[Proof]) -> list[int]:
    """Numbers of the promises without a test that runs."""
    proved = {number for proof in proofs if not proof.switched_off for number in proof.numbers}
    return [promise.number for promise in sentences if promise.number not in proved]


def unknown(sentences: list[promises.Promise], proofs: list[Proof]) -> list[str]:
    """Tests that claim a promise which is not there."""
    known = {promise.number for promise in sentences}
    return [f"{proof.file}::{proof.test}" for proof in proofs if not set(proof.numbers) <= known]


def test_numbers_are_consecutive_and_no_sentence_stands_twice() -> None:
    assert [promise.number for promise in SENTENCES] == list(range(1, len(SENTENCES) + 1))
    assert len({promise.text for promise in SENTENCES}) == len(SENTENCES) >= 146


@pytest.mark.parametrize("promise", SENTENCES, ids=lambda promise: str(promise.number))
def test_a_promise_is_one_plain_sentence_at_a_door(promise: promises.Promise) -> None:
    assert promise.door in DOORS
    assert promise.text.endswith(".")
    assert promise.text[0].isupper() or promise.text[0] == "`"
    assert len(promise.text) <= MAX_SENTENCE
    assert not re.search(r"[.!?] [A-Z]", promise.text), "one sentence"


@pytest.mark.promise(68)
def test_every_promise_has_a_test_that_is_not_switched_off() -> None:
    assert unproved(SENTENCES, PROOFS) == []


@pytest.mark.promise(68)
def test_no_test_claims_a_promise_that_is_not_there() -> None:
    assert unknown(SENTENCES, PROOFS) == []


@pytest.mark.promise(68)
def test_a_promise_without_a_test_is_found() -> None:
    off = Proof("tests/test_x.py", "test_x", (SENTENCES[0].number,), switched_off=True)
    assert unproved(SENTENCES[:1], [off]) == [SENTENCES[0].number]
    assert unknown(SENTENCES, [Proof("tests/test_x.py", "test_x", (9999,), switched_off=False)]) == [
        "tests/test_x.py::test_x"
    ]


def test_the_page_has_short_lines_and_every_promise() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 200
    assert {int(number) for number in re.findall(r"^\*\*(\d+)\.\*\*", "\n".join(lines), re.MULTILINE)} == {
        promise.number for promise in SENTENCES
    }


def test_the_page_says_what_is_promised_nowhere() -> None:
    _, _, nowhere = PAGE.read_text(encoding="utf-8").partition("## Promised nowhere yet")
    assert len(re.findall(r"^- ", nowhere, re.MULTILINE)) >= 10
