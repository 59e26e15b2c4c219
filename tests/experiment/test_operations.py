"""Operations against brute force over all pairs: their tables, their symmetries, and what these leave held out."""

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sympy.combinatorics import Permutation

from interp.experiment import Task
from interp.experiment.operations import COMMUTATIVE, MIXTURES, PERMUTATIONS, Operation

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
MODULI = (2, 3, 4, 6, 7, 10, 13)
FORMULAS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "x2+y2": lambda a, b: a**2 + b**2,
    "x2+xy+y2": lambda a, b: a**2 + a * b + b**2,
    "x2+xy+y2+x": lambda a, b: a**2 + a * b + b**2 + a,
    "x3+xy": lambda a, b: a**3 + a * b,
    "x3+xy2+y": lambda a, b: a**3 + a * b**2 + b,
    "add-or-multiply": lambda a, b: a * b if a % 2 else a + b,
    "add-or-subtract": lambda a, b: a - b if a % 2 else a + b,
}


def residues(p: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(p) for b in range(p)]


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", MODULI)
@pytest.mark.parametrize("operation", FORMULAS)
def test_tables(operation: str, p: int) -> None:
    task = Task(p=p, operation=operation, train_fraction=0.5)
    assert_array_equal(task.pairs, residues(p))
    assert_array_equal(task.true_labels, [FORMULAS[operation](a, b) % p for a, b in residues(p)])
    assert_array_equal(task.labels, task.true_labels)
    assert task.defined.all()


@pytest.mark.parametrize("p", MODULI)
def test_division_is_the_one_solution_of_c_times_b_and_only_by_units(p: int) -> None:
    task = Task(p=p, operation="divide", train_fraction=1)
    for index, (a, b) in enumerate(residues(p)):
        is_unit = any(b * x % p == 1 for x in range(p))
        solutions = [c for c in range(p) if c * b % p == a]
        assert task.defined[index] == is_unit
        assert task.true_labels[index] == (solutions[0] if is_unit else -1)
        assert not is_unit or len(solutions) == 1
    assert_array_equal(task.train_mask, task.defined)


@pytest.mark.parametrize("p", MODULI)
def test_a_quotient_where_b_is_odd_and_a_difference_where_it_is_even(p: int) -> None:
    """Each is the one solution of c·b = a, or of c + b = a."""
    task = Task(p, "divide-or-subtract", train_fraction=1)
    for index, (a, b) in enumerate(residues(p)):
        solutions = [c for c in range(p) if ((c * b if b % 2 else c + b) - a) % p == 0]
        is_defined = b % 2 == 0 or any(b * x % p == 1 for x in range(p))
        assert task.true_labels[index] == (solutions[0] if is_defined else -1)
        assert task.defined[index] == is_defined
        assert not is_defined or len(solutions) == 1


@pytest.mark.parametrize("n", [3, 4])
def test_permutations_against_sympy(n: int) -> None:
    """sympy's a·b is first a, then b, and the published code is written with it, over the same order of elements."""
    elements = [Permutation(list(of)) for of in itertools.permutations(range(n))]
    place = {element: index for index, element in enumerate(elements)}
    formulas = {
        "permutations-ab": lambda a, b: a * b,
        "permutations-aba": lambda a, b: a * b * a,
        "permutations-aba-1": lambda a, b: a * b * ~a,
    }
    for operation, formula in formulas.items():
        task = Task(math.factorial(n), operation)
        expected = [place[formula(elements[a], elements[b])] for a, b in task.pairs]
        assert_array_equal(task.true_labels, expected)
        assert task.defined.all()


def test_the_table_of_s5_is_that_of_the_published_code() -> None:
    """c = b[a] on arrays, elements as itertools gives them: openai/grok, data.py."""
    elements = [np.array(of) for of in itertools.permutations(range(5))]
    place = {tuple(element.tolist()): index for index, element in enumerate(elements)}
    task = Task(120, "permutations-ab")
    expected = [place[tuple(b[a].tolist())] for a, b in itertools.product(elements, elements)]
    assert_array_equal(task.true_labels, expected)


@pytest.mark.parametrize("p", [6, 24, 120])
def test_products_of_permutations_are_a_group_and_the_others_are_made_of_it(p: int) -> None:
    """Every row and column has each element once, 0 is one, and (ab)c = a(bc); conjugation is an automorphism, and its
    classes are as many as the partitions of n."""
    ab, aba, conjugate = (
        Task(p, operation).true_labels.reshape(p, p)
        for operation in ("permutations-ab", "permutations-aba", "permutations-aba-1")
    )
    everything = np.arange(p)
    assert_array_equal(np.sort(ab, axis=0), np.tile(everything[:, None], p))
    assert_array_equal(np.sort(ab, axis=1), np.tile(everything, (p, 1)))
    assert_array_equal(ab[0], everything)
    assert_array_equal(ab[:, 0], everything)
    a, b, c = np.random.RandomState(0).randint(0, p, size=(3, 500))
    assert_array_equal(ab[ab[a, b], c], ab[a, ab[b, c]])
    assert_array_equal(aba[a, b], ab[ab[a, b], a])
    assert_array_equal(ab[conjugate[a, b], a], ab[a, b])
    assert_array_equal(conjugate[a, ab[b, c]], ab[conjugate[a, b], conjugate[a, c]])
    n_classes = {6: 3, 24: 5, 120: 7}[p]
    assert len({tuple(np.unique(column)) for column in conjugate.T}) == n_classes
    assert (ab != ab.T).any()


