"""The rule by which a frequency is key.

Frequency k is key when all hold (for n < 15 the second threshold is higher: `share_threshold`):

    ‖F_k W_L‖ ≥ ¼ max_j ‖F_j W_L‖    (the neurons' map to the logits, W_L = W_out W_U, has power in it)
    ‖P_k L_c‖² / ‖L_c‖² ≥ 0.02       (the logits, centred over classes, carry it in cos, sin w_k(a+b))
    ⟨e_k, L_c⟩² / ‖P_k L_c‖² ≥ ½     (and depend on the sum: e_k is the unit cube cos w_k(a+b−c), and ⟨e_k, L_c⟩ > 0)
    (α_k held out / α_k)² ≥ ½        (also where nothing could be memorized, as `Task.held_out_mask` has it: α_k is the
                                     mean over pairs of Σ_c cos w_k(a+b−c) L_c)

F_k takes the cosine and sine of frequency k over the classes; P_k projects on cos w_k(a+b) and sin w_k(a+b) (Nanda et
al. 2023, arXiv:2301.05217, App. C.2 for the first, §4.2 for P_k; the thresholds are ours, the paper states none). No
condition can be spared: on a memorizing network a quarter of the maximum calls nearly every frequency key; and a
grokked network whose neurons were shuffled between input and output still has its frequencies in its neurons and in
W_L, but no longer connected (its alignments, the third ratio, are rarely above ½; those of grokked networks are above
0.9). The fourth needs a known split with 20 independent held-out pairs, and is left out elsewhere: a table that is
right on the fraction f of the pairs (its training pairs and their mirrors), and nothing more, has the share f·2/n at
every k, above 2 % where n is small and f large; of what circuits hold, also small growing ones, held-out pairs have 0.7
and more. The number of key frequencies is never capped. All functions take weights and logits in phase coordinates
(`task.coordinates`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.mathematics import fourier
from interp.mathematics.phases import Phase

NORM_THRESHOLD = 0.25
SHARE_THRESHOLD = 0.02
ALIGNMENT_THRESHOLD = 0.5
HELD_OUT_THRESHOLD = 0.5


def share_threshold(n: int) -> float:
    """The share of logit power from which on a frequency can be key: 2 %, and for small n what chance alone reaches.

    Of centred logits without structure P_k holds 2/n² on average, with a standard deviation of 1/√(n−1) of that
    (n − 1 independent classes, two directions each); four standard deviations above lie below 2 % from n = 15 on. At
    n = 2 nothing can be told.

    >>> share_threshold(113), round(share_threshold(5), 2)
    (0.02, 0.24)
    """
    return max(SHARE_THRESHOLD, 2 / n**2 * (1 + 4 / math.sqrt(n - 1))) if n > 1 else 1.0


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
    power = torch.linalg.vector_norm(values, dim=-1).double().square().sum()
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


def held_out(centred: CentredLogits, unseen: Bool[Tensor, "n n"]) -> Float[Tensor, " K"]:
    """(α_k of the unseen pairs / α_k of all pairs)², negative where their signs differ; NaN where there are no such
    pairs and where α_k is 0. α_k of a set of pairs is the mean of Σ_c cos w_k(a+b−c) L_c over them.

    >>> from interp.testing import ideal_logits
    >>> everywhere = centre(ideal_logits(7, [2], "clock"))
    >>> unseen = torch.arange(49).view(7, 7) % 3 == 0
    >>> round(held_out(everywhere, unseen)[1].item(), 3)
    1.0
    """
    n, pairs = len(centred.values), unseen.sum()
    sums = torch.arange(n)[:, None] + torch.arange(n)
    of_unseen = centred.values.new_zeros(n, n).index_add_(0, sums[unseen] % n, centred.values[unseen])
    of_all = fourier.diagonal_sums(centred.values)
    waves = fourier.pairs(n)
    unseen_mean, mean = (
        (fourier.coefficients(by_sum.double()) * waves).sum((1, 2)) for by_sum in (of_unseen / pairs, of_all / n**2)
    )
    return (unseen_mean / mean).square() * (unseen_mean / mean).sign()


def is_key(
    norms: Float[Tensor, " K"], shares: Float[Tensor, " K"], alignments: Float[Tensor, " K"], n: int
) -> Bool[Tensor, " K"]:
    """The rule, for frequencies 1 … K (entry k − 1) of Z_n.

    >>> norms, shares = torch.tensor([1.0, 4.0, 4.0]), torch.tensor([0.3, 0.3, 0.3])
    >>> is_key(norms, shares, torch.tensor([0.9, 0.9, 0.1]), n=7).tolist()
    [True, True, False]
    """
    return (
        (norms >= NORM_THRESHOLD * norms.max()) & (shares >= share_threshold(n)) & (alignments >= ALIGNMENT_THRESHOLD)
    )


def frequencies_of(mask: Bool[Tensor, " K"]) -> list[int]:
    """The frequencies of a mask over 1 … K.

    >>> frequencies_of(torch.tensor([False, True, True]))
    [2, 3]
    """
    index: Int[Tensor, " keys"] = torch.nonzero(mask)[:, 0] + 1
    return index.tolist()
