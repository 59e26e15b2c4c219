"""Random sets of frequencies, to hold a set that was found beside: what does any other one, of as many, do?

What is said of key frequencies says something of them only as far as it does not hold of other sets. If a set were no
better than m others, drawn like it, it would be the best of all m + 1 once in m + 1 times: 19 are needed before "above
all of them" is a matter of 5 %. The frequencies that were found are left out of the draw, so that nothing of what they
do is in the comparison; such sets cannot tell which of the found frequencies matter.
"""

import math

import numpy as np


def random_sets(n_frequencies: int, key: list[int], n_sets: int, *, seed: int = 0) -> list[list[int]]:
    """At most `n_sets` sets of as many frequencies as `key` has, drawn from those of 1 … `n_frequencies` that are not
    in it, ascending, no set twice: fewer where there are not so many sets, and none where too few frequencies are left
    or no frequency is key. A longer list begins with the shorter one.

    >>> random_sets(6, [2, 5], 3)
    [[4, 6], [1, 4], [1, 6]]
    >>> len(random_sets(6, [2, 5], 19)), random_sets(3, [1, 2], 19), random_sets(6, [], 19)
    (6, [], [])
    """
    others = [k for k in range(1, n_frequencies + 1) if k not in key]
    possible = math.comb(len(others), len(key)) if key else 0
    generator, drawn = np.random.RandomState(seed), {}
    while len(drawn) < min(n_sets, possible):
        drawn[tuple(sorted(generator.permutation(others)[: len(key)].tolist()))] = None
    return [list(each) for each in drawn]
