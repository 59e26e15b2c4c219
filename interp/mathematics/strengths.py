"""How strong each circuit is, by numbers that are linear in the logits.

With L_c the logits centred over the classes, U the held-out pairs (`Task.held_out_mask`), and g(d) the even part of the
mean over U of L_c[s, t, s+t−d] (`interp.mathematics.circuits`),

    G = g(0)                                               the generalizing circuit: the mean label logit over U
    M = mean over training pairs of L_c(label) − g(s+t−label)     the memorizing circuit
    α_k,  g(d) = Σ_{k=1…⌊n/2⌋} α_k cos w_k d               each frequency; G = Σ_k α_k

G alone misleads: a network that memorizes pushes the labels of held-out pairs down, which is a spike of g at d = 0 and
so the same in every α_k, while a circuit is sparse in k. So, for a set of frequencies that was named beforehand,

    level = mean of the middle half of the α_k that are not in the set
    C = Σ_{k in the set} (α_k − level)                     the circuit of these frequencies

Of an operation without phases G is the mean label logit over U, g(d) = G for every d, and there are no α_k. Fewer than
20 independent pairs in U: nothing. Standard errors are over independent pairs (`Task.orbits`).

What all of U has in common need not be a circuit: C tells a sparse set from a spike, not from a table that is periodic
in few frequencies. A frequency that grows outside of the set adds to the level only where it is in the middle half.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.mathematics import circuits
from interp.mathematics.circuits import PhasePairs
from interp.mathematics.held_out import FEWEST_HELD_OUT, FOLDS, standard_error

# With fewer frequencies beside the set there is no level to speak of.
FEWEST_OTHERS = 4
N_NAMED = 4


def strengths(
    centred: Float[Tensor, "pairs n"], pairs: PhasePairs, *, has_phase: bool
) -> Float[Tensor, "rows strengths"]:
    """G, M and α_1 … α_K, float64, from logits of these pairs [pair, phase of the class], centred over the classes:
    told from all of U, and, in five more rows, from U without each of its folds (`PhasePairs.fold`). Linear in the
    logits: of their derivative it gives the derivative. NaN where unknown.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(task := Task(13, train_fraction=0.3))
    >>> circuit = 3 * torch.cos(2 * torch.pi * 2 * (pairs.sums[:, None] - torch.arange(13)) / 13).double()
    >>> table = 5 * (torch.eye(13) - 1 / 13).double()[pairs.label] * pairs.is_train[:, None]
    >>> found = strengths(circuit + table, pairs, has_phase=True)
    >>> found[0, :4].round(decimals=3).abs().tolist()  # G, M (5 less its mean, 5/13), α_1, α_2
    [3.0, 4.615, 0.0, 3.0]
    """
    n = centred.shape[1]
    sums = centred.new_zeros(n_groups(n), n).index_add_(0, groups(pairs, n, has_phase=has_phase), centred)
    return strengths_of_sums(sums, pairs, has_phase=has_phase)


def n_groups(n: int) -> int:
    """How many `groups` there are, of n phases: one for each fold and sum, one for each label, one for the rest.

    >>> n_groups(113)
    679
    """
    return (FOLDS + 1) * n + 1


def groups(pairs: PhasePairs, n: int, *, has_phase: bool) -> Int[Tensor, " pairs"]:
    """The group of every pair of those over which logits may be added up before the strengths are told: of held-out
    pairs those of one fold and one sum s + t (one label, where there are no phases), of training pairs those of one
    label, and all others.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> of_pairs = groups(phase_pairs(Task(5, train_fraction=0.4)), 5, has_phase=True)
    >>> of_pairs[:6].tolist()
    [0, 11, 27, 28, 30, 11]
    """
    told_from = pairs.is_held_out if has_phase else pairs.is_held_out & pairs.has_label
    held_out = pairs.fold * n + (pairs.sums if has_phase else pairs.label)
    rest = torch.where(pairs.is_train & pairs.has_label, FOLDS * n + pairs.label, (FOLDS + 1) * n)
    return torch.where(told_from, held_out, rest)


def strengths_of_sums(
    sums: Float[Tensor, "groups n"], pairs: PhasePairs, *, has_phase: bool
) -> Float[Tensor, "rows strengths"]:
    """`strengths`, from the sums of the centred logits over the `groups` of these pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(task := Task(13, train_fraction=0.3))
    >>> clock = 3 * torch.cos(2 * torch.pi * 2 * (pairs.sums[:, None] - torch.arange(13)) / 13).double()
    >>> sums = torch.zeros(n_groups(13), 13).double().index_add_(0, groups(pairs, 13, has_phase=True), clock)
    >>> strengths_of_sums(sums, pairs, has_phase=True)[0, :4].round(decimals=3).abs().tolist()
    [3.0, 0.0, 0.0, 3.0]
    """
    n = sums.shape[1]
    found = torch.full((1 + FOLDS, 2 + n // 2), torch.nan, dtype=torch.float64)
    unseen, of_train = pairs.is_held_out & pairs.has_label, pairs.is_train & pairs.has_label
    if len(pairs.orbit[unseen].unique()) < FEWEST_HELD_OUT:
        return found
    of_folds, of_label = sums[: FOLDS * n].double().view(FOLDS, n, n), sums[FOLDS * n : (FOLDS + 1) * n].double()
    known = of_label.diagonal().sum() / of_train.sum()
    if not has_phase:
        totals, counts = of_folds.diagonal(dim1=1, dim2=2).sum(1), torch.bincount(pairs.fold[unseen], minlength=FOLDS)
        generalizing = torch.cat([totals.sum()[None], totals.sum() - totals])
        generalizing = generalizing / torch.cat([counts.sum()[None], counts.sum() - counts])
        return torch.cat([torch.stack([generalizing, known - generalizing], dim=1), found[:, 2:]], dim=1)
    profile = circuits.held_out_profiles(of_folds, pairs)
    memorizing = known - profile[:, pairs.label_difference[of_train] % n].mean(1)
    told = torch.stack([profile[:, 0], memorizing], dim=1)
    return torch.cat([told, circuits.cosine_coefficients(profile)], dim=1)


def standard_errors(
    centred: Float[Tensor, "pairs n"], pairs: PhasePairs, circuit: Float[np.ndarray, " K"], *, has_phase: bool
) -> Float[Tensor, " strengths_and_C"]:
    """The standard errors of G, of M, of C = Σ_k circuit_k α_k, and of α_1 … α_K, over orbits of pairs; that of M is of
    the difference of two means.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(Task(13, train_fraction=0.3))
    >>> noise = circuits.centred(torch.randn(len(pairs.sums), 13, generator=torch.manual_seed(0)), Task(13).phase)
    >>> errors = standard_errors(noise, pairs, np.eye(6)[0], has_phase=True)
    >>> expected = (2 / 13 / int(pairs.is_held_out.sum())) ** 0.5  # of α_k: a mean over 13 cosines
    >>> bool((errors[3:] / expected - 1).abs().max() < 0.3), bool(errors[2] == errors[3])
    (True, True)
    """
    n = centred.shape[1]
    errors = torch.full((3 + n // 2,), torch.nan, dtype=torch.float64)
    unseen, of_train = pairs.is_held_out & pairs.has_label, pairs.is_train & pairs.has_label
    if len(pairs.orbit[unseen].unique()) < FEWEST_HELD_OUT:
        return errors
    of_label = centred.gather(1, pairs.label[:, None])[:, 0].double()
    errors[0], known = (
        standard_error(of_label[some].numpy(), pairs.orbit[some].numpy()) for some in (unseen, of_train)
    )
    errors[1] = math.hypot(float(errors[0]), float(known))
    if has_phase:
        residue = torch.arange(n)
        by_difference = centred[unseen].gather(1, (pairs.sums[unseen][:, None] - residue) % n)
        of_pair = circuits.cosine_coefficients(by_difference.double())  # the odd part is orthogonal to cosines
        of_circuit = of_pair @ torch.from_numpy(circuit)[:, None]
        errors[2:] = _column_errors(torch.cat([of_circuit, of_pair], dim=1), pairs.orbit[unseen])
    return errors


def _column_errors(values: Float[Tensor, "pairs K"], orbit: Int[Tensor, " pairs"]) -> Float[Tensor, " K"]:
    """`interp.mathematics.held_out.standard_error` of every column."""
    orbits, place = orbit.unique(return_inverse=True)
    sums = values.new_zeros(len(orbits), values.shape[1]).index_add_(0, place, values - values.mean(0))
    return (sums.square().sum(0) * len(orbits) / (len(orbits) - 1)).sqrt() / len(values)


def named(coefficients: Float[np.ndarray, " K"], n_named: int = N_NAMED) -> Bool[np.ndarray, " K"]:
    """The frequencies that stand out most: those of the largest α_k, at most a third of all; none where too few others
    are left or nothing is known.

    >>> named(np.array([0.1, 3.0, 0.2, 0.0, 2.0, 0.1, 0.3]), 2).nonzero()[0].tolist()
    [1, 4]
    """
    chosen = np.zeros(len(coefficients), dtype=bool)
    n_named = min(n_named, len(coefficients) // 3)
    if np.isfinite(coefficients).all() and len(coefficients) - n_named >= FEWEST_OTHERS:
        chosen[np.argsort(-coefficients, kind="stable")[:n_named]] = True
    return chosen


def level_weights(
    coefficients: Float[np.ndarray, "*times K"], in_set: Bool[np.ndarray, " K"]
) -> Float[np.ndarray, "*times K"]:
    """The weights with which the α_k given add up to their level: those that are not in the set and in the middle half
    of these count alike. NaN where all are in the set.

    >>> level_weights(np.array([5.0, 0.1, 0.1, 0.1, 0.3, -0.9]), np.arange(6) == 0).round(2).tolist()
    [0.0, 0.33, 0.33, 0.33, 0.0, 0.0]
    """
    if in_set.all():
        return np.full(coefficients.shape, np.nan)
    rank = np.where(in_set, np.inf, coefficients).argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    n_others = int((~in_set).sum())
    cut = n_others // 4
    in_middle = (rank >= cut) & (rank < n_others - cut)
    return in_middle / in_middle.sum(-1, keepdims=True)


def circuit_weights(
    coefficients: Float[np.ndarray, "*times K"], in_set: Bool[np.ndarray, " K"]
) -> Float[np.ndarray, "*times K"]:
    """The c_k with C = Σ_k c_k α_k: 1 in the set, less |set| times their weights in the level; NaN without a set, and
    without others.

    >>> alpha = np.array([5.0, 0.1, 0.1, 0.1, 0.3, -0.9])
    >>> weights = circuit_weights(alpha, alpha == 5)
    >>> weights.round(2).tolist(), round(float(weights @ alpha), 6)
    ([1.0, -0.33, -0.33, -0.33, 0.0, 0.0], 4.9)
    """
    if not in_set.any():
        return np.full(coefficients.shape, np.nan)
    return np.where(in_set, 1.0, 0.0) - in_set.sum() * level_weights(coefficients, in_set)
