"""The rule of double descent on planted curves and on curves with nothing to find; thresholds and peaks."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.double_descent import interpolation_threshold, peak_interval, peak_shift, shape
from interp.mathematics.intervals import level_crossing

WIDTHS = np.array([2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64], dtype=float)
PEAKED = np.array([0.42, 0.33, 0.24, 0.25, 0.29, 0.33, 0.345, 0.35, 0.32, 0.29, 0.26, 0.23, 0.21])
FLAT = np.ones(len(WIDTHS))
LOUDER = 1 + 2 * np.exp(-0.5 * ((np.arange(len(WIDTHS)) - 7) / 2) ** 2)  # three times as loud in the middle


def kinds(truth: np.ndarray, noise: np.ndarray, n_draws: int, grids: int) -> dict[str, float]:
    """How often a planted truth is called what. What a draw has everywhere, easy or hard examples, is in it too."""
    generator = np.random.default_rng(n_draws)
    found = []
    for _ in range(grids):
        of_draw = 3 * generator.normal(size=n_draws)
        values = truth[:, None] + noise[:, None] * generator.normal(size=(len(truth), n_draws)) + of_draw
        found.append(shape(values).kind)
    return {kind: found.count(kind) / grids for kind in ("double descent", "U-shaped", "monotone", "not shown")}


@pytest.mark.parametrize(
    ("n_draws", "grids", "noise"),
    [(5, 500, FLAT), (2, 250, FLAT), (3, 250, FLAT), (10, 250, FLAT), (3, 250, LOUDER), (5, 250, LOUDER)],
)
def test_a_flat_truth_is_called_a_double_descent_in_five_percent_of_grids_at_most(
    n_draws: int, grids: int, noise: np.ndarray
):
    called = kinds(0 * WIDTHS, noise, n_draws, grids)
    assert called["double descent"] + called["U-shaped"] + called["monotone"] > 0  # the rule can err, and is counted
    assert called["double descent"] <= 0.05
    assert called["U-shaped"] <= 0.05


@pytest.mark.parametrize("n_draws", [2, 3, 5])
def test_a_curve_that_only_falls_or_only_dips_is_no_double_descent(n_draws: int):
    falling = kinds(np.linspace(6, 0, len(WIDTHS)), FLAT, n_draws, 100)
    assert falling["double descent"] <= 0.05
    assert falling["U-shaped"] <= 0.05
    dipping = kinds(np.abs(np.arange(len(WIDTHS)) - 5) * 2.0, FLAT, n_draws, 100)
    assert dipping["double descent"] <= 0.05
    assert dipping["U-shaped"] >= 0.9


@pytest.mark.parametrize(("n_draws", "power"), [(3, 0.9), (5, 0.99)])
def test_a_planted_peak_is_found(n_draws: int, power: float):
    """Of the height that digits have, .11 above the dip, with the noise that they have, .025 a network."""
    called = kinds(PEAKED, 0.025 * FLAT, n_draws, 100)
    assert called["double descent"] >= power


def test_what_may_have_a_high_peak_is_not_monotone():
    """Test errors of addition modulo 59 at nine widths, 1,090 pairs, five draws: a draw generalizes or does not."""
    errors = np.array(
        [
            [0.63, 0.72, 0.75, 0.87, 0.59],
            [0.98, 0.63, 0.61, 0.64, 0.2],
            [0.79, 0.76, 0.0, 0.99, 0.0],
            [0.98, 1.0, 0.0, 0.01, 0.25],
            [1.0, 0.99, 0.96, 0.93, 0.96],
            [1.0, 0.98, 0.97, 0.0, 0.84],
            [1.0, 0.99, 0.98, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.01, 0.9],
            [0.0, 0.0, 0.02, 0.0, 0.0],
        ]
    )
    assert shape(errors).kind == "not shown"
    falling = np.linspace(0.7, 0, 7)[:, None] + 0.01 * np.random.default_rng(0).normal(size=(7, 5))
    assert shape(falling).kind == "monotone"


def test_what_all_networks_of_a_draw_share_does_not_count():
    """An error that is the same for all widths of a draw is no reason for doubt, and none for a finding."""
    generator = np.random.default_rng(0)
    values = PEAKED[:, None] + 0.01 * generator.normal(size=(len(WIDTHS), 4))
    shifted = values + np.array([0.0, 5.0, -3.0, 100.0])
    assert_allclose(shape(shifted).rise.error, shape(values).rise.error, rtol=1e-9)
    assert shape(shifted).kind == "double descent"


def test_the_error_of_a_difference_is_that_of_pairs_where_the_grid_is_equally_loud():
    """σ√(2/D), by either way: with many draws both come to it."""
    values = PEAKED[:, None] + 0.02 * np.random.default_rng(1).normal(size=(len(WIDTHS), 4000))
    found = shape(values)
    assert (found.peak, found.rise.high, found.rise.low, found.fall.low) == (7, 7, 2, 12)
    assert found.rise.by == pytest.approx(0.11, abs=0.003)
    assert found.fall.by == pytest.approx(0.14, abs=0.003)
    assert found.rise.error == pytest.approx(0.02 * math.sqrt(2 / 4000), rel=0.05)


def test_the_peak_is_found_where_the_curve_begins_above_it():
    """The highest point of the interior is on the way down from the first; the peak is the one with two sides."""
    assert int(PEAKED[1:-1].argmax()) + 1 == 7
    higher = np.concatenate([[0.9, 0.6], PEAKED])
    assert int(higher[1:-1].argmax()) + 1 == 1
    assert shape(higher[:, None] + np.array([0.0, 0.01])).peak == 9


def test_what_cannot_be_told_is_not_shown():
    draws = np.array([[0.0, 0.01, -0.01]])
    assert shape(PEAKED[:, None] + draws).kind == "double descent"
    assert shape(PEAKED[:, None] + draws, reaches_zero=False).kind == "not shown"
    assert shape(PEAKED[:, None]).kind == "not shown"  # one draw
    assert shape((PEAKED[:, None] + draws)[:2]).kind == "not shown"  # no interior
    assert shape(0 * PEAKED[:, None] + 0.3 + 0 * draws).kind == "not shown"  # flat, without any noise
    with pytest.raises(ValueError, match="an error is not finite"):
        shape(np.where(PEAKED[:, None] > 0.4, math.nan, PEAKED[:, None]))


@pytest.mark.parametrize("n_draws", [3, 5, 10])
def test_the_interval_of_the_threshold_holds_it(n_draws: int):
    """Every draw has a threshold of its own, with a spread of 15 %; the truth is where the mean of many comes to ε."""

    def curves(count: int) -> np.ndarray:
        return np.maximum(0, 0.3 * (np.log(13) + 0.15 * generator.normal(size=count) - np.log(WIDTHS)[:, None]))

    generator = np.random.default_rng(0)
    many = curves(20_000).mean(1)
    truth = math.exp(level_crossing(np.log(WIDTHS), many, 0.01, rising=False))
    ends = [interpolation_threshold(WIDTHS, curves(n_draws))[1:] for _ in range(150)]
    held = sum(low <= truth <= high for low, high in ends) / len(ends)
    assert 0.87 <= held <= 0.99


def test_a_threshold_outside_the_grid_is_said_to_be_outside():
    falling = np.linspace(0.5, 0.2, len(WIDTHS))[:, None] + np.zeros(3)
    assert interpolation_threshold(WIDTHS, falling)[0] == math.inf
    assert interpolation_threshold(WIDTHS, 0 * falling)[0] == 0
    back = np.array([0.2, 0.0, 0.2, 0.0])[:, None] + np.zeros(3)  # from which on it stays
    assert 4 < interpolation_threshold(np.array([1.0, 2.0, 4.0, 8.0]), back)[0] < 8


def test_the_interval_of_the_peak_holds_the_peaks_of_equal_height():
    """Two draws of three peak at one place, the third at another: both places are in the interval; of equal draws none
    but the one."""
    one, other = PEAKED.copy(), PEAKED.copy()
    other[9] += 0.2
    found = peak_interval(WIDTHS, np.stack([one, one, other], axis=1))
    assert found == (24.0, 16.0, 24.0)
    assert peak_interval(WIDTHS, np.stack([one, one, one], axis=1)) == (16.0, 16.0, 16.0)
    single = peak_interval(WIDTHS, one[:, None])
    assert single[0] == 16
    assert math.isnan(single[1])
    assert all(map(math.isnan, peak_interval(WIDTHS[:2], PEAKED[:2, None])))


def test_what_draws_share_is_no_doubt_about_a_shift():
    """Peaks that differ between draws, and move by one point in each: every draw says a factor of 2."""
    places = np.array([2, 3, 4])
    grid = 2.0 ** np.arange(8)
    one = np.stack([np.where(np.arange(8) == at, 1.0, 0.1 * (np.arange(8) == 0)) for at in places], axis=1)
    other = np.stack([np.where(np.arange(8) == at + 1, 1.0, 0.1 * (np.arange(8) == 0)) for at in places], axis=1)
    assert peak_interval(grid, one)[1:] == (4.0, 16.0)
    assert peak_shift(grid, one, other) == (2.0, 2.0, 2.0)
