"""The validation split: whole orbits, its own stream, and a part of what is not trained on that nobody reports on."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.errors import InputError
from interp.experiment import Experiment, Samples, Task, experiment_from_dict
from interp.experiment.operations import PERMUTATIONS, Operation
from interp.experiment.validation import validation_mask

OPERATIONS: tuple[Operation, ...] = get_args(Operation)


def task_of(operation: Operation, **fields) -> Task:
    p = 24 if operation in PERMUTATIONS else 13
    return Task(p, operation, symmetric=operation == "random", **fields)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("fraction", "seed"), [(0.5, 0), (0.2, 3)])
def test_it_divides_what_is_not_trained_on_by_orbits(operation: Operation, fraction: float, seed: int) -> None:
    without = task_of(operation, train_fraction=0.3, seed=seed)
    task = replace(without, validation_fraction=fraction)
    validation, test = task.mask("validation"), task.mask("test")
    assert_array_equal(task.train_indices, without.train_indices)
    assert_array_equal(task.labels, without.labels)
    assert_array_equal(validation | test, without.mask("test"))
    assert not (validation & test).any()
    assert not set(task.orbits[validation]) & set(task.orbits[test])
    assert_array_equal(task.mask("held_out"), without.mask("held_out") & test)
    assert_array_equal(task.mask("unmirrored"), without.mask("unmirrored") & test)
    largest = np.unique(task.orbits, return_counts=True)[1].max()
    wanted = int(fraction * without.mask("test").sum() + 1e-9)
    assert wanted - largest < validation.sum() <= wanted
    # What is chosen on is made up as what is reported on: the same share of it could not have been memorized.
    unseen = without.mask("held_out")
    assert fraction * unseen.sum() - largest <= (validation & unseen).sum() <= fraction * unseen.sum()


def test_the_counts_do_not_depend_on_the_seed() -> None:
    """So that networks of several seeds can train side by side."""
    tasks = [Task(23, validation_fraction=0.37, seed=seed) for seed in range(30)]
    assert {int(task.mask("validation").sum()) for task in tasks} == {int(0.37 * (23 * 23 - 158))}
    assert len({task.mask("validation").tobytes() for task in tasks}) == 30


def test_every_orbit_is_as_likely_as_any_other() -> None:
    """Of 400 draws each of the held-out orbits is in validation about half of the time: binomial, so within five
    standard deviations, 0.5 ± 0.125."""
    untrained, orbits = np.ones(40, dtype=bool), np.repeat(np.arange(0, 40, 2), 2)
    none = np.empty(0, dtype=np.int64)
    draws = [validation_mask(0.5, untrained, orbits, none, np.random.RandomState(seed)) for seed in range(400)]
    share = np.mean(draws, axis=0)
    assert np.abs(share - 0.5).max() < 0.125
    assert np.ptp(share) > 0


def test_a_draw_is_what_it_was() -> None:
    """Runs are named by their seeds: if this changes, no old one can be repeated."""
    assert_array_equal(np.flatnonzero(Task(5, validation_fraction=0.4).mask("validation")), [0, 4, 12, 14, 18, 22, 24])


@pytest.mark.parametrize("split", ["drawn", tuple(range(0, 60, 2))])
def test_a_listed_split_has_one_too(split) -> None:
    task = Task(11, split=split, validation_fraction=0.5)
    assert 0 < task.mask("validation").sum() <= task.mask("test").sum()


def test_an_experiment_without_keeps_its_hash_and_one_with_comes_back() -> None:
    assert Experiment(Task()).hash == "909d76fd9682baa3"
    chosen = Experiment(Task(7, validation_fraction=0.5))
    assert chosen.hash != Experiment(Task(7)).hash
    assert experiment_from_dict(chosen.to_dict()) == chosen
    assert "validation_fraction" not in Experiment(Task(7)).to_dict()["task"]
    digits = Samples(n_train=30, n_test=10, n_validation=5)
    assert experiment_from_dict({"task": {"kind": "samples", "n-validation": 5}, "model": MLP}).task.n_validation == 5
    assert digits != replace(digits, n_validation=0)


MLP = {"family": "mlp"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation_fraction": 1}, "task.validation-fraction must be less than 1, got 1"),
        ({"validation_fraction": -0.1}, "task.validation-fraction must be at least 0"),
        ({"validation_fraction": "half"}, "task.validation-fraction must be a number"),
        ({"validation_fraction": 0.01}, "0.01 of 35 pairs that are not trained on leaves none to choose on; give more"),
        ({"validation_fraction": 0.5, "train_fraction": 1}, "0.5 of 0 pairs that are not trained on leaves none"),
        (
            {"validation_fraction": 0.5, "split": "unknown"},
            "needs training pairs that are known; task.split is unknown",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Task(7, **fields)
    assert "\n" not in str(caught.value)


# ---- digits ----------------------------------------------------------------------------------------------------------


def test_validation_digits_move_no_others() -> None:
    without, samples = Samples(n_train=100, n_test=50), Samples(n_train=100, n_test=50, n_validation=30)
    for split in ("train", "test"):
        assert_array_equal(samples.inputs[samples.mask(split)], without.inputs[without.mask(split)])
        assert_array_equal(samples.labels[samples.mask(split)], without.labels[without.mask(split)])
    masks = [samples.mask(split) for split in ("train", "validation", "test")]
    assert [int(mask.sum()) for mask in masks] == [100, 30, 50]
    assert_array_equal(np.sum(masks, axis=0), np.ones(180))
    assert_array_equal(samples.mask("held_out"), samples.mask("test"))
    assert not without.mask("validation").any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_validation": -1}, "task.n-validation must be at least 0"),
        ({"n_validation": 500}, "task.n-train 1000, task.n-validation 500 and task.n-test 500 are more than the 1,797"),
        ({"n_validation": 5, "n_test": 0}, "task.n-validation 5 are to choose on, and task.n-test 0 leaves none"),
    ],
)
def test_digits_that_cannot_be_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples(**fields)
