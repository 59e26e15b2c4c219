"""The forces on numbers of known derivative: closed forms, the order of the error, and what is not known."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from interp.mathematics import forces as mechanics
from interp.mathematics.forces import MOST_RESIDUAL, Derivatives, Forces, forces

EXACT = {"rtol": 1e-12, "atol": 1e-13}
nan = np.nan


def polynomial(w: np.ndarray, powers: list[int]) -> Derivatives:
    """S = Σ_i w_i^n for weights w [moment, weight] and each n, with all that is asked of it."""

    def along(way: np.ndarray) -> np.ndarray:
        return np.stack([(n * w ** (n - 1) * way).sum(1) for n in powers], axis=1)

    def other(offset: int) -> np.ndarray:
        ways = np.full_like(w, nan)
        if offset > 0:
            ways[:-offset] = w[offset:] - w[:-offset]
        else:
            ways[-offset:] = w[-offset:] - w[:offset]
        return along(ways)

    value = np.stack([(w**n).sum(1) for n in powers], axis=1)
    return Derivatives(value, along(w), *(other(offset) for offset in (-1, 1, -2, 2)))


def walk(n: int, seed: int = 0) -> np.ndarray:
    return 1 + 0.3 * np.random.RandomState(seed).standard_normal((n, 4))


def test_by_hand() -> None:
    """D at both ends from c₀ and c₁, R the rest of the way, the mean of the two slopes on each."""
    w, powers, coefficients = walk(5), [1, 2, 5], [(0.1, 0.02), (0.3, 0.0), (0.0, 0.2), (0.05, 0.05)]
    found = forces(polynomial(w, powers), coefficients, [])
    for i, (c0, c1) in enumerate(coefficients):
        moved = -(c0 * w[i] + c1 * w[i + 1])
        for place, n in enumerate(powers):
            slope = (n * w[i] ** (n - 1) + n * w[i + 1] ** (n - 1)) / 2
            assert_allclose(found.decay[i, place], slope @ moved, **EXACT)
            assert_allclose(found.loss[i, place], slope @ (w[i + 1] - w[i] - moved), **EXACT)
            change = (w[i + 1] ** n - w[i] ** n).sum()
            assert_allclose(found.change[i, place], change, **EXACT)
            assert_allclose(found.residual[i, place], change - slope @ (w[i + 1] - w[i]), **EXACT)


def test_all_three_add_up_to_the_change() -> None:
    found = forces(polynomial(walk(9), [1, 2, 3, 7]), [(0.1, 0.03)] * 8, [(0.2, 0.06)] * 7)
    assert_allclose(found.decay + found.loss + found.residual, found.change, **EXACT)


def test_what_is_at_most_quadratic_has_no_residual() -> None:
    found = forces(polynomial(walk(9), [1, 2, 3]), [(0.1, 0.0)] * 8, [])
    assert_allclose(found.residual[:, :2], 0, atol=1e-13)
    assert (abs(found.residual[:, 2]) > 1e-4).all()


def test_the_residual_of_a_cube() -> None:
    """The trapezoid rule misses −S‴Δ³/12: of w³, −Δ³/2."""
    w = walk(6)
    found = forces(polynomial(w, [3]), [(0.0, 0.0)] * 5, [])
    assert_allclose(found.residual[:, 0], -(np.diff(w, axis=0) ** 3).sum(1) / 2, **EXACT)


def test_which_coefficient_belongs_to_which_end() -> None:
    """Nothing is left for the loss where weights moved by −(c₀ w₀ + c₁ w₁) and nothing else: w₁ = w₀(1 − c₀)/(1 +
    c₁)."""
    w = np.array([2.0, 2.0 * (1 - 0.1) / (1 + 0.05)])[:, None] * np.ones(3)
    found = forces(polynomial(w, [1, 2, 5]), [(0.1, 0.05)], [])
    assert_allclose(found.loss, 0, atol=1e-12)
    assert (abs(forces(polynomial(w, [2]), [(0.05, 0.1)], []).loss) > 0.1).all()


def test_the_error_of_a_cube_is_exact() -> None:
    """Over equal ways the error goes as their third power alone, so that a third of the difference to twice the spacing
    is all of it: what decay and loss are off by together is the residual."""
    w = 1 + 0.1 * np.arange(7)[:, None] * np.array([1.0, -0.5])
    exposed = [(0.1 * i, 0.02) for i in range(1, 7)]
    # Of weights on a line D is the same from every second moment: w₁ is the mean of w₀ and w₂.
    coarse = [(a[0] + (a[1] + b[0]) / 2, (a[1] + b[0]) / 2 + b[1]) for a, b in pairwise(exposed)]
    found = forces(polynomial(w, [3]), exposed, coarse)
    paired = found._replace(**{name: values.reshape(3, 2, 1).sum(1) for name, values in found._asdict().items()})
    assert_allclose(paired.decay_error + paired.loss_error, -paired.residual, **EXACT)
    assert_allclose(found.decay_error[::2], found.decay_error[1::2], **EXACT)


def test_without_decay_all_of_the_error_is_that_of_the_loss() -> None:
    w = 1 + 0.1 * np.arange(5)[:, None] * np.ones(2)
    found = forces(polynomial(w, [3]), [(0.0, 0.0)] * 4, [(0.0, 0.0)] * 3)
    assert_allclose(found.decay_error, 0, atol=0)
    assert_allclose(found.loss_error, found.loss - found.change, **EXACT)


def test_richardson_tells_the_error_of_a_curved_way() -> None:
    """Decay that is exact by integration: w = e^{−t} + a sin t, of which D = −∫ w dt; at half the spacing the error is
    a quarter, and what is told of it is within a tenth of it."""
    t, a = np.linspace(0, 2, 2001), 0.4
    w, S_slope = np.exp(-t) + a * np.sin(t), 3 * (np.exp(-t) + a * np.sin(t)) ** 2
    dense = np.r_[0, np.cumsum((S_slope * -w)[:-1] + (S_slope * -w)[1:])] * (t[1] - t[0]) / 2
    errors = []
    for stride in (100, 200):
        at = w[::stride][:, None]
        spacing = t[stride]
        line = spacing / 2, spacing / 2
        n = len(at) - 1
        found = forces(polynomial(at, [3]), [line] * n, [(spacing, spacing)] * (n - 1))
        true = found.decay[:, 0] - np.diff(dense[::stride])
        assert_allclose(found.decay_error.sum(), true.sum(), rtol=0.1)
        errors.append(true.sum())
    assert_allclose(errors[1] / errors[0], 4, rtol=0.1)


@pytest.mark.parametrize(("n", "expected"), [(0, []), (1, []), (2, [0]), (3, [0, 1]), (4, [0, 2]), (7, [0, 2, 4, 5])])
def test_every_interval_has_a_pair(n: int, expected: list[int]) -> None:
    firsts = mechanics.pairs_of_intervals(n)
    assert firsts == expected
    assert n < 2 or {place for first in firsts for place in (first, first + 1)} == set(range(n))


def test_an_interval_left_over_shares_the_error_of_the_last_pair() -> None:
    at = polynomial(walk(4), [3])
    found = forces(at, [(0.1, 0.0)] * 3, [(0.1, 0.1)] * 2)
    assert np.isfinite(found.loss_error).all()
    assert_array_equal(found.loss_error[1], found.loss_error[2])
    assert found.loss_error[0] != found.loss_error[1]


def test_unknown_coefficients() -> None:
    """Neither decay nor loss, nor their errors; the residual does not ask for them."""
    at = polynomial(walk(5), [2, 3])
    known = forces(at, [(0.1, 0.0)] * 4, [(0.1, 0.1)] * 3)
    found = forces(at, [None] * 4, [None] * 3)
    for name in ("decay", "loss", "decay_error", "loss_error"):
        assert np.isnan(getattr(found, name)).all()
    assert_array_equal(found.residual, known.residual)
    assert_array_equal(found.change, known.change)
    assert not found.used.any()
    one = forces(at, [(0.1, 0.0), None, (0.1, 0.0), (0.1, 0.0)], [None, None, (0.1, 0.1)])
    assert_array_equal(np.isnan(one.loss[:, 0]), [False, True, False, False])
    assert_array_equal(np.isnan(one.loss_error[:, 0]), [True, True, False, False])


@pytest.mark.parametrize("n", [1, 2])
def test_one_moment_and_two(n: int) -> None:
    found = forces(polynomial(walk(n), [2, 3]), [(0.1, 0.0)] * (n - 1), [])
    assert {values.shape for values in found} == {(n - 1, 2)}
    assert np.isnan(found.loss_error).all()
    assert np.isfinite(found.loss).all()


def test_what_goes_through_each_tensor_adds_up_to_the_whole() -> None:
    """Two tensors of two weights each, two numbers S: by hand through each, and together the forces on S. What a moment
    does not know its two intervals do not."""
    w, powers, coefficients = walk(4), [2, 3], [(0.1, 0.02), (0.3, 0.0), None]
    parts = [polynomial(w[:, some], powers) for some in (slice(0, 2), slice(2, 4))]
    along = np.stack([[each.along_weights, each.from_last, each.to_next] for each in parts], axis=-1)
    along = along.swapaxes(0, 1)  # [moment, along what, S, tensor]
    found, whole = mechanics.through_tensors(along, coefficients), forces(polynomial(w, powers), coefficients, [])
    assert found.shape == (3, 2, 3, 2)
    for place, part in enumerate(parts):
        expected = forces(part, coefficients, [])
        assert_allclose(found[:, :, 0, place], expected.decay, **EXACT)
        assert_allclose(found[:, :, 1, place], expected.loss, **EXACT)
    assert_allclose(found[:, :, 0].sum(2), whole.decay, **EXACT)
    assert_allclose(found[:, :, 1].sum(2), whole.loss, **EXACT)
    assert np.isnan(found[:, :, 2]).all()
    along[1] = nan
    assert np.isnan(mechanics.through_tensors(along, [(0.1, 0.0)] * 3)[:2]).all()


def a_force(*, change=1.0, decay=-1.0, loss=2.0, residual=0.0, decay_error=0.1, loss_error=0.1) -> Forces:
    return Forces(*(np.array([[value]]) for value in (change, decay, loss, residual, decay_error, loss_error)))


@pytest.mark.parametrize(
    ("share", "is_used"), [(0.0, True), (0.99, True), (1.01, False), (-0.99, True), (-1.01, False), (nan, False)]
)
def test_refused_above_a_fiftieth_of_both_forces(share: float, is_used: bool) -> None:
    """Of |decay| + |loss|, not of what comes of both: at rest nothing comes of them."""
    given = a_force(decay=-2.0, loss=2.0, change=0.0, residual=share * 0.02 * 4)
    assert given.used.item() is is_used
    found = mechanics.refused(given)
    for name in ("decay", "loss", "decay_error", "loss_error"):
        assert np.isnan(getattr(found, name).item()) != is_used
    assert_array_equal(found.residual, given.residual)
    assert_array_equal(found.change, given.change)


def test_the_spacing_that_would_do() -> None:
    """Of a way around one point, where the slope hardly depends on how long it is: at the spacing told the residual is
    as much as is allowed."""

    def over(updates: float) -> Forces:
        return forces(polynomial(1 + 0.0025 * updates * np.array([[-1.0], [1.0]]), [12]), [(0.0, 0.0)], [])

    told = mechanics.spacing_that_would_do(over(20.0), np.array([20.0])).item()
    assert 5 < told < 12
    found = over(told)
    share = (abs(found.residual) / (MOST_RESIDUAL * (abs(found.decay) + abs(found.loss)))).item()
    assert 0.8 < share < 1.25
    assert mechanics.spacing_that_would_do(over(told / 2), np.array([told / 2])).item() == told / 2


def test_no_spacing_is_told_where_nothing_is_known() -> None:
    assert np.isnan(mechanics.spacing_that_would_do(a_force(loss=nan), np.array([5.0]))).all()


def test_degree_and_ratio_of_what_is_there() -> None:
    """Not clear of a tenth of a logit, of two standard errors, or not known: no degree, no ratio. Nothing pulled down:
    no ratio."""
    strength, error = np.array([2.0, 0.1, 0.11, 2.0, nan, 2.0]), np.array([0.0, 0.0, 0.0, 1.0, 0.0, nan])
    clear = mechanics.is_clear(strength, error)
    assert clear.tolist() == [True, False, True, False, False, False]
    assert_allclose(mechanics.degree(strength, error, 3 * strength), [3, nan, 3, nan, nan, nan], rtol=1e-15)
    decay = np.array([-1.0, 0.0, 1.0, nan, -1.0, -4.0])
    loss = np.array([1.5, 1.0, 1.0, 1.0, nan, -2.0])
    assert_array_equal(mechanics.growth_ratio(decay, loss, np.ones(6, dtype=bool)), [1.5, nan, nan, nan, nan, -0.5])
    assert np.isnan(mechanics.growth_ratio(decay, loss, np.zeros(6, dtype=bool))).all()


def test_sums_of_strengths() -> None:
    """The forces on a sum are the sums of the forces."""
    at, matrix = polynomial(walk(5), [1, 2, 3]), np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    coefficients, coarse = [(0.1, 0.02)] * 4, [(0.2, 0.04)] * 3
    summed = Derivatives(*(values @ matrix for values in at))
    of_sums, sums = forces(summed, coefficients, coarse), forces(at, coefficients, coarse)
    for name, values in of_sums._asdict().items():
        assert_allclose(values, getattr(sums, name) @ matrix, rtol=1e-12, atol=1e-12)
