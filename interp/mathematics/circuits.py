"""The logits as the sum of a generalizing and a memorizing part.

In phase coordinates, with n phases, the correct class of the pair (s, t) is s + t. Let L_c be the logits centred over
the classes, and d = s + t − u what class u is off by. For a set S of pairs, the even part of their mean at each d,

    m_S(d) = mean over (s, t) in S of L_c(s, t, s+t−d),      g_S(d) = (m_S(d) + m_S(−d)) / 2,

is a sum of cosines Σ_k α_k cos w_k d, because Σ_d m_S(d) = 0. The generalizing part of the logits,
G(s, t, u) = g_S(s+t−u), is the same for every pair; the memorizing part is the difference, M = L_c − G. Two choices of
S (Varma et al. 2023, arXiv:2309.02390, §3 for the first):

    published   all pairs: G is the orthogonal projection of L_c on the span of the cubes cos w_k d
    held out    the test pairs, of which nothing was memorized; a test pair itself is judged by the pairs outside its
                own fold

What was memorized of training pairs leaks into the published G. With the fraction f of the pairs trained on,
g_all = f g_train + (1−f) g_test; so, where every training label is s + t, with
gen = g_test(0) and mem = g_train(0) − g_test(0), the strengths at it are

    gen published = gen held out + f · mem held out,        mem published = (1 − f) · mem held out.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.mathematics import fourier
from interp.mathematics.phases import Phase

FOLDS = 5
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
    # Of a test pair 0 … FOLDS − 1; its mirror image (b, a) is in the same one. −1 for other pairs.
    fold: Int[Tensor, " pairs"]

    @property
    def label_difference(self) -> Int[Tensor, " pairs"]:
        """What the label is off by, d = s + t − label: 0 but for noisy and random labels."""
        return self.sums - self.label

    def some(self, chosen: Tensor | slice) -> "PhasePairs":
        """A selection of these pairs."""
        return PhasePairs(*(values[chosen] for values in self))


class Profiles(NamedTuple):
    """The generalizing part as a function of d: one row for the published estimator; for the held-out one a row for
    training pairs, and one for the test pairs of each fold. NaN where there are no such pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> pairs = phase_pairs(task := Task(7, train_fraction=0.5))
    >>> found = profiles(centred(torch.eye(7)[task.labels], task.phase), pairs)
    >>> found.held_out.shape, found.held_out_row(pairs).unique().tolist()  # training pairs, five folds
    (torch.Size([6, 7]), [0, 1, 2, 3, 4, 5])
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
    n = centred.shape[1]
    totals, counts = torch.zeros(FOLDS + 1, n, dtype=torch.float64), torch.zeros(FOLDS + 1, dtype=torch.float64)
    group = pairs.fold + 1  # 0: training pairs, and all pairs when the split is unknown
    by_sum = (
        centred.new_zeros((FOLDS + 1) * n, n)
        .index_add_(0, group * n + pairs.sums, centred)
        .double()
        .view(FOLDS + 1, n, n)
    )
    residue = torch.arange(n)
    class_of = (residue[:, None] - residue) % n  # [sum, d]
    totals = by_sum.gather(2, class_of.expand(FOLDS + 1, n, n)).sum(1)
    totals = (totals + totals[:, -residue % n]) / 2
    counts = counts.index_add_(0, group, torch.ones(len(group), dtype=torch.float64))
    test, n_test = totals[1:].sum(0), counts[1:].sum()
    others = torch.cat([test[None], test - totals[1:]]) / torch.cat([n_test[None], n_test - counts[1:]])[:, None]
    return Profiles((totals.sum(0) / counts.sum())[None], others)


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
    the split is unknown and where there are no test pairs.

    >>> from interp.experiment import Task
    >>> from interp.runs import phase_pairs
    >>> task = Task(7, train_fraction=0.5)
    >>> circuit = torch.eye(7)[task.labels]  # right on all pairs
    >>> table = circuit * torch.from_numpy(task.train_mask)[:, None]  # right on the training pairs
    >>> found = (strengths(centred(x, task.phase), phase_pairs(task)) for x in (circuit, table))
    >>> [(round(abs(generalizing), 3), round(abs(memorizing), 3)) for generalizing, memorizing in found]
    [(0.857, 0.0), (0.0, 0.857)]
    """
    of_train = pairs.is_train & pairs.has_label
    profile = profiles(centred, pairs).held_out[0]
    generalizing = profile[pairs.label_difference[of_train] % len(profile)].mean()
    of_label = centred.gather(1, pairs.label[:, None])[of_train, 0]
    return generalizing.item(), (of_label.double().mean() - generalizing).item()


def leads_from(generalizing: Float[np.ndarray, " step"], memorizing: Float[np.ndarray, " step"]) -> int | None:
    """The first index from which on the generalizing strength stays above the memorizing one and LEAST_STRENGTH, where
    both are known.

    >>> leads_from(np.array([0.0, 2.0, 1.0, 3.0]), np.array([1.0, 1.0, 2.0, 1.0]))
    3
    """
    known = np.flatnonzero(np.isfinite(generalizing) & np.isfinite(memorizing))
    leads = ((generalizing > memorizing) & (generalizing >= LEAST_STRENGTH))[known]
    for_good = np.logical_and.accumulate(leads[::-1])[::-1]
    return int(known[for_good.argmax()]) if for_good.any() else None


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
