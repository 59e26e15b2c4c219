"""The numbers of a comparison and how far apart they are, against known differences."""

from itertools import permutations

import pytest

import interp
from interp.analysis import results_at
from interp.explanation.quantities import MEASURES, difference, quantities


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


def test_an_analysis_of_circuits_that_comes_later_is_taken_in(monkeypatch):
    reference = interp.open_run(interp.reference_path())

    class Split:
        @staticmethod
        def summary(_):
            strength = {"memorizing": -1.5, "generalizing": None}
            return {
                "step": 3,
                "strength": strength,
                "power_share": 0.25,
                "highest_memorizing_strength_at": 7.0,
                "neurons": 5,
                "loss_alone": {"a": 2.0},
            }

    class Found:
        module = Split

    monkeypatch.setattr("interp.explanation.quantities.find", lambda _: Found)
    checkpoint = reference[400]
    results = results_at(reference, checkpoint, MEASURES)
    found = {each.name: each for each in quantities(checkpoint, results | {"circuit_split": results["weight_norms"]})}
    circuits = {name: (each.scale, each.value) for name, each in found.items() if each.group == "Circuits"}
    assert circuits == {
        "circuit_split.strength.memorizing": ("signed", -1.5),
        "circuit_split.strength.generalizing": ("signed", None),
        "circuit_split.power_share": ("share", 0.25),
        "circuit_split.loss_alone.a": ("magnitude", 2.0),
    }
