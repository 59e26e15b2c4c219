"""The validation split: the pairs that are chosen on, so that those that are reported on were not. numpy only.

Of the pairs that are not trained on it takes a share, orbit by orbit: what the symmetries of a task make of one pair
has the same label, so whoever chose on (a, b) would have chosen on (b, a) too. Orbits of which a pair is trained on and
those of which none is are drawn from separately, the same share of each, so that what is chosen on is made up as what
is reported on.
"""

import math

import numpy as np
from jaxtyping import Bool, Int

from interp.errors import InputError


def validation_mask(
    fraction: float,
    untrained: Bool[np.ndarray, " pairs"],
    orbits: Int[np.ndarray, " pairs"],
    trained_orbits: Int[np.ndarray, " n"],
    generator: np.random.RandomState,
) -> Bool[np.ndarray, " pairs"]:
    """⌊fraction · n⌋ of the n untrained pairs, or as near below as whole orbits come: first that share of those whose
    orbit has no training pair, a draw that does not depend on how much of the other orbits is trained on. Raises
    InputError where that is none.

    >>> untrained, orbits = np.arange(9) != 1, np.array([0, 1, 2, 1, 4, 5, 2, 5, 8])  # 3 is the mirror of 1
    >>> found = validation_mask(0.5, untrained, orbits, np.array([1]), np.random.RandomState(0))
    >>> int(found.sum()), all(len(set(found[(orbits == one) & untrained])) == 1 for one in orbits)
    (4, True)
    """
    names, orbit, sizes = np.unique(orbits[untrained], return_inverse=True, return_counts=True)
    is_trained = np.isin(names, trained_orbits)
    unseen, seen = (generator.permutation(np.flatnonzero(is_trained == known)) for known in (False, True))
    first = _filled(unseen, sizes, _share(fraction, int(sizes[unseen].sum())))
    second = _filled(seen, sizes, _share(fraction, len(orbit)) - int(sizes[first].sum()))
    if not len(first) + len(second):
        of = f"of {len(orbit)} pairs that are not trained on"
        raise InputError(f"task.validation-fraction {fraction:g} {of} leaves none to choose on; give more")
    found = np.zeros(len(untrained), dtype=bool)
    found[untrained] = np.isin(orbit, np.concatenate([first, second]))
    return found


def _share(fraction: float, n: int) -> int:
    return math.floor(fraction * n + 1e-9)  # 0.29 · 100 is 28.999999999999996


def _filled(order: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " orbits"], room: int) -> Int[np.ndarray, " m"]:
    """The orbits in this order up to the first for which there is no room, and those after it for which there is."""
    reached = np.cumsum(sizes[order])
    n = int(np.searchsorted(reached, room, side="right"))
    chosen, rest = list(order[:n]), order[n:]
    room -= int(sizes[order[:n]].sum())
    while len(rest := rest[sizes[rest] <= room]):
        chosen.append(rest[0])
        room -= int(sizes[rest[0]])
        rest = rest[1:]
    return np.array(chosen, dtype=np.int64)
