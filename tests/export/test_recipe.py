"""Recipes are data, and a recipe's name may not lie about its content."""

from __future__ import annotations

import json

import pytest

from export.errors import ExportError
from export.int8.recipe import DEFAULT_RECIPE, load_recipe, parse_recipe, recipe_names


def test_every_shipped_recipe_loads_and_round_trips() -> None:
    assert DEFAULT_RECIPE in recipe_names()
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert parse_recipe(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_default_recipe_quantizes_only_the_trunk_over_256_records_by_minmax() -> None:
    recipe = load_recipe()
    assert (recipe.region, recipe.calibration, recipe.min_calibration_records) == ("trunk", "minmax", 256)
    assert not {"DIV", "EXP", "LOG"} & set(recipe.tflite_ops)
    assert "Relu" in recipe.onnx_ops


def test_own_recipe_file_is_read(tmp_path) -> None:
    values = load_recipe().to_dict() | {"min_calibration_records": 64}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert load_recipe(path).min_calibration_records == 64


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ExportError, match=DEFAULT_RECIPE):
        load_recipe("dynamic_wi8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "static_wi4_ai8_encoder"}, "its content reads"),
        ({"region": "head"}, "its content reads"),
        ({"region": "head", "name": "static_wi8_ai8_head"}, "the head stays float"),
        ({"onnx_activation": "int4"}, "int4"),
        ({"calibration": "moving_average"}, "moving_average"),
        ({"surplus": 1}, "surplus"),
        ({"schema": "lsemvae-recipe/2"}, "lsemvae-recipe/2"),
    ],
)
def test_recipe_that_contradicts_itself_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        parse_recipe(load_recipe().to_dict() | change)
