"""Examples that are vectors and no pairs: the control that asks whether something is about tables over Z_p."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import InputError, check_choice, check_integer

Source = Literal["digits"]


@dataclass(frozen=True)
class Samples:
    """Labeled vectors, split into `n_train` that are trained on, `n_test` that are tested and `n_validation` that are
    chosen on; other examples of the source are not used.

    "digits" are the 1,797 handwritten digits of scikit-learn: 64 gray values from 0 to 1, ten classes. `seed` draws the
    split; the training and test examples do not depend on `n_validation`. Raises InputError for sizes that cannot be.

    >>> samples = Samples(n_train=1000, n_test=500)
    >>> samples.inputs.shape, samples.sizes
    ((1500, 64), (64, 10))
    """

    source: Source = "digits"
    n_train: int = 1000
    n_test: int = 500
    seed: int = 0
    n_validation: int = field(default=0, metadata={"later": True})

    def __post_init__(self) -> None:
        check_choice("task.source", self.source, get_args(Source))
        check_integer("task.n-train", self.n_train, 1)
        check_integer("task.n-test", self.n_test, 0)
        check_integer("task.seed", self.seed, 0, 2**32 - 1)
        check_integer("task.n-validation", self.n_validation, 0)
        n_known = 1797
        if self._n > n_known:
            validation = f", task.n-validation {self.n_validation}" if self.n_validation else ""
            raise InputError(
                f"task.n-train {self.n_train}{validation} and task.n-test {self.n_test} are more than the {n_known:,} "
                "digits that there are"
            )
        if self.n_validation and not self.n_test:
            raise InputError(
                f"task.n-validation {self.n_validation} are to choose on, and task.n-test 0 leaves none to report on"
            )

    @property
    def _n(self) -> int:
        return self.n_train + self.n_test + self.n_validation

    @cached_property
    def _drawn(self) -> tuple[Float[np.ndarray, "n features"], Int[np.ndarray, " n"]]:
        """Inputs and labels, those that are trained on first, and those that are chosen on last."""
        from sklearn.datasets import load_digits

        inputs, labels = map(np.asarray, load_digits(return_X_y=True))
        order = np.random.RandomState(self.seed).permutation(len(labels))[: self._n]
        return (inputs[order] / 16).astype(np.float32), labels[order].astype(np.int64)

    @property
    def title(self) -> str:
        """What they are, in words."""
        return f"{self._n:,} {self.source}"

    @property
    def shape(self) -> tuple[int]:
        """The leading axis of a table over all examples."""
        return (self._n,)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in an example, and classes."""
        return 64, 10

    @property
    def n_classes(self) -> int:
        return self.sizes[1]

    @property
    def inputs(self) -> Float[np.ndarray, "n features"]:
        return self._drawn[0]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        return self._drawn[1]

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
