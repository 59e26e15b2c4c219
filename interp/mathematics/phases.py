"""Phases: the coordinates in which an operation is addition."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Phase:
    """Coordinates in which an operation is addition modulo `order`: entry t of each array is the residue whose phase is
    t.

    A table X[a, b, c] becomes Y = X[rows][:, columns][:, :, classes], and there the correct class of (s, t) is
    s + t (mod order).

    >>> from interp.experiment import Task
    >>> phase = Task(5, "subtract").phase
    >>> phase.order, phase.rows.tolist(), phase.columns.tolist()  # a − b = a + (−b)
    (5, [0, 1, 2, 3, 4], [0, 4, 3, 2, 1])
    """

    order: int
    rows: Int[np.ndarray, " order"]
    columns: Int[np.ndarray, " order"]
    classes: Int[np.ndarray, " order"]


def phase_of_units(p: int, *, quotients: bool = False) -> Phase:
    """The phase of products, or of quotients, of the units of a prime p > 2: discrete logarithms to its smallest
    primitive root.

    >>> phase = phase_of_units(7)
    >>> phase.order, phase.rows.tolist()  # 3⁰, 3¹, … 3⁵ modulo 7
    (6, [1, 3, 2, 6, 4, 5])
    """
    powers = np.array([pow(_primitive_root(p), t, p) for t in range(p - 1)])
    return Phase(p - 1, powers, powers[-np.arange(p - 1) % (p - 1)] if quotients else powers, powers)


def is_prime(n: int) -> bool:
    """Whether n is a prime number.

    >>> [n for n in range(12) if is_prime(n)]
    [2, 3, 5, 7, 11]
    """
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def _primitive_root(p: int) -> int:
    """The smallest generator of the units of a prime p > 2."""
    factors = [q for q in range(2, p) if (p - 1) % q == 0 and is_prime(q)]
    return next(g for g in range(2, p + 1) if all(pow(g, (p - 1) // q, p) != 1 for q in factors))
