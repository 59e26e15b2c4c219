"""One set of weights, with its logits, activations and losses, each computed once, when first asked for."""

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import check_integer
from interp.experiment import ModelConfig, Task
from interp.figures import notebook
from interp.mathematics import fourier, key_frequencies
from interp.mathematics.cross_entropy import PAIRS_AT_ONCE, judge_
from interp.models import Activations, Weights, check_weights, forward_all, output_map, output_matrix


class Checkpoint:
    """The weights after `step` updates, and everything that follows from them. Do not write to what it gives: it is
    shared.

    Tables over all pairs have the leading axes [p, p] for (a, b); a split without pairs has loss and accuracy NaN.
    """

    def __init__(self, step: int, weights: Weights, task: Task, model: ModelConfig, *, where: str = "weights") -> None:
        check_weights(weights, model, task.p, where=where)
        self.step, self.weights, self.task, self.model = step, weights, task, model

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, Tensor], task: Task, model: ModelConfig, step: int = -1
    ) -> "Checkpoint":
        """A checkpoint in memory, from anybody's training loop or notebook; step −1 means unknown.

        Raises InputError, naming the tensor, for weights that are not those of the model.
        """
        return cls(step, {name: weight.detach().clone() for name, weight in weights.items()}, task, model)

    @cached_property
    def activations(self) -> Activations:
        """One forward pass over all pairs, in the type of the weights."""
        with torch.no_grad():
            return forward_all(self.weights, self.model)

    @property
    def logits(self) -> Float[Tensor, "p p p"]:
        return self.activations.logits

    @property
    def neurons(self) -> Float[Tensor, "p p d_mlp"]:
        """The last layer's neurons after the nonlinearity, at the last position."""
        return self.activations.neurons

    @property
    def attention(self) -> Float[Tensor, "p p heads positions"]:
        """The last layer's attention from the last position to each position."""
        return self.activations.attention

    @cached_property
    def residual_post(self) -> Float[Tensor, "p p features"]:
        """What the unembedding reads, at the last position."""
        return self.activations.residual_post

    @cached_property
    def W_E(self) -> Float[Tensor, "p features"]:
        """The embedding of the residues, without that of `=`; where a and b have vocabularies of their own, that for a
        and that for b side by side; without embedding, their rows of W_in, so too."""
        if self.model.embedding == "none" and self.model.family == "mlp":
            return torch.cat(self.weights["mlp.W_in"].split(self.task.p), dim=1)
        b = self.model.first_token_of_b(self.task.p)
        both = self.weights["embed.W_E"][: b + self.task.p]
        return torch.cat(both.split(self.task.p), dim=1) if b else both

    @property
    def token_rows(self) -> tuple[Int[Tensor, " n"], ...]:
        """The rows of `embed.W_E` that are residues, in phase order: those that a and b share, or those of a and those
        of b."""
        phase, b = self.task.coordinates, self.model.first_token_of_b(self.task.p)
        return tuple(torch.from_numpy(rows) for rows in ((phase.rows, b + phase.columns) if b else (phase.rows,)))

    @property
    def W_in(self) -> Float[Tensor, "inputs d_mlp"]:
        """The last layer's input matrix."""
        return self.weights["mlp.W_in" if self.model.family == "mlp" else f"blocks.{self.model.n_layers - 1}.mlp.W_in"]

    @property
    def W_out(self) -> Float[Tensor, "d_mlp features"]:
        """The last layer's output matrix."""
        return self.weights[
            "mlp.W_out" if self.model.family == "mlp" else f"blocks.{self.model.n_layers - 1}.mlp.W_out"
        ]

    @property
    def W_U(self) -> Float[Tensor, "features p"]:
        """The unembedding; W_Eᵀ where that is tied to it, and W_out itself where nothing comes after it."""
        return output_matrix(self.weights, self.model)

    @cached_property
    def W_L(self) -> Float[Tensor, "d_mlp p"]:
        """The last layer's neurons' map to the logits, W_out W_U, in float64."""
        return output_map({name: weight.double() for name, weight in self.weights.items()}, self.model)

    @cached_property
    def _judged(self) -> tuple[Float[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
        labels = torch.from_numpy(self.task.labels).clamp(min=0)
        some = zip(self.logits.reshape(-1, self.task.p).split(PAIRS_AT_ONCE), labels.split(PAIRS_AT_ONCE), strict=True)
        losses, correct = zip(
            *(judge_(logits.T.to(torch.float64, copy=True), right) for logits, right in some), strict=True
        )
        return torch.cat(losses), torch.cat(correct)

    @cached_property
    def losses(self) -> Float[np.ndarray, " pairs"]:
        """The cross-entropy of every pair in nats, float64; NaN where the operation is not defined."""
        return np.where(self.task.defined, self._judged[0].numpy(), np.nan)

    @cached_property
    def correct(self) -> Bool[np.ndarray, " pairs"]:
        """Whether the logit of the (trained) label is larger than every other, for every pair."""
        return self._judged[1].numpy() & self.task.defined

    def loss(self, split: str) -> float:
        """The mean cross-entropy over the pairs of "train", "test", "unmirrored" or "all"; NaN where there are none."""
        mask = self.task.mask(split)
        return float(self.losses[mask].mean()) if mask.any() else math.nan

    def accuracy(self, split: str) -> float:
        """The share of correct answers over the pairs of "train", "test", "unmirrored" or "all"; NaN where there are
        none."""
        mask = self.task.mask(split)
        return float(self.correct[mask].mean()) if mask.any() else math.nan

    @cached_property
    def neurons_in_phase(self) -> Float[Tensor, "n n d_mlp"]:
        """The neurons, over the pairs in phase coordinates."""
        return key_frequencies.in_phase(self.neurons, self.task.coordinates)

    @cached_property
    def _neuron_sums(self) -> tuple[Float[Tensor, " d_mlp"], fourier.Marginals]:
        neurons, n = self.neurons_in_phase, self.task.coordinates.order
        # Near the mean is near enough: what it is off by is found with the sums, without a pass over the neurons of its
        # own.
        near = neurons[::8, ::8].mean((0, 1))
        sums, square = fourier.marginals(neurons, near)
        off = (sums[0].sum(0, dtype=torch.float64) / n**2).to(near.dtype)
        return near + off, fourier.Marginals(sums - n * off, square - (n * off).square())

    @property
    def neuron_mean(self) -> Float[Tensor, " d_mlp"]:
        """The mean of every neuron over all pairs in phase coordinates."""
        return self._neuron_sums[0]

    @property
    def neuron_marginals(self) -> fourier.Marginals:
        """The sums of every neuron, less its mean, along rows, columns and diagonals of the pairs in phase
        coordinates."""
        return self._neuron_sums[1]

    @cached_property
    def neuron_means(self) -> tuple[Float[Tensor, "n d_mlp"], Float[Tensor, "n d_mlp"]]:
        """The mean of every neuron over the second input, and over the first, in phase coordinates."""
        over_b, over_a = (
            self.neuron_mean + sums / self.task.coordinates.order for sums in self.neuron_marginals.sums[:2]
        )
        return over_b, over_a

    @cached_property
    def neuron_variance(self) -> Float[Tensor, " d_mlp"]:
        """The variance of every neuron over all pairs in phase coordinates; 0 where it is no more than the rounding of
        its mean."""
        variance = self.neuron_marginals.square / self.task.coordinates.order**2
        rounding = (8 * torch.finfo(variance.dtype).eps * self.neuron_mean).square()
        return torch.where(variance <= rounding, 0, variance)

    @cached_property
    def neuron_blocks(self) -> Float[Tensor, "K 4 2 d_mlp"]:
        """The coefficients of every neuron in each frequency's 3×3 block (`fourier.block_coefficients`)."""
        return fourier.block_coefficients(self.neuron_marginals.sums)

    @cached_property
    def neuron_shares(self) -> Float[Tensor, "K d_mlp"]:
        """The share of every neuron's variance that each frequency's 3×3 block carries (`fourier.block_power`); NaN for
        a dead neuron, one whose variance is below 1e-8 of the average neuron's."""
        shares = self.neuron_blocks.square().sum((1, 2)) / (self.task.coordinates.order**2 * self.neuron_variance)
        dead = self.neuron_variance <= 1e-8 * self.neuron_variance.mean()
        return shares.masked_fill(dead, torch.nan)

    @cached_property
    def neuron_frequencies(self) -> Int[Tensor, " d_mlp"]:
        """The frequency with the largest share, for every neuron; 0 for a dead one."""
        dominant = self.neuron_shares.nan_to_num(nan=-1).argmax(0) + 1
        return torch.where(self.neuron_shares[0].isnan(), 0, dominant)

    @cached_property
    def output_norms(self) -> Float[Tensor, " K"]:
        """‖F_k W_L‖ for every frequency (`interp.mathematics.key_frequencies`)."""
        return key_frequencies.output_norms(self.W_L, self.task.coordinates)

    @cached_property
    def centred_logits(self) -> key_frequencies.CentredLogits:
        """The logits without their mean over the classes, in phase coordinates."""
        return key_frequencies.centre(key_frequencies.logits_in_phase(self.logits, self.task.coordinates))

    @cached_property
    def _logit_measures(self) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
        return key_frequencies.logit_measures(self.centred_logits)

    @property
    def logit_shares(self) -> Float[Tensor, " K"]:
        """The share of centred logit power in cos, sin w_k(a+b) for every frequency
        (`interp.mathematics.key_frequencies`)."""
        return self._logit_measures[0]

    @property
    def logit_alignments(self) -> Float[Tensor, " K"]:
        """The part of that share that lies in cos w_k(a+b−c), negative where its sign is
        (`interp.mathematics.key_frequencies`)."""
        return self._logit_measures[1]

    @cached_property
    def key_mask(self) -> Bool[Tensor, " K"]:
        """Which of the frequencies 1 … K are key, by the rule of `interp.mathematics.key_frequencies`."""
        mask = key_frequencies.is_key(
            self.output_norms, self.logit_shares, self.logit_alignments, self.task.coordinates.order
        )
        phase = self.task.coordinates
        test = torch.from_numpy(self.task.mask("test")[phase.rows[:, None] * self.task.p + phase.columns])
        if mask.any() and test.any():
            mask &= key_frequencies.held_out(self.centred_logits, test) >= key_frequencies.HELD_OUT_THRESHOLD
        return mask

    @property
    def key_frequencies(self) -> list[int]:
        """This checkpoint's own key frequencies."""
        return key_frequencies.frequencies_of(self.key_mask)

    def frequencies_to_use(self, given: list[int] | None) -> list[int]:
        """The given frequencies, or, where none are given, the checkpoint's own key frequencies. InputError for one
        outside 1 … K."""
        for frequency in given or ():
            check_integer("key_frequencies", frequency, 1, self.n_frequencies)
        return self.key_frequencies if given is None else given

    @property
    def n_frequencies(self) -> int:
        """K = ⌊n/2⌋, the number of frequencies in the task's coordinates."""
        return self.task.coordinates.order // 2

    _repr_html_ = notebook.of_checkpoint

    def __repr__(self) -> str:
        return (
            f"Checkpoint(step={self.step}, {self.task.operation} mod {self.task.p}, key frequencies "
            f"{self.key_frequencies})"
        )
