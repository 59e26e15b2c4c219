"""Several operations in one network, told apart by a token of the prompt; and what their tables have in common. numpy
only.

The prompt is a ∘ b =, with a token for each operation. Each has its own share of the pairs to train on, drawn for
itself; "random" among them is a table without a rule, which can be memorized and no more.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

from interp.errors import InputError, check_choice, check_integer, check_number
from interp.experiment.operations import Operation, check_size, inverses, parts, table
from interp.experiment.task import Task

_A_SAMPLE = 997  # pairs that are looked at before a whole table is


@dataclass(frozen=True)
class Operations:
    """c = a ∘ b over Z_p for each of several `operations` ∘ that one network learns, in the order of their tokens.

    All tables over examples run over the operations, and for each over its p² pairs in row-major order: example
    o·p² + a·p + b is a ∘_o b. `train_fraction` is the share of its pairs that each operation is trained on: one for
    all, or one for each. `seed` and the name of an operation draw its pairs (and the table of "random"), so that they
    are the same in any company. Or `split` is the examples that are trained on, some of each operation.

    Raises InputError for sizes and values that cannot be.

    >>> task = Operations(5, ("add", "random"), train_fraction=(0.4, 0.8))
    >>> task.title, task.shape, task.sizes
    ('add, random modulo 5', (2, 5, 5), (5, 5, 2))
    >>> task.inputs[7].tolist(), int(task.labels[7]), task.n_classes  # 1 + 2
    ([1, 2, 0], 3, 5)
    >>> task.split_known, len(task.train_indices), int(task.defined.sum())
    (True, 30, 50)
    >>> [int(task.mask(split).sum()) for split in ("train", "add.train", "test", "add.held_out")]
    [30, 10, 20, 12]
    >>> len(set(task.orbits[:25].tolist()))  # a + b and b + a are one
    15
    """

    p: int = 113
    operations: tuple[Operation, ...] = ("add", "subtract")
    train_fraction: tuple[float, ...] = (0.3,)
    seed: int = 0
    split: Literal["drawn"] | tuple[int, ...] = field(default="drawn", metadata={"later": True})

    def __post_init__(self) -> None:
        check_integer("task.p", self.p, 2, 4096)
        for operation in self.operations:
            check_choice("task.operations", operation, get_args(Operation))
            check_size(operation, self.p)
        check_integer("task.seed", self.seed, 0, 2**32 - 1)
        if len(self.operations) < 2:
            raise InputError(
                f"task.operations has {len(self.operations)}, and a network of several has two or more; of one give "
                "--task.operation"
            )
        if len(set(self.operations)) < len(self.operations):
            raise InputError(f"task.operations names one twice: {', '.join(self.operations)}")
        if len(self.train_fraction) not in (1, len(self.operations)):
            raise InputError(
                f"task.train-fraction has {len(self.train_fraction)} shares for {len(self.operations)} operations; "
                "give one for all, or one for each"
            )
        for fraction in self.train_fraction:
            check_number("task.train-fraction", fraction, 0, 1, above=True)
        # One network has one hash.
        if len(self.train_fraction) > 1 and len(set(self.train_fraction)) == 1:
            object.__setattr__(self, "train_fraction", self.train_fraction[:1])
        if isinstance(self.split, tuple):
            self._check_split(self.split)
        _ = self._alone  # each checks that it has something to train on

    def _check_split(self, split: tuple[int, ...]) -> None:
        object.__setattr__(self, "split", tuple(map(int, split)))  # numpy's integers are no JSON
        for example in split:
            check_integer("task.split: each example o·p² + a·p + b", example, 0, len(self.operations) * self.p**2 - 1)
        for place, operation in enumerate(self.operations):
            if not any(example // self.p**2 == place for example in split):
                raise InputError(
                    f"task.split has no example of {operation}, which is number {place} of task.operations; give some, "
                    "or leave it out"
                )

    # ---- one operation -----------------------------------------------------------------------------------------------

    @cached_property
    def _alone(self) -> tuple[Task, ...]:
        """The task of each operation, as if it were alone."""
        fractions = self.train_fraction * (len(self.operations) // len(self.train_fraction))
        drawn = [int(hashlib.sha256(f"{self.seed} {name}".encode()).hexdigest()[:8], 16) for name in self.operations]
        return tuple(
            Task(self.p, name, train_fraction=fraction, split=self._split_of(place), seed=seed)
            for place, (name, fraction, seed) in enumerate(zip(self.operations, fractions, drawn, strict=True))
        )

    def _split_of(self, place: int) -> Literal["drawn"] | tuple[int, ...]:
        if not isinstance(self.split, tuple):
            return "drawn"
        return tuple(example % self.p**2 for example in self.split if example // self.p**2 == place)

    def place(self, operation: str) -> int:
        """Which of the operations it is, from 0. Raises InputError, with those there are, for one that it is not.

        >>> Operations().place("subtract")
        1
        """
        if operation not in self.operations:
            raise InputError(f"this network has the operations {', '.join(self.operations)}, and not {operation!r:.60}")
        return self.operations.index(operation)

    def task_of(self, operation: str) -> Task:
        """The task of one operation: its table, the pairs that it is trained on, and as held out those that no other
        operation gives away either (`Task.given_away`).

        >>> task = Operations(113).task_of("add")
        >>> task.title, len(task.train_indices), int(task.mask("held_out").sum()), task.seed
        ('add modulo 113', 3830, 3093, 1370084340)
        >>> alone = Task(113, seed=task.seed)  # the same pairs, and no a − (−b) that tells a + b
        >>> bool((alone.train_mask == task.train_mask).all()), int(alone.mask("held_out").sum())
        (True, 6222)
        """
        place = self.place(operation)
        alone, held_out = self._alone[place], self._of_each(self.mask("held_out"))[place]
        given_away = np.flatnonzero(alone.mask("held_out") & ~held_out)
        return replace(alone, given_away=tuple(given_away.tolist()))

    def examples_of(self, operation: str) -> slice:
        """The places of the examples of one operation.

        >>> Operations(5).examples_of("subtract")
        slice(25, 50, None)
        """
        place = self.place(operation)
        return slice(place * self.p**2, (place + 1) * self.p**2)

    def _of_each(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(len(self.operations), -1)

    # ---- the table ---------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What they are, in words."""
        return f"{', '.join(self.operations)} modulo {self.p}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The leading axes of a table over all examples."""
        return len(self.operations), self.p, self.p

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Inputs, classes and operators."""
        return self.p, self.p, len(self.operations)

    @property
    def n_classes(self) -> int:
        return self.p

    @cached_property
    def inputs(self) -> Int[np.ndarray, "examples 3"]:
        """What a network reads: a, b, and which operation, from 0."""
        places = np.arange(len(self.operations)).repeat(self.p**2)
        return np.column_stack([np.tile(self._alone[0].pairs, (len(self.operations), 1)), places])

    @cached_property
    def labels(self) -> Int[np.ndarray, " examples"]:
        """a ∘ b, and −1 where it is not defined."""
        return np.concatenate([one.labels for one in self._alone])

    @property
    def true_labels(self) -> Int[np.ndarray, " examples"]:
        """`labels`: there is no label noise.

        >>> operations = Operations(5, ("add", "subtract"))
        >>> bool((operations.true_labels == operations.labels).all())
        True
        """
        return self.labels

    @property
    def noisy_indices(self) -> Int[np.ndarray, " noisy"]:
        """None.

        >>> len(Operations(5, ("add", "subtract")).noisy_indices)
        0
        """
        return np.empty(0, dtype=np.int64)

    @cached_property
    def defined(self) -> Bool[np.ndarray, " examples"]:
        """The examples that have an answer."""
        return np.concatenate([one.defined for one in self._alone])

    # ---- the split ---------------------------------------------------------------------------------------------------

    @property
    def split_known(self) -> bool:
        return True

    @cached_property
    def train_indices(self) -> Int[np.ndarray, " train"]:
        """The examples that are trained on, ascending."""
        return np.flatnonzero(self.mask("train"))

    @property
    def symmetries(self) -> tuple[str, ...]:
        """The changes of the inputs and of the operation that leave every answer as it is: whole tables are compared,
        after exchanging a and b, changing their signs, and, of units, taking their inverses (`equalities`).

        >>> Operations(7).symmetries[:2]
        ('add (a, b) = add (b, a)', 'add (a, b) = subtract (a, −b)')
        """
        return tuple(f"{one} (a, b) = {other} {pair}" for one, other, pair in equalities(self.operations, self.p))

    @cached_property
    def orbits(self) -> Int[np.ndarray, " examples"]:
        """For every example the first one among those that `symmetries` make of it, of all operations."""
        return orbits(self.operations, self.p)

    @cached_property
    def n_held_out(self) -> int:
        """How many held-out examples are independent: a + b, b + a, a − (−b) and b − (−a), say, are one.

        >>> task = Operations(31)
        >>> task.n_held_out, int(task.mask("held_out").sum())
        (128, 482)
        """
        return len(np.unique(self.orbits[self.mask("held_out")]))

    def mask(self, split: str) -> Bool[np.ndarray, " examples"]:
        """The examples of "train", "test", "held_out" (test examples that `symmetries` make of no training example of
        any operation), "unmirrored" (test examples whose mirror in the same operation was not trained on) or "all"; and
        the part of one operation of these, such as "add.held_out".

        A network that memorized, and learned of the rules no more than that b + a, a − (−b) and b − (−a) are a + b,
        cannot know a held-out a + b. What else it could infer from training examples without the whole rule is not
        excluded, such as that b − a = −(a − b).
        """
        operation, dot, of_one = split.rpartition(".")
        if dot:
            own = np.zeros(len(self.labels), dtype=bool)
            own[self.examples_of(operation)] = True
            return own & self.mask(of_one)
        if split != "held_out":
            return np.concatenate([one.mask(split) for one in self._alone])
        return self._held_out

    @cached_property
    def _held_out(self) -> Bool[np.ndarray, " examples"]:
        own = np.concatenate([one.mask("held_out") for one in self._alone])
        return own & ~np.isin(self.orbits, self.orbits[self.mask("train")])


# ---- what tables have in common --------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def equalities(operations: tuple[str, ...], p: int) -> tuple[tuple[str, str, str], ...]:
    """(f, g, changed pair) wherever g of the changed pair is f of (a, b), for all pairs for which both are defined. A
    pair is changed by exchanging a and b, and replacing each by itself, its negative, its inverse or the negative of
    that (units alone have one). What moves no pair of one operation is not listed. Of mixtures these are their two
    operations; "random" has none.

    >>> equalities(("multiply", "random"), 7)
    (('multiply', 'multiply', '(−a, −b)'), ('multiply', 'multiply', '(b, a)'), ('multiply', 'multiply', '(−b, −a)'))
    """
    a, b = np.divmod(np.arange(p**2), p)
    known = dict.fromkeys(part for each in operations for part, _ in parts(each, a[:1], b[:1]) if part != "random")
    names = list(known)
    tables = {name: table(name, a, b, p) for name in names}
    some = np.unique(np.linspace(0, p**2 - 1, min(_A_SAMPLE, p**2)).astype(np.int64))
    a_few, every = (a[some], b[some]), (a, b)
    found = []
    for place, one in enumerate(names):
        for other in names[place:]:
            for change in _changes():
                if all(_agree(tables[one], tables[other], change, pairs, p) for pairs in (a_few, every)):
                    image = _image(change, a, b, p)
                    if one != other or ((image >= 0) & (image != a * p + b)).any():
                        found.append((one, other, _in_words(change)))
    return tuple(found)


@lru_cache(maxsize=8)
def orbits(operations: tuple[str, ...], p: int) -> Int[np.ndarray, " examples"]:
    """For every example of these operations the first of those that `equalities` connect it with, directly or not. Do
    not write to it: it is shared.

    >>> found = orbits(("add", "subtract"), 3)
    >>> found[[1 * 3 + 2, 2 * 3 + 1, 9 + 1 * 3 + 1]].tolist()  # 1 + 2, 2 + 1, 1 − 1
    [5, 5, 5]
    """
    a, b = np.divmod(np.arange(p**2), p)
    of_words = {_in_words(change): change for change in _changes()}
    answered = [dict(parts(each, a, b)) for each in operations]
    starts, ends = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for one, other, words in equalities(operations, p):
        image = _image(of_words[words], a, b, p)
        for row, of_row in enumerate(answered):
            for column, of_column in enumerate(answered):
                if one in of_row and other in of_column:
                    linked = (image >= 0) & of_row[one] & of_column[other][image]
                    starts.append(row * p**2 + np.flatnonzero(linked))
                    ends.append(column * p**2 + image[linked])
    ends_of = np.concatenate(starts), np.concatenate(ends)
    first = np.arange(len(operations) * p**2)
    while True:  # as often as a chain of equalities is long
        before = first.copy()
        for one, other in (ends_of, ends_of[::-1]):
            np.minimum.at(first, one, before[other])
        if (first == before).all():
            return first


_Change = tuple[bool, int, int]  # whether a and b are exchanged first; what becomes of each then: a place in _WORDS
_WORDS = ("{}", "−{}", "{}⁻¹", "−{}⁻¹")


def _changes() -> Iterator[_Change]:
    return itertools.product((False, True), range(len(_WORDS)), range(len(_WORDS)))


def _in_words(change: _Change) -> str:
    exchanged, *hows = change
    return f"({', '.join(_WORDS[how].format(x) for how, x in zip(hows, 'ba' if exchanged else 'ab', strict=True))})"


def _image(change: _Change, a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    """The indices of the changed pairs; −1 where one of them has no inverse."""
    exchanged, *hows = change
    residue = np.arange(p)
    inverse = inverses(p)
    maps = (residue, -residue % p, inverse, np.where(inverse < 0, -1, -inverse % p))
    x, y = (maps[how][of] for how, of in zip(hows, (b, a) if exchanged else (a, b), strict=True))
    return np.where((x < 0) | (y < 0), -1, x * p + y)


def _agree(one: np.ndarray, other: np.ndarray, change: _Change, pairs: tuple[np.ndarray, np.ndarray], p: int) -> bool:
    """Whether `other` of the changed pairs is `one` of the pairs, wherever both are defined; false where nowhere."""
    a, b = pairs
    image = _image(change, a, b, p)
    left, right = one[a * p + b], np.where(image < 0, -1, other[image])
    both = (left >= 0) & (right >= 0)
    return bool(both.any() and (left[both] == right[both]).all())
