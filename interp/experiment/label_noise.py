"""Label noise: of the training labels so many are replaced, once, by a wrong one. numpy only."""

import math

import numpy as np
from jaxtyping import Int


def with_label_noise(
    true_labels: Int[np.ndarray, " n"],
    trained: Int[np.ndarray, " m"],
    fraction: float,
    n_classes: int,
    generator: np.random.RandomState,
) -> Int[np.ndarray, " n"]:
    """A copy of the labels in which exactly ⌊fraction · m⌋ of those of the `trained` examples are replaced by one of
    the n_classes − 1 others, each as likely. Of two fractions and one state of the generator, what is wrong in the
    lesser is as wrong in the greater. Raises InputError for a fraction that is no share.

    >>> true = np.zeros(100, dtype=np.int64)
    >>> noisy = with_label_noise(true, np.arange(50), 0.3, 10, np.random.RandomState(0))
    >>> int((noisy[:50] != 0).sum()), int((noisy[50:] != 0).sum())
    (15, 0)
    """
    labels = true_labels.copy()
    n_noisy = math.floor(fraction * len(trained) + 1e-9)  # 0.29 · 100 is 28.999999999999996
    if not n_noisy:
        return labels
    noisy = generator.permutation(trained)[:n_noisy]
    labels[noisy] = (labels[noisy] + generator.randint(1, n_classes, size=n_noisy)) % n_classes
    return labels
