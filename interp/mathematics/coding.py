"""How many bits integers cost, without a compressor: closed forms of two universal codes.

The adaptive code of Krichevsky and Trofimov (1981, doi:10.1109/TIT.1981.1056331) of n symbols from an alphabet of K, of
which symbol j occurs c_j times, gives each the probability (c + ½)/(i + K/2) after i symbols, and needs

    log₂[Γ(n + K/2)/Γ(K/2)] − Σ_j log₂[Γ(c_j + ½)/Γ(½)]   bits.

An arithmetic coder reaches it within two bits. An integer v ≥ 1 alone costs 2⌊log₂ v⌋ + 1 bits in Elias' γ code.
"""

import math

import numpy as np
from jaxtyping import Int
from scipy.special import gammaln

BITS_OF_FLOAT = 32


def kt_bits(counts: Int[np.ndarray, " symbols"]) -> float:
    """The length of the Krichevsky–Trofimov code of symbols that occur so often; the alphabet is as long as `counts`.

    >>> round(kt_bits(np.array([1000, 0])), 2), round(math.log2(math.pi * 1000) / 2, 2)  # one symbol: ½ log₂ πn
    (5.81, 5.81)
    """
    half = len(counts) / 2
    nats = gammaln(counts.sum() + half) - gammaln(half) - (gammaln(counts + 0.5) - gammaln(0.5)).sum()
    return float(nats) / math.log(2)


def gamma_bits(value: int) -> int:
    """The length of Elias' γ code of an integer from 1 on.

    >>> [gamma_bits(value) for value in (1, 2, 3, 4)]
    [1, 3, 3, 5]
    """
    return 2 * (value.bit_length() - 1) + 1


def integer_bits(values: Int[np.ndarray, " n"]) -> float:
    """What integers cost whose number the receiver knows: the least and the range in γ codes (of the sign and the size
    of the least, and of the range), then the KT code over the range. Where all are one value, that is all.

    >>> integer_bits(np.zeros(1000, dtype=int))
    2.0
    >>> round(integer_bits(np.array([0, 1] * 500)) / 1000, 2)
    1.01
    """
    if not len(values):
        return 0.0
    least, most = int(values.min()), int(values.max())
    signed = 2 * least if least > 0 else -2 * least + 1  # 0, 1, −1, 2, … are 1, 2, 3, 4, …
    header = gamma_bits(signed) + gamma_bits(most - least + 1)
    return header + (kt_bits(np.bincount(values - least)) if most > least else 0.0)
