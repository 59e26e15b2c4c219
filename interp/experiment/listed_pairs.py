"""A split that is a list of pairs: which lists can be one."""

import numpy as np
from jaxtyping import Bool

from interp.errors import InputError, check_integer


def check_listed_pairs(indices: tuple[int, ...], defined: Bool[np.ndarray, " pairs"], p: int, operation: str) -> None:
    """Raises InputError unless these are indices a·p + b of pairs that have an answer, each once, and at least one.

    >>> check_listed_pairs((1, 5), np.ones(9, dtype=bool), 3, "add")
    """
    if not indices:
        raise InputError("task.split is an empty list of pairs; there must be at least one to train on")
    for index in indices:
        check_integer("task.split: each index a·p + b", index, 0, p**2 - 1)
        if not defined[index]:
            a, b = divmod(index, p)
            raise InputError(
                f"task.split contains the pair ({a}, {b}), for which {operation} is not defined: {b} is no unit modulo "
                f"{p}"
            )
    if len(set(indices)) != len(indices):
        raise InputError("task.split names a pair twice")
