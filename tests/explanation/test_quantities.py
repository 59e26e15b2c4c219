"""The numbers of a comparison and how far apart they are, against known differences."""

import math
from itertools import permutations
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

import interp
from interp import InputError, Run
from interp.analysis import Analysis, discover
from interp.explanation import compare
from interp.explanation.quantities import difference


@pytest.fixture(scope="module")
def reference() -> Run:
    return interp.open_run(interp.reference_path())


@pytest.mark.parametrize(
    ("scale", "values", "expected"),
    [
        ("magnitude", [1e-7, 1e-3], 4),
        ("magnitude", [20.0, 2.0, 200.0], 2),
        ("magnitude", [0.0, 5.0], 1),
        ("magnitude", [0.0, 0.0], 0),
        ("share", [0.02, 0.98], 0.96),
        ("share", [0.5, None, 0.1], 0.4),
        ("index", [-0.25, 0.5], 0.75),
        ("signed", [-3.0, 6.0], 1.5),
        ("signed", [8.0, 6.0], 0.25),
        ("signed", [10.0, 1.0, -1.0], 2),
        ("signed", [0.0, 0.0], 0),
        ("share", [0.5, None], None),
        ("signed", [None, None], None),
    ],
)
def test_the_difference_of_known_numbers(scale, values, expected):
    for order in permutations(values):
        assert difference(scale, order) == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_a_factor_of_ten_counts_as_much_as_a_whole():
    assert difference("magnitude", [0.3, 3.0]) == pytest.approx(difference("share", [0.0, 1.0]))
    assert difference("magnitude", [2.0, 6.0]) == pytest.approx(difference("magnitude", [0.02, 0.06]))


SUMMARY = {
    "step": 3,
    "strength": {"memorizing": -1.5, "generalizing": math.nan},
    "strengthened": 4.0,
    "power_share": np.float32(0.25),
    "verdict": "clock",
    "components": [{"share": 0.5}],
}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            {},
            {
                "strength.memorizing": ("signed", -1.5),
                "strength.generalizing": ("signed", None),
                "strengthened": ("signed", 4.0),
                "power_share": ("signed", 0.25),
            },
        ),
        (
            {"SCALES": {"strength": "magnitude", "power_share": "share", "verdict": "share"}},
            {
                "strength.memorizing": ("magnitude", -1.5),
                "strength.generalizing": ("magnitude", None),
                "power_share": ("share", 0.25),
            },
        ),
        ({"SCALES": {"strength.memorizing": "signed"}}, {"strength.memorizing": ("signed", -1.5)}),
        ({"SCALES": {}}, {}),
    ],
    ids=["not said", "by what they are in", "by name", "none"],
)
def test_the_numbers_of_a_plug_in_are_compared_by_the_scales_it_declares(monkeypatch, reference, declared, expected):
    module = ModuleType("louder")
    vars(module).update(
        declared,
        __file__=__file__,
        REFERENCE="nobody",
        measure=lambda checkpoint: xr.Dataset({"size": ((), 2.0 * checkpoint.step)}),
        summary=lambda result: SUMMARY,
    )
    known = discover() | {"louder_logits": Analysis("louder_logits", module)}
    for package in ("analysis.contract", "explanation.comparison"):
        monkeypatch.setattr(f"interp.{package}.discover", lambda: known)
    comparison = compare((reference, 100), (reference, 400))
    rows = {row.name: row for row in comparison.rows if row.group == "Other analyses"}
    assert {name: (row.scale, row.values[0]) for name, row in rows.items()} == {
        f"louder_logits.{name}": value for name, value in expected.items()
    }
    assert all(row.label.startswith("louder logits: ") for row in rows.values())
    assert all("louder_logits" in side.results for side in comparison.sides) == (declared != {"SCALES": {}})


def test_an_analysis_that_cannot_be_asked_is_left_out(monkeypatch, reference):
    def measure(checkpoint):
        raise InputError("not of this one")

    module = ModuleType("louder")
    vars(module).update(__file__=__file__, measure=measure, summary=lambda result: SUMMARY)
    known = discover() | {"louder": Analysis("louder", module)}
    for package in ("analysis.contract", "explanation.comparison"):
        monkeypatch.setattr(f"interp.{package}.discover", lambda: known)
    assert not [row for row in compare((reference, 100), (reference, 400)).rows if row.group == "Other analyses"]
