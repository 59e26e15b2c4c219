"""A fixed random sample of pairs, and some more of a kind of which it has too few."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

# A share of so many pairs has a standard error of 3 points at most, and they are 32 orbits of 8 at least
# (`Task.orbits`).
LEAST = 256


class PairSample(NamedTuple):
    """Places of pairs, ascending, and whether each was drawn from all pairs alike: only those stand for all.

    >>> sample = pair_sample(torch.tensor([True, False, False]), 2)
    >>> sample.places.tolist(), sample.is_drawn.tolist()
    ([0, 1, 2], [False, True, True])
    """

    places: Int[Tensor, " sample"]
    is_drawn: Bool[Tensor, " sample"]


def pair_sample(wanted: Bool[Tensor, " pairs"], size: int, *, least: int = LEAST) -> PairSample:
    """`size` of the pairs, or all if they are no more. If fewer than `least` of these are `wanted`, then beside them so
    many wanted ones more, or all there are. The draw is the same every time.

    >>> sample = pair_sample(torch.arange(100) % 20 == 0, 8, least=3)
    >>> sample.places.tolist(), int(sample.is_drawn.sum())
    ([2, 16, 26, 40, 55, 60, 73, 75, 80, 86, 93], 8)
    """
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(wanted)))
    drawn, rest = order[:size], order[size:]
    more = rest[wanted[rest]][: max(0, least - int(wanted[drawn].sum()))]
    places = torch.cat([drawn, more])
    by_place = places.argsort()
    return PairSample(places[by_place], by_place < len(drawn))