@pytest.mark.parametrize("p", [6, 24])
@pytest.mark.parametrize("operation", sorted(PERMUTATIONS))
def test_neither_exchange_nor_inverses_leave_the_products_of_permutations(operation: Operation, p: int) -> None:
    """So that all test pairs are held out. Whoever knows that (ab)b(ab)⁻¹ = aba⁻¹ knows more than that: part of the
    rule, as a − b = −(b − a) is."""
    task = Task(p, operation)
    table = task.true_labels.reshape(p, p)
    inverse = np.argwhere(Task(p, "permutations-ab").true_labels.reshape(p, p) == 0)[:, 1]
    for image in (table.T, table[inverse], table[:, inverse], table[inverse][:, inverse]):
        assert (image != table).any()
    assert task.symmetries == ()
    assert_array_equal(task.held_out_mask, task.test_mask)


def test_the_largest_product_does_not_overflow() -> None:
    p = 1300  # (p − 1)³ exceeds 2³¹
    assert Task(p=p, operation="x3+xy").true_labels[-1] == ((p - 1) ** 3 + (p - 1) ** 2) % p


def test_a_random_table_is_one_table() -> None:
    """Published code draws a new one at each look, so that training and test labels disagree."""
    task = Task(p=13, operation="random", seed=3)
    table = task.true_labels
    assert_array_equal(task.true_labels, table)
    assert_array_equal(Task(p=13, operation="random", seed=3, train_fraction=0.8).true_labels, table)
    assert set(table) == set(range(13))
    assert (Task(p=13, operation="random", seed=4).true_labels != table).any()
    assert (table.reshape(13, 13) != table.reshape(13, 13).T).any()


def test_a_symmetric_random_table() -> None:
    table = Task(p=13, operation="random", symmetric=True).true_labels.reshape(13, 13)
    assert_array_equal(table, table.T)
    assert set(table.flat) == set(range(13))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_which_operations_commute(operation: Operation) -> None:
    task = some_task(operation, 7)
    table = task.true_labels.reshape(task.shape)
    assert task.commutative == (operation in COMMUTATIVE) == bool((table == table.T).all())
    assert Task(p=7, operation="random", symmetric=True).commutative


# ---- what is held out ------------------------------------------------------------------------------------------------

CHANGES = {
    "mirror": lambda a, b: (b, a),
    "negate a": lambda a, b: (-a, b),
    "negate b": lambda a, b: (a, -b),
    "negate both": lambda a, b: (-a, -b),
    "mirror and negate both": lambda a, b: (-b, -a),
}
# The two others of the eight that exchanges and signs make together: no operation has them that has not their parts.
OTHER_CHANGES = {"mirror and negate a": lambda a, b: (b, -a), "mirror and negate b": lambda a, b: (-b, a)}


def some_task(operation: Operation, p: int, **fields: Any) -> Task:
    """Of permutations there are no p, only 6."""
    return Task(6 if operation in PERMUTATIONS else p, operation, **fields)


def answered_by(task: Task, pair: tuple[int, int]) -> str:
    """The operation of a mixture that answers a pair, as Power et al. say it."""
    a, b = pair
    if task.operation == "divide-or-subtract":
        return "divide" if b % 2 else "subtract"
    if task.operation in ("add-or-multiply", "add-or-subtract"):
        return task.operation.removeprefix("add-or-") if a % 2 else "add"
    return task.operation


def image_of(task: Task, change: str, pair: tuple[int, int]) -> tuple[int, int]:
    """What a change makes of a pair."""
    a, b = (x % task.p for x in (CHANGES | OTHER_CHANGES)[change](*pair))
    return a, b


def leaves_every_label(task: Task, change: str, part: str) -> bool:
    """Whether a change leaves the labels of all pairs that one operation answers both before and after it."""
    table = dict(zip(residues(task.p), task.true_labels.tolist(), strict=True))
    images = {pair: image_of(task, change, pair) for pair in table}
    both = [pair for pair in table if answered_by(task, pair) == answered_by(task, images[pair]) == part]
    return all(table[pair] == table[images[pair]] for pair in both)


