"""The task against brute force over all pairs: phases, noise and split, and every way to ask for what cannot
be."""

import re
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.errors import InputError
from interp.experiment import Task
from interp.experiment.operations import PERMUTATIONS, Operation

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
MODULI = (2, 3, 4, 6, 7, 10, 13)
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


def residues(p: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(p) for b in range(p)]


# ---- phases ----------------------------------------------------------------------------------------------------------


def check_phase(task: Task, order: int) -> None:
    """Row s and column t of the reordered table hold the class of phase s + t, and no residue has two phases."""
    phase, table = task.phase, task.true_labels.reshape(task.p, task.p)
    s, t = np.indices((order, order))
    assert_array_equal(table[phase.rows][:, phase.columns], phase.classes[(s + t) % order])
    assert phase.order == order == len(set(phase.rows)) == len(set(phase.columns)) == len(set(phase.classes))


@pytest.mark.parametrize("p", MODULI)
@pytest.mark.parametrize("operation", ["add", "subtract"])
def test_sums_and_differences_are_additions_modulo_p(operation: str, p: int) -> None:
    check_phase(Task(p=p, operation=operation, train_fraction=0.5), p)


@pytest.mark.parametrize("p", PRIMES[1:])
@pytest.mark.parametrize("operation", ["multiply", "divide"])
def test_products_and_quotients_are_additions_of_discrete_logarithms(operation: str, p: int) -> None:
    check_phase(Task(p=p, operation=operation, train_fraction=0.5), p - 1)


@pytest.mark.parametrize(
    ("operation", "p"),
    [
        ("multiply", 2),
        ("multiply", 9),
        ("divide", 6),
        *((name, 6) for name in sorted(PERMUTATIONS)),
        *((name, 7) for name in OPERATIONS if name not in PERMUTATIONS | {"add", "subtract", "multiply", "divide"}),
    ],
)
def test_an_operation_without_phase_says_so_and_falls_back_on_residues(operation: str, p: int) -> None:
    task = Task(p=p, operation=operation, train_fraction=0.5)
    with pytest.raises(InputError, match=rf"{re.escape(task.title)} .* has no phase"):
        _ = task.phase
    for coordinate in (task.coordinates.rows, task.coordinates.columns, task.coordinates.classes):
        assert_array_equal(coordinate, np.arange(p))


def test_coordinates_are_the_phase_where_there_is_one() -> None:
    task = Task(p=7, operation="divide")
    assert task.coordinates is task.phase


def test_whether_there_is_a_phase_is_whether_it_can_be_had() -> None:
    for operation in OPERATIONS:
        for p in (6,) if operation in PERMUTATIONS else (2, 3, 4, 7, 9):
            task = Task(p, operation, train_fraction=0.6)
            try:
                found = task.phase is not None
            except InputError:
                found = False
            assert task.has_phase == found


# ---- the split -------------------------------------------------------------------------------------------------------


def test_thirty_percent_of_the_published_table() -> None:
    task = Task()
    assert (task.train_mask.sum(), task.test_mask.sum()) == (3830, 8939)


@pytest.mark.parametrize("p", [7, 59, 97, 114])
@pytest.mark.parametrize("operation", ["add", "divide"])
@pytest.mark.parametrize("percent", [10, 29, 50, 100])
def test_the_split_divides_the_defined_pairs(p: int, operation: str, percent: int) -> None:
    task = Task(p=p, operation=operation, train_fraction=percent / 100)
    assert task.train_mask.sum() == len(task.train_indices) == percent * task.defined.sum() // 100
    assert_array_equal(task.train_mask | task.test_mask, task.defined)
    assert not (task.train_mask & task.test_mask).any()
    assert_array_equal(np.flatnonzero(task.train_mask), task.train_indices)
    assert_array_equal(task.mask("all"), task.defined)
    assert_array_equal(task.mask("train"), task.train_mask)
    assert_array_equal(task.mask("test"), task.test_mask)


def test_a_fraction_that_floating_point_cannot_hold_loses_no_pair() -> None:
    assert len(Task(p=10, train_fraction=0.29).train_indices) == 29  # 0.29 · 100 is 28.999999999999996


def test_a_number_of_pairs_wins_over_the_fraction() -> None:
    assert len(Task(p=7, train_pairs=11, train_fraction=0.9).train_indices) == 11


def test_a_seed_names_a_split() -> None:
    first, again, other = Task(p=13), Task(p=13), Task(p=13, seed=1)
    assert_array_equal(first.train_indices, again.train_indices)
    assert (first.train_indices != other.train_indices).any()
    larger = Task(p=13, train_fraction=0.6)
    assert set(first.train_indices) < set(larger.train_indices)
    # Runs are named by their seeds: if this changes, no old one can be repeated.
    assert_array_equal(Task(p=4, train_pairs=5).train_indices, [5, 8, 10, 13, 14])


def test_the_split_favors_no_pair() -> None:
    """Over 400 seeds each of 49 pairs is drawn about 400·14/49 times; five standard deviations are allowed."""
    counts = sum(Task(p=7, train_pairs=14, seed=seed).train_mask.astype(int) for seed in range(400))
    share = 14 / 49
    assert np.abs(counts - 400 * share).max() < 5 * np.sqrt(400 * share * (1 - share))


def test_a_split_given_by_index() -> None:
    task = Task(p=5, split=(7, 3, 24))
    assert_array_equal(task.train_indices, [3, 7, 24])
    assert task.test_mask.sum() == 22
    assert task.split_known


