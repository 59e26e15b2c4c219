"""Mirrors that are trained on too: what they take from the test pairs, what they leave, and whose label they carry."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.errors import InputError
from interp.experiment import Experiment, Task
from interp.experiment.operations import COMMUTATIVE, PERMUTATIONS, Operation

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
TASKS = [*(Task(13, operation) for operation in sorted(COMMUTATIVE)), Task(13, "random", symmetric=True)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.operation)
@pytest.mark.parametrize("fields", [{}, {"validation_fraction": 0.5}, {"train_pairs": 40}, {"split": (1, 13, 30, 28)}])
def test_held_out_pairs_are_the_same_with_and_without(task: Task, fields: dict) -> None:
    without = replace(task, **fields)
    mirrored = replace(without, augmentation="mirror")
    assert_array_equal(mirrored.held_out_mask, without.held_out_mask)
    assert_array_equal(mirrored.drawn_indices, without.train_indices)
    a, b = np.divmod(without.train_indices, 13)
    trained = {*zip(a.tolist(), b.tolist(), strict=True), *zip(b.tolist(), a.tolist(), strict=True)}
    assert {divmod(int(index), 13) for index in mirrored.train_indices} == trained
    assert len(mirrored.train_indices) == len(trained) > len(without.train_indices)
    assert not (mirrored.train_mask & (mirrored.test_mask | mirrored.validation_mask)).any()
    assert_array_equal(
        mirrored.unmirrored_test_mask, mirrored.test_mask
    )  # of a mirror that was trained on none is left


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.operation)
def test_a_mirror_carries_the_label_of_its_source_a_wrong_one_too(task: Task) -> None:
    without = replace(task, label_noise=0.5)
    mirrored = replace(without, augmentation="mirror")
    assert_array_equal(mirrored.labels[without.train_indices], without.labels[without.train_indices])
    added = np.setdiff1d(mirrored.train_indices, without.train_indices)
    a, b = np.divmod(added, 13)
    assert_array_equal(mirrored.labels[added], without.labels[b * 13 + a])
    assert (mirrored.labels[added] != mirrored.true_labels[added]).any()
    rest = ~mirrored.train_mask
    assert_array_equal(mirrored.labels[rest], mirrored.true_labels[rest])
    right = replace(task, augmentation="mirror")
    assert_array_equal(right.labels, right.true_labels)


def test_a_pair_that_was_drawn_with_its_mirror_keeps_its_own_label() -> None:
    task = Task(5, split=(1, 5), label_noise=0.5, augmentation="mirror")  # (0, 1) and (1, 0), one of them wrong
    assert_array_equal(task.train_indices, [1, 5])
    assert task.labels[1] != task.labels[5]


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in COMMUTATIVE])
def test_where_a_mirror_has_another_label_it_is_refused(operation: Operation) -> None:
    task = Task(24 if operation in PERMUTATIONS else 7, operation)
    with pytest.raises(InputError) as caught:
        replace(task, augmentation="mirror")
    table = task.true_labels.reshape(task.p, task.p)
    a, b = np.argwhere(table != table.T)[0]
    words = [str(label) if label >= 0 else "no answer" for label in (table[a, b], table[b, a])]
    assert f"of {task.title} ({a}, {b}) has {words[0]} and ({b}, {a}) has {words[1]}; give" in str(caught.value)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown task\.augmentation 'miror'; did you mean 'mirror'"):
        Task(7, augmentation="miror")
    with pytest.raises(InputError, match=r"task\.augmentation needs training pairs that are known"):
        Task(7, augmentation="mirror", split="unknown")
    # By chance: modulo 2 the table of a + ab² + b is that of its mirrors, and the task does not know it.
    with pytest.raises(InputError, match="which is not known to commute; give"):
        Task(2, "x3+xy2+y", augmentation="mirror")


def test_an_experiment_without_keeps_its_hash() -> None:
    assert Experiment(Task()).hash == "909d76fd9682baa3"
    assert Experiment(Task(augmentation="mirror")).hash != Experiment(Task()).hash
