"""The prequential code: what labels cost whoever predicts each of them from those before it.

The inputs are known to sender and receiver. The first n₁ labels are sent as they are, n₁ log₂ K bits of K classes. Each
block after them is coded by a predictor that was made from the prefix, the labels before the block, and nothing else:

    L = n₁ log₂ K + Σ_j Σ_{i in block j} −log₂ q_{prefix j}(y_i | x_i)

(Dawid 1984; Blier & Ollivier 2018, arXiv:1802.07044). The receiver, who has decoded the prefix, makes the same
predictor. A network that memorized its prefix is sure and wrong about what follows: its own probabilities cost several
times as much as guessing. So it is tempered,

    q(y | x) = (1 − e) softmax(z(x)/T)_y + e/K,

with the temperature T and the share e that cost least on a part of the prefix that it was not trained on. With e = 1
the code is uniform, and it is where no choice saves more on that part than it takes to name one. The least e after m
labels is ½/(m + 1), which is what Krichevsky and Trofimov give an event that m tries have not shown.

Labels that are uniform and independent of all inputs are the null, and an exact one: whatever the code, the chance that
it saves c bits or more on n log₂ K is at most 2^−c, because q sums to 1.

The area under the training-loss curve of one run is no such code: its labels are seen again and again, and from the
second time on none is predicted from those before it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

TEMPERATURES = 2.0 ** np.arange(-1, 8, 0.5)  # 0.5 … 91; what is hotter is uniform
N_MIXINGS = 15
FREE = 1.0  # bits: a label that costs less is called free


class Tempering(NamedTuple):
    """T and e of a code."""

    temperature: float
    mixing: float


AS_IT_IS, UNIFORM = Tempering(1.0, 0.0), Tempering(1.0, 1.0)


def label_bits(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], tempering: Tempering = AS_IT_IS
) -> Float[np.ndarray, " n"]:
    """−log₂ q of each label; without a tempering those of the network itself.

    >>> label_bits(np.zeros((1, 8)), np.array([3])), label_bits(np.array([[9.0, 0.0]]), np.array([1]), UNIFORM)
    (array([3.]), array([1.]))
    """
    temperature, mixing = tempering
    scaled = logits / temperature
    log_p = scaled[np.arange(len(labels)), labels] - logsumexp(scaled, axis=1)
    if mixing == 0:
        return -log_p / math.log(2)
    kept = math.log1p(-mixing) if mixing < 1 else -math.inf
    return -np.logaddexp(kept + log_p, math.log(mixing / logits.shape[1])) / math.log(2)


def choose_tempering(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> Tempering:
    """The T and e, of a grid, with which these labels cost least; the uniform code where none saves log₂ of the number
    of choices or more, as a few labels would find something among so many.

    >>> choose_tempering(np.zeros((0, 5)), np.zeros(0, dtype=int)) == UNIFORM
    True
    >>> sure = 50 * np.eye(5)
    >>> choose_tempering(sure, np.arange(5)).mixing, choose_tempering(sure, (np.arange(5) + 1) % 5) == UNIFORM
    (0.08333333333333333, True)
    """
    if not len(labels):
        return UNIFORM
    mixings = np.geomspace(1, least_mixing(len(labels)), N_MIXINGS)[1:]
    named = math.log2(1 + len(TEMPERATURES) * len(mixings))
    least, chosen = len(labels) * math.log2(logits.shape[1]) - named, UNIFORM
    for temperature in TEMPERATURES[::-1].tolist():
        for mixing in mixings.tolist():
            tempering = Tempering(temperature, mixing)
            bits = float(label_bits(logits, labels, tempering).sum())
            if bits < least:
                least, chosen = bits, tempering
    return chosen


def least_mixing(n: int) -> float:
    """The least share e after n labels that were all right.

    >>> least_mixing(4)
    0.1
    """
    return 0.5 / (n + 1)


@dataclass(frozen=True)
class Code:
    """What the blocks of a prequential code cost: their `bits`, of as many `labels` each, of `n_classes`, after a
    prefix `given` that is not among them."""

    bits: Float[np.ndarray, " blocks"]
    labels: Int[np.ndarray, " blocks"]
    n_classes: int
    given: int = 0

    @property
    def total(self) -> float:
        """L, in bits.

        >>> Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).total
        7.0
        """
        return float(self.bits.sum())

    @property
    def uniform(self) -> float:
        """n log₂ K: what the labels cost whoever knows nothing.

        >>> Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).uniform
        18.0
        """
        return float(self.labels.sum()) * math.log2(self.n_classes)

    @property
    def share(self) -> float:
        """L/(n log₂ K).

        >>> round(Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).share, 3)
        0.389
        """
        return self.total / self.uniform

    @property
    def prefixes(self) -> Int[np.ndarray, " blocks"]:
        """How many labels are known before each block.

        >>> Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).prefixes.tolist()
        [0, 2]
        """
        return self.given + np.cumsum(self.labels) - self.labels

    @property
    def bits_per_label(self) -> Float[np.ndarray, " blocks"]:
        """The learning curve in bits.

        >>> Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).bits_per_label.tolist()
        [3.0, 0.25]
        """
        return self.bits / self.labels

    @property
    def free_from(self) -> float:
        """The prefix after which a label first costs less than a bit; NaN where it never does. It is known as finely
        as blocks are: the labels became free at some prefix above that of the block before.

        >>> Code(np.array([6.0, 1.0]), np.array([2, 4]), 8).free_from
        2.0
        """
        free = np.flatnonzero(self.bits_per_label < FREE)
        return float(self.prefixes[free[0]]) if len(free) else math.nan

    @property
    def paid_before(self) -> float:
        """The bits that are paid before labels are free: those of the blocks before that, but for the first, which is
        sent as it is. Where labels are never free, those of all blocks but the first.

        >>> Code(np.array([6.0, 5.0, 1.0]), np.array([2, 2, 4]), 8).paid_before
        5.0
        """
        free = np.flatnonzero(self.bits_per_label < FREE)
        return float(self.bits[1 : free[0] if len(free) else None].sum())


class Gain(NamedTuple):
    """What two data sets save by being coded together, in bits: L(X) + L(Y) − L(XY), with X first, with Y first, and
    the mean of both as a share of the lesser of L(X) and L(Y)."""

    x_first: float
    y_first: float
    normalized: float

    @property
    def mean(self) -> float:
        """The mean over both orders.

        >>> Gain(4.0, 2.0, 0.5).mean
        3.0
        """
        return (self.x_first + self.y_first) / 2

    @property
    def difference(self) -> float:
        """X first less Y first: 0 for an ideal code, not for networks.

        >>> Gain(4.0, 2.0, 0.5).difference
        2.0
        """
        return self.x_first - self.y_first


def joint_gain(x: float, y: float, y_given_x: float, x_given_y: float) -> Gain:
    """The gain from four totals. Of codes with the same blocks L(XY) = L(X) + L(Y|X), so that with X first it is
    L(Y) − L(Y|X). What lacks a rule gains nothing, and may lose: a network that has to hold both can be worse at each.

    >>> joint_gain(10.0, 8.0, 2.0, 4.0)
    Gain(x_first=6.0, y_first=6.0, normalized=0.75)
    """
    first, second = y - y_given_x, x - x_given_y
    return Gain(first, second, (first + second) / 2 / min(x, y))


def most_saved(n_codes: int, level: float = 0.05) -> float:
    """So many bits at most are saved by each of n codes of labels without a rule, but for a chance of `level`.

    >>> round(most_saved(5), 2)
    6.64
    """
    return math.log2(n_codes / level)
