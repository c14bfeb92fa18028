"""docs/explanation/runtimes.md states the tolerances that the matrix uses, and none is loose."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from lsemvae.screen.bundle import Bundle
from tests.runtimes.matrix import PAIRS, TOLERANCES, Difference
from tests.runtimes.page import read

# "At most about twice what was seen": the figures of the page have two digits.
LOOSEST = 2.3


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / "docs/explanation/runtimes.md").read_text(encoding="utf-8")


def test_the_page_states_every_tolerance_of_every_recipe(page: str) -> None:
    stated = {recipe: {pair: allowed for pair, (_, allowed) in table.items()} for recipe, table in read(page).items()}
    assert stated == {
        recipe: {(pair.candidate, pair.reference): by_kinship[pair.kinship] for pair in PAIRS}
        for recipe, by_kinship in TOLERANCES.items()
    }


@pytest.mark.promise(127)
@pytest.mark.parametrize("recipe", TOLERANCES)
def test_no_tolerance_is_looser_than_about_twice_what_was_seen(page: str, recipe: str) -> None:
    """By tolerance: the widest difference that the page reports for any pair that has it."""
    seen: dict[Difference, list[tuple[float, ...]]] = {}
    for found, allowed in read(page)[recipe].values():
        assert not found.beyond(allowed)
        seen.setdefault(allowed, []).append(astuple(found))
    for allowed, found_all in seen.items():
        widest = np.max(found_all, axis=0)
        assert (np.array(astuple(allowed)) <= LOOSEST * widest).all(), f"found {widest}, allowed {allowed}"


def test_the_shipped_bundle_has_its_tolerances(bundle: Bundle) -> None:
    assert bundle.manifest.provenance["recipe"] in TOLERANCES


def test_the_page_says_what_the_labels_are(page: str) -> None:
    assert "not pulmonary hypertension" in page
