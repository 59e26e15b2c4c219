"""The strengths of the circuits of a checkpoint, and their derivatives with respect to its weights: along the weights
themselves, along the way to other checkpoints, and through each tensor.

The strengths are linear in the logits (`interp.mathematics.strengths`), so the derivative of the logits along a
direction gives that of all of them, in one forward pass with tangents (`interp.models.logits_and_derivatives`). What
goes through each tensor takes a gradient for each strength, and is told of M and of C alone.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.experiment import Task
from interp.mathematics import circuits, grokking, strengths
from interp.mathematics.circuits import PhasePairs
from interp.mathematics.forces import Derivatives
from interp.mathematics.held_out import FEWEST_HELD_OUT, FOLDS
from interp.models import Weights, gradients_of_sums, logits, logits_and_derivatives
from interp.runs.checkpoint import Checkpoint
from interp.runs.pairs_in_phase import phase_pairs

BY_TENSOR = ("memorizing", "circuit")


class Moment(NamedTuple):
    """What is found at one checkpoint. `loss_alone`: the training loss of the generalizing and of the memorizing part
    of the logits, each alone. `by_tensor`: of the strengths in BY_TENSOR, their derivative along the weights, from the
    last and to the next checkpoint, through each tensor; NaN where not asked for.

    >>> Moment._fields
    ('derivatives', 'standard_errors', 'loss_alone', 'by_tensor')
    """

    derivatives: Derivatives  # of G, M and α_1 … α_K, by `strengths.strengths`
    standard_errors: Float[np.ndarray, " strengths_and_C"]
    loss_alone: Float[np.ndarray, " 2"]
    by_tensor: Float[np.ndarray, "3 on tensor"]


# As they stand in `Derivatives`, behind the value and what is along the weights themselves.
_OFFSETS = (-1, 1, -2, 2)


class CircuitDerivatives:
    """What asks checkpoints of a task for these: on its held-out and its training pairs, and no others.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> asked = CircuitDerivatives(run.task)
    >>> of_none = np.zeros(asked.n_frequencies, dtype=bool)
    >>> moment = asked.of(run[500], {1: run[526].weights}, of_none)
    >>> value, to_next = moment.derivatives.value[0], moment.derivatives.to_next[0]
    >>> value[:2].round(1).tolist(), to_next[:2].round(2).tolist()  # G grows, M shrinks
    ([9.6, 15.3], [0.91, -0.24])
    """

    def __init__(self, task: Task) -> None:
        every = phase_pairs(task)
        self.task, self.has_phase = task, task.has_phase
        self.pairs: PhasePairs = every.some((every.is_held_out | every.is_train) & every.has_label)
        self.inputs = torch.from_numpy(task.pairs)[self.pairs.row_major]
        # The strengths are told from sums over these.
        self.group = strengths.groups(self.pairs, task.coordinates.order, has_phase=self.has_phase)
        self.n_frequencies = task.coordinates.order // 2
        self.is_answered = len(self.pairs.orbit[self.pairs.is_held_out].unique()) >= FEWEST_HELD_OUT

    @torch.no_grad()
    def knows_training_pairs(self, checkpoint: Checkpoint) -> bool:
        """Whether the training pairs are known, 99 % of them where they are many (`interp.mathematics.grokking`)."""
        chosen = self.task.train_indices
        if not len(chosen):
            return False
        inputs, label = (torch.from_numpy(values[chosen]) for values in (self.task.pairs, self.task.labels))
        right = logits(checkpoint.weights, checkpoint.model, inputs).argmax(1) == label
        return right.double().mean().item() >= grokking.level_for(len(label))

    @torch.no_grad()
    def of(
        self,
        checkpoint: Checkpoint,
        others: dict[int, Weights],
        named: Bool[np.ndarray, " K"],
        *,
        on_tensors: bool = False,
    ) -> Moment:
        """Its strengths and their derivatives to the `others`, the weights so many checkpoints later."""
        weights, n_tensors = checkpoint.weights, len(checkpoint.weights)
        found = np.full((2 + len(_OFFSETS), 1 + FOLDS, 2 + self.n_frequencies), np.nan)
        by_tensor = np.full((3, len(BY_TENSOR), n_tensors), np.nan)
        if not self.is_answered:
            errors, alone = np.full(3 + self.n_frequencies, np.nan), np.full(2, np.nan)
            return Moment(Derivatives(*found), errors, alone, by_tensor)
        ways = {
            offset: {name: np.sign(offset) * (other[name] - weight) for name, weight in weights.items()}
            for offset, other in others.items()
        }
        n_groups = strengths.n_groups(self.task.coordinates.order)
        answers, along = logits_and_derivatives(
            weights, checkpoint.model, self.inputs, [weights, *ways.values()], group=self.group, n_groups=n_groups
        )
        centred = circuits.centred(answers, self.task.coordinates)
        found[0] = strengths.strengths(centred, self.pairs, has_phase=self.has_phase).numpy()
        for row, sums in zip((1, *(2 + _OFFSETS.index(offset) for offset in ways)), along, strict=True):
            found[row] = self._strengths(sums).numpy()
        sums = np.nan_to_num(strengths.circuit_weights(found[0, 0, 2:], named))
        errors = strengths.standard_errors(centred, self.pairs, sums, has_phase=self.has_phase).numpy()
        if on_tensors:
            asked = {
                place: of_strengths
                for place, of_strengths in enumerate((np.r_[0, 1, 0 * sums], np.r_[0, 0, sums]))
                if of_strengths.any() and (self.has_phase or place == 0)
            }
            if asked:
                directions = [weights, ways.get(-1), ways.get(1)]
                by_tensor[:, list(asked)] = self._by_tensor(checkpoint, list(asked.values()), directions)
        return Moment(Derivatives(*found), errors, self._loss_alone(centred), by_tensor)

    @torch.no_grad()
    def slopes(self, checkpoint: Checkpoint, named: Bool[np.ndarray, " K"]) -> dict[str, Weights]:
        """∇M and ∇C, the derivatives of the strengths in BY_TENSOR with respect to every weight; C of the `named`
        frequencies, and absent where there are none. Empty where too few pairs are held out.

        >>> import interp
        >>> run = interp.open_run(interp.reference_path())
        >>> named = np.isin(np.arange(1, 22), [3, 11, 12])
        >>> slopes = CircuitDerivatives(run.task).slopes(run[500], named)
        >>> list(slopes), slopes["circuit"]["embed.W_E"].shape
        (['memorizing', 'circuit'], torch.Size([44, 32]))
        """
        if not self.is_answered:
            return {}
        answers = logits(checkpoint.weights, checkpoint.model, self.inputs)
        centred = circuits.centred(answers, self.task.coordinates)
        alpha = strengths.strengths(centred, self.pairs, has_phase=self.has_phase)[0, 2:].numpy()
        sums = np.nan_to_num(strengths.circuit_weights(alpha, named))
        asked = {"memorizing": np.r_[0, 1, 0 * sums]}
        if self.has_phase and sums.any():
            asked["circuit"] = np.r_[0, 0, sums]
        like = next(iter(checkpoint.weights.values()))
        d_sums = torch.stack([self._on_sums(of_strengths, like) for of_strengths in asked.values()])
        found = gradients_of_sums(checkpoint.weights, checkpoint.model, self.inputs, self.group, d_sums)
        return dict(zip(asked, found, strict=True))

    def _strengths(self, sums: Float[Tensor, "groups p"]) -> Float[Tensor, "rows strengths"]:
        """The strengths, from the sums over groups of logits, or of their derivatives."""
        centred = circuits.centred(sums, self.task.coordinates)
        return strengths.strengths_of_sums(centred, self.pairs, has_phase=self.has_phase)

    def _by_tensor(
        self, checkpoint: Checkpoint, asked: list[Float[np.ndarray, " strengths"]], directions: list[Weights | None]
    ) -> Float[np.ndarray, "3 on tensor"]:
        """The derivative of each of these sums of strengths along each direction, tensor by tensor; NaN for one not
        there."""
        like = next(iter(checkpoint.weights.values()))
        d_sums = torch.stack([self._on_sums(of_strengths, like) for of_strengths in asked])
        slopes = gradients_of_sums(checkpoint.weights, checkpoint.model, self.inputs, self.group, d_sums)
        return np.array(
            [
                [
                    [math.nan if way is None else (slope[name] * way[name]).sum().item() for name in checkpoint.weights]
                    for slope in slopes
                ]
                for way in directions
            ]
        )

    def _on_sums(self, of_strengths: Float[np.ndarray, " strengths"], like: Tensor) -> Float[Tensor, "groups p"]:
        """The gradient of a sum of strengths with respect to the sums over groups of the logits, in which these are
        linear."""
        asked = np.flatnonzero(of_strengths)
        with torch.enable_grad():
            leaf = like.new_zeros(strengths.n_groups(self.task.coordinates.order), self.task.p, requires_grad=True)
            total = (self._strengths(leaf)[0, asked] * torch.from_numpy(of_strengths[asked])).sum()
        return torch.autograd.grad(total, leaf)[0]

    def _loss_alone(self, centred: Float[Tensor, "pairs n"]) -> Float[np.ndarray, " 2"]:
        """The training loss of the generalizing part of the logits alone, and of the memorizing part alone."""
        if not self.has_phase:
            return np.full(2, np.nan)
        of_train = self.pairs.is_train
        profile = circuits.profiles(centred, self.pairs).held_out[0]
        generalizing = circuits.part_rows(profile[None])[self.pairs.sums[of_train]]
        memorizing = centred[of_train] - generalizing
        label = self.pairs.label[of_train]
        return np.array([cross_entropy(part.double(), label).item() for part in (generalizing, memorizing)])
