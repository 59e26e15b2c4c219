"""Augmentation: what is trained on beside the pairs that were drawn, because the operation is known to give it. numpy
only.

The mirror of (a, b) is (b, a), with the label of (a, b), a wrong one where that was replaced by noise. A mirror that
was drawn itself is no addition: it keeps the label that it was drawn with.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int

from interp.errors import InputError

Augmentation = Literal["none", "mirror"]


def added_mirrors(drawn: Int[np.ndarray, " n"], p: int) -> Int[np.ndarray, "m 2"]:
    """The mirrors that were not drawn themselves, each with the pair that it is the mirror of, as indices a·p + b,
    ascending by the mirror.

    >>> added_mirrors(np.array([1, 4, 5, 7]), 3).tolist()  # (0, 1), (1, 1), and (1, 2) with its mirror (2, 1)
    [[3, 1]]
    """
    a, b = np.divmod(drawn, p)
    both = np.stack([b * p + a, drawn], axis=1)
    both = both[~np.isin(both[:, 0], drawn)]
    return both[np.argsort(both[:, 0])]


def check_mirrors(title: str, true_labels: Int[np.ndarray, " pairs"], p: int, *, commutative: bool) -> None:
    """Raises InputError where the label of (a, b) is not that of (b, a) by a rule that the task knows.

    >>> check_mirrors("subtract modulo 3", np.array([0, 2, 1, 1, 0, 2, 2, 1, 0]), 3, commutative=False)
    Traceback (most recent call last):
        ...
    interp.errors.InputError: task.augmentation mirror trains on (b, a) with the label of (a, b), and of subtract \
modulo 3 (0, 1) has 2 and (1, 0) has 1; give an operation that commutes, or task.augmentation none
    """
    if commutative:
        return
    table = true_labels.reshape(p, p)
    differ = np.argwhere(table != table.T)
    seen = ", which is not known to commute"
    if len(differ):
        a, b = map(int, differ[0])
        words = [str(label) if label >= 0 else "no answer" for label in (int(table[a, b]), int(table[b, a]))]
        seen = f" ({a}, {b}) has {words[0]} and ({b}, {a}) has {words[1]}"
    raise InputError(
        f"task.augmentation mirror trains on (b, a) with the label of (a, b), and of {title}{seen}; give an operation "
        "that commutes, or task.augmentation none"
    )
