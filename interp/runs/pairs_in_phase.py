"""The pairs of a task that have phases, and their logits."""

import functools

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.experiment import Task
from interp.mathematics.circuits import PhasePairs
from interp.mathematics.held_out import FOLDS
from interp.runs.checkpoint import Checkpoint


@functools.lru_cache(maxsize=8)
def phase_pairs(task: Task) -> PhasePairs:
    """All pairs of a task that have phases and an answer, with s in the outer loop. Do not write to it: it is
    shared.

    >>> pairs = phase_pairs(Task(7, "multiply", train_fraction=0.5))
    >>> len(pairs.sums), int(pairs.has_label.sum())  # 6 units, 36 pairs of them
    (36, 36)
    """
    phase = task.coordinates
    residue = np.arange(phase.order)
    defined = _defined(task)
    index = (phase.rows[:, None] * task.p + phase.columns).reshape(-1)[defined]
    sums = (residue[:, None] + residue).reshape(-1)[defined] % phase.order
    of_class = np.full(task.p, -1)
    of_class[phase.classes] = residue
    label = of_class[task.labels[index]]
    # Orbits are dealt out, of unordered pairs for one: a network that treats (a, b) and (b, a) alike must not be judged
    # by the mirror image.
    orbit = task.orbits[index]
    deal = np.random.RandomState(0).permutation(task.p**2) % FOLDS
    train, test, held_out = (task.mask(split)[index] for split in ("train", "test", "held_out"))
    values = (index, sums, label.clip(min=0), label >= 0, train, test, np.where(held_out, deal[orbit], -1), orbit)
    return PhasePairs(*(torch.from_numpy(value) for value in values))


def _defined(task: Task) -> Bool[np.ndarray, " pairs"]:
    """Which of the pairs in phase coordinates have an answer."""
    phase = task.coordinates
    return task.defined[phase.rows[:, None] * task.p + phase.columns].reshape(-1)


def centred_logits(checkpoint: Checkpoint, pairs: PhasePairs) -> Float[Tensor, "pairs n"]:
    """The logits of all `phase_pairs`, over the classes that have a phase, in its order, less their mean.

    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> checkpoint = circuit_checkpoint(Task(7), circuit_neurons([2]))
    >>> centred = centred_logits(checkpoint, phase_pairs(checkpoint.task))
    >>> centred.shape, centred.sum(1).abs().max().item() < 1e-6
    (torch.Size([49, 7]), True)
    """
    every = checkpoint.spectrum.centred_logits.values.flatten(0, 1)
    return every if len(every) == len(pairs.row_major) else every[_defined(checkpoint.task)]
