"""The standard error of pairs that are not independent, and when the generalizing part answers and leads."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.experiment import Task
from interp.mathematics.circuits import LEAST_STRENGTH, Competition
from interp.mathematics.held_out import CLEAR, standard_error
from interp.runs import phase_pairs

VALUES = np.random.RandomState(0).normal(size=40)


def test_of_pairs_that_are_their_own_orbit_it_is_the_usual_standard_error() -> None:
    expected = VALUES.std(ddof=1) / math.sqrt(40)
    assert standard_error(VALUES, np.arange(40) * 7 % 41) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("copies", [2, 4])
def test_what_is_said_twice_is_known_no_better(copies: int) -> None:
    """A network that treats (a, b) and (b, a) alike: as many observations as orbits."""
    orbit = np.arange(40)
    once, again = standard_error(VALUES, orbit), standard_error(np.tile(VALUES, copies), np.tile(orbit, copies))
    assert again == pytest.approx(once, rel=1e-12)


def test_orbits_of_two_sizes_count_by_their_pairs() -> None:
    """Against the variance of the mean over many draws: each orbit draws one value, which its one or two pairs have."""
    orbit = np.array([0, 1, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 8, 9, 9, 10, 11, 11])
    draws = np.random.RandomState(1).normal(size=(4000, 12))[:, orbit]
    squares = [standard_error(values, orbit) ** 2 for values in draws[:1500]]
    assert float(np.mean(squares)) == pytest.approx(draws.mean(1).var(), rel=0.08)


def test_of_fewer_than_two_orbits_it_is_unknown() -> None:
    for n in (0, 1, 5):
        assert math.isnan(standard_error(VALUES[:n], np.zeros(n, dtype=np.int64)))


def test_the_orbits_of_pairs_in_phase_are_those_of_the_task() -> None:
    task = Task(13, "multiply", train_fraction=0.2)
    pairs = phase_pairs(task)
    assert_array_equal(pairs.orbit, task.orbits[pairs.row_major])
    assert_array_equal(pairs.is_held_out, task.held_out_mask[pairs.row_major])
    for orbit in pairs.orbit[pairs.is_held_out].unique():
        assert len(pairs.fold[pairs.orbit == orbit].unique()) == 1


def competition(
    generalizing: float, *, memorizing: float = 0.0, error: float = 0.01, margin: float = 1.0
) -> Competition:
    return Competition(*(np.array([value]) for value in (generalizing, memorizing, error, margin)))


@pytest.mark.parametrize(
    ("told", "answers", "leads"),
    [
        (competition(5.0), 1, 1),
        (competition(5.0, memorizing=6.0), 1, 0),
        (competition(5.0, memorizing=5.0), 1, 0),
        (competition(5.0, margin=0.0), 0, 0),
        (competition(5.0, margin=-2.2), 0, 0),  # strong, and another answer is stronger
        (competition(5.0, error=5.0 / CLEAR), 0, 0),  # chance could have made it
        (competition(5.0, error=4.9 / CLEAR), 1, 1),
        (competition(LEAST_STRENGTH, error=0.0), 1, 1),
        (competition(0.99 * LEAST_STRENGTH, error=0.0), 0, 0),
        (competition(-5.0, memorizing=-9.0), 0, 0),
        (competition(0.0, memorizing=-9.0), 0, 0),
        (competition(math.nan), math.nan, math.nan),
        (competition(5.0, margin=math.nan), math.nan, math.nan),  # no phases
        (competition(5.0, memorizing=math.nan), 1, math.nan),
        (competition(5.0, error=math.nan), 0, 0),
    ],
)
def test_the_generalizing_part_leads_where_it_is_clear_and_right_and_the_stronger_one(
    told: Competition, answers: float, leads: float
) -> None:
    assert_array_equal(told.generalizes(), [answers])
    assert_array_equal(told.leads(), [leads])
