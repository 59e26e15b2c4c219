"""Examples that are vectors and no pairs: the control that asks whether something is about tables over Z_p, and what
double descent and label noise are studied on. Where they come from: `interp.experiment.sources`."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment.label_noise import with_label_noise
from interp.experiment.sources import (
    N_DIGITS,
    Scaling,
    Source,
    centered_digits,
    digits,
    gaussian_inputs,
    parity,
    signs,
    taught,
)

MOST_NUMBERS = 2**28  # of all examples together: 1 GiB of float32
# The fields that say something about some sources alone, and are refused elsewhere.
FIELDS_OF_SOURCES = {
    "scaling": ("digits",),
    "n_features": ("parity", "gaussian"),
    "k": ("parity",),
    "classes": ("gaussian",),
    "teacher_seed": ("gaussian",),
}


@dataclass(frozen=True)
class Samples:
    """Labeled vectors, split into `n_train` that are trained on, `n_test` that are tested and `n_validation` that are
    chosen on; other examples of the source are not used. `source` is one of

    - "digits", the 1,797 handwritten digits of scikit-learn: 64 gray values from 0 to 1, ten classes; `scaling`
      "centered" takes the mean of each pixel away, and divides by one number, so that the mean square is 1;
    - "parity", vectors of `n_features` random signs, whose class is 1 where the product of the first `k` is −1, and
      otherwise 0 (sparse parity: Barak et al. 2022, arXiv:2207.08799);
    - "gaussian", `n_features` independent standard normal numbers x, whose class is the largest of the `classes`
      entries of xW; W is standard normal and drawn from `teacher_seed` alone.

    `seed` draws examples and split; the training and test examples do not depend on `n_validation`, and the first of
    the training examples are those of a smaller `n_train`. With a `test_seed` the test examples are drawn from that
    alone: they are the same for every `seed` and `n_train`, and none is trained or chosen on. `label_noise` is the
    fraction of training labels that are replaced, once, by a uniformly random wrong one.

    Raises InputError for sizes that cannot be, and for what says nothing about the source.

    >>> samples = Samples(n_train=1000, n_test=500)
    >>> samples.inputs.shape, samples.sizes
    ((1500, 64), (64, 10))
    >>> one, other = (Samples(n_train=n, n_test=797, seed=n, test_seed=0) for n in (400, 800))
    >>> bool((one.inputs[one.mask("test")] == other.inputs[other.mask("test")]).all())
    True
    >>> samples = Samples("parity", n_train=3, n_test=1, n_features=5, k=2)
    >>> samples.inputs[:, :2].prod(1).tolist(), samples.labels.tolist()
    ([1.0, -1.0, 1.0, -1.0], [0, 1, 0, 1])
    """

    source: Source = "digits"
    n_train: int = 1000
    n_test: int = 500
    seed: int = 0
    n_validation: int = field(default=0, metadata={"later": True})
    label_noise: float = field(default=0.0, metadata={"later": True})
    test_seed: int | None = field(default=None, metadata={"later": True})
    scaling: Scaling = field(default="none", metadata={"later": True})
    n_features: int = field(default=64, metadata={"later": True})
    k: int = field(default=3, metadata={"later": True})
    classes: int = field(default=10, metadata={"later": True})
    teacher_seed: int = field(default=0, metadata={"later": True})

    def __post_init__(self) -> None:
        check_choice("task.source", self.source, get_args(Source))
        check_integer("task.n-train", self.n_train, 1)
        check_integer("task.n-test", self.n_test, 0)
        check_integer("task.seed", self.seed, 0, 2**32 - 1)
        check_integer("task.n-validation", self.n_validation, 0)
        check_number("task.label-noise", self.label_noise, 0, 1)
        if self.test_seed is not None:
            check_integer("task.test-seed", self.test_seed, 0, 2**32 - 1)
        self._check_source()
        if self.n_validation and not self.n_test:
            raise InputError(
                f"task.n-validation {self.n_validation} are to choose on, and task.n-test 0 leaves none to report on"
            )

    def _check_source(self) -> None:
        check_choice("task.scaling", self.scaling, get_args(Scaling))
        check_integer("task.n-features", self.n_features, 1)
        check_integer("task.k", self.k, 1)
        check_integer("task.classes", self.classes, 2, 1_000_000)
        check_integer("task.teacher-seed", self.teacher_seed, 0, 2**32 - 1)
        for name, sources in FIELDS_OF_SOURCES.items():
            default = type(self).__dataclass_fields__[name].default
            if self.source not in sources and (value := getattr(self, name)) != default:
                raise InputError(
                    f"task.{flag(name)} is of the source {' or '.join(sources)}, and task.source is {self.source}; "
                    f"leave it at {default} (it is {value})"
                )
        validation = f", task.n-validation {self.n_validation}" if self.n_validation else ""
        given = f"task.n-train {self.n_train}{validation} and task.n-test {self.n_test}"
        if self.source == "digits" and self._n > N_DIGITS:
            raise InputError(f"{given} are more than the {N_DIGITS:,} digits that there are")
        if self._n * self.n_features > MOST_NUMBERS:
            raise InputError(
                f"{given}, of task.n-features {self.n_features} each, are more than {MOST_NUMBERS:,} numbers; give "
                "fewer"
            )
        if self.source == "parity" and self.k > self.n_features:
            raise InputError(f"task.k {self.k} signs decide, and task.n-features {self.n_features} are fewer")

    @property
    def _n(self) -> int:
        return self.n_train + self.n_test + self.n_validation

    @cached_property
    def _drawn(self) -> tuple[Float[np.ndarray, "n features"], Int[np.ndarray, " n"]]:
        """Inputs and true labels, those that are trained on first, and those that are chosen on last."""
        if self.source == "digits":
            inputs, labels = digits()
            if self.scaling == "centered":
                inputs = centered_digits()
            order = self._order(len(labels))
            return inputs[order], labels[order]
        draw = signs if self.source == "parity" else gaussian_inputs
        test = self._generator("test") if self.test_seed is None else self._generator("test", self.test_seed)
        inputs = np.concatenate(
            [
                draw(self._generator("inputs"), self.n_train, self.n_features),
                draw(test, self.n_test, self.n_features),
                draw(self._generator("validation"), self.n_validation, self.n_features),
            ]
        )
        if self.source == "parity":
            return inputs, parity(inputs, self.k)
        return inputs, taught(inputs, self.classes, self._generator("teacher", self.teacher_seed))

    def _order(self, n_known: int) -> Int[np.ndarray, " n"]:
        """Which of the known examples there are, and in which order."""
        if self.test_seed is None:
            return np.random.RandomState(self.seed).permutation(n_known)[: self._n]
        first = np.random.RandomState(self.test_seed).permutation(n_known)
        test, others = first[: self.n_test], np.sort(first[self.n_test :])
        others = np.random.RandomState(self.seed).permutation(others)
        return np.concatenate([others[: self.n_train], test, others[self.n_train : self.n_train + self.n_validation]])

    def _generator(self, purpose: str, seed: int | None = None) -> np.random.RandomState:
        """A stream of its own for each purpose, so that none moves another."""
        place = ("inputs", "test", "validation", "teacher", "noise").index(purpose)
        return np.random.RandomState([self.seed if seed is None else seed, place])

    @property
    def title(self) -> str:
        """What they are, in words.

        >>> Samples("parity", n_features=40).title, Samples("gaussian").title
        ('1,500 parities of 3 of 40 signs', '1,500 Gaussian vectors in 10 classes of a linear teacher')
        """
        return {
            "digits": f"{self._n:,} digits",
            "parity": f"{self._n:,} parities of {self.k} of {self.n_features} signs",
            "gaussian": f"{self._n:,} Gaussian vectors in {self.classes} classes of a linear teacher",
        }[self.source]

    @property
    def shape(self) -> tuple[int]:
        """The leading axis of a table over all examples."""
        return (self._n,)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in an example, and classes."""
        return self.n_features, {"digits": 10, "parity": 2, "gaussian": self.classes}[self.source]

    @property
    def n_classes(self) -> int:
        return self.sizes[1]

    @property
    def inputs(self) -> Float[np.ndarray, "n features"]:
        return self._drawn[0]

    @property
    def true_labels(self) -> Int[np.ndarray, " n"]:
        """The labels without noise."""
        return self._drawn[1]

    @cached_property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The labels that training sees: the true ones, but of `label_noise` of the training examples a wrong one."""
        noise = self._generator("noise")
        return with_label_noise(self.true_labels, self.train_indices, self.label_noise, self.n_classes, noise)

    @cached_property
    def noisy_indices(self) -> Int[np.ndarray, " noisy"]:
        """The training examples whose label is wrong, ascending.

        >>> len(Samples(n_train=800, label_noise=0.2).noisy_indices)
        160
        """
        return np.flatnonzero(self.labels != self.true_labels)

    @property
    def defined(self) -> Bool[np.ndarray, " n"]:
        """Every example has an answer."""
        return np.ones(self.shape, dtype=bool)

    @property
    def split_known(self) -> bool:
        return True

    @property
    def train_indices(self) -> Int[np.ndarray, " train"]:
        return np.arange(self.n_train)

    @property
    def symmetries(self) -> tuple[str, ...]:
        """None that is known."""
        return ()

    @property
    def orbits(self) -> Int[np.ndarray, " n"]:
        """Every example is one of its own: no symmetry makes one of another."""
        return np.arange(self._n)

    @property
    def n_held_out(self) -> int:
        """How many held-out examples are independent: all that are tested."""
        return self.n_test

    def mask(self, split: str) -> Bool[np.ndarray, " n"]:
        """The examples of "train", "validation", "test" or "all"; "held_out" and "unmirrored" are "test", because there
        are no mirrors.

        >>> samples = Samples(n_train=3, n_test=2, n_validation=1)
        >>> [samples.mask(split).nonzero()[0].tolist() for split in ("train", "test", "validation")]
        [[0, 1, 2], [3, 4], [5]]
        """
        check_choice("split", split, ("train", "validation", "test", "held_out", "unmirrored", "all"))
        if split == "all":
            return self.defined
        place = np.arange(self._n)
        return {"train": place < self.n_train, "validation": place >= self.n_train + self.n_test}.get(
            split, (place >= self.n_train) & (place < self.n_train + self.n_test)
        )
