"""Nulls for "periodic neuron" and "key frequency": thresholds with a stated rate of false positives.

The residues of the inputs are renamed at random, X[a, b] → X[π(a), π(b)], in phase coordinates. Weights, variances and symmetry stay as
they are; the order of the residues goes, and with it every frequency. An untrained network, and one trained on random labels, does not
know that order: for it the renamed values have the distribution of the real ones, so that the quantile 1 − rate of the renamed is
passed by chance with probability `rate`. Renamings t → ut + v are not drawn: they carry one frequency over into another.

    neurons      fraction explained (the largest 3×3 share) of sampled neurons under 4 renamings or more; `rate` is per neuron
    frequencies  ‖P_k L_c‖²/‖L_c‖² for 128 random (k, π); a Beta distribution by their moments at 1 − rate/K; `rate` is per network

Fresh weights of the same shape are a second null for neurons (`random_network_threshold`); alone they would be none for a network that
memorizes.
"""

import functools
import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp import fourier
from interp.checkpoint import Checkpoint
from interp.experiment import ModelConfig
from interp.task import Operation, Task
from interp.weights import initial_weights

_NEURONS_AT_ONCE, _RENAMINGS_AT_ONCE = 64, 4


def null_fractions_explained(checkpoint: Checkpoint, *, rate: float = 0.01, shuffles: int = 4, seed: int = 0) -> Float[Tensor, " draws"]:
    """Fractions explained of live neurons, sampled anew for each renaming; as many renamings as leave two draws above the quantile."""
    n = checkpoint.task.coordinates.order
    alive = torch.nonzero(checkpoint.neuron_frequencies)[:, 0]
    if n < 4 or not len(alive):
        return torch.empty(0)
    generator = torch.Generator().manual_seed(seed)
    at_once = min(len(alive), _NEURONS_AT_ONCE)
    draws = [
        (alive[torch.randperm(len(alive), generator=generator)[:at_once]], _renaming(n, generator).argsort())
        for _ in range(max(shuffles, math.ceil(2 / rate / at_once)))
    ]
    drawn, neurons, ordered = [], checkpoint.neurons_in_phase.flatten(0, 1), checkpoint.neuron_marginals.sums
    for start in range(0, len(draws), _RENAMINGS_AT_ONCE):
        some = draws[start : start + _RENAMINGS_AT_ONCE]
        # Single neurons lie far apart in memory: to take a few costs as much as to take many.
        every = torch.cat([chosen for chosen, _ in some])
        samples = neurons.index_select(1, every).sub_(checkpoint.neuron_mean[every]).unflatten(0, (n, n)).split(at_once, dim=2)
        for sample, (chosen, names) in zip(samples, some, strict=True):
            sums = fourier.renamed_marginals(sample, ordered[0, :, chosen], ordered[1, :, chosen], names)
            power = fourier.block_coefficients(sums).square().sum((1, 2))
            drawn.append((power / (n * n * checkpoint.neuron_variance[chosen])).amax(0))
    return torch.cat(drawn)


def calibrated_share_threshold(checkpoint: Checkpoint, *, rate: float = 0.01, draws: int = 128, seed: int = 0) -> float:
    """The share of logit power that any of the frequencies of a network without frequencies passes with probability `rate`; NaN with
    fewer than 4 phases or logits that are all equal."""
    shares = null_logit_shares(checkpoint, draws=draws, seed=seed).numpy()
    if not len(shares) or not shares.var() > 0:
        return math.nan
    from scipy.special import betainccinv

    mean, squares = float(shares.mean()), np.square(shares - shares.mean())
    # Few draws know their variance badly, and the far tail hangs on it: two standard errors keep the rate below the stated one.
    variance = float(squares.mean() + 2 * squares.std() / math.sqrt(len(shares)))

    size = mean * (1 - mean) / variance - 1  # a + b of the Beta distribution with this mean and variance
    return float(betainccinv(mean * size, (1 - mean) * size, rate / checkpoint.n_frequencies))


def null_logit_shares(checkpoint: Checkpoint, *, draws: int = 128, seed: int = 0) -> Float[Tensor, " draws"]:
    """‖P_k L_c‖²/‖L_c‖² of single random frequencies, each under a renaming of its own.

    P_k needs Σ_ab e^{iw_k(π(a)+π(b))} L_c[a, b] alone, so that the waves are renamed and not the logits.
    """
    n = checkpoint.task.coordinates.order
    centred, total = checkpoint.centred_logits
    if n < 4 or not total > 0:
        return torch.empty(0)
    along = _renamed_waves(n, draws, seed, centred.dtype) @ centred.flatten(0, 1)  # [(cos, sin) of each draw, class]
    return along.square().double().sum(1).view(2, draws).sum(0) / total


@functools.lru_cache(maxsize=2)
def _renamed_waves(n: int, draws: int, seed: int, dtype: torch.dtype) -> Float[Tensor, "waves pairs"]:
    """cos w_k(π(a)+π(b)) of every draw of k and π, then the sines, of norm 1 over the n² pairs: the same at every step."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.randint(1, n // 2 + 1, (draws, 1, 1), generator=generator)
    renamed = torch.stack([_renaming(n, generator) for _ in range(draws)])
    angle = 2 * math.pi * torch.remainder(frequency * (renamed[:, :, None] + renamed[:, None]), n).double() / n  # [draw, a, b]
    # cos and sin of a frequency have norm n/√2; for k = n/2 there is only the cosine, of norm n.
    norm = torch.where(2 * frequency == n, 1, math.sqrt(2)) / n
    return torch.cat([norm * angle.cos(), norm * angle.sin()]).flatten(1).to(dtype)


def random_network_threshold(model: ModelConfig, task: Task, *, rate: float = 0.01, networks: int = 2) -> float:
    """The quantile 1 − rate of the fractions explained of all neurons of untrained networks of the same shape."""
    return _random_network_threshold(replace(model, seed=0), task.p, task.operation, rate, networks)


@functools.lru_cache(maxsize=32)
def _random_network_threshold(model: ModelConfig, p: int, operation: Operation, rate: float, networks: int) -> float:
    task = Task(p, operation, split="unknown")
    drawn = []
    # Seeds that nobody trains with: the network under study must not be its own null.
    for seed in range(2**31, 2**31 + networks):
        checkpoint = Checkpoint(0, initial_weights(replace(model, seed=seed), p), task, model)
        shares = checkpoint.neuron_shares
        drawn.append(shares[:, ~shares[0].isnan()].max(0).values)
    return upper_quantile(torch.cat(drawn), rate)


def upper_quantile(drawn: Float[Tensor, " draws"], rate: float) -> float:
    """The smallest value drawn that one more draw of the same kind exceeds with probability at most `rate`; the largest value drawn
    where there are too few to tell, NaN where there are none."""
    if not len(drawn):
        return math.nan
    rank = math.ceil((1 - rate) * (len(drawn) + 1))
    return float(np.sort(drawn.numpy())[min(rank, len(drawn)) - 1])


def _renaming(n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A random permutation of n ≥ 4 phases that is no t → ut + v."""
    t = torch.arange(n)
    while True:
        permutation = torch.randperm(n, generator=generator)
        if not torch.equal(permutation, (permutation[0] + (permutation[1] - permutation[0]) * t) % n):
            return permutation
