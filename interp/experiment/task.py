"""The task: a table over p × p pairs, which of its entries are trained on, and which labels are noise. A value; numpy
only. What an operation answers, and by which symmetries: `interp.experiment.operations`.

All arrays run over the p² pairs (a, b) in row-major order, index a·p + b. Random draws use numpy's RandomState, whose
streams are frozen forever (NEP 19), so a seed names the same split on every machine and in every year.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

from interp.errors import InputError, check_choice, check_integer, check_number
from interp.experiment.augmentation import Augmentation, added_mirrors, check_mirrors
from interp.experiment.label_noise import with_label_noise
from interp.experiment.listed_pairs import check_listed_pairs
from interp.experiment.operations import (
    COMMUTATIVE,
    MIXTURES,
    WITH_QUOTIENTS,
    Operation,
    Symmetry,
    check_size,
    domain,
    images,
    table,
)
from interp.experiment.validation import validation_mask
from interp.mathematics.phases import Phase, is_prime, phase_of_units


@dataclass(frozen=True)
class Task:
    """c = a ∘ b over Z_p, or over permutations, with a train/test split and, if wanted, label noise.

    The split is drawn from `train_fraction` of the defined pairs (or exactly `train_pairs`, when given) with `seed`; or
    it is the given row-major indices a·p + b; or it is "unknown" (somebody else's run). `label_noise` is the fraction
    of training labels that are replaced, once, by a uniformly random wrong one. `symmetric` makes the table of "random"
    the same for (a, b) and (b, a). `validation_fraction` of the pairs that are not trained on are to choose on, and no
    test pairs. `augmentation` "mirror" trains on (b, a) too for each (a, b) of the split, beyond the fraction.
    `given_away` are row-major indices of test pairs that are not held out though no symmetry makes them of a training
    pair: what the same network was trained on besides tells them (`interp.experiment.several_operations`).

    Raises InputError for sizes and values that cannot be.

    >>> task = Task(p=5, train_fraction=0.4)
    >>> task.title, task.shape, task.sizes, task.n_classes, task.commutative, task.split_known
    ('add modulo 5', (5, 5), (5, 5), 5, True, True)
    >>> task.inputs[7].tolist(), int(task.labels[7])
    ([1, 2], 3)
    >>> len(task.train_indices), int(task.train_mask.sum()), int(task.test_mask.sum())
    (10, 10, 15)
    """

    p: int = 113
    operation: Operation = "add"
    train_fraction: float = 0.3
    train_pairs: int | None = None
    split: Literal["drawn", "unknown"] | tuple[int, ...] = "drawn"
    label_noise: float = 0.0
    symmetric: bool = False
    seed: int = 0
    validation_fraction: float = field(default=0.0, metadata={"later": True})
    augmentation: Augmentation = field(default="none", metadata={"later": True})
    given_away: tuple[int, ...] = field(default=(), metadata={"later": True, "option": False})

    def __post_init__(self) -> None:
        check_integer("task.p", self.p, 2, 4096)
        check_choice("task.operation", self.operation, get_args(Operation))
        check_size(self.operation, self.p)
        check_integer("task.seed", self.seed, 0, 2**32 - 1)
        check_number("task.train-fraction", self.train_fraction, 0, 1, above=True)
        check_number("task.label-noise", self.label_noise, 0, 1)
        if self.symmetric and self.operation != "random":
            raise InputError(
                f"task.symmetric describes the operation 'random'; the operation here is {self.operation!r}"
            )
        for index in self.given_away:
            check_integer("task.given-away: each index a·p + b", index, 0, self.p**2 - 1)
        n_defined = int(self.defined.sum())
        if self.train_pairs is not None:
            check_integer("task.train-pairs", self.train_pairs, 1, n_defined)
        if isinstance(self.split, tuple):
            check_listed_pairs(self.split, self.defined, self.p, self.operation)
            object.__setattr__(self, "split", tuple(map(int, self.split)))  # numpy's integers are no JSON
        else:
            check_choice("task.split", self.split, ("drawn", "unknown"))
            is_share = self.split == "drawn" and self.train_pairs is None
            if is_share and self._pairs_of(self.train_fraction, n_defined) < 1:
                raise InputError(
                    f"task.train-fraction {self.train_fraction:g} of {n_defined} pairs leaves none to train on"
                )
        check_number("task.validation-fraction", self.validation_fraction, 0, 1, below=True)
        check_choice("task.augmentation", self.augmentation, get_args(Augmentation))
        if not self.split_known and (self.validation_fraction or self.augmentation != "none"):
            name = "validation-fraction" if self.validation_fraction else "augmentation"
            raise InputError(f"task.{name} needs training pairs that are known; task.split is unknown")
        if self.augmentation == "mirror":
            check_mirrors(self.title, self.true_labels, self.p, commutative=self.commutative)
        if self.validation_fraction:
            _ = self.validation_mask  # raises where it leaves nothing to choose on

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"{self.operation} {domain(self.operation, self.p)}"

    @property
    def shape(self) -> tuple[int, int]:
        """The leading axes of a table over all pairs."""
        return self.p, self.p

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and classes."""
        return self.p, self.p

    @property
    def n_classes(self) -> int:
        return self.p

    @cached_property
    def guessing_accuracy(self) -> float:
        """The share of the pairs that who always gives the most frequent answer gets right: 1/p for addition, more
        where some answers are more frequent.

        >>> round(1 / Task(36).guessing_accuracy), round(Task(36, "multiply").guessing_accuracy, 2)  # 0, of a tenth
        (36, 0.13)
        """
        counts = np.bincount(self.true_labels[self.defined])
        return float(counts.max() / counts.sum())

    @property
    def inputs(self) -> Int[np.ndarray, "pairs 2"]:
        """What a network reads: `pairs`."""
        return self.pairs

    # ---- the table ---------------------------------------------------------------------------------------------------

    @cached_property
    def pairs(self) -> Int[np.ndarray, "pairs 2"]:
        """Every (a, b), row-major: (0, 0), (0, 1), …

        >>> Task(3).pairs[:4].tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0]]
        """
        return np.stack(np.divmod(np.arange(self.p**2), self.p), axis=1)

    @cached_property
    def defined(self) -> Bool[np.ndarray, " pairs"]:
        """The pairs that have an answer: all of them, except that a quotient needs b to be a unit modulo p.

        >>> Task(6, "divide").defined[:6].tolist()
        [False, True, False, False, False, True]
        """
        if self.operation not in WITH_QUOTIENTS:  # without its table, which is large where p is
            return np.ones(self.p**2, dtype=bool)
        return self.true_labels >= 0

    @cached_property
    def true_labels(self) -> Int[np.ndarray, " pairs"]:
        """a ∘ b, and −1 where it is not defined.

        >>> Task(5, "divide").true_labels[5:10].tolist()  # 1 ÷ 0, 1 ÷ 1, … modulo 5
        [-1, 1, 3, 2, 4]
        """
        if self.operation == "random":
            drawn = self._generator("table").randint(0, self.p, size=(self.p, self.p))
            if self.symmetric:
                drawn = np.triu(drawn) + np.triu(drawn, 1).T
            return drawn.reshape(-1)
        return table(self.operation, self.pairs[:, 0], self.pairs[:, 1], self.p)

    @cached_property
    def labels(self) -> Int[np.ndarray, " pairs"]:
        """The labels that training sees: the true ones, but of `label_noise` of the training pairs a wrong one."""
        trained, noise = self.drawn_indices, self._generator("noise")
        labels = with_label_noise(self.true_labels, trained, self.label_noise, self.p, noise)
        if self.augmentation == "mirror":
            mirror, of = added_mirrors(trained, self.p).T
            labels[mirror] = labels[of]
        return labels

    @cached_property
    def noisy_indices(self) -> Int[np.ndarray, " noisy"]:
        """The training pairs whose label is wrong, ascending; a mirror that was added has the label of its pair.

        >>> len(Task(11).train_indices), len(Task(11, label_noise=0.5).noisy_indices)
        (36, 18)
        """
        return np.flatnonzero(self.labels != self.true_labels)

    # ---- the split ---------------------------------------------------------------------------------------------------

    @property
    def split_known(self) -> bool:
        return self.split != "unknown"

    @cached_property
    def train_indices(self) -> Int[np.ndarray, " train"]:
        """Row-major indices a·p + b of all that is trained on, ascending: the drawn pairs, and the mirrors that
        augmentation adds; empty when the split is unknown.

        >>> len(Task(113, train_fraction=0.3).train_indices)
        3830
        >>> Task(5, split=(7, 3)).train_indices.tolist(), Task(5, split=(7, 3), augmentation="mirror").train_indices[2:]
        ([3, 7], array([11, 15]))
        """
        if self.augmentation == "none":
            return self.drawn_indices
        return np.union1d(self.drawn_indices, added_mirrors(self.drawn_indices, self.p)[:, 0])

    @cached_property
    def drawn_indices(self) -> Int[np.ndarray, " drawn"]:
        """The training pairs without what augmentation adds.

        >>> task = Task(113, augmentation="mirror")
        >>> len(task.drawn_indices), len(task.train_indices), task.n_held_out == Task(113).n_held_out
        (3830, 6473, True)
        """
        if self.split == "unknown":
            return np.empty(0, dtype=np.int64)
        if isinstance(self.split, tuple):
            return np.sort(np.array(self.split, dtype=np.int64))
        candidates = np.flatnonzero(self.defined)
        n_train = (
            self.train_pairs if self.train_pairs is not None else self._pairs_of(self.train_fraction, len(candidates))
        )
        return np.sort(self._generator("split").permutation(candidates)[:n_train])

    @cached_property
    def train_mask(self) -> Bool[np.ndarray, " pairs"]:
        mask = np.zeros(self.p**2, dtype=bool)
        mask[self.train_indices] = True
        return mask

    @cached_property
    def test_mask(self) -> Bool[np.ndarray, " pairs"]:
        """The defined pairs that are neither trained nor chosen on; none when the split is unknown.

        >>> task = Task(5, "divide", train_pairs=8)  # divides by 1 … 4: 20 pairs have an answer
        >>> int(task.train_mask.sum()), int(task.test_mask.sum())
        (8, 12)
        """
        if not self.split_known:
            return np.zeros(self.p**2, dtype=bool)
        return self.defined & ~self.train_mask & ~self.validation_mask

    @cached_property
    def validation_mask(self) -> Bool[np.ndarray, " pairs"]:
        """The pairs to choose on, `validation_fraction` of those that are not trained on: whole orbits, so that no
        symmetry of the task makes a test pair of one (`interp.experiment.validation`).

        >>> task = Task(113, validation_fraction=0.5)
        >>> [int(task.mask(split).sum()) for split in ("train", "validation", "test", "held_out")]
        [3830, 4469, 4470, 3148]
        """
        if not self.validation_fraction:
            return np.zeros(self.p**2, dtype=bool)
        untrained, trained_orbits = self.defined & ~self.train_mask, self.orbits[self.train_indices]
        generator = self._generator("validation")
        return validation_mask(self.validation_fraction, untrained, self.orbits, trained_orbits, generator)

    @cached_property
    def unmirrored_test_mask(self) -> Bool[np.ndarray, " pairs"]:
        """Test pairs (a, b) whose mirror (b, a) was not trained on either. In a commutative table a pair and its mirror
        have one label, so that test accuracy can reach a plateau by symmetry alone; where they have not (of a mixture:
        where no commutative operation answers both) a test pair is unmirrored.

        >>> task = Task(2, split=(1,))  # trained on (0, 1) alone; its mirror (1, 0) is tested
        >>> task.test_mask.tolist(), task.unmirrored_test_mask.tolist()
        ([True, False, True, True], [True, False, False, True])
        """
        mirror = self._images.get("mirror", np.arange(self.p**2))
        return self.test_mask & ~self.train_mask[mirror]

    @property
    def commutative(self) -> bool:
        return self.operation in COMMUTATIVE or (self.operation == "random" and self.symmetric)

    @property
    def is_mixture(self) -> bool:
        """Whether the parity of an input decides which of two operations answers.

        >>> Task(7).is_mixture, Task(7, "divide-or-subtract").is_mixture
        (False, True)
        """
        return self.operation in MIXTURES

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The changes of the inputs that leave every label as it is, among exchanging them ("mirror"), changing the
        sign of a, of b, or of both, and exchanging them with both signs changed; of a mixture the label of a pair that
        they leave to the same operation.

        >>> Task(7).symmetries, Task(7, "subtract").symmetries, Task(7, "divide").symmetries
        (('mirror',), ('mirror and negate both',), ('negate both',))
        """
        return tuple(self._images)

    @cached_property
    def _images(self) -> dict[Symmetry, Int[np.ndarray, " pairs"]]:
        return images(self.operation, self.symmetric, self.pairs[:, 0], self.pairs[:, 1], self.p)

    @cached_property
    def orbits(self) -> Int[np.ndarray, " pairs"]:
        """For every pair the first index among the pairs that the symmetries of the task make of it: pairs with one
        orbit have one label, and whoever knows the symmetries knows all of them from one.

        >>> Task(3).orbits.tolist()  # (0, 1) and (1, 0) are one, and so on
        [0, 1, 2, 1, 4, 5, 2, 5, 8]
        """
        first = np.arange(self.p**2)
        while True:
            before = first
            for image in self._images.values():
                first = np.minimum(first, first[image])
            if (first == before).all():
                return first

    @cached_property
    def held_out_mask(self) -> Bool[np.ndarray, " pairs"]:
        """Test pairs of which nothing was trained on that the symmetries of the task make of them: a network that
        memorized, and learned no more of the rule than that a + b = b + a, or a − b = (−b) − (−a), cannot know them.
        Not excluded is what else a network could infer from training pairs without the whole rule, such as that
        a − b = −(b − a).

        >>> task = Task(2, split=(1,))  # trained on (0, 1) alone; its mirror (1, 0) is tested, and not held out
        >>> task.held_out_mask.tolist()
        [True, False, False, True]
        >>> task = Task(113, "subtract")  # 0 − 1 = −1 − 0
        >>> int(task.test_mask.sum()), int(task.held_out_mask.sum())
        (8939, 6249)
        """
        held_out = self.test_mask & ~np.isin(self.orbits, self.orbits[self.train_indices])
        held_out[list(self.given_away)] = False
        return held_out

    @cached_property
    def n_held_out(self) -> int:
        """How many held-out pairs are independent: (a, b) and its mirror (b, a), say, are one.

        >>> task = Task(113)
        >>> task.n_held_out, int(task.mask("held_out").sum())
        (3186, 6296)
        """
        return len(np.unique(self.orbits[self.held_out_mask]))

    def mask(self, split: str) -> Bool[np.ndarray, " pairs"]:
        """The pairs of "train", "validation" (none, where none are chosen on), "test", "held_out" (of these),
        "unmirrored" (of these too) or "all" (every defined pair).

        >>> task = Task(113)
        >>> [int(task.mask(split).sum()) for split in ("train", "test", "held_out", "unmirrored", "all")]
        [3830, 8939, 6296, 6296, 12769]
        """
        masks = {
            "train": "train_mask",
            "validation": "validation_mask",
            "test": "test_mask",
            "held_out": "held_out_mask",
            "unmirrored": "unmirrored_test_mask",
            "all": "defined",
        }
        check_choice("split", split, masks)
        return getattr(self, masks[split])

    # ---- phases ------------------------------------------------------------------------------------------------------

    @cached_property
    def phase(self) -> Phase:
        """The coordinates in which the operation is addition: residues for + and −, discrete logarithms on the units of
        a prime p for × and ÷. Raises InputError for an operation that has none.

        >>> phase = Task(7, "multiply").phase
        >>> phase.order, phase.rows.tolist()  # 3⁰, 3¹, … 3⁵ modulo 7
        (6, [1, 3, 2, 6, 4, 5])
        """
        residue = np.arange(self.p)
        if self.operation == "add":
            return Phase(self.p, residue, residue, residue)
        if self.operation == "subtract":
            return Phase(self.p, residue, -residue % self.p, residue)
        if self.has_phase:
            return phase_of_units(self.p, quotients=self.operation == "divide")
        raise InputError(f"{self.title} is no addition in disguise: it has no phase, so no measure of cos w_k(a+b−c)")

    @property
    def has_phase(self) -> bool:
        """Whether the operation is addition in other coordinates (`phase`).

        >>> Task(7, "multiply").has_phase, Task(7, "x2+y2").has_phase
        (True, False)
        """
        is_on_units = self.operation in ("multiply", "divide") and self.p > 2 and is_prime(self.p)
        return self.operation in ("add", "subtract") or is_on_units

    @cached_property
    def coordinates(self) -> Phase:
        """`phase`, and for an operation that has none the residues themselves: the coordinates in which a network's
        frequencies are looked for, also where none are to be expected (random labels).

        >>> Task(7, "multiply").coordinates.order, Task(7, "x2+y2").coordinates.order
        (6, 7)
        """
        if self.has_phase:
            return self.phase
        residue = np.arange(self.p)
        return Phase(self.p, residue, residue, residue)

    @staticmethod
    def _pairs_of(fraction: float, n: int) -> int:
        # The published code truncates (0.3 of 12,769 pairs is 3,830); the tiny term keeps 0.29 of 100 from becoming 28.
        return math.floor(fraction * n + 1e-9)

    def _generator(self, purpose: Literal["table", "split", "noise", "validation"]) -> np.random.RandomState:
        return np.random.RandomState([self.seed, ("table", "split", "noise", "validation").index(purpose)])
