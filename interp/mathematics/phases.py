"""Phases: the coordinates in which an operation is addition."""

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