def images_of(task: Task, pair: tuple[int, int]) -> set[tuple[int, int]]:
    """All that the symmetries of a task make of a pair, one after the other until nothing new comes."""
    found, new = {pair}, [pair]
    while new:
        one = new.pop()
        for change in task.symmetries:
            part = answered_by(task, one)
            image = image_of(task, change, one)
            is_of_part = part == task.operation or change in Task(7, part).symmetries
            if image not in found and answered_by(task, image) == part and is_of_part:
                found.add(image)
                new.append(image)
    return found


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in PERMUTATIONS | MIXTURES.keys()])
def test_the_symmetries_are_those_that_leave_every_label(operation: Operation) -> None:
    """Of every modulus: at p = 2, where x = −x, there are more."""
    for symmetric in (False, True) if operation == "random" else (False,):
        tasks = [Task(p, operation, symmetric=symmetric) for p in (7, 9, 10, 12, 13, 16)]
        of_all = tuple(
            change for change in CHANGES if all(leaves_every_label(task, change, operation) for task in tasks)
        )
        assert {task.symmetries for task in tasks} == {of_all}
        for change in OTHER_CHANGES:
            if all(leaves_every_label(task, change, operation) for task in tasks):
                assert {"mirror", "negate a", "negate b"} <= {*of_all}
        for p in (2, 3, 4, 5, 6, 8):
            task = Task(p, operation, train_fraction=0.5, symmetric=symmetric)
            assert all(leaves_every_label(task, change, operation) for change in task.symmetries)


@pytest.mark.parametrize(
    ("operation", "odd", "even"),
    [
        # −b is even where b and p are odd
        ("divide-or-subtract", ("mirror and negate both",), ("negate both", "mirror and negate both")),
        ("add-or-multiply", ("mirror", "mirror and negate both"), ("mirror", "negate both", "mirror and negate both")),
        ("add-or-subtract", ("mirror", "mirror and negate both"), ("mirror", "mirror and negate both")),
    ],
)
def test_the_symmetries_of_a_mixture_are_those_of_its_parts(
    operation: Operation, odd: tuple[str, ...], even: tuple[str, ...]
) -> None:
    """Whatever a change leaves of the labels of one operation at every modulus of a parity is in an orbit, and what it
    leaves to the other operation is not."""
    for moduli, symmetries in ((7, 9, 13), odd), ((10, 12, 16), even):
        tasks = [Task(p, operation) for p in moduli]
        assert {task.symmetries for task in tasks} == {symmetries}
        for part in {answered_by(tasks[0], pair) for pair in residues(7)}:
            of_all = [change for change in CHANGES if all(leaves_every_label(task, change, part) for task in tasks)]
            for task in tasks:
                orbit = dict(zip(residues(task.p), task.orbits.tolist(), strict=True))
                for pair, change in itertools.product(orbit, of_all):
                    image = image_of(task, change, pair)
                    if part == answered_by(task, pair) == answered_by(task, image):
                        assert orbit[pair] == orbit[image], (task, pair, change)
                assert all(answered_by(task, divmod(orbit[pair], task.p)) == answered_by(task, pair) for pair in orbit)


@pytest.mark.parametrize("fraction", [0.1, 0.45, 0.9])
@pytest.mark.parametrize("p", [6, 9, 11])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_symmetry_makes_a_held_out_pair_of_a_trained_one(operation: Operation, p: int, fraction: float) -> None:
    """And every other test pair is made of one; independent are those that no symmetry makes of each other."""
    task = some_task(operation, p, train_fraction=fraction)
    p = task.p
    trained = {residues(p)[index] for index in task.train_indices}
    images = [images_of(task, pair) for pair in residues(p)]
    expected = [bool(task.test_mask[index]) and not images[index] & trained for index in range(p**2)]
    assert_array_equal(task.held_out_mask, expected)
    assert_array_equal(task.mask("held_out"), expected)
    orbits = {frozenset(of_pair) for of_pair, is_held_out in zip(images, expected, strict=True) if is_held_out}
    assert task.n_held_out == len(orbits)
    assert_array_equal(task.orbits, [min(a * p + b for a, b in of_pair) for of_pair in images])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_symmetries_leave_the_true_label_and_what_is_held_out(operation: Operation) -> None:
    """Pairs of one orbit have one label, and are held out together or not at all, also where labels are noise."""
    task = some_task(operation, 13, train_fraction=0.2, label_noise=0.5)
    for orbit in np.unique(task.orbits):
        of_orbit = task.orbits == orbit
        assert len(set(task.true_labels[of_orbit])) == len(set(task.held_out_mask[of_orbit])) == 1


def test_held_out_of_a_sum_are_unmirrored_and_of_a_difference_those_without_minus_b_minus_minus_a() -> None:
    """a − b = (−b) − (−a): a symmetry. a − b = −(b − a): the mirror has another label, and somebody who knows a − b
    could know b − a; that is a rule, and is not excluded."""
    add, subtract = Task(13), Task(13, "subtract")
    assert_array_equal(add.held_out_mask, add.unmirrored_test_mask)
    trained = set(subtract.train_indices.tolist())
    expected = [
        bool(subtract.test_mask[a * 13 + b]) and (-b % 13) * 13 + -a % 13 not in trained
        for a, b in itertools.product(range(13), repeat=2)
    ]
    assert_array_equal(subtract.held_out_mask, expected)
    assert subtract.test_mask.sum() > subtract.held_out_mask.sum() > subtract.n_held_out


def test_held_out_of_an_unknown_split_is_nothing() -> None:
    task = Task(7, "x2+y2", split="unknown")
    assert not task.held_out_mask.any()
    assert task.n_held_out == 0
