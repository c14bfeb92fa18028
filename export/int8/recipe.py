"""Quantization recipes: data in JSON files, named by a small grammar, saved beside what they made.

A name reads `MODE_wTYPE_aTYPE_REGION`: `static_wi8_ai8_encoder` is static quantization with INT8 weights and INT8
activations of the encoder. The name is checked against the content, so that a file cannot say one thing and do another.

Regions: `encoder` is all of it; `trunk` leaves its first convolution and its linear layers float (a few per
cent of the multiplications, half of the error); `all` is strict integer, input and outputs included, and exists for TFLite only.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from export.errors import ExportError

SCHEMA = "lsemvae-recipe/1"
DEFAULT_RECIPE = "static_wi8_ai8_trunk"
ENCODER = "encoder"
TRUNK = "trunk"
ALL = "all"
REGIONS = (ENCODER, TRUNK, ALL)
_ONNX_TYPES = ("uint8", "int8")
_NAME = re.compile(r"(?P<mode>static)_wi(?P<weight>\d+)_ai(?P<activation>\d+)_(?P<region>[a-z]+)")


@dataclass(frozen=True, slots=True)
class QuantRecipe:
    """How one INT8 model is made from one float model.

    Attributes
    ----------
    region
        The part of the student that becomes INT8 (`encoder`, `trunk` or `all`); everything outside stays float32.
    calibration
        `minmax`: the true minimum and maximum over all calibration recordings. No other method is offered: moving
        averages and percentiles cut tall QRS complexes, which carry the diagnosis.
    min_calibration_records
        The mean error settles at 64 recordings, the tail needs 256 (measured).
    tflite_ops, onnx_ops
        Allow-lists inside the region. What is not listed stays float, and the audit then decides whether that may be.
    tflite_tensorwise
        Operators whose weights share one scale. Kernels for microcontrollers read one scale for a fully connected layer;
        a scale for each row came to them in 2024.
    bias_correction
        Whether the mean shift of the logits on the calibration recordings is taken back in the float head's bias.
    onnx_activation
        `uint8`: on x86 one inference takes a quarter of the time of `int8` activations (0.26 against 1.05 ms), half in
        a browser, and on a Cortex-A72 both run the same number of instructions; the numbers they give are equal.
    onnx_reduce_range
        7-bit weights, against 16-bit saturation of U8S8 kernels on x86 without VNNI.
    """

    name: str
    description: str
    region: str
    weight_bits: int
    activation_bits: int
    calibration: str
    min_calibration_records: int
    tflite_ops: tuple[str, ...]
    onnx_ops: tuple[str, ...]
    onnx_activation: str
    onnx_weight: str
    onnx_reduce_range: bool
    bias_correction: bool
    tflite_tensorwise: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as its JSON file holds it."""
        return {"schema": SCHEMA, **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}}


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with the exporter."""
    folder = resources.files("export.int8") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")))


def load_recipe(name_or_path: str | Path = DEFAULT_RECIPE) -> QuantRecipe:
    """Load a shipped recipe by its name, or any recipe by the path of its JSON file."""
    path = Path(name_or_path)
    if path.suffix == ".json":
        return parse_recipe(json.loads(path.read_text(encoding="utf-8")))
    if str(name_or_path) not in recipe_names():
        raise ExportError(f"unknown recipe {str(name_or_path)!r}; shipped recipes: {', '.join(recipe_names())}")
    text = (resources.files("export.int8") / "recipes" / f"{name_or_path}.json").read_text(encoding="utf-8")
    return parse_recipe(json.loads(text))


def parse_recipe(data: dict[str, Any]) -> QuantRecipe:
    """Build a recipe from its JSON object and check that its name says what it does."""
    found = {key: value for key, value in data.items() if key != "schema"}
    expected = {field.name for field in fields(QuantRecipe)}
    required = {field.name for field in fields(QuantRecipe) if field.default is MISSING}
    if data.get("schema") != SCHEMA or not required <= set(found) <= expected:
        raise ExportError(
            f"recipe has schema {data.get('schema')!r} and fields {sorted(found)}; "
            f"expected {SCHEMA!r} and {sorted(expected)}"
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    recipe = QuantRecipe(**values)
    says = f"static_wi{recipe.weight_bits}_ai{recipe.activation_bits}_{recipe.region}"
    if _NAME.fullmatch(recipe.name) is None or recipe.name != says:
        raise ExportError(f"recipe is named {recipe.name!r} but its content reads {says!r}")
    if recipe.region not in REGIONS:
        raise ExportError(
            f"recipe {recipe.name!r} quantizes {recipe.region!r}; supported: {', '.join(REGIONS)} "
            f"(outside {ALL!r} the head stays float)"
        )
    if recipe.onnx_activation not in _ONNX_TYPES or recipe.onnx_weight not in _ONNX_TYPES:
        raise ExportError(
            f"recipe {recipe.name!r} asks for ONNX types {recipe.onnx_activation!r} and {recipe.onnx_weight!r}; "
            f"supported: {', '.join(_ONNX_TYPES)}"
        )
    if (recipe.weight_bits, recipe.activation_bits, recipe.calibration) != (8, 8, "minmax"):
        raise ExportError(
            f"recipe {recipe.name!r} asks for weights/activations/calibration "
            f"{recipe.weight_bits}/{recipe.activation_bits}/{recipe.calibration!r}; supported: 8/8/'minmax'"
        )
    return recipe
