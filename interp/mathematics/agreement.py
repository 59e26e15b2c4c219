"""How well two sets of labels agree beyond chance: Cohen's κ, and what it would be of labels that have nothing to do
with the place they stand at. numpy only.

With p_o the share of things that both label alike and p_e = Σ_k a_k b_k, where a and b are the shares of label k,

    κ = (p_o − p_e)/(1 − p_e)

is 1 where they always agree and 0 on average where they are independent. The null permutes labels by whole groups (the
seeds of one setting): seeds of a setting resemble each other, so permuting them one by one would call chance rare.

It cannot tell which of the two is right, nor that agreement is about its cause.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

REFERENCE = "Cohen 1960, doi:10.1177/001316446002000104"
SUBSTANTIAL = 0.6  # Landis and Koch 1977, doi:10.2307/2529310
PERMUTATIONS = 2000


class KappaNull(NamedTuple):
    """κ of permuted labels: its 95 % quantile, and the share of permutations that agree at least as well."""

    quantile_95: float
    p_value: float


def cohens_kappa(one: Shaped[np.ndarray, "*things"], other: Shaped[np.ndarray, "*things"]) -> float:
    """κ of two labels for each thing; NaN where there are no things, or both give all of them one and the same label.

    Raises ValueError for arrays of different shapes.

    >>> one, other = np.array(["a", "a", "b", "b"]), np.array(["a", "a", "b", "a"])
    >>> cohens_kappa(one, other), cohens_kappa(one, one), cohens_kappa(one, one[[0, 2, 1, 3]])
    (0.5, 1.0, 0.0)
    """
    if one.shape != other.shape:
        raise ValueError(f"two labels for each thing are needed, got {one.shape} and {other.shape}")
    if not one.size:
        return math.nan
    expected = _expected(one, other)
    return math.nan if expected == 1 else (float((one == other).mean()) - expected) / (1 - expected)


def _expected(one: np.ndarray, other: np.ndarray) -> float:
    """p_e."""
    return sum(float((one == name).mean() * (other == name).mean()) for name in np.union1d(one, other))


def kappa_null(
    one: Shaped[np.ndarray, "group member"],
    other: Shaped[np.ndarray, "group member"],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> KappaNull:
    """κ where the groups of `other` are permuted. With G groups that all differ, a share below 1/G! cannot be found.

    Raises ValueError for arrays of different shapes and for fewer than 1 permutation.

    >>> labels = np.repeat(np.array(["a", "b", "c", "d", "e", "f"])[:, None], 2, axis=1)
    >>> kappa_null(labels, labels).p_value < 0.01
    True
    """
    if permutations < 1:
        raise ValueError(f"there must be at least one permutation, got {permutations}")
    observed = cohens_kappa(one, other)
    if math.isnan(observed):
        return KappaNull(math.nan, math.nan)
    random = np.random.RandomState(seed)
    # How many labels agree where group i of one stands beside group j of the other; permuting leaves p_e as it is.
    agree, places = (one[:, None] == other[None]).sum(-1), np.arange(len(one))
    shares = np.array([agree[places, random.permutation(places)].sum() for _ in range(permutations)]) / one.size
    expected = _expected(one, other)
    found = (shares - expected) / (1 - expected)
    as_good = int((found >= observed - 1e-12).sum())
    return KappaNull(float(np.quantile(found, 0.95)), (1 + as_good) / (1 + permutations))
