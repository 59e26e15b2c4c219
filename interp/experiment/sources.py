"""Where examples that are vectors come from: handwritten digits, sparse parity, a linear teacher. numpy only."""

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Source = Literal["digits", "parity", "gaussian"]
Scaling = Literal["none", "centered"]
N_DIGITS = 1797


@cache
def digits() -> tuple[Float[np.ndarray, "1797 64"], Int[np.ndarray, " 1797"]]:
    """The handwritten digits of scikit-learn, gray values from 0 to 1, and which digit each is. Do not write to
    them: they are shared.

    >>> inputs, labels = digits()
    >>> inputs.shape, float(inputs.max()), labels[:3].tolist()
    ((1797, 64), 1.0, [0, 1, 2])
    """
    from sklearn.datasets import load_digits

    inputs, labels = map(np.asarray, load_digits(return_X_y=True))
    return (inputs / 16).astype(np.float32), labels.astype(np.int64)


@cache
def centered_digits() -> Float[np.ndarray, "1797 64"]:
    """`digits` without the mean of each pixel, over one number, so that the mean square of all is 1; means are those of
    all 1,797, of whatever split: labels have no part in it. Do not write to it: it is shared.

    >>> inputs = centered_digits()
    >>> float(np.abs(inputs.mean(0)).max()) < 1e-6, round(float(np.square(inputs).mean()), 6)
    (True, 1.0)
    """
    inputs = digits()[0].astype(np.float64)
    inputs -= inputs.mean(0)
    return (inputs / np.sqrt(np.square(inputs).mean())).astype(np.float32)


def signs(generator: np.random.RandomState, n: int, n_features: int) -> Float[np.ndarray, "n features"]:
    """n vectors of independent signs, −1 or 1, each as likely. The first of them do not depend on n.

    >>> signs(np.random.RandomState(0), 2, 4).tolist()
    [[-1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    return (2 * generator.randint(0, 2, size=(n, n_features)) - 1).astype(np.float32)


def gaussian_inputs(generator: np.random.RandomState, n: int, n_features: int) -> Float[np.ndarray, "n features"]:
    """n vectors of independent standard normal numbers. The first of them do not depend on n.

    >>> gaussian_inputs(np.random.RandomState(0), 2, 3).shape
    (2, 3)
    """
    return generator.standard_normal((n, n_features)).astype(np.float32)


def parity(inputs: Float[np.ndarray, "n features"], k: int) -> Int[np.ndarray, " n"]:
    """1 where the product of the first k of the signs of a vector is −1, and otherwise 0. To a network whose first
    weights are drawn independently the first k are as good as any others.

    >>> parity(np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]), 2).tolist()
    [1, 1]
    """
    return (inputs[:, :k] < 0).sum(1) % 2


def taught(
    inputs: Float[np.ndarray, "n features"], classes: int, generator: np.random.RandomState
) -> Int[np.ndarray, " n"]:
    """argmax_c (xW)_c for each vector x, with W [features, classes] of independent standard normal numbers.

    >>> taught(np.eye(2, dtype=np.float32), 3, np.random.RandomState(0)).tolist()  # the largest of each row of W
    [0, 0]
    """
    teacher = generator.standard_normal((inputs.shape[1], classes))
    return (inputs.astype(np.float64) @ teacher).argmax(1)
