"""Lengths of codes against sequential sums, known constants and a real coder."""

import math

import numpy as np
import pytest

from interp.mathematics.coding import gamma_bits, integer_bits, kt_bits


@pytest.mark.parametrize("symbols", [2, 3, 7])
def test_the_closed_form_is_the_code_of_one_symbol_after_the_other(symbols: int) -> None:
    drawn = np.random.default_rng(symbols).integers(0, symbols, 200) ** 2 % symbols
    counts, bits = np.zeros(symbols), 0.0
    for symbol in drawn:
        bits -= math.log2((counts[symbol] + 0.5) / (counts.sum() + symbols / 2))
        counts[symbol] += 1
    assert kt_bits(counts.astype(int)) == pytest.approx(bits, abs=1e-9)


def test_what_a_coin_costs() -> None:
    """n H + ½ log₂ n + ½ log₂(π/2) of a coin, and ½ log₂(πn) of one that always falls alike."""
    n, heads = 10_000, 3000
    entropy = -0.3 * math.log2(0.3) - 0.7 * math.log2(0.7)
    expected = n * entropy + math.log2(n) / 2 + math.log2(math.pi / 2) / 2
    assert kt_bits(np.array([heads, n - heads])) == pytest.approx(expected, abs=1e-3)
    assert kt_bits(np.array([1000, 0])) == pytest.approx(math.log2(math.pi * 1000) / 2, abs=1e-3)


def test_gamma_codes_are_prefix_free() -> None:
    """Kraft: Σ 2^(−length) over all integers is 1; up to 2^k − 1 it is 1 − 2^(−k)."""
    assert sum(2.0 ** -gamma_bits(value) for value in range(1, 2**10)) == 1 - 2.0**-10


@pytest.mark.parametrize("step", [0.5, 0.25, 0.1])
def test_gaussian_numbers_cost_their_entropy(step: float) -> None:
    drawn = np.rint(np.random.default_rng(0).normal(size=20_000) / step).astype(int)
    expected = len(drawn) * (0.5 * math.log2(2 * math.pi * math.e) - math.log2(step))
    assert integer_bits(drawn) == pytest.approx(expected, rel=0.01)


def test_one_value_costs_its_header_alone_and_order_costs_nothing() -> None:
    assert integer_bits(np.zeros(1000, dtype=int)) == 2  # 0, and a range of one value
    assert integer_bits(np.full(1000, -3)) == gamma_bits(7) + 1
    assert integer_bits(np.array([], dtype=int)) == 0
    drawn = np.random.default_rng(1).integers(-5, 9, 500)
    assert integer_bits(drawn) == integer_bits(np.sort(drawn))
    assert integer_bits(drawn + 4) == pytest.approx(integer_bits(drawn), abs=6)  # the header alone
