"""The rule by which a frequency is key, with both of its errors measured (docs/key-frequencies.md).

L is the logits of a pair, in phase coordinates and without their mean over the classes. Judged are the pairs that could
not have been memorized, i = 1 … m of them independent (the mean over an orbit, (a, b) and (b, a), is one observation).
Frequency k is key when both hold:

    signal   α_k, the mean over i of (2/n) Σ_c cos w_k(s_i − c) L_ic, is above what it would be if the logits had
             nothing to do with the sums s_i: dealt out anew among them, α_k has exactly the mean and the variance

                 x̄·ȳ    and    tr(S_x S_y)/(m − 1),

             y_i = (cos, sin)(w_k s_i), x_i = (2/n) Σ_c L_ic (cos, sin)(w_k c), S their covariances (Hoeffding 1951,
             Ann. Math. Stat. 22, Theorem 2). It lies z_k standard deviations above that mean, and z_k above the point
             that the largest of K normal values passes in 1 of 100 cases
    size     without what L has of cos, sin w_k s (least squares) the mean cross-entropy of the sum at least doubles, or
             rises by 0.1 nats, and by more than it does without 19 of 20 frequencies that have no signal

Where the split is unknown, or fewer than 20 independent pairs are held out, all pairs are judged: then the median of α
over k is taken off (a table of what was trained adds the same to every α_k), and the loss has to double. A memorizer
whose training pairs favor some frequencies then still passes the first condition; it fails the second as long as most
pairs are none that it was trained on. And half of the frequencies or more cannot be key there.

The null holds for random splits. Of a network that memorized true labels it asks too much: who knows the training pairs
of a row knows which sums are left, and gives these less, by which α_k is low, the more so the more the network makes of
frequency k. (The median over k is not to be taken off for that: frequencies of which it makes nothing would gain.) z_k
is at most √(2(m − 1)), which waves without noise have whatever their strength. While memory is loud, 0.1 nats are
little, and the second condition takes hardly any frequency out.

The published rules look for large norms of W_E or W_L, or for what dominates neurons (Nanda et al. 2023,
arXiv:2301.05217, §4.1, App. C.2, and the authors' code): they do not ask whether pairs that were not trained on are
answered by it. The number of key frequencies is never capped. All functions take weights and logits in phase
coordinates (`task.coordinates`). It cannot tell a circuit apart from another one of the same frequencies.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.mathematics import fourier
from interp.mathematics.held_out import FOLDS, standard_error
from interp.mathematics.phases import Phase

# Of 100 networks without a circuit so many may have a frequency with a signal.
FALSE_ALARMS = 0.01
# The loss grows at least by this factor, or by so many nats: as a growing circuit's first logits do
# (`circuits.LEAST_STRENGTH`).
LEAST_FACTOR, LEAST_RISE = 2.0, 0.1
ABOVE = 0.95  # of the frequencies without a signal
NORM_THRESHOLD = 0.25  # of the largest; the published rules state none


def in_phase(table: Float[Tensor, "p p ..."], phase: Phase) -> Float[Tensor, "n n ..."]:
    """A table over pairs (a, b), reordered so that the operation is addition modulo n = phase.order.

    >>> from interp.experiment import Task
    >>> task = Task(7, "multiply")
    >>> table = torch.from_numpy(task.labels).view(7, 7).double()
    >>> in_phase(table, task.phase)[0].tolist()  # 3⁰ · 3^t modulo 7
    [1.0, 3.0, 2.0, 6.0, 4.0, 5.0]
    """
    identity = np.arange(len(table))
    if np.array_equal(phase.rows, identity) and np.array_equal(phase.columns, identity):
        return table  # addition: the largest tables there are need not be copied
    return table[torch.from_numpy(phase.rows)][:, torch.from_numpy(phase.columns)]


def logits_in_phase(logits: Float[Tensor, "p p p"], phase: Phase) -> Float[Tensor, "n n n"]:
    """Logits reordered so that the correct class of (s, t) is s + t (mod n); classes outside the phases are left
    out.

    >>> from interp.experiment import Task
    >>> task = Task(7, "multiply")
    >>> logits = torch.eye(7)[task.labels].view(7, 7, 7)  # 1 for the right class
    >>> logits_in_phase(logits, task.phase).argmax(-1)[4].tolist()  # s + t modulo 6, of s = 4
    [4, 5, 0, 1, 2, 3]
    """
    table = in_phase(logits, phase)
    return table if table is logits else table[..., torch.from_numpy(phase.classes)]


def output_norms(W_L: Float[Tensor, "d_mlp p"], phase: Phase) -> Float[Tensor, " K"]:
    """‖F_k W_L‖ for k = 1 … K: the norm of each frequency of the neurons' map to the logits, over the classes.

    >>> from interp.experiment import Task
    >>> W_L = 3 * fourier.pairs(7)[1, :1]  # one neuron, which speaks in the cosine of k = 2
    >>> output_norms(W_L, Task(7).phase).round(decimals=3).tolist()
    [0.0, 3.0, 0.0]
    """
    return fourier.power(W_L.double()[:, torch.from_numpy(phase.classes)].T).sum(1).sqrt()


class CentredLogits(NamedTuple):
    """L_c, the logits without their mean over the classes, in phase coordinates.

    >>> from interp.testing import ideal_logits
    >>> found = centre(5 + ideal_logits(7, [2], "clock"))  # cos² is ½ on average, 5 is gone
    >>> found.values.shape, round(found.power.item() / 7**3, 3)
    (torch.Size([7, 7, 7]), 0.5)
    """

    values: Float[Tensor, "n n n"]
    power: Float[Tensor, ""]  # Σ L_c², float64; 0 where it is no more than the rounding of logits that are all equal


def centre(logits: Float[Tensor, "n n n"]) -> CentredLogits:
    """Logits in phase coordinates without their mean over the classes.

    >>> centred = centre(torch.eye(3)[(torch.arange(3)[:, None] + torch.arange(3)) % 3])
    >>> round(centred.power.item(), 3), centred.values.sum(-1).abs().max().item() < 1e-6  # 9 pairs, 2/3 each
    (6.0, True)
    """
    values = logits - logits.mean(-1, keepdim=True)
    power = torch.linalg.vector_norm(values, dim=-1, dtype=torch.float64).square().sum()
    largest = torch.stack(logits.aminmax()).abs().amax().double()
    return CentredLogits(
        values, power.where(power > (torch.finfo(logits.dtype).eps * largest).square() * logits.numel(), 0)
    )


def logit_measures(centred: CentredLogits) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """‖P_k L_c‖²/‖L_c‖² for k = 1 … K, and the part of ‖P_k L_c‖² that lies in cos w_k(a+b−c), negative where its
    coefficient is. Both are 0 where all logits are equal.

    >>> from interp.testing import ideal_logits
    >>> shares, alignments = logit_measures(centre(ideal_logits(7, [2], "clock")))
    >>> shares.round(decimals=3).abs().tolist(), round(alignments[1].item(), 3)
    ([0.0, 1.0, 0.0], 1.0)
    """
    coefficients = fourier.sum_coefficients(centred.values).double()  # [K, (cos, sin) of a + b, class]
    power = coefficients.square().sum((1, 2))
    # e_k = (u_k F_{2k−1} + v_k F_{2k})/√2, and u_k F_{2k−1} alone for k = n/2, whose sine is zero.
    n = len(centred.values)
    length = torch.where(2 * torch.arange(1, n // 2 + 1) == n, 1.0, 2.0).double()
    along = (coefficients * fourier.pairs(n)).sum((1, 2)) / length.sqrt()
    if not centred.power > 0:
        return torch.zeros_like(power), torch.zeros_like(power)
    return power / centred.power, along.sign() * along.square() / power.clamp(min=torch.finfo(power.dtype).tiny)


class Judges(NamedTuple):
    """The pairs by which frequencies are judged, by their place among all (row-major, in phase coordinates).

    >>> judges_of(torch.tensor([[0, 1], [1, 3]]), torch.tensor([[False, True], [True, True]]))
    Judges(places=tensor([1, 2, 3]), unit=tensor([0, 0, 1]), sums=tensor([1, 0]))
    """

    places: Int[Tensor, " pairs"]
    unit: Int[Tensor, " pairs"]  # which observation each pair belongs to
    sums: Int[Tensor, " units"]  # s + t of each observation


def judges_of(orbits: Int[Tensor, "n n"], judged: Bool[Tensor, "n n"]) -> Judges:
    """The pairs that are judged, one observation for each orbit. The pairs of an orbit have one sum.

    >>> judges_of(torch.arange(9).view(3, 3), torch.eye(3) > 0).sums.tolist()  # 0 + 0, 1 + 1, 2 + 2
    [0, 2, 1]
    """
    n, places = len(orbits), judged.flatten().nonzero()[:, 0]
    names, unit = orbits.flatten()[places].unique(return_inverse=True)
    sums = torch.empty_like(names).scatter_(0, unit, (places // n + places % n) % n)
    return Judges(places, unit, sums)


class Evidence(NamedTuple):
    """What speaks for every frequency 1 … K being key, float64. Logarithms of losses, because those of circuits alone
    can be smaller than any number.

    >>> from interp.testing import ideal_logits
    >>> logits = 9 * ideal_logits(11, [2, 5], "clock")
    >>> every = judges_of(torch.arange(121).view(11, 11), torch.ones(11, 11, dtype=torch.bool))
    >>> found = evidence(centre(logits), every, held_out=True)
    >>> found.strength.round(decimals=3).abs().tolist(), frequencies_of(found.is_key)
    ([0.0, 9.0, 0.0, 0.0, 9.0], [2, 5])
    """

    strength: Float[Tensor, " K"]  # α_k, in logits
    deviations: Float[Tensor, " K"]  # z_k
    limit: float  # the least z_k of a signal
    log_loss: float
    log_loss_without: Float[Tensor, " K"]
    held_out: bool  # whether the judges could not have been memorized

    @property
    def has_signal(self) -> Bool[Tensor, " K"]:
        """Which frequencies the logits have more of than logits that know nothing of the sum."""
        return self.deviations > self.limit

    @property
    def has_size(self) -> Bool[Tensor, " K"]:
        """Without which of them the loss is clearly higher."""
        rise = self.log_loss_without.exp() - math.exp(self.log_loss)
        enough = self.log_loss_without - self.log_loss >= math.log(LEAST_FACTOR)
        if self.held_out:
            enough |= rise >= LEAST_RISE
        others = self.log_loss_without[~self.has_signal]
        if len(others):
            enough &= self.log_loss_without > others.quantile(ABOVE, interpolation="higher")
        return enough

    @property
    def is_key(self) -> Bool[Tensor, " K"]:
        """Which of them are key."""
        return self.has_signal & self.has_size


def evidence(centred: CentredLogits, judges: Judges, *, held_out: bool) -> Evidence:
    """The evidence for every frequency, from the pairs that judge; none (a strength and a deviation of 0) where all
    logits are equal, and where fewer than three observations judge.

    >>> table = 9 * torch.eye(11, dtype=torch.float64)[(torch.arange(11)[:, None] + torch.arange(11)) % 11]
    >>> every = judges_of(torch.arange(121).view(11, 11), torch.ones(11, 11, dtype=torch.bool))
    >>> frequencies_of(evidence(centre(table), every, held_out=False).is_key)  # the same of each: a table
    []
    """
    n, m = len(centred.values), len(judges.sums)
    K = n // 2
    limit = float(torch.special.ndtri(torch.tensor((1 - FALSE_ALARMS) ** (1 / max(K, 1)), dtype=torch.float64)))
    nothing = torch.zeros(K, dtype=torch.float64)
    if m < 3 or not centred.power > 0:
        log_loss = math.log(math.log(n)) if m and centred.power == 0 else math.nan
        return Evidence(nothing, nothing, limit, log_loss, nothing + log_loss, held_out)
    logits = _observed(centred, judges)
    waves = fourier.pairs(n) / fourier.pairs(n)[:, :1, :1]  # cos w_k c, sin w_k c
    at = waves[:, :, judges.sums].permute(2, 0, 1)  # y [unit, K, 2]
    inward = (logits @ waves.flatten(0, 1).T).view(m, K, 2) * _per_class(n)[:, None]  # x
    strength = (inward * at).sum(2).mean(0)
    by_chance, of_inward, of_sums = (inward.mean(0) * at.mean(0)).sum(1), _covariance(inward), _covariance(at)
    deviation = ((of_inward * of_sums).sum((1, 2)) / (m - 1)).sqrt()
    above = strength - by_chance - (0 if held_out else strength.quantile(0.5))
    # Waves that logits have nothing of have rounding for a deviation.
    rounding = n * torch.finfo(centred.values.dtype).eps * deviation.max()
    log_loss, without = _log_losses(logits, judges.sums, waves, at, of_sums)
    return Evidence(strength, (above / deviation).where(deviation > rounding, 0), limit, log_loss, without, held_out)


def gain_alone(centred: CentredLogits, judges: Judges, key: Bool[Tensor, " K"]) -> tuple[float, float]:
    """What the key frequencies alone, their part of the logits in cos, sin w_k s beside the mean, answer better than a
    guess: ln n less the cross-entropy of the sum, in nats, the mean over the observations that judge and its standard
    error over the sums, of which it is a function. What answers an observation comes from those outside its own fold,
    of five: what was memorized of it has no part in it.

    >>> from interp.testing import ideal_logits
    >>> every = judges_of(torch.arange(121).view(11, 11), torch.ones(11, 11, dtype=torch.bool))
    >>> key = torch.tensor([False, True, False, False, True])
    >>> gain, error = gain_alone(centre(9 * ideal_logits(11, [2, 5], "clock")), every, key)
    >>> round(gain, 3), round(math.log(11), 3), error < 0.01  # all that there is to know
    (2.398, 2.398, True)
    """
    n, m = len(centred.values), len(judges.sums)
    logits = _observed(centred, judges)
    fold = torch.from_numpy(np.random.RandomState(0).permutation(m)) % FOLDS
    by_fold = logits.new_zeros(FOLDS * n, n).index_add_(0, fold * n + judges.sums, logits).view(FOLDS, n, n)
    counts = (fold * n + judges.sums).bincount(minlength=FOLDS * n).view(FOLDS, n).double()
    of_sums, counts = by_fold.sum(0) - by_fold, counts.sum(0) - counts  # [fold, sum, class], of all the others
    waves = fourier.pairs(n)[key].flatten(0, 1)
    mean = of_sums.sum(1) / counts.sum(1, keepdim=True)
    at = waves - (counts @ waves.T / counts.sum(1, keepdim=True))[..., None]  # [fold, wave, sum]
    normal = torch.einsum("fis,fs,fjs->fij", at, counts, at)
    answers = torch.einsum("fis,fic->fsc", at, torch.linalg.pinv(normal, hermitian=True) @ (at @ of_sums))
    gains = math.log(n) + (answers + mean[:, None]).log_softmax(-1)[fold, judges.sums, judges.sums]
    return gains.mean().item(), standard_error(gains.numpy(), judges.sums.numpy())


def _per_class(n: int) -> Float[Tensor, " K"]:
    """By which a sum over classes is the coefficient of cos w_k c: 2/n, and 1/n for k = n/2."""
    return torch.where(2 * torch.arange(1, n // 2 + 1) == n, 1.0, 2.0).double() / n


def _observed(centred: CentredLogits, judges: Judges) -> Float[Tensor, "m n"]:
    """The mean logits of each observation, float64."""
    logits = centred.values.flatten(0, 1)[judges.places].double()
    sums = logits.new_zeros(len(judges.sums), logits.shape[1]).index_add_(0, judges.unit, logits)
    return sums / judges.unit.bincount(minlength=len(sums))[:, None]


def _covariance(values: Float[Tensor, "m K 2"]) -> Float[Tensor, "K 2 2"]:
    centred = (values - values.mean(0)).transpose(0, 1)
    return centred.transpose(1, 2) @ centred / len(values)


def _log_losses(
    logits: Float[Tensor, "m n"],
    sums: Int[Tensor, " m"],
    waves: Float[Tensor, "K 2 n"],
    at: Float[Tensor, "m K 2"],
    of_sums: Float[Tensor, "K 2 2"],
) -> tuple[float, Float[Tensor, " K"]]:
    """The logarithm of the mean cross-entropy of the sum, and without each frequency.

    What frequency k says depends on the sum alone: it changes exp(logit) by a factor that is one table [sum, class], so
    that the losses without it are products of matrices, a sum at a time."""
    m, n = logits.shape
    of_sum = logits.new_zeros(n, n).index_add_(0, sums, logits - logits.mean(0)) / m
    mean = at.mean(0)  # of the waves over those that judge
    fitted = torch.linalg.pinv(of_sums, hermitian=True) @ ((waves - mean[:, :, None]) @ of_sum)  # [K, 2, class]
    said = torch.einsum("kis,kic->sck", waves - mean[:, :, None], fitted)
    residue = torch.arange(n)
    # No exponential may overflow; a frequency that says more than 600 logits needs no more exactness.
    factor = (said[residue, residue][:, None] - said).clamp(-600, 600).exp()
    others = logits.scatter(1, sums[:, None], -math.inf)
    highest = others.amax(1, keepdim=True)
    lead = (highest - logits.gather(1, sums[:, None]))[:, 0]
    order = sums.argsort(stable=True)
    counts = sums.bincount(minlength=n)
    row = torch.empty_like(sums)
    row[order] = torch.arange(m) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    table = logits.new_zeros(n, int(counts.max()), n)
    table[sums, row] = (others - highest).exp()
    without = torch.bmm(table, factor)[sums, row].log() + lead[:, None]
    whole = table[sums, row].sum(1).log() + lead
    found = _log_mean_softplus(torch.cat([whole[:, None], without], dim=1))
    return float(found[0]), found[1:]


def _log_mean_softplus(margins: Float[Tensor, "m columns"]) -> Float[Tensor, " columns"]:
    """log mean log(1 + exp(margin)), which is the mean loss of answers that others lead by these margins."""
    small = margins < -30
    losses = torch.where(small, margins, torch.nn.functional.softplus(margins.clamp(min=-30)).log())
    return losses.logsumexp(0) - math.log(len(margins))


def frequencies_of(mask: Bool[Tensor, " K"]) -> list[int]:
    """The frequencies of a mask over 1 … K.

    >>> frequencies_of(torch.tensor([False, True, True]))
    [2, 3]
    """
    index: Int[Tensor, " keys"] = torch.nonzero(mask)[:, 0] + 1
    return index.tolist()
