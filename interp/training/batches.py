"""Batches: pairs and the labels they are trained or tested on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.experiment import Task
from interp.models import factored_gradient


def unmirrored_of_test(task: Task) -> Bool[Tensor, " n"]:
    """Which of the test pairs have no mirror (b, a) among the training pairs."""
    return torch.from_numpy(task.unmirrored_test_mask[task.test_mask])


@dataclass(frozen=True)
class Batch:
    """Pairs and the labels they are trained or tested on."""

    pairs: Int[Tensor, "n 2"]
    labels: Int[Tensor, " n"]

    @classmethod
    def of(cls, task: Task, split: str, device: str | torch.device = "cpu") -> "Batch":
        """All pairs of a split, in row-major order."""
        index = np.flatnonzero(task.mask(split))
        return cls(torch.from_numpy(task.pairs[index]).to(device), torch.from_numpy(task.labels[index]).to(device))

    def minibatch(self, size: int, step: int, seed: int) -> "Batch":
        """The batch of update number `step`. Each epoch is a permutation of its own, a function of the seed and the
        epoch alone, so resuming needs no generator state; what is left over at the end of an epoch is dropped."""
        epoch, position = divmod(step, len(self) // size)
        order = np.random.RandomState([seed, epoch]).permutation(len(self))
        chosen = torch.from_numpy(order[position * size : (position + 1) * size]).to(self.labels.device)
        return Batch(self.pairs[chosen], self.labels[chosen])

    @cached_property
    def examples(self) -> factored_gradient.Examples:
        """a, b and the labels, each in one piece of memory."""
        return self.pairs[:, 0].contiguous(), self.pairs[:, 1].contiguous(), self.labels

    def __len__(self) -> int:
        return len(self.labels)
