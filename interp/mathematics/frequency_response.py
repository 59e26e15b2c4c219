"""What a gradient filter does to an oscillation: its frequency response H(ω), ω in radians per step.

A sequence g_t = e^{iωt} comes out of a linear filter as H(ω)g_t, when what it began with is forgotten; |H(ω)| is by how
much that frequency is amplified. Of ĝ = g + λμ (`interp.training.gradient_filters`):

    moving average of memory α    H = 1 + λ(1 − α)/(1 − αe^{−iω})
    mean of a window of w         H = 1 + λe^{−iω(w−1)/2} sin(ωw/2)/(w sin(ω/2))
    gain                          H = 1 + λ

At ω = 0 all are 1 + λ. A right angle to the weights is no linear filter of a sequence, and has none. Lee et al. 2024,
arXiv:2405.20233, whose averages these are.
"""

import math

import numpy as np
from jaxtyping import Complex, Float

Frequencies = Float[np.ndarray, " n"]


def of_average(omega: Frequencies, strength: float, memory: float) -> Complex[np.ndarray, " n"]:
    """H(ω) of g + λμ, where μ is the exponential moving average of `memory` α in [0, 1).

    >>> np.abs(of_average(np.array([0, math.pi]), 2.0, 0.98)).round(4).tolist()
    [3.0, 1.0202]
    """
    return 1 + strength * (1 - memory) / (1 - memory * np.exp(-1j * omega))


def of_window(omega: Frequencies, strength: float, window: int) -> Complex[np.ndarray, " n"]:
    """H(ω) of g + λμ, where μ is the mean of the last w: 1 where a whole number of periods fits in the window.

    >>> np.abs(of_window(np.array([0, 2 * math.pi / 100]), 5.0, 100)).round(4).tolist()
    [6.0, 1.0]
    """
    # sin(ωw/2)/(w sin(ω/2)) by its sum, which has no 0/0.
    return 1 + strength * np.exp(-1j * np.multiply.outer(omega, np.arange(window))).mean(-1)


def of_gain(omega: Frequencies, strength: float) -> Complex[np.ndarray, " n"]:
    """H(ω) of (1 + λ)g, the control: the same for every frequency.

    >>> of_gain(np.array([0.0, 1.0]), 2.0).real.tolist()
    [3.0, 3.0]
    """
    return np.full_like(omega, 1 + strength, dtype=complex)


def half_power(memory: float) -> float:
    """The ω at which the moving average itself has half the power that it has at 0: cos ω = 1 − (1 − α)²/(2α). NaN for
    a memory below 3 − √8 = 0.172, which no frequency loses so much by.

    >>> round(2 * math.pi / half_power(0.98))  # steps of a period
    311
    """
    cosine = 1 - (1 - memory) ** 2 / (2 * memory) if memory > 0 else -math.inf
    return math.acos(cosine) if cosine >= -1 else math.nan


def memory_as_old_as(window: int) -> float:
    """The memory α of the moving average whose values are, in the mean, as old as those of a window of w,
    α/(1 − α) = (w − 1)/2.

    >>> round(memory_as_old_as(100), 4)
    0.9802
    """
    return (window - 1) / (window + 1)
