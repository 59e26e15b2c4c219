"""The barrier on a path: by how much something rises above both of its ends."""

import numpy as np
from jaxtyping import Float


def barrier(values: Float[np.ndarray, "*paths points"]) -> Float[np.ndarray, "*paths"]:
    """max over the path − max of its two ends: never negative, 0 of what is convex, and of points that are few a lower
    bound. NaN where a value is not known.

    >>> barrier(np.array([[1.0, 3.0, 2.0], [4.0, 1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    return np.asarray(values.max(-1) - np.maximum(values[..., 0], values[..., -1]))
