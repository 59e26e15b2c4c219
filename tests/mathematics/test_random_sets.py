"""Random sets of frequencies: never a key one, never one set twice, and as many sets as there are."""

import math
from collections import Counter
from itertools import combinations

import pytest

from interp.mathematics.random_sets import random_sets


@pytest.mark.parametrize(("n_frequencies", "key"), [(21, [3, 11, 12]), (56, [24, 25, 42, 50, 56]), (9, [9])])
def test_no_set_has_a_key_frequency_and_no_two_are_the_same(n_frequencies: int, key: list[int]) -> None:
    sets = random_sets(n_frequencies, key, 8)
    assert len({tuple(each) for each in sets}) == len(sets) == 8
    for each in sets:
        assert len(set(each)) == len(key)
        assert each == sorted(each)
        assert not set(each) & set(key)
        assert 1 <= min(each) <= max(each) <= n_frequencies


@pytest.mark.parametrize("key", [[1], [2, 5], [1, 2, 3], [2, 4, 6]])
def test_where_there_are_few_sets_all_of_them_are_drawn(key: list[int]) -> None:
    others = [k for k in range(1, 7) if k not in key]
    assert sorted(random_sets(6, key, 100)) == [list(each) for each in combinations(others, len(key))]


def test_none_where_too_few_are_left_or_none_is_key() -> None:
    assert random_sets(6, [1, 2, 3, 4], 8) == random_sets(6, [], 8) == random_sets(0, [], 8) == []


def test_the_draw_is_the_same_every_time_and_a_longer_one_begins_with_it() -> None:
    assert random_sets(21, [3, 11], 8) == random_sets(21, [11, 3], 8) == random_sets(21, [3, 11], 19)[:8]
    assert random_sets(21, [3, 11], 8, seed=1) != random_sets(21, [3, 11], 8)


def test_every_other_frequency_is_drawn_alike() -> None:
    """Of 18, three a set: the counts of 600 sets scatter about 3/18 of them as a binomial's do."""
    sets = [each for seed in range(60) for each in random_sets(21, [3, 11, 12], 10, seed=seed)]
    counts = Counter(k for each in sets for k in each)
    assert len(counts) == 18
    expected, deviation = 600 * 3 / 18, math.sqrt(600 * 3 / 18 * (1 - 3 / 18))
    assert all(abs(count - expected) < 4 * deviation for count in counts.values())
