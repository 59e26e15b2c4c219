"""The formulas of clock and pizza by their integrals and identities, and the rule by every side of its line."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.mathematics.clock_and_pizza import (
    FORMULAS,
    accompanying,
    correlations,
    distance_irrelevance,
    judge,
    pairs_of_every_distance,
    terms,
)
from interp.testing import ideal_logits


def judged(irrelevance: float, symmetricity: float, explained: tuple, isolated: tuple, *, has_circuit: bool = True):
    return judge(
        has_circuit=has_circuit,
        irrelevance=irrelevance,
        symmetricity=symmetricity,
        explained=np.array(explained, dtype=float).reshape(2, -1),
        isolated=np.array(isolated, dtype=float).reshape(2, -1),
    )


CLOCK, PIZZA, UNCLEAR = (0.99, 0.80), (0.80, 0.99), (0.93, 0.90)


@pytest.mark.parametrize(
    ("q", "s_g", "explained", "isolated", "verdict", "disagreeing"),
    [
        (0.17, 0.994, CLOCK, PIZZA, "pizza", []),  # the authors' Model A
        (0.85, 0.334, CLOCK, CLOCK, "clock", []),
        (0.72, 0.77, CLOCK, UNCLEAR, "clock", ["isolated_circles"]),
        (0.72, 0.77, CLOCK, PIZZA, "clock", ["isolated_circles"]),
        (0.17, 0.994, PIZZA, CLOCK, "pizza", ["isolated_circles"]),
        (0.60, 0.98, CLOCK, CLOCK, "clock", []),  # on the line: the clock's side
        (0.60, 0.98, PIZZA, PIZZA, "neither", []),  # the clock's side, and the pizza's logits
        (0.60, 0.994, CLOCK, CLOCK, "neither", []),  # the criteria disagree
        (0.17, 0.98, CLOCK, CLOCK, "neither", []),
        (0.17, math.nan, PIZZA, PIZZA, "pizza", []),  # s_g is no witness
        (0.85, math.nan, CLOCK, CLOCK, "clock", []),
        (0.85, math.nan, CLOCK, PIZZA, "neither", []),  # circles one at a time stand in for s_g
        (0.85, math.nan, CLOCK, (math.nan, math.nan), "clock", []),
        (0.17, 0.994, (0.3, 0.49), PIZZA, "neither", []),
        (0.85, 0.334, (0.49, 0.3), CLOCK, "neither", []),
        (math.nan, 0.334, (math.nan, math.nan), (math.nan, math.nan), "neither", []),
    ],
)
def test_every_side_of_the_line(*, q, s_g, explained, isolated, verdict, disagreeing):
    found = judged(q, s_g, explained, isolated)
    assert (found.verdict, found.disagreeing) == (verdict, disagreeing)
    assert (found.witnesses["gradient_symmetricity"] is None) == math.isnan(s_g)


def test_without_a_circuit_there_is_no_name_and_no_witness():
    found = judged(0.17, 0.994, PIZZA, PIZZA, has_circuit=False)
    assert (found.verdict, set(found.witnesses.values())) == ("neither", {None})


@pytest.mark.parametrize(("weaker", "word"), [(0.05, "clock"), (0.3, "neither")])
def test_circles_speak_by_their_power(weaker, word):
    """A clock beside one pizza circle: 0.05 of 0.95 is not a tenth, 0.3 is more."""
    explained = ([0.9 - weaker, weaker], [0.7, weaker / 2])
    found = judged(0.85, 0.3, explained, ([0.99, 0.8], [0.8, 0.99]))
    assert found.witnesses["isolated_circles"] == word


@pytest.mark.parametrize("n", [3, 7, 8, 12, 59])
def test_the_accompanying_circle_is_another_of_twice_the_frequency(n):
    for k in range(1, n // 2 + 1):
        other = accompanying(k, n)
        # Up to sign, 2k: the same cosine on every residue.
        double = np.cos(2 * np.pi * 2 * k * np.arange(n) / n)
        if other is None:
            assert np.allclose(double, 1) or np.allclose(double, np.cos(2 * np.pi * k * np.arange(n) / n))
        else:
            assert_allclose(np.cos(2 * np.pi * other * np.arange(n) / n), double, atol=1e-9)
            assert 1 <= other <= n // 2
            assert other != k


def test_what_an_accompanying_circle_makes_up_for():
    """Without its first harmonic, 4/(3π) cos x, |cos x/2| is nearly constant: 1 − mean²/(mean of squares) falls from
    1 − 8/π² = 0.19 to 0.011."""
    n, k = 211, 5
    x = 2 * np.pi * k * np.arange(n) / n
    half = np.abs(np.cos(x / 2))
    lacks = [1 - one.mean() ** 2 / (one**2).mean() for one in (half, half - 4 / (3 * np.pi) * np.cos(x))]
    assert_allclose(lacks, [1 - 8 / math.pi**2, 1 - (4 / np.pi**2) / (1 / 2 - 8 / (9 * np.pi**2))], atol=1e-4)


@pytest.mark.parametrize(("n", "sums"), [(7, 2), (8, 3), (7, 7), (8, 100), (2, 1)])
def test_every_distance_has_as_many_pairs_and_none_twice(n, sums):
    s, t = (index.tolist() for index in pairs_of_every_distance(n, sums, seed=1))
    assert len(set(zip(s, t, strict=True))) == len(s) == n * min(n, sums)
    assert np.bincount((np.array(s) - t) % n).tolist() == [min(n, sums)] * n


@pytest.mark.parametrize("n", [7, 12])
def test_terms_are_the_waves_of_the_ideal_cubes(n):
    s, t = pairs_of_every_distance(n, n)
    key = [1, 2, n // 2]
    of_terms = terms(n, key, s, t)
    for row, formula in zip(of_terms, FORMULAS, strict=True):
        for k, term in zip(key, row, strict=True):
            u = torch.arange(n, dtype=torch.float64)
            waves = torch.stack([(2 * math.pi * k * u / n).cos(), (2 * math.pi * k * u / n).sin()])
            part = waves @ ideal_logits(n, [k], formula)[s, t].T
            expected = part / part.square().sum().sqrt()
            assert_allclose(term, expected, atol=1e-12)


def test_the_terms_of_many_residues_correlate_as_the_integrals():
    clock, pizza = terms(211, [3], *pairs_of_every_distance(211, 211))
    assert_allclose((clock * pizza).sum(), math.sqrt(8) / math.pi, atol=1e-4)


def test_what_is_not_there_has_no_correlation():
    of_terms = terms(7, [2], *pairs_of_every_distance(7, 7))
    assert correlations(torch.zeros(1, 2, 49, dtype=torch.float64), of_terms).isnan().all()


def test_distance_irrelevance_of_noise_on_an_ideal_clock_is_its_limit():
    noise = torch.randn(31, 31, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = distance_irrelevance(ideal_logits(31, [2, 3], "clock") + 1e-6 * noise)
    assert_allclose(found, 1, atol=0.05)
