"""The pages hold together: links and named files exist, generated pages are those of the code, and they say what the labels are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, name_of, prose, tracked
from tools.pages import PAGES as GENERATED
from tools.pages.api import PUBLIC, public_names
from tools.pages.errors import error_classes

BUNDLE = ROOT / "edge_app/bundle"
# A template becomes a page of a bundle, where its links lead somewhere.
MARKDOWN = [path for path in tracked(".md") if "templates" not in path.parts]
LINKS = [(page, target) for page in MARKDOWN for target in links(page)]
# A page or data file of docs/ that code or a test names; `movesense.com/docs/...` is another site's.
NAMED = re.compile(r"(?<![\w/.])docs/[\w-]+(?:/[\w-]+)*\.(?:md|toml|json|csv|npz|png|svg|sql)\b")
CODE = [path for path in tracked(".py", ".toml", ".c", ".h", ".sh", ".ipynb") if path != Path(__file__)]
# Rooms that a walk of docs/architecture.md passes are files of the wheel; a path is a folder and a name with an ending.
FILE = re.compile(r"`((?:lsemvae|export|edge_app|firmware_bridge|tests|tools|examples|docs)/[\w./-]*)`")


@pytest.mark.promise(66)
@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda v: name_of(v) if isinstance(v, Path) else v)
def test_links_point_to_files(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    assert path.is_relative_to(ROOT)
    assert path.exists(), f"{name_of(page)} links to {target}, which is not there"
    if anchor and path.suffix == ".md":
        assert anchor in anchors(path), f"{name_of(page)} links to {target}, a heading that is not there"


def test_pages_that_the_code_names_exist() -> None:
    named = {(name_of(path), found) for path in CODE for found in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) >= 10
    assert sorted(f"{path}: {found}" for path, found in named if not (ROOT / found).is_file()) == []


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs/README.md"
    reached, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        found = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        new = {path for path in found if path.suffix == ".md" and path not in reached}
        reached |= new
        waiting += sorted(new)
    assert [name_of(page) for page in PAGES if page not in reached and page.parent != ROOT] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    """Where this fails: `python -m tools.pages` writes the pages anew."""
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](ROOT), name


def test_every_error_code_is_in_the_reference() -> None:
    heads = set(
        re.findall(r"^### (E_\w+)$", (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert heads == {kind.code for kind in error_classes(ROOT)}


def test_every_public_name_is_in_the_reference_with_words() -> None:
    text = (ROOT / "docs/reference/python-api.md").read_text(encoding="utf-8")
    for package in PUBLIC:
        for name in public_names(package):
            entry = text.partition(f"### `{package}.{name}`\n")[2].partition("\n### ")[0]
            assert len(entry.split()) > 3, f"{package}.{name}"


def test_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = FILE.findall(page)
    assert len(named) >= 50
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "walk", ["a frame to an outcome", "a recording to a training batch", "a run to a signed bundle"]
)
def test_a_walk_passes_each_file_once(walk: str) -> None:
    text = (
        (ROOT / "docs/architecture.md")
        .read_text(encoding="utf-8")
        .partition(f"## From {walk}\n")[2]
        .partition("\n## ")[0]
    )
    steps = re.findall(r"^(\d+)\. `([\w./-]+)`: \S.*[.?]$", text, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    files = [name for _, name in steps]
    assert len(files) >= 10
    assert len(set(files)) == len(files)


def test_the_glossary_is_in_order_and_says_nothing_twice() -> None:
    words = re.findall(r"^\*\*(.+?)\.\*\* \S", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) >= 50
    assert words == sorted(set(words), key=lambda word: re.sub(r"[^a-z0-9 ]", "", word.lower()))


def test_the_walks_and_doors_are_linked_from_the_readme() -> None:
    targets = {target.partition("#")[0] for target in links(ROOT / "README.md")}
    doors = {f"docs/{door}.md" for door in ("clinic", "laboratory", "deployment", "firmware")}
    assert doors | {"docs/README.md", "docs/architecture.md", "docs/promises.md", "docs/glossary.md"} <= targets


@pytest.mark.promise(37)
def test_readme_card_and_manifest_say_what_the_labels_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = " ".join(readme[: readme.index("\n## ")].split())
    assert "Nothing here was trained on pulmonary hypertension" in opening
    assert "statements made by ECG readers" in opening
    assert "has not been trained or tested on pulmonary hypertension" in opening
    statement = json.loads((BUNDLE / "manifest.json").read_text(encoding="ascii"))["label_statement"]
    first = (BUNDLE / "card.md").read_text(encoding="utf-8").splitlines()[0]
    for text in (statement, first):
        assert "ECG readers" in text
        assert re.search(r"not pulmonary hypertension|None is pulmonary hypertension", text)


def test_every_door_says_what_the_labels_are() -> None:
    for page in ("docs/README.md", "docs/clinic.md", "docs/laboratory.md"):
        text = " ".join(prose(ROOT / page).split())
        assert re.search(r"[Nn]one is pulmonary hypertension|not pulmonary hypertension", text), page


@pytest.mark.promise(36)
def test_the_shipped_bundle_is_at_most_one_mebibyte() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 1 << 20


def test_no_page_names_a_folder_of_the_machine_that_wrote_it(repo_root: Path) -> None:
    pages = [*(repo_root / "docs").rglob("*.md"), repo_root / "README.md"]
    assert [path.name for path in pages if str(repo_root) in path.read_text(encoding="utf-8")] == []