def test_an_unknown_split_trains_and_tests_on_nothing() -> None:
    task = Task(p=5, split="unknown", label_noise=0.5)
    assert not task.split_known
    assert not task.train_mask.any()
    assert not task.test_mask.any()
    assert not task.unmirrored_test_mask.any()
    assert task.mask("all").all()
    assert_array_equal(task.labels, task.true_labels)


@pytest.mark.parametrize("task", [Task(p=7), Task(p=7, operation="random", symmetric=True, train_fraction=0.6)])
def test_unmirrored_pairs_of_a_commutative_table(task: Task) -> None:
    trained = {residues(7)[index] for index in task.train_indices}
    expected = [(a, b) not in trained and (b, a) not in trained for a, b in residues(7)]
    assert_array_equal(task.mask("unmirrored"), expected)
    assert 0 < task.mask("unmirrored").sum() < task.test_mask.sum()


@pytest.mark.parametrize("operation", ["subtract", "divide", "x3+xy", "random"])
def test_every_test_pair_of_another_table_is_unmirrored(operation: str) -> None:
    task = Task(p=7, operation=operation)
    assert_array_equal(task.unmirrored_test_mask, task.test_mask)


# ---- label noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [10, 50, 100])
@pytest.mark.parametrize(("operation", "p"), [("add", 13), ("divide", 10), ("random", 7)])
def test_noise_makes_that_share_of_training_labels_wrong_and_no_other(percent: int, operation: str, p: int) -> None:
    task = Task(p=p, operation=operation, label_noise=percent / 100, train_fraction=0.5)
    wrong = task.labels != task.true_labels
    assert wrong.sum() == percent * len(task.train_indices) // 100
    assert task.train_mask[wrong].all()
    assert task.labels[task.defined].min() >= 0
    assert task.labels.max() < p


def test_noise_is_drawn_once_and_leaves_the_split_alone() -> None:
    noisy = Task(p=13, label_noise=0.3)
    assert_array_equal(noisy.labels, Task(p=13, label_noise=0.3).labels)
    assert_array_equal(noisy.train_indices, Task(p=13).train_indices)
    other = Task(p=13, label_noise=0.3, split=tuple(noisy.train_indices.tolist()), seed=1)
    assert (noisy.labels != other.labels).any()


def test_every_wrong_label_is_equally_likely() -> None:
    """χ² of the 3,830 offsets over 112 wrong values: 111 degrees of freedom, within five standard deviations of its
    mean."""
    task = Task(label_noise=1.0)
    counts = np.bincount((task.labels - task.true_labels)[task.train_mask] % 113, minlength=113)
    assert counts[0] == 0
    expected = 3830 / 112
    assert abs(((counts[1:] - expected) ** 2 / expected).sum() - 111) < 5 * np.sqrt(2 * 111)


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"p": 1}, "task.p must be at least 2, got 1"),
        ({"p": -5}, "task.p must be at least 2"),
        ({"p": 5000}, "task.p must be at most 4096"),
        ({"p": True}, "task.p must be an integer, got True"),
        ({"p": "7"}, "task.p must be an integer, got '7'"),
        ({"p": 7.0}, "task.p must be an integer"),
        ({"operation": "substract"}, "unknown task.operation 'substract'; did you mean 'subtract'"),
        ({"operation": "÷"}, "known: add, subtract"),
        ({"operation": "permutations-ab"}, r"task.p is one of 6 \(S_3\), .*720 \(S_6\); it is 113. .* --task.p 120"),
        ({"seed": -1}, "task.seed must be at least 0"),
        ({"seed": 2**32}, "task.seed must be at most"),
        ({"train_fraction": 0}, "task.train-fraction must be greater than 0"),
        ({"train_fraction": 1.5}, "task.train-fraction must be at most 1, got 1.5"),
        ({"train_fraction": float("nan")}, "task.train-fraction must be finite"),
        ({"train_fraction": "half"}, "task.train-fraction must be a number, got 'half'"),
        ({"train_fraction": 0.01, "p": 7}, "0.01 of 49 pairs leaves none"),
        ({"train_pairs": 0}, "task.train-pairs must be at least 1"),
        ({"train_pairs": 50, "p": 7}, "task.train-pairs must be at most 49"),
        ({"train_pairs": 43, "p": 7, "operation": "divide"}, "task.train-pairs must be at most 42"),
        ({"label_noise": -0.1}, "task.label-noise must be at least 0"),
        ({"label_noise": 1.1}, "task.label-noise must be at most 1"),
        ({"symmetric": True}, "task.symmetric describes the operation 'random'; the operation here is 'add'"),
        ({"split": "unknwn"}, "unknown task.split 'unknwn'; did you mean 'unknown'"),
        ({"split": ()}, "task.split is an empty list"),
        ({"split": (0, 3, 0)}, "task.split names a pair twice"),
        ({"split": (49,), "p": 7}, r"task.split: each index a·p \+ b must be at most 48, got 49"),
        ({"split": (-1,)}, "must be at least 0, got -1"),
        ({"split": (True,)}, "must be an integer, got True"),
        (
            {"split": (8,), "p": 6, "operation": "divide"},
            r"the pair \(1, 2\), for which divide is not defined: 2 is no unit modulo 6",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Task(**fields)
    assert "\n" not in str(caught.value)


def test_an_unknown_mask_is_refused() -> None:
    with pytest.raises(InputError, match="unknown split 'tset'; did you mean 'test'"):
        Task(p=7).mask("tset")
