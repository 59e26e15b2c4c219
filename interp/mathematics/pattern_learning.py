"""Pattern learning (Davies et al.): curves of training and test accuracy from patterns that are learned one by one.
numpy only.

Pattern i is learned by so large a share of examples, p_i(t) = γ_i/(1 + e^{−α_i(t − b_i)}), each by itself, and answers
an unseen example rightly with probability g_i. With P_A the probability that exactly the patterns of A are learned,

    P_A = Π_{i ∈ A} p_i · Π_{i ∉ A} (1 − p_i),

    training accuracy = 1 − Π_i (1 − p_i)          test accuracy = Σ_A P_A G(A)

G(A) is the mean of g_i over A, or g_k where A has the preferred pattern k; of the empty set it is `chance`, which the
paper leaves open. The same three patterns make GROKKING and DOUBLE_DESCENT, which differ in two ceilings γ alone: how
far the heuristic and the slow pattern go.

It cannot tell that a network has patterns: any curve that rises, falls and rises again can be drawn by three. How they
are fitted, and when that is refused, is `interp.mathematics.pattern_fit`.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit

REFERENCE = "Davies et al. 2023, arXiv:2303.06173"
MOST_PATTERNS = 10  # there are 2ⁿ sets of them


class Pattern(NamedTuple):
    """What share of examples ever has it (γ, from 0 to 1), how fast it comes (α, per unit of time), when half of that
    share has it (b), and how often it is right on unseen examples (g, from 0 to 1).

    >>> Pattern(ceiling=0.5, slope=1.0, midpoint=10.0, generalization=1.0).learned(np.array([10.0])).tolist()
    [0.25]
    """

    ceiling: float
    slope: float
    midpoint: float
    generalization: float

    def learned(self, time: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """p(t), the share of examples that has it."""
        return self.ceiling * expit(self.slope * (time - self.midpoint))


class PatternCurves(NamedTuple):
    """Accuracies over time."""

    train: Float[np.ndarray, " time"]
    test: Float[np.ndarray, " time"]


def pattern_curves(
    time: Float[np.ndarray, " time"], patterns: Sequence[Pattern], *, preferred: int | None = None, chance: float = 0.0
) -> PatternCurves:
    """Training and test accuracy [time] of patterns; `preferred` is the place of the one that answers wherever it is
    learned, `chance` what is right where none is.

    Raises ValueError for no patterns, more than MOST_PATTERNS, and a place that none has.

    >>> one = Pattern(ceiling=0.9, slope=1.0, midpoint=5.0, generalization=0.5)
    >>> curves = pattern_curves(np.array([5.0, 100.0]), [one])
    >>> curves.train.round(3).tolist(), curves.test.round(3).tolist()
    ([0.45, 0.9], [0.225, 0.45])
    """
    if not 1 <= len(patterns) <= MOST_PATTERNS:
        raise ValueError(f"there must be 1 to {MOST_PATTERNS} patterns, got {len(patterns)}")
    if preferred is not None and not 0 <= preferred < len(patterns):
        raise ValueError(f"preferred must be the place of a pattern, 0 to {len(patterns) - 1}, got {preferred}")
    ceiling, slope, midpoint, _ = np.array(patterns, dtype=np.float64).T[..., None]
    learned = ceiling * expit(slope * (time - midpoint))
    subsets = list(product((False, True), repeat=len(patterns)))
    right = np.array([_right(patterns, subset, preferred, chance) for subset in subsets])
    probability = np.where(np.array(subsets)[..., None], learned, 1 - learned).prod(1)
    return PatternCurves(1 - (1 - learned).prod(0), right @ probability)


def _right(patterns: Sequence[Pattern], subset: Sequence[bool], preferred: int | None, chance: float) -> float:
    """G of the patterns that are in the subset."""
    if preferred is not None and subset[preferred]:
        return patterns[preferred].generalization
    known = [pattern.generalization for pattern, is_in in zip(patterns, subset, strict=True) if is_in]
    return sum(known) / len(known) if known else chance


def three_patterns(heuristic: float, slow: float) -> tuple[Pattern, Pattern, Pattern]:
    """A heuristic that comes first and generalizes, an overfitting pattern, and a slow one that is the rule; with the
    ceilings of the first and the last. The last is the preferred one.

    >>> [pattern.ceiling for pattern in three_patterns(0.1, 1.0)]
    [0.1, 0.999, 1.0]
    """
    return (
        Pattern(heuristic, slope=1.0, midpoint=5.0, generalization=0.95),
        Pattern(0.999, slope=0.6, midpoint=15.0, generalization=0.02),
        Pattern(slow, slope=0.3, midpoint=60.0, generalization=1.0),
    )


GROKKING = three_patterns(heuristic=0.02, slow=1.0)
DOUBLE_DESCENT = three_patterns(heuristic=0.6, slow=0.9)
