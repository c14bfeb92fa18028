"""Tasks as data: every rule, every mask, every refusal of a `[[task]]` table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsemvae.data.labels import DESCRIPTIONS, LABELS, PRIMARY_LABEL, Label, label_values
from lsemvae.data.measures import MEASURES, measure_values
from lsemvae.data.rules import Bound, Flag, Quantity, Range, Words, bound
from lsemvae.data.task_toml import ParsedTasks, parse_tasks
from lsemvae.data.tasks import BUILT_IN, TaskSet, task_set_from_json
from lsemvae.data.tomlfile import read_toml
from lsemvae.ecg.errors import FormatError

PH = """
[[task]]
name = "ph"
kind = "binary"
column = "mpap"
positive = ">20"
description = "mPAP above 20 mmHg"
primary = true

[[task]]
name = "post"
kind = "binary"
column = "pawp"
positive = ">15"
among = "ph"
description = "PAWP above 15 mmHg in PH"
"""
PASP = """
[[task]]
name = "pasp"
kind = "regression"
column = "pasp"
measured = "echo_date"
unit = "mmHg"
range = [5, 200]
description = "PASP"

[[task]]
name = "pasp_high"
kind = "binary"
threshold_of = "pasp"
positive = ">=45"
description = "PASP 45 mmHg or above"
"""


def parse(tmp_path: Path, text: str) -> ParsedTasks:
    path = tmp_path / "cohort.toml"
    path.write_text(text, encoding="utf-8")
    return parse_tasks(read_toml(path).tables("task"), name="c", statement="Labels are of a test.", licence="none")


def task(**keys: object) -> str:
    """One `[[task]]` table; a key with None is left out."""
    base: dict[str, object] = {
        "name": "ph", "kind": "binary", "column": "mpap", "positive": ">20", "description": "high", **keys,
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in base.items() if value is not None]
    return "\n".join(["[[task]]", *lines, ""])


def values(tasks: TaskSet, **cells: str) -> dict[str, float]:
    return dict(zip(tasks.label_names, map(float, tasks.label_values(cells)), strict=True))


# The built-in set


def test_the_built_in_task_set_is_that_of_the_development_folder() -> None:
    assert BUILT_IN.label_names == LABELS
    assert BUILT_IN.measure_names == tuple(MEASURES)
    assert BUILT_IN.primary == PRIMARY_LABEL
    assert {name: BUILT_IN.descriptions[name] for name in LABELS} == DESCRIPTIONS
    assert "None is pulmonary hypertension" in BUILT_IN.statement


@given(st.fixed_dictionaries({f"y_{name}": st.sampled_from(["", "0", "1", "0.0", "nan"]) for name in LABELS}))
@settings(max_examples=40, deadline=None)
def test_the_built_in_task_set_reads_what_the_labels_read(cells: dict[str, str]) -> None:
    for axis in ("", "MID"):
        row = {**cells, "heart_axis": axis, "m_qrs_axis": "90", "m_S_I": "0.3"}
        np.testing.assert_array_equal(BUILT_IN.label_values(row), label_values(row))
        for gain_known in (True, False):
            np.testing.assert_array_equal(
                BUILT_IN.measure_values(row, gain_known=gain_known), measure_values(row, gain_known=gain_known)
            )
    assert np.isnan(measure_values(row, gain_known=False)[list(MEASURES).index("s_i_mv")])
    assert measure_values(row, gain_known=True)[list(MEASURES).index("qrs_axis_sin")] == 1.0


# Rules


@pytest.mark.parametrize(
    ("rule", "cell", "expected"),
    [
        (">20", "20", 0), (">20", "20.01", 1), (">=20", "20", 1), ("<15", "15", 0), ("<=15", "15", 1),
        (" >= -1.5e1 ", "-15", 1), (">20", "", math.nan), ("<=15", "NA", math.nan), ("<=15", "nan", math.nan),
    ],
)  # fmt: skip
def test_a_comparison_has_the_limit_on_the_side_that_it_says(rule: str, cell: str, expected: float) -> None:
    np.testing.assert_equal(bound(rule).value({"x": cell}, Quantity.of("x")), expected)


@pytest.mark.parametrize("text", ["20", "=20", "=>20", "> twenty", ">", ">1 <2", ">nan", ">inf", "≥20"])
def test_a_rule_that_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="expected a comparison"):
        bound(text)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("1", 1), ("1.0", 1), ("True", 1), ("0", 0), ("false", 0), ("", math.nan), ("none", math.nan)],
)
def test_a_flag_is_one_zero_or_nothing(cell: str, expected: float) -> None:
    np.testing.assert_equal(Flag().value({"x": cell}, Quantity.of("x")), expected)


@pytest.mark.parametrize("cell", ["2", "-1", "yes", "0.5"])
def test_a_flag_that_is_neither_is_refused(cell: str) -> None:
    with pytest.raises(FormatError, match=f"found x '{cell}', expected 1, 0 or nothing"):
        Flag().value({"x": cell}, Quantity.of("x"))


def test_words_are_positive_negative_or_refused() -> None:
    rule = Words(("severe", "moderate"), ("none", "mild"))
    found = [rule.value({"x": cell}, Quantity.of("x")) for cell in ("severe", "mild", "none", "", "NA")]
    np.testing.assert_equal(found, [1.0, 0.0, 0.0, math.nan, math.nan])
    with pytest.raises(FormatError, match="found x 'unknown', expected one of severe, moderate, none, mild or nothing"):
        rule.value({"x": "unknown"}, Quantity.of("x"))
    others = Words(("severe",))
    np.testing.assert_equal([others.value({"x": c}, Quantity.of("x")) for c in ("mild", "")], [0.0, math.nan])


def test_a_sum_of_columns_is_unknown_where_one_of_them_is() -> None:
    pasp = Quantity((("tr_mmhg", 1.0), ("rap", 1.0)))
    assert pasp.value({"tr_mmhg": "35", "rap": "8"}) == 43
    assert math.isnan(pasp.value({"tr_mmhg": "35", "rap": ""}))
    garg = Quantity((("lav", 0.07204), ("lvm", 0.02256)), 6.1352)
    assert garg.value({"lav": "80", "lvm": "100"}) == pytest.approx(14.1544)
    assert garg.text == "6.1352 + 0.07204 * lav + 0.02256 * lvm"


@pytest.mark.parametrize("rule", [Flag(), bound(">=45"), Words(("a", "b"), ("c",)), Words(("a",))])
def test_a_task_set_survives_json(rule: Flag | Bound | Words) -> None:
    first = Label(name="a", quantity=Quantity.of("x"), rule=rule, description="d", measured="m")
    second = Label(
        name="b", quantity=Quantity((("y", 2.0),), 1.0), rule=bound("<1"), description="e", among="a",
        limits=Range(0, 5, "mm"), negative_needs="n", threshold_of="z",
    )  # fmt: skip
    tasks = TaskSet(name="c", statement="s", labels=(first, second), measures=BUILT_IN.measures, licence="l")
    assert task_set_from_json(json.loads(json.dumps(tasks.to_json())), of="index.json") == tasks


def test_a_damaged_task_set_is_refused_by_the_name_of_its_file() -> None:
    data = json.loads(json.dumps(BUILT_IN.to_json()))
    for damage in ({"labels": 3}, {"labels": [{}]}, {"measures": [{"name": "x"}]}, {"statement": " "}):
        with pytest.raises(FormatError, match=r"^index.json: .*found"):
            task_set_from_json({**data, **damage}, of="index.json")
    with pytest.raises(FormatError, match=r"index.json: found the primary label 'MI', expected 'RHS'"):
        task_set_from_json({**data, "primary": "MI"}, of="index.json")


# Masks


def test_phenotypes_are_defined_among_the_positives_of_the_disease_only(tmp_path: Path) -> None:
    tasks = parse(tmp_path, PH).tasks
    assert values(tasks, mpap="30", pawp="18") == {"ph": 1, "post": 1}
    assert values(tasks, mpap="30", pawp="15") == {"ph": 1, "post": 0}
    for cells in ({"mpap": "20", "pawp": "18"}, {"mpap": "", "pawp": "18"}, {"mpap": "30", "pawp": ""}):
        assert math.isnan(values(tasks, **cells)["post"]), cells


def test_among_reaches_through_a_chain(tmp_path: Path) -> None:
    third = task(name="cpc", column="pvr", positive=">2", among="post")
    tasks = parse(tmp_path, PH + third).tasks
    assert values(tasks, mpap="30", pawp="18", pvr="5")["cpc"] == 1
    assert math.isnan(values(tasks, mpap="10", pawp="18", pvr="5")["cpc"])
    assert tasks.ancestors("cpc") == ("post", "ph")


def test_a_threshold_is_unknown_where_the_measurement_is(tmp_path: Path) -> None:
    tasks = parse(tmp_path, PASP).tasks
    assert values(tasks, pasp="45", echo_date="2020") == {"pasp_high": 1}
    assert values(tasks, pasp="44.9", echo_date="2020") == {"pasp_high": 0}
    for cells in ({"pasp": "", "echo_date": "2020"}, {"pasp": "0", "echo_date": ""}):
        assert math.isnan(values(tasks, **cells)["pasp_high"])
        assert np.isnan(tasks.measure_values(cells, gain_known=True)).all()


def test_a_value_outside_its_range_is_refused(tmp_path: Path) -> None:
    tasks = parse(tmp_path, PASP).tasks
    for cell in ("0", "4.9", "200.1", "-40"):
        with pytest.raises(FormatError, match=f"found pasp '{cell}', expected 5 to 200 mmHg"):
            tasks.label_values({"pasp": cell, "echo_date": "2020"})
        with pytest.raises(FormatError, match=f"found pasp '{cell}', expected 5 to 200 mmHg"):
            tasks.measure_values({"pasp": cell, "echo_date": "2020"}, gain_known=True)


def test_a_negative_that_nobody_looked_for_is_unknown(tmp_path: Path) -> None:
    tasks = parse(tmp_path, task(name="rh", column="rh", positive=None, negative_needs="axis")).tasks
    found = [values(tasks, rh=cell, axis=axis)["rh"] for cell, axis in (("0", ""), ("0", "MID"), ("1", ""))]
    np.testing.assert_equal(found, [math.nan, 0.0, 1.0])


def test_an_angle_enters_as_sine_and_cosine_after_its_range(tmp_path: Path) -> None:
    angle = {"kind": "regression", "column": "axis", "positive": None, "unit": "1", "range": [-180, 180]}
    text = PH + task(name="s", transform="sin_deg", **angle) + task(name="c", transform="cos_deg", **angle)
    tasks = parse(tmp_path, text).tasks
    np.testing.assert_allclose(tasks.measure_values({"axis": "180"}, gain_known=True), [0, -1], atol=1e-7)
    with pytest.raises(FormatError, match="found axis '29999', expected -180 to 180"):
        tasks.measure_values({"axis": "29999"}, gain_known=True)


CELLS = st.sampled_from(["", "nan", "NA", "none", "NULL", " ", "0", "1", "15", "15.5", "20", "20.5", "45", "60"])


@pytest.mark.promise(97)
@settings(max_examples=150, deadline=None)
@given(
    cells=st.fixed_dictionaries(dict.fromkeys(("x", "y", "m", "n"), CELLS)),
    sign=st.sampled_from([">", ">=", "<", "<="]),
)
def test_what_was_not_measured_never_becomes_a_zero(cells: dict[str, str], sign: str) -> None:
    """Over all rules and masks at once: an empty quantity, mask, or `among` gives NaN; a known 1 or 0 has all of them."""
    base = Label(name="base", quantity=Quantity.of("y"), rule=bound(">15"), description="d")
    rules = {
        "compare": bound(f"{sign}20"),
        "words": Words(("60",)),
        "listed": Words(("60", "45"), ("0", "1", "15", "15.5", "20", "20.5")),
    }
    masked = [
        Label(name=name, quantity=Quantity.of("x"), rule=rule, description="d", measured="m", negative_needs="n", among="base")
        for name, rule in rules.items()
    ]  # fmt: skip
    tasks = TaskSet(name="c", statement="s", labels=(base, *masked))
    found = dict(zip(tasks.label_names, tasks.label_values(cells), strict=True))
    empty = {name for name, cell in cells.items() if cell.strip().lower() in {"", "nan", "na", "none", "null"}}
    assert np.isnan(found["base"]) == ("y" in empty)
    for name in rules:
        unknown = bool(empty & {"x", "m"}) or found["base"] != 1
        assert not unknown or np.isnan(found[name])
        assert not ("n" in empty and found[name] == 0)
        if not unknown and "n" not in empty:
            assert found[name] in (0, 1)


@settings(max_examples=80, deadline=None)
@given(
    a=st.one_of(st.just(""), st.floats(-50, 50).map(str)),
    b=st.one_of(st.just("NA"), st.floats(-50, 50).map(str)),
    limit=st.floats(-50, 50),
)
def test_a_computed_quantity_is_nan_exactly_where_a_term_is(a: str, b: str, limit: float) -> None:
    quantity = Quantity((("a", 2.0), ("b", -1.0)), 3.0)
    found = Bound(">", limit).value({"a": a, "b": b}, quantity)
    if a == "" or b == "NA":
        assert math.isnan(found)
    else:
        assert found == float(3.0 + 2 * float(a) - float(b) > limit)


# Refusals of a [[task]] table


@pytest.mark.parametrize(
    ("keys", "found", "expected"),
    [
        ({"kind": "survival"}, "line 3: [task] kind: found 'survival'", "one of binary, regression"),
        ({"kind": None}, "kind: found nothing", "a text"),
        ({"name": "p h"}, "line 2: [task] name: found 'p h'", "letters, digits and underscores"),
        ({"name": "2ph"}, "found '2ph'", "a letter first"),
        ({"name": "RHS"}, "found 'RHS', the name of a built-in reader statement", "another name"),
        ({"name": "right_heart_strain"}, "a built-in reader statement", "another name"),
        ({"mesured": "m"}, "line 7: [task] mesured: found an unknown key", "measured"),
        ({"transform": "sin_deg"}, "transform: found an unknown key", "one of"),
        ({"column": None}, "found no column", "exactly one of column, linear and threshold_of"),
        ({"linear": 3}, "found column and linear", "exactly one"),
        ({"column": ""}, "column: found ''", "a text"),
        ({"positive": "20"}, "line 5: [task] positive: found '20'", "a comparison"),
        ({"positive": 20}, "positive: found 20", "a list of texts"),
        ({"positive": ["a"]}, "negative: found none", '"others"'),
        ({"positive": ["a"], "negative": ["a"]}, "'a' in both lists", "each text in one"),
        ({"negative": ["a"]}, "negative: found a list of negatives", "beside a list of positives"),
        ({"positive": None}, "neither measured nor complete", "one of them"),
        ({"positive": ["a"], "negative": "others"}, "neither measured nor complete", "one of them"),
        ({"positive": None, "measured": "m", "complete": True}, "both measured and complete", "one of them"),
        ({"complete": True}, "complete: found complete", "only beside a column of 1 and 0"),
        ({"positive": None, "measured": "m", "unrelated": ["a"]}, "unrelated without complete", "complete = true"),
        ({"positive": None, "complete": "yes"}, "complete: found 'yes'", "true or false"),
        ({"positive": None, "complete": True, "range": [0, 1], "unit": "1"}, "range: found a range", "a comparison"),
        ({"range": [5, 200]}, "unit: found nothing", "a text"),
        ({"unit": "mmHg"}, "unit: found unit without range", "both, or neither"),
        ({"range": [200, 5], "unit": "mmHg"}, "range: found [200, 5]", "[lowest, highest"),
        ({"range": [1], "unit": "mmHg"}, "range: found [1]", "a list of 2 finite numbers"),
        ({"among": "ph2"}, "line 7: [task] among: found 'ph2'", "a binary task of this file (ph)"),
        ({"among": "ph"}, "a circle (ph -> ph)", "a task without among"),
        ({"description": None}, "description: found nothing", "a text"),
        (
            {"threshold_of": "mpap", "column": None},
            "threshold_of: found 'mpap'",
            "a regression of this file (there is none)",
        ),
        ({"threshold_of": "mpap", "column": None, "measured": "m"}, "measured beside threshold_of", "neither"),
        ({"kind": "regression", "positive": None}, "unit: found nothing", "a text"),
        ({"kind": "regression", "positive": None, "unit": "mmHg"}, "range: found nothing", "2 finite numbers"),
        ({"kind": "regression"}, "positive: found an unknown key", "one of"),
    ],
)
def test_a_task_that_cannot_be_meant_names_line_found_expected_and_advice(
    tmp_path: Path, keys: dict[str, object], found: str, expected: str
) -> None:
    with pytest.raises(FormatError) as caught:
        parse(tmp_path, task(**keys))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cohort.toml'}, line ")
    assert found in message.split(", expected ")[0]
    assert expected in message.split(", expected ", 1)[1]
    assert caught.value.advice


def test_the_trap_of_unmeasured_zeros_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        parse(tmp_path, task(positive=None))
    assert "A 0 that stands where nobody measured is no negative" in caught.value.advice


def test_a_name_twice_shows_both_lines(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 9: \[task\] name: found 'ph' a second time \(first in line 1\)"):
        parse(tmp_path, task() + "\n" + task())


def test_a_circle_of_among_is_shown(tmp_path: Path) -> None:
    text = task(name="a", among="b", primary=True) + task(name="b", among="c") + task(name="c", among="a")
    with pytest.raises(FormatError, match=r"a circle \(a -> b -> c -> a\)"):
        parse(tmp_path, text)
    loop = [Label(name=n, quantity=Quantity.of("x"), rule=Flag(), description="", among=m) for n, m in ("ab", "ba")]
    with pytest.raises(FormatError, match="a circle of among"):
        TaskSet(name="c", statement="s", labels=tuple(loop))


def test_exactly_one_task_is_primary_and_stands_first(tmp_path: Path) -> None:
    two = task(name="a") + task(name="b", primary=True)
    assert parse(tmp_path, two).tasks.label_names == ("b", "a")
    assert parse(tmp_path, task()).tasks.primary == "ph"
    for text, found in ((task(name="a") + task(name="b"), "0 of 2"), (two + task(name="c", primary=True), "2 of 3")):
        with pytest.raises(
            FormatError, match=f"found {found} binary tasks marked, expected primary = true on exactly one"
        ):
            parse(tmp_path, text)


def test_regressions_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found 1 regressions and no binary task") as caught:
        parse(tmp_path, task(kind="regression", positive=None, unit="mmHg", range=[5, 120]))
    assert "threshold_of" in caught.value.advice


def test_a_flag_is_no_threshold_and_a_transformed_value_has_none(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found the rule '1', expected a comparison"):
        parse(tmp_path, PASP.replace('positive = ">=45"\n', ""))
    with pytest.raises(FormatError, match="which is transformed"):
        parse(tmp_path, PASP.replace('unit = "mmHg"', 'unit = "1"\ntransform = "sin_deg"'))


def test_the_line_of_a_key_is_that_of_its_own_table(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[cohort] # all\nname = "x"\n\n[cohort.signals]\nkind = "npy"\n[[task]]\nname = "a"\n[[task]]\nname = "b"\n'
    )
    document = read_toml(path)
    assert document.table("cohort").line("name") == 2
    assert document.table("cohort").table("signals").line("kind") == 5
    assert document.table("cohort").table("signals").line("absent") == 4
    assert [table.line("name") for table in document.tables("task")] == [7, 9]
    path.write_text('[cohort]\n\nsignals = { kind = "npy" }\n')
    assert read_toml(path).table("cohort").table("signals").line("kind") == 3


@pytest.mark.parametrize("content", [b"[cohort\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(FormatError, match=r"c\.toml"):
        read_toml(tmp_path / "c.toml")
    with pytest.raises(FormatError, match="nowhere"):
        read_toml(tmp_path / "nowhere.toml")
