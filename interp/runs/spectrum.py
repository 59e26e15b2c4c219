"""The Fourier picture of a network on Z_p: its neurons and logits in phase coordinates, and their key frequencies."""

import math
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import check_integer
from interp.experiment import Task
from interp.mathematics import fourier, key_frequencies
from interp.mathematics.held_out import CLEAR, FEWEST_HELD_OUT
from interp.models import Activations


class Spectrum:
    """The coefficients and shares of power of the frequencies 1 … K of Z_n in a network's neurons and logits, computed
    when first asked for. Do not write to its tensors: they are shared.

    With n phases (`task.coordinates`) and K = ⌊n/2⌋; `W_L` is the neurons' map to the logits, float64; None
    where it is not known.

    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> spectrum = circuit_checkpoint(Task(11), circuit_neurons([2, 5])).spectrum
    >>> spectrum.n_frequencies, spectrum.key_frequencies, spectrum.neuron_frequencies.tolist()
    (5, [2, 5], [2, 2, 2, 2, 2, 2, 2, 2, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    """

    def __init__(self, activations: Activations, W_L: Float[Tensor, "d_mlp p"] | None, task: Task) -> None:
        self._activations, self._W_L, self._task, self._phase = activations, W_L, task, task.coordinates

    @cached_property
    def neurons_in_phase(self) -> Float[Tensor, "n n d_mlp"]:
        """The neurons, over the pairs in phase coordinates.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> checkpoint = circuit_checkpoint(Task(7), circuit_neurons([2]))
        >>> checkpoint.spectrum.neurons_in_phase is checkpoint.neurons  # of addition, the phases are the residues
        True
        """
        return key_frequencies.in_phase(self._activations.neurons, self._phase)

    @cached_property
    def _neuron_sums(self) -> tuple[Float[Tensor, " d_mlp"], fourier.Marginals]:
        neurons, n = self.neurons_in_phase, self._phase.order
        # Near the mean is near enough: what it is off by is found with the sums, without a pass over the neurons of its
        # own.
        near = neurons[::8, ::8].mean((0, 1))
        sums, square = fourier.marginals(neurons, near)
        off = (sums[0].sum(0, dtype=torch.float64) / n**2).to(near.dtype)
        return near + off, fourier.Marginals(sums - n * off, square - (n * off).square())

    @property
    def neuron_mean(self) -> Float[Tensor, " d_mlp"]:
        """The mean of every neuron over all pairs in phase coordinates.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> checkpoint = circuit_checkpoint(Task(7), circuit_neurons([2]))
        >>> bool(torch.allclose(checkpoint.spectrum.neuron_mean, checkpoint.neurons.mean((0, 1))))
        True
        """
        return self._neuron_sums[0]

    @property
    def neuron_marginals(self) -> fourier.Marginals:
        """The sums of every neuron, less its mean, along rows, columns and diagonals of the pairs in phase
        coordinates.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> spectrum = circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum
        >>> spectrum.neuron_marginals.sums.shape, spectrum.neuron_marginals.sums.sum(1).abs().max().item() < 1e-6
        (torch.Size([4, 7, 9]), True)
        """
        return self._neuron_sums[1]

    @cached_property
    def neuron_means(self) -> tuple[Float[Tensor, "n d_mlp"], Float[Tensor, "n d_mlp"]]:
        """The mean of every neuron over the second input, and over the first, in phase coordinates.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> checkpoint = circuit_checkpoint(Task(7), circuit_neurons([2]))
        >>> over_b, over_a = checkpoint.spectrum.neuron_means
        >>> bool(torch.allclose(over_b, checkpoint.neurons.mean(1)))
        True
        """
        over_b, over_a = (self.neuron_mean + sums / self._phase.order for sums in self.neuron_marginals.sums[:2])
        return over_b, over_a

    @cached_property
    def neuron_variance(self) -> Float[Tensor, " d_mlp"]:
        """The variance of every neuron over all pairs in phase coordinates; 0 where it is no more than the rounding of
        its mean.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> checkpoint = circuit_checkpoint(Task(7), circuit_neurons([2]))
        >>> expected = checkpoint.neurons.flatten(0, 1).var(0, correction=0)
        >>> bool(torch.allclose(checkpoint.spectrum.neuron_variance, expected))
        True
        """
        variance = self.neuron_marginals.square / self._phase.order**2
        rounding = (8 * torch.finfo(variance.dtype).eps * self.neuron_mean).square()
        return torch.where(variance <= rounding, 0, variance)

    @cached_property
    def neuron_blocks(self) -> Float[Tensor, "K 4 2 d_mlp"]:
        """The coefficients of every neuron in each frequency's 3×3 block (`fourier.block_coefficients`).

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> spectrum = circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum
        >>> power = spectrum.neuron_blocks.square().sum((1, 2))  # [K, d_mlp]
        >>> bool(torch.allclose(power, 7**2 * spectrum.neuron_variance * spectrum.neuron_shares))
        True
        """
        return fourier.block_coefficients(self.neuron_marginals.sums)

    @cached_property
    def neuron_shares(self) -> Float[Tensor, "K d_mlp"]:
        """The share of every neuron's variance that each frequency's 3×3 block carries (`fourier.block_power`); NaN for
        a dead neuron, one whose variance is below 1e-8 of the average neuron's.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> shares = circuit_checkpoint(Task(11), circuit_neurons([2])).spectrum.neuron_shares
        >>> shares.shape, bool((shares[1] > 0.5).all()), bool((shares.sum(0) <= 1.001).all())
        (torch.Size([5, 9]), True, True)
        """
        shares = self.neuron_blocks.square().sum((1, 2)) / (self._phase.order**2 * self.neuron_variance)
        dead = self.neuron_variance <= 1e-8 * self.neuron_variance.mean()
        return shares.masked_fill(dead, torch.nan)

    @cached_property
    def neuron_frequencies(self) -> Int[Tensor, " d_mlp"]:
        """The frequency with the largest share, for every neuron; 0 for a dead one.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> neurons = circuit_neurons([2, 5], per_frequency=9)
        >>> circuit_checkpoint(Task(11), neurons).spectrum.neuron_frequencies.bincount().tolist()
        [0, 0, 9, 0, 0, 9]
        """
        dominant = self.neuron_shares.nan_to_num(nan=-1).argmax(0) + 1
        return torch.where(self.neuron_shares[0].isnan(), 0, dominant)

    @cached_property
    def output_norms(self) -> Float[Tensor, " K"]:
        """‖F_k W_L‖ for every frequency (`interp.mathematics.key_frequencies`); NaN where W_L is not known.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> norms = circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum.output_norms
        >>> (norms > 1e-6).tolist()  # the neurons speak in k = 2 alone
        [False, True, False]
        """
        if self._W_L is None:
            return torch.full((self.n_frequencies,), torch.nan, dtype=torch.float64)
        return key_frequencies.output_norms(self._W_L, self._phase)

    @cached_property
    def centred_logits(self) -> key_frequencies.CentredLogits:
        """The logits without their mean over the classes, in phase coordinates.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> centred = circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum.centred_logits
        >>> centred.values.shape, centred.values.sum(-1).abs().max().item() < 1e-6
        (torch.Size([7, 7, 7]), True)
        """
        return key_frequencies.centre(key_frequencies.logits_in_phase(self._activations.logits, self._phase))

    @cached_property
    def _logit_measures(self) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
        return key_frequencies.logit_measures(self.centred_logits)

    @property
    def logit_shares(self) -> Float[Tensor, " K"]:
        """The share of centred logit power in cos, sin w_k(a+b) for every frequency
        (`interp.mathematics.key_frequencies`).

        >>> from interp.testing import ideal_logits, with_logits
        >>> clock = with_logits(Task(7), ideal_logits(7, [2], "clock")).spectrum
        >>> clock.logit_shares.round(decimals=3).tolist()
        [0.0, 1.0, 0.0]
        """
        return self._logit_measures[0]

    @property
    def logit_alignments(self) -> Float[Tensor, " K"]:
        """The part of that share that lies in cos w_k(a+b−c), negative where its sign is
        (`interp.mathematics.key_frequencies`).

        >>> from interp.testing import ideal_logits, with_logits
        >>> clock, wrong = (with_logits(Task(7), sign * ideal_logits(7, [2], "clock")).spectrum for sign in (1, -1))
        >>> round(clock.logit_alignments[1].item(), 3), round(wrong.logit_alignments[1].item(), 3)
        (1.0, -1.0)
        """
        return self._logit_measures[1]

    @cached_property
    def evidence(self) -> key_frequencies.Evidence:
        """What speaks for every frequency being key, by held-out pairs, or by all where too few of these are
        independent (`interp.mathematics.key_frequencies`).

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> found = circuit_checkpoint(Task(13), circuit_neurons([2, 5])).spectrum.evidence
        >>> found.held_out, found.has_signal.tolist()
        (True, [False, True, False, False, True, False])
        """
        return key_frequencies.evidence(self.centred_logits, self._judges, held_out=self._unseen is not None)

    @property
    def key_mask(self) -> Bool[Tensor, " K"]:
        """Which of the frequencies 1 … K are key, by the rule of `interp.mathematics.key_frequencies`.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum.key_mask.tolist()
        [False, True, False]
        """
        return self.evidence.is_key

    @cached_property
    def _judges(self) -> key_frequencies.Judges:
        judged = torch.from_numpy(self._task.defined[self._pairs]) if self._unseen is None else self._unseen
        return key_frequencies.judges_of(torch.from_numpy(self._task.orbits[self._pairs]), judged)

    @cached_property
    def _pairs(self) -> Int[np.ndarray, "n n"]:
        """The row-major indices of the pairs in phase coordinates."""
        return self._phase.rows[:, None] * self._task.p + self._phase.columns

    @cached_property
    def _unseen(self) -> Bool[Tensor, "n n"] | None:
        """Which of the pairs in phase coordinates are held out; None where too few of these are independent to tell
        from."""
        unseen = self._task.mask("held_out")[self._pairs]
        n_independent = len(np.unique(self._task.orbits[self._pairs][unseen]))
        return torch.from_numpy(unseen) if n_independent >= FEWEST_HELD_OUT else None

    @property
    def key_frequencies(self) -> list[int]:
        """The frequencies of `key_mask`."""
        return key_frequencies.frequencies_of(self.key_mask)

    @cached_property
    def gain_alone(self) -> tuple[float, float]:
        """What the key frequencies alone answer better than a guess, in nats, with its standard error: on pairs that
        could not have been memorized (on all, where fewer than 20 of these are independent), each answered from the
        logits of others (`interp.mathematics.key_frequencies.gain_alone`). NaN where no frequency is key.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> gain, error = circuit_checkpoint(Task(13), circuit_neurons([2, 5])).spectrum.gain_alone
        >>> round(gain, 1), round(math.log(13), 1)  # all that there is to know
        (2.6, 2.6)
        """
        if not self.key_mask.any():
            return math.nan, math.nan
        return key_frequencies.gain_alone(self.centred_logits, self._judges, self.key_mask)

    @property
    def has_circuit(self) -> bool:
        """Whether the key frequencies alone answer better than guessing, by 0.1 nats or more and by more than three
        standard errors (`gain_alone`).

        >>> from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons
        >>> circuit_checkpoint(Task(13), circuit_neurons([2])).spectrum.has_circuit
        True
        >>> table = circuit_checkpoint(Task(13), [], lookup=LookupTable(strength=9.0))
        >>> table.spectrum.has_circuit  # of the training pairs: no frequency is key
        False
        """
        gain, error = self.gain_alone
        return gain > max(CLEAR * error, key_frequencies.LEAST_RISE)

    def frequencies_to_use(self, given: list[int] | None) -> list[int]:
        """The given frequencies, or, where none are given, those of this network. InputError for one outside 1 … K.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> spectrum = circuit_checkpoint(Task(7), circuit_neurons([2])).spectrum
        >>> spectrum.frequencies_to_use([1, 3]), spectrum.frequencies_to_use(None)
        ([1, 3], [2])
        """
        for frequency in given or ():
            check_integer("key_frequencies", frequency, 1, self.n_frequencies)
        return self.key_frequencies if given is None else given

    @property
    def n_frequencies(self) -> int:
        """K = ⌊n/2⌋, the number of frequencies in the task's coordinates."""
        return self._phase.order // 2
