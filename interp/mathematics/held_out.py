"""What can be told from pairs that could not have been memorized: from how many at least, and how surely. numpy
only."""

import math

import numpy as np
from jaxtyping import Float, Int

# Independent ones; from fewer nothing is told.
FEWEST_HELD_OUT = 20
# A mean is there when it is so many of its standard errors above 0.
CLEAR = 3
# What is told of a held-out pair comes from those outside its own one.
FOLDS = 5


def standard_error(values: Float[np.ndarray, " pairs"], orbit: Int[np.ndarray, " pairs"]) -> float:
    """The standard error of the mean of values of pairs, those of one orbit being no more than one observation; NaN for
    fewer than two orbits.

    >>> values = np.array([1.0, 3.0, 1.0, 3.0])
    >>> round(standard_error(values, np.arange(4)), 3), round(standard_error(values, np.array([0, 1, 0, 1])), 3)
    (0.577, 1.0)
    """
    orbits, place = np.unique(orbit, return_inverse=True)
    if (n_orbits := len(orbits)) < 2:
        return math.nan
    sums = np.bincount(place, weights=np.asarray(values - values.mean(), dtype=np.float64))
    return math.sqrt(np.square(sums).sum() * n_orbits / (n_orbits - 1)) / len(values)
