"""Batches: examples and the labels they are trained or tested on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.experiment import Examples, splits_of_each
from interp.models import factored_gradient, token_tables


def parts_of_test(task: Examples) -> dict[str, Bool[Tensor, " n"]]:
    """Which of the test pairs are unmirrored; and which are held out, where these are fewer. With several operations
    also which are those of each, and which of these are held out.

    >>> from interp.experiment import Task
    >>> of = parts_of_test(Task(2, split=(1,)))  # tests (0, 0), (1, 0), (1, 1); the mirror (0, 1) is trained on
    >>> {part: which.tolist() for part, which in of.items()}
    {'unmirrored_test': [True, False, True]}
    >>> list(parts_of_test(Task(7, "x2+y2")))
    ['unmirrored_test', 'held_out']
    """
    test, unmirrored, held_out = (task.mask(split) for split in ("test", "unmirrored", "held_out"))
    parts = {"unmirrored_test": unmirrored}
    if (held_out != unmirrored).any():
        parts["held_out"] = held_out
    parts |= {name: task.mask(name) for name in splits_of_each(task, ("test", "held_out"))}
    return {part: torch.from_numpy(mask[test]) for part, mask in parts.items()}


def parts_of_train(task: Examples) -> dict[str, Bool[Tensor, " n"]]:
    """Which of the training examples are those of each of several operations.

    >>> from interp.experiment import Operations, Task
    >>> of = parts_of_train(Operations(3, ("add", "random"), train_fraction=(0.3, 1.0)))
    >>> {part: int(which.sum()) for part, which in of.items()}
    {'add.train': 2, 'random.train': 9}
    >>> parts_of_train(Task(7))
    {}
    """
    train = task.mask("train")
    return {name: torch.from_numpy(task.mask(name)[train]) for name in splits_of_each(task, ("train",))}


@dataclass(frozen=True)
class Batch:
    """Examples and the labels they are trained or tested on.

    >>> from interp.experiment import Task
    >>> batch = Batch.of(Task(3, split=(1, 5)), "train")
    >>> batch.inputs.tolist(), batch.labels.tolist(), len(batch)
    ([[0, 1], [1, 2]], [1, 0], 2)
    >>> len(Batch.of(Task(113), "train").minibatch(100, step=0, seed=0))
    100
    """

    inputs: Int[Tensor, "n tokens"] | Float[Tensor, "n features"]
    labels: Int[Tensor, " n"]

    @classmethod
    def of(cls, task: Examples, split: str, device: str | torch.device = "cpu") -> "Batch":
        """All examples of a split, in their order."""
        index = np.flatnonzero(task.mask(split))
        return cls(torch.from_numpy(task.inputs[index]).to(device), torch.from_numpy(task.labels[index]).to(device))

    def minibatch(self, size: int, step: int, seed: int) -> "Batch":
        """The batch of update number `step`. Each epoch is a permutation of its own, a function of the seed and the
        epoch alone, so resuming needs no generator state; the last len % size examples of each permutation are not
        used."""
        epoch, position = divmod(step, len(self) // size)
        chosen = self._order(seed, epoch)[position * size : (position + 1) * size]
        return Batch(self.inputs[chosen], self.labels[chosen])

    def _order(self, seed: int, epoch: int) -> Int[Tensor, " n"]:
        """The last one is kept: to draw it for a million examples takes longer than a step."""
        if (seed, epoch) not in self._orders:
            self._orders.clear()
            order = np.random.RandomState([seed, epoch]).permutation(len(self))
            self._orders[seed, epoch] = torch.from_numpy(order).to(self.labels.device)
        return self._orders[seed, epoch]

    @cached_property
    def _orders(self) -> dict[tuple[int, int], Int[Tensor, " n"]]:
        return {}

    @cached_property
    def examples(self) -> factored_gradient.Examples:
        """a, b and the labels, each in one piece of memory."""
        return self.inputs[:, 0].contiguous(), self.inputs[:, 1].contiguous(), self.labels

    def plan(self, n_classes: int, n_heads: int) -> token_tables.Plan:
        """What `interp.models.token_tables` needs of the examples, made when it is first asked for.

        >>> from interp.experiment import Task
        >>> batch = Batch.of(Task(7), "train")
        >>> batch.plan(7, 4).n, batch.plan(7, 4) is batch.plan(7, 4)
        (14, True)
        """
        key = n_classes, n_heads
        if key not in self._plans:
            self._plans[key] = token_tables.Plan.of(self.examples, *key)
        return self._plans[key]

    @cached_property
    def _plans(self) -> dict[tuple[int, int], token_tables.Plan]:
        return {}

    def __len__(self) -> int:
        return len(self.labels)
