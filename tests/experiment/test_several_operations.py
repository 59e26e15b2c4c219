"""Several operations in one network: their tables and splits, and what a trained example of one gives away of
another."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import interp
from interp.errors import InputError
from interp.experiment import (
    ModelConfig,
    Operations,
    Samples,
    Task,
    experiment_from_dict,
    experiment_from_toml,
    recorded_section,
    section_from_dict,
)
from interp.experiment.several_operations import equalities

READS_OPERATORS = ModelConfig(prompt="aob=")
COMPANIES = [
    (11, ("add", "subtract")),
    (11, ("multiply", "divide", "add")),
    (8, ("multiply", "divide")),
    (7, ("add", "subtract", "add-or-subtract")),
    (7, ("x2+y2", "x2+xy+y2", "x3+xy")),
    (6, ("permutations-ab", "permutations-aba", "add")),
    (7, ("add", "random")),
    (2, ("add", "subtract")),
]


def test_examples_run_over_the_operations_and_then_over_their_pairs() -> None:
    task = Operations(5, ("subtract", "add", "multiply"))
    formulas = (lambda a, b: a - b, lambda a, b: a + b, lambda a, b: a * b)
    for index, (place, a, b) in enumerate(itertools.product(range(3), range(5), range(5))):
        assert task.inputs[index].tolist() == [a, b, place]
        assert task.labels[index] == formulas[place](a, b) % 5


@pytest.mark.parametrize(("p", "operations"), COMPANIES)
def test_examples_of_one_orbit_have_one_answer(p: int, operations: tuple) -> None:
    """What is taken to be given away is: no example is held out of the test for nothing."""
    task, labels = Operations(p, operations, (0.6,)), defaultdict(set)
    for orbit, label in zip(task.orbits[task.defined], task.labels[task.defined], strict=True):
        labels[orbit].add(label)
    assert all(len(found) == 1 for found in labels.values())


@pytest.mark.parametrize(("p", "operations"), COMPANIES)
def test_what_is_equal_for_whole_tables_is_one_orbit(p: int, operations: tuple) -> None:
    """A slow second implementation over the tables of the operations as they are, mixtures included, in plain loops:
    whatever change of exchange, signs and operation leaves every answer is found."""
    task = Operations(p, operations, (0.6,))
    tables = {one: task.task_of(one).true_labels.reshape(p, p) for one in operations if one != "random"}
    changes = [
        lambda a, b, swap=swap, s=s, t=t: (s * b % p, t * a % p) if swap else (s * a % p, t * b % p)
        for swap, s, t in itertools.product((False, True), (1, -1), (1, -1))
    ]
    pairs = list(itertools.product(range(p), range(p)))
    n_equal = 0
    for (one, left), (other, right) in itertools.product(tables.items(), repeat=2):
        for change in changes:
            if all(left[a, b] == right[change(a, b)] for a, b in pairs):
                n_equal += 1
                for a, b in pairs:
                    x, y = change(a, b)
                    here = operations.index(one) * p**2 + a * p + b
                    there = operations.index(other) * p**2 + x * p + y
                    assert task.orbits[here] == task.orbits[there]
    assert n_equal >= len(tables)  # the change that changes nothing


@pytest.mark.parametrize("p", [5, 7, 12])
def test_the_orbits_of_sums_and_differences(p: int) -> None:
    """{a + b, b + a, a − (−b), b − (−a)}, and nothing else."""
    task, orbits = Operations(p), defaultdict(set)
    for index, orbit in enumerate(task.orbits.tolist()):
        orbits[orbit].add(index)
    found = {frozenset(of) for of in orbits.values()}
    expected = {
        frozenset((a * p + b, b * p + a, p**2 + a * p + -b % p, p**2 + b * p + -a % p))
        for a, b in itertools.product(range(p), range(p))
    }
    assert found == expected


@pytest.mark.parametrize("p", [5, 7, 12])
def test_a_quotient_is_the_product_with_the_inverse(p: int) -> None:
    task = Operations(p, ("multiply", "divide"))
    for a, b in itertools.product(range(p), range(p)):
        if math.gcd(b, p) == 1:
            assert task.orbits[p**2 + a * p + b] == task.orbits[a * p + pow(b, -1, p)]


def test_of_a_random_table_nothing_is_given_away() -> None:
    task = Operations(7, ("random", "add", "x3+xy"), (0.5,))
    assert_array_equal(task.orbits[:49], np.arange(49))
    assert {one for one, *_ in equalities(task.operations, 7)} == {"add"}
    assert_array_equal(task.mask("random.held_out"), task.mask("random.test"))


@pytest.mark.parametrize(("p", "operations"), COMPANIES[:5])
def test_held_out_is_what_no_trained_example_gives_away(p: int, operations: tuple) -> None:
    """Whoever memorized, and knows all equalities, knows no held-out example, and every other test example."""
    task = Operations(p, operations, (0.4,))
    given_away = set(task.orbits[task.mask("train")].tolist())
    for index in np.flatnonzero(task.mask("test")):
        assert task.mask("held_out")[index] == (task.orbits[index] not in given_away)
    assert 0 < task.n_held_out <= task.mask("held_out").sum() < task.mask("test").sum()


def test_more_is_given_away_in_company() -> None:
    task = Operations(31, train_fraction=(0.4,))
    for operation in task.operations:
        of_one = task.task_of(operation)
        alone = Task(31, operation, train_fraction=0.4, seed=of_one.seed)
        assert_array_equal(of_one.train_mask, alone.train_mask)
        assert_array_equal(of_one.mask("held_out"), task.mask(f"{operation}.held_out")[task.examples_of(operation)])
        assert (of_one.mask("held_out") <= alone.mask("held_out")).all()
        # Of four, and of two, independent draws: a pair is held out with probability (1 − f)⁴, and (1 − f)².
        of_all = 31**2
        assert abs(of_one.mask("held_out").sum() / of_all - 0.6**4) < 0.03
        assert abs(alone.mask("held_out").sum() / of_all - 0.6**2) < 0.04


def test_the_pairs_of_an_operation_are_the_same_in_any_company_and_its_own() -> None:
    one, other = Operations(11), Operations(11, ("random", "x2+y2", "add"))
    assert one.task_of("add").seed == other.task_of("add").seed
    assert_array_equal(one.task_of("add").train_mask, other.task_of("add").train_mask)
    assert (one.task_of("add").train_mask != one.task_of("subtract").train_mask).any()
    assert (one.task_of("add").train_mask != Operations(11, seed=1).task_of("add").train_mask).any()


def test_every_operation_has_its_own_share() -> None:
    task = Operations(11, ("add", "divide", "random"), (0.2, 0.5, 1.0))
    # 121 pairs, but 110 that have a quotient
    assert [int(task.mask(f"{one}.train").sum()) for one in task.operations] == [24, 55, 121]
    assert Operations(11, train_fraction=(0.3, 0.3)) == Operations(11)  # one network has one hash


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"operations": ("add",)}, "has 1, and a network of several has two or more; of one give --task.operation"),
        ({"operations": ("add", "add")}, "names one twice: add, add"),
        ({"operations": ("add", "substract")}, "'substract'; did you mean 'subtract'"),
        ({"operations": ("add", "permutations-ab")}, r"task.p is one of 6 \(S_3\)"),
        ({"train_fraction": (0.1, 0.2, 0.3)}, "has 3 shares for 2 operations"),
        ({"train_fraction": (0.0,)}, "task.train-fraction"),
        ({"p": 2, "train_fraction": (0.1,)}, "of 4 pairs leaves none to train on"),
        ({"p": 1}, "task.p"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Operations(**fields)


def test_an_operation_that_there_is_not() -> None:
    with pytest.raises(InputError, match="has the operations add, subtract, and not 'divide'"):
        Operations(7).mask("divide.train")


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (ModelConfig(), "model.prompt is 'ab=', give 'aob='"),
        (ModelConfig(prompt="aobo="), "model.prompt is 'aobo=', give 'aob='"),
        (ModelConfig(prompt="abo", answer_at=1), "o, the operation, is there; give a later model.answer-at"),
        (ModelConfig(prompt="aob=", tied=True), "give model.tied False"),
        (ModelConfig(family="mlp", embedding="tied"), "give model.embedding untied"),
    ],
)
def test_a_network_that_cannot_be_told_which_operation_is_asked(model: ModelConfig, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        interp.Experiment(Operations(7), model)


def test_it_is_recorded_and_read_back(tmp_path) -> None:
    experiment = interp.Experiment(Operations(7, ("add", "random"), (0.4, 0.8), seed=3), READS_OPERATORS)
    assert experiment_from_dict(experiment.to_dict()) == experiment
    assert experiment.to_dict()["task"]["kind"] == "operations"
    lines = (
        '[task]\nkind = "operations"\np = 7\noperations = ["add", "random"]\ntrain-fraction = [0.4, 0.8]\nseed = 3\n'
    )
    (tmp_path / "it.toml").write_text(lines + '[model]\nprompt = "aob="\n')
    assert experiment_from_toml(tmp_path / "it.toml") == experiment
    assert experiment.hash != interp.Experiment(Operations(7, ("random", "add"), (0.8, 0.4)), READS_OPERATORS).hash


def test_what_is_given_away_is_no_part_of_the_hash_of_other_tasks() -> None:
    assert "given_away" not in recorded_section(Task(7))
    of_one = Operations(7).task_of("add")
    assert of_one.given_away
    assert section_from_dict("task", recorded_section(of_one)) == of_one
    with pytest.raises(InputError, match=r"task\.given-away: each index a·p"):
        Task(7, given_away=(49,))
    assert isinstance(Samples().mask("held_out"), np.ndarray)


def test_listed_examples_are_those_that_are_trained_on() -> None:
    drawn = Operations(7, ("add", "random"), (0.4,), seed=3)
    listed = Operations(7, ("add", "random"), seed=3, split=tuple(drawn.train_indices[::-1].tolist()))
    assert_array_equal(listed.train_indices, drawn.train_indices)
    assert_array_equal(listed.labels, drawn.labels)
    assert_array_equal(listed.mask("held_out"), drawn.mask("held_out"))
    assert listed.task_of("add").train_indices.tolist() == drawn.task_of("add").train_indices.tolist()
    assert "split" not in recorded_section(drawn)
    assert section_from_dict("task", recorded_section(listed)) == listed


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ((1, 2), "task.split has no example of random, which is number 1 of task.operations"),
        ((1, 98), "each example o·p² \\+ a·p \\+ b must be at most 97, got 98"),
        ((1, 1, 50), "task.split names a pair twice"),
        ((), "task.split has no example of add"),
    ],
)
def test_lists_of_examples_that_cannot_be(split: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Operations(7, ("add", "random"), split=split)
