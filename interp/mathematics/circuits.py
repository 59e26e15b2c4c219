"""The logits as the sum of a generalizing and a memorizing part.

In phase coordinates, with n phases, the correct class of the pair (s, t) is s + t. Let L_c be the logits centred over
the classes, and d = s + t − u what class u is off by. For a set S of pairs, the even part of their mean at each d,

    m_S(d) = mean over (s, t) in S of L_c(s, t, s+t−d),      g_S(d) = (m_S(d) + m_S(−d)) / 2,

is a sum of cosines Σ_k α_k cos w_k d, because Σ_d m_S(d) = 0. The generalizing part of the logits,
G(s, t, u) = g_S(s+t−u), is the same for every pair; the memorizing part is the difference, M = L_c − G. Two choices of
S (Varma et al. 2023, arXiv:2309.02390, §3 for the first):

    published   all pairs: G is the orthogonal projection of L_c on the span of the cubes cos w_k d
    held out    the pairs that could not have been memorized (`Task.held_out_mask`): no training pair, nor what the
                symmetries of the task make of one, (b, a) of (a, b); such a pair itself is judged by the pairs outside
                its own fold. NaN where fewer than 20 of them are independent

What was memorized of training pairs leaks into the published G, also by their mirrors. Where a network knows the
fraction f of the pairs by heart (training pairs, and their mirrors if it learned a + b = b + a), with label s + t, and
gen = g_held out(0), mem = g_known(0) − g_held out(0), the strengths at it are

    gen published = gen held out + f · mem held out,        mem published = (1 − f) · mem held out.

What is common to held-out pairs need not be a circuit of few frequencies; and what a network infers from training pairs
by other symmetries than those of `Task.symmetries` counts as generalizing.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.mathematics import fourier
from interp.mathematics.held_out import CLEAR, FEWEST_HELD_OUT, FOLDS
from interp.mathematics.phases import Phase

# In logits. Untrained networks have strengths of some hundredths, of either sign: below this there is nothing to
# compare.
LEAST_STRENGTH = 0.1


class PhasePairs(NamedTuple):
    """The pairs of a task that have phases, in any order.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> every = phase_pairs(Task(5, train_fraction=0.4))
    >>> int(every.is_train.sum()), every.label_difference.remainder(5).unique().tolist()
    (10, [0])
    """

    row_major: Int[Tensor, " pairs"]  # a·p + b
    sums: Int[Tensor, " pairs"]  # s + t
    label: Int[Tensor, " pairs"]  # the phase of the (trained) label; 0 where it has none
    has_label: Bool[Tensor, " pairs"]
    is_train: Bool[Tensor, " pairs"]
    is_test: Bool[Tensor, " pairs"]
    # Of a held-out pair 0 … FOLDS − 1; its mirror image (b, a) is in the same one. −1 for other pairs.
    fold: Int[Tensor, " pairs"]
    orbit: Int[Tensor, " pairs"]  # the same for pairs that symmetries make of each other (`Task.orbits`)

    @property
    def is_held_out(self) -> Bool[Tensor, " pairs"]:
        """The pairs that could not have been memorized."""
        return self.fold >= 0

    @property
    def label_difference(self) -> Int[Tensor, " pairs"]:
        """What the label is off by, d = s + t − label: 0 but for noisy and random labels."""
        return self.sums - self.label

    def some(self, chosen: Tensor | slice) -> "PhasePairs":
        """A selection of these pairs."""
        return PhasePairs(*(values[chosen] for values in self))


class Profiles(NamedTuple):
    """The generalizing part as a function of d: one row for the published estimator; for the held-out one a row for
    pairs that are not held out, and one for those of each fold. NaN where there are too few such pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(task := Task(13, train_fraction=0.3))
    >>> found = profiles(centred(torch.eye(13)[task.labels], task.phase), pairs)
    >>> found.held_out.shape, found.held_out_row(pairs).unique().tolist()  # not held out, five folds
    (torch.Size([6, 13]), [0, 1, 2, 3, 4, 5])
    """

    published: Float[Tensor, "1 n"]
    held_out: Float[Tensor, "rows n"]

    @staticmethod
    def held_out_row(pairs: PhasePairs) -> Int[Tensor, " pairs"]:
        """The row that judges each pair."""
        return pairs.fold + 1


def profiles(centred: Float[Tensor, "pairs n"], pairs: PhasePairs) -> Profiles:
    """g_S(d) by both estimators, from logits of these pairs [pair, phase of the class], centred over the classes;
    float64.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> from interp.testing import ideal_logits
    >>> clock = ideal_logits(7, [2], "clock")  # cos w_2 d is all that there is
    >>> published = profiles(clock.flatten(0, 1), phase_pairs(Task(7))).published
    >>> bool(torch.allclose(published[0], torch.cos(4 * torch.pi * torch.arange(7) / 7).double()))
    True
    """
    n, group = centred.shape[1], pairs.fold + 1  # 0: all that are not held out, as when the split is unknown
    sums = centred.new_zeros((FOLDS + 1) * n, n).index_add_(0, group * n + pairs.sums, centred)
    totals = _even_parts(sums.double().view(FOLDS + 1, n, n))
    counts = torch.bincount(group, minlength=FOLDS + 1).double()
    return Profiles((totals.sum(0) / counts.sum())[None], _without_each_fold(totals[1:], counts[1:], pairs))


def held_out_profiles(sums: Float[Tensor, "folds n n"], pairs: PhasePairs) -> Float[Tensor, "rows n"]:
    """`profiles(…).held_out` from the sums of centred logits [fold, s + t, phase of the class] over the held-out
    pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(task := Task(13, train_fraction=0.3))
    >>> logits = centred(torch.eye(13)[task.labels], task.phase)
    >>> chosen = pairs.is_held_out
    >>> sums = torch.zeros(5 * 13, 13).index_add_(0, (pairs.fold * 13 + pairs.sums)[chosen], logits[chosen])
    >>> bool(torch.allclose(held_out_profiles(sums.view(5, 13, 13), pairs), profiles(logits, pairs).held_out))
    True
    """
    counts = torch.bincount(pairs.fold + 1, minlength=FOLDS + 1)[1:].double()
    return _without_each_fold(_even_parts(sums.double()), counts, pairs)


def _even_parts(by_sum: Float[Tensor, "groups n n"]) -> Float[Tensor, "groups n"]:
    """Over all sums the entry d = s + t − u, and the mean of those at d and at −d."""
    n = by_sum.shape[1]
    residue = torch.arange(n)
    totals = by_sum.gather(2, ((residue[:, None] - residue) % n).expand(len(by_sum), n, n)).sum(1)
    return (totals + totals[:, -residue % n]) / 2


def _without_each_fold(
    totals: Float[Tensor, "folds n"], counts: Float[Tensor, " folds"], pairs: PhasePairs
) -> Float[Tensor, "rows n"]:
    """The mean over all folds, and over all but each; NaN where too few pairs are held out."""
    every, n_pairs = totals.sum(0), counts.sum()
    sums, numbers = torch.cat([every[None], every - totals]), torch.cat([n_pairs[None], n_pairs - counts])
    if len(pairs.orbit[pairs.is_held_out].unique()) < FEWEST_HELD_OUT:
        return torch.full_like(sums, torch.nan)
    return sums / numbers[:, None]


def centred(logits: Float[Tensor, "pairs p"], phase: Phase) -> Float[Tensor, "pairs n"]:
    """Logits over the classes that have a phase, in its order, less their mean.

    >>> from interp.experiment import Task
    >>> centred(torch.tensor([[0.0, 3.0, 0.0]]), Task(3).phase).tolist()
    [[-1.0, 2.0, -1.0]]
    """
    logits = logits[:, torch.from_numpy(phase.classes)]
    return logits - logits.mean(1, keepdim=True)


def strengths(centred: Float[Tensor, "pairs n"], pairs: PhasePairs) -> tuple[float, float]:
    """The held-out mean logit of the label on training pairs in the generalizing and in the memorizing part; NaN where
    the split is unknown and where there are too few held-out pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> task = Task(13, train_fraction=0.3)
    >>> circuit = torch.eye(13)[task.labels]  # right on all pairs
    >>> table = circuit * torch.from_numpy(task.train_mask)[:, None]  # right on the training pairs
    >>> found = (strengths(centred(x, task.phase), phase_pairs(task)) for x in (circuit, table))
    >>> [(round(abs(generalizing), 3), round(abs(memorizing), 3)) for generalizing, memorizing in found]
    [(0.923, 0.0), (0.0, 0.923)]
    """
    of_train = pairs.is_train & pairs.has_label
    profile = profiles(centred, pairs).held_out[0]
    generalizing = profile[pairs.label_difference[of_train] % len(profile)].mean()
    of_label = centred.gather(1, pairs.label[:, None])[of_train, 0]
    return generalizing.item(), (of_label.double().mean() - generalizing).item()


class Competition(NamedTuple):
    """The two circuits over the checkpoints of a run, held out, in logits: their strengths on training pairs, and of
    the generalizing one its standard error and its margin on held-out pairs. NaN where unknown.

    >>> told = Competition(np.array([2.0, 9.0]), np.array([9.0, 1.0]), np.array([0.3, 0.3]), np.array([-1.0, 4.0]))
    >>> told.generalizes().tolist(), told.leads().tolist()
    ([0.0, 1.0], [0.0, 1.0])
    """

    generalizing: Float[np.ndarray, " step"]
    memorizing: Float[np.ndarray, " step"]
    standard_error: Float[np.ndarray, " step"]
    margin: Float[np.ndarray, " step"]

    def generalizes(self) -> Float[np.ndarray, " step"]:
        """At each checkpoint whether there is a generalizing part that answers: it is clear of its standard error and
        of LEAST_STRENGTH, and the right answer leads in it. 1, 0, or NaN where that is unknown, as the margin is of an
        operation without phases.

        >>> one = np.ones(3)
        >>> unclear = np.array([0.5, 2.0, 0.5])
        >>> Competition(5 * one, one, unclear, np.array([1.0, 1.0, -2.2])).generalizes()
        array([1., 0., 0.])
        """
        with np.errstate(invalid="ignore"):
            there = (
                (self.generalizing >= LEAST_STRENGTH)
                & (self.generalizing > CLEAR * self.standard_error)
                & (self.margin > 0)
            )
        return np.where(np.isfinite(self.generalizing + self.margin), there, np.nan)

    def leads(self) -> Float[np.ndarray, " step"]:
        """Where the generalizing part answers (`generalizes`) and is the stronger one.

        >>> one = np.ones(3)
        >>> Competition(np.array([0.0, 2.0, 3.0]), one, 0.1 * one, np.array([-1.0, -0.5, 1.0])).leads().tolist()
        [0.0, 0.0, 1.0]
        """
        return np.where(
            np.isfinite(self.memorizing), self.generalizes() * (self.generalizing > self.memorizing), np.nan
        )


def part_rows(profile: Float[Tensor, "rows n"]) -> Float[Tensor, "rows_times_n n"]:
    """The generalizing part for every sum: entry [row·n + (s+t), u] is profile[row](s+t−u).

    >>> part_rows(torch.tensor([[5.0, 1.0, 0.0]])).tolist()
    [[5.0, 0.0, 1.0], [1.0, 5.0, 0.0], [0.0, 1.0, 5.0]]
    """
    n = profile.shape[1]
    residue = torch.arange(n)
    return profile[:, (residue[:, None] - residue) % n].flatten(0, 1)


def cosine_coefficients(profile: Float[Tensor, "rows n"]) -> Float[Tensor, "rows K"]:
    """α_k of profile(d) = Σ_k α_k cos w_k d.

    >>> d = torch.arange(7, dtype=torch.float64)
    >>> profile = 3 * torch.cos(4 * torch.pi * d / 7)
    >>> cosine_coefficients(profile[None]).round(decimals=3).abs().tolist()
    [[0.0, 3.0, 0.0]]
    """
    n = profile.shape[1]
    cosines = fourier.pairs(n)[:, 0] / fourier.pairs(n)[:, 0, :1]
    return profile @ cosines.T / cosines.square().sum(1)
