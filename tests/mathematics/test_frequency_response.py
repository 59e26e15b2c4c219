"""Frequency responses against their definition: the sum of the impulse response, and closed forms."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics import frequency_response

OMEGA = np.linspace(0.01, math.pi, 50)


def from_impulse(response: np.ndarray) -> np.ndarray:
    """H(ω) = Σ_m h_m e^{−iωm}."""
    return np.exp(-1j * np.outer(OMEGA, np.arange(len(response)))) @ response


@pytest.mark.parametrize(("strength", "memory"), [(2.0, 0.98), (1.0, 0.9), (3.0, 0.0)])
def test_of_an_average_it_is_the_sum_of_what_an_impulse_leaves(strength: float, memory: float) -> None:
    impulse = strength * (1 - memory) * memory ** np.arange(3000)
    impulse[0] += 1
    assert_allclose(frequency_response.of_average(OMEGA, strength, memory), from_impulse(impulse), atol=1e-10)


@pytest.mark.parametrize("window", [1, 2, 100])
def test_of_a_window_it_is_the_closed_form(window: int) -> None:
    low = np.exp(-1j * OMEGA * (window - 1) / 2) * np.sin(OMEGA * window / 2) / (window * np.sin(OMEGA / 2))
    assert_allclose(frequency_response.of_window(OMEGA, 5.0, window), 1 + 5 * low, atol=1e-10)


def test_a_window_hides_what_fits_into_it() -> None:
    whole = 2 * math.pi * np.arange(1, 51) / 100
    assert_allclose(frequency_response.of_window(whole, 5.0, 100), 1, atol=1e-12)


def test_at_half_power_the_average_has_half_of_it() -> None:
    for memory in (0.2, 0.9, 0.98):
        at = np.array([frequency_response.half_power(memory)])
        low = frequency_response.of_average(at, 1.0, memory) - 1
        assert abs(low[0]) ** 2 == pytest.approx(0.5)
    assert math.isnan(frequency_response.half_power(0.1))
    assert math.isnan(frequency_response.half_power(0.0))


def test_equal_age() -> None:
    for window in (1, 3, 100):
        memory = frequency_response.memory_as_old_as(window)
        assert memory / (1 - memory) == pytest.approx((window - 1) / 2)
