"""The account of series of known story, and how far the interval of a growth ratio holds."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.mathematics.account import Account, Pushed, carried_from, lives, rest, worn_from

nan = math.nan
STEPS = np.arange(0, 70, 10)


def pushed(loss, decay, *, value=5.0, error=0.1, loss_error=0.0, decay_error=0.0, folds=None) -> Pushed:
    """The forces of some intervals; one number stands for all of them, or all checkpoints."""
    loss, decay = (np.asarray(each, dtype=np.float64) for each in (loss, decay))
    n = len(loss)
    of_folds = [np.repeat(each[:, None], 5, axis=1) for each in (decay, loss)] if folds is None else folds
    at = (np.full(n + 1, each) if np.ndim(each) == 0 else np.asarray(each) for each in (value, error))
    errors = (np.full(n, each) if np.ndim(each) == 0 else np.asarray(each) for each in (decay_error, loss_error))
    return Pushed(*at, decay, loss, *errors, *of_folds)


def over_all(told: Pushed):
    return told.ratio_over(np.ones(len(told.loss), dtype=bool))


# ---- ratios ----------------------------------------------------------------------------------------------------------


def test_a_ratio_needs_a_circuit_at_both_ends_and_a_pull() -> None:
    told = pushed([3.0, 3, 3, 3, nan, 3], [-2.0, -2, -2, 2, nan, 0], value=[5.0, 5, 0.05, 5, 5, 5, 5])
    np.testing.assert_array_equal(told.ratio, [1.5, nan, nan, nan, nan, nan])
    doubtful = pushed([3.0, 3], [-2.0, -2], error=[2.4, 2.6, 0.1])
    assert np.isnan(doubtful.ratio).all()
    np.testing.assert_array_equal(pushed([3.0, 3], [-2.0, -2], error=[0.1, 2.4, 2.6]).ratio, [1.5, nan])


def test_over_a_window_the_sum_of_pushes_over_the_sum_of_pulls() -> None:
    told = pushed([3.0, 1, 2, 100], [-2.0, -1, -4, -1])
    window = np.array([True, True, True, False])
    assert_allclose(told.ratio_over(window).value, 6 / 7)
    assert told.ratio_over(window).low == told.ratio_over(window).high  # the folds say all the same


def test_intervals_without_a_ratio_have_no_say_and_may_not_be_most() -> None:
    told = pushed([3.0, nan, 2, 100], [-2.0, nan, -4, 1])
    assert_allclose(over_all(told).value, 5 / 6)
    for few in (pushed([3.0, nan, nan, 100], [-2.0, nan, nan, 1]), pushed([nan], [nan]), pushed([3.0], [0.0])):
        assert np.isnan(over_all(few)).all()
    assert np.isnan(told.ratio_over(np.zeros(4, dtype=bool))).all()


def test_without_decay_there_is_no_ratio() -> None:
    assert np.isnan(over_all(pushed([3.0, 1], [0.0, 0]))).all()


def test_errors_of_the_forces_are_added_up_with_their_signs() -> None:
    """r = push/pull: what push is off by over the pull, and what the pull is off by, by r/pull; three times that."""
    told = pushed([3.0, 3], [-2.0, -2], loss_error=[0.5, -0.5], decay_error=[0.1, 0.1])
    assert_allclose(over_all(told).error, 3 * 1.5 * 0.2 / 4)
    told = pushed([3.0, 3], [-2.0, -2], loss_error=[0.5, 0.3], decay_error=[0.1, nan])
    assert_allclose(over_all(told).error, 3 * math.hypot(0.8 / 4, 1.5 * 0.1 / 4))
    assert_allclose(over_all(told).high - over_all(told).value, over_all(told).error)  # folds say all the same


def sampled(seed: int, n_pairs: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pushes and pulls [interval, pair], of which forces are means, and the fold of each pair. Their truth is 4/3 each
    time, and for all."""
    random = np.random.RandomState(seed)
    common = random.standard_normal((1, n_pairs))
    push, pull = (mean * np.ones((3, 1)) + 0.5 * common + random.standard_normal((3, n_pairs)) for mean in (4.0, 3.0))
    return push, pull, random.permutation(n_pairs) % 5


def of_sample(seed: int) -> Pushed:
    push, pull, fold = sampled(seed)
    without = [np.stack([values[:, fold != out].mean(1) for out in range(5)], axis=1) for values in (-pull, push)]
    return pushed(push.mean(1), -pull.mean(1), folds=without)


def test_the_jackknife_by_hand() -> None:
    """Pseudo-values of five folds, and Student's t of four degrees: 2.776."""
    push, pull, fold = sampled(3)
    found = over_all(of_sample(3))
    r = push.mean(1).sum() / pull.mean(1).sum()
    without = [push[:, fold != out].mean(1).sum() / pull[:, fold != out].mean(1).sum() for out in range(5)]
    pseudo = [5 * r - 4 * one for one in without]
    half = 2.7764451 * math.sqrt(sum((one - np.mean(pseudo)) ** 2 for one in pseudo) / (5 * 4))
    assert_allclose([found.value, found.low, found.high], [r, r - half, r + half], rtol=1e-7)


def test_the_interval_covers() -> None:
    """Of independent pairs dealt into five folds, 95 times of 100."""
    found = [over_all(of_sample(seed)) for seed in range(600)]
    assert 0.92 < np.mean([ratio.low < 4 / 3 < ratio.high for ratio in found]) < 0.98


# ---- what happened when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "exposure", "expected"),
    [
        ([1.5, 1.001, 0.995, 1.0, 0.98, 1.2], 0.2, (10, 40)),
        ([1.5, 1.001, 0.995, 1.0, 0.98, 1.2], 0.1, None),  # three tenths of e is too short
        ([1.0] * 6, 0.1, (0, 60)),
        ([1.0] * 6, [0.5, 0, 0, 0, 0, 0.01], (0, 60)),
        ([1.0, 1.0, nan, 1.0, 1.0, 1.0], 0.25, (30, 60)),  # the longer one; what is not known is a break
        ([1.0, 1.0, 1.0, nan, 1.0, 1.0], 0.25, (0, 30)),
        ([1.011, 0.989] * 3, 1.0, None),
        ([1.5] * 6, 1.0, None),
        ([nan] * 6, nan, None),
        ([1.0] * 6, nan, None),
    ],
)
def test_rest(ratio, exposure, expected) -> None:
    assert rest(STEPS, np.broadcast_to(np.array(exposure, dtype=np.float64), 6), np.array(ratio)) == expected


@pytest.mark.parametrize(
    ("ratio", "value", "expected"),
    [
        ([1.2, 0.98, 0.9, 0.8, 0.7, 0.6], [5, 9, 8, 7, 6, 5, 4], 10),
        ([1.2, 1.0, 0.999, 0.995, 0.7, 0.6], [5, 9, 9, 7, 6, 5, 4], 20),  # until then it rested
        ([1.2] + [0.995] * 5, [5, 9, 8, 7, 6, 5, 4.6], None),  # half of it is there to the end
        ([0.9] * 6, [1, 9, 8, 7, 6, 5, 4], 0),
        ([0.9] * 6, [9, 8, 7, 6, 5, 4, 3], 0),
        ([0.9, 1.0, 0.9, 0.9, 0.9, 0.9], [9, 8, 9, 6, 5, 4, 3], 20),  # at rest for one interval
        ([1.2, 0.9, nan, 0.9, nan, nan], [5, 9, 8, 7, 6, 5, 4], 10),  # what is not known says nothing
        ([1.2, 0.9, 0.9, 1.5, 1.5, 1.5], [5, 9, 5, 4, 4.2, 4.3, 4.4], 10),  # half of it is gone by then
        ([0.9] * 5 + [1.1], [9, 8, 7, 6, 5, 4, 4.2], 0),
        ([0.9] * 5 + [1.1], [9, 8, 7, 6, 5, 4, 5], None),  # half of it is there again
        ([0.9] * 3 + [1.1, 0.9, 0.9], [9, 8, 7, 6, 6.5, 5, 4], 40),
        ([1.2] * 6, [1, 2, 3, 4, 5, 6, 7], None),
        ([nan] * 6, [-1, -2, -3, -4, -5, -6, -7], None),  # there was never anything
        ([nan] * 6, [nan] * 7, None),
        ([], [3.0], None),
    ],
)
def test_worn_from(ratio, value, expected) -> None:
    steps = STEPS[: len(value)]
    assert worn_from(steps, np.array(ratio, dtype=np.float64), np.array(value, dtype=np.float64)) == expected


@pytest.mark.parametrize(
    ("generalizing", "memorizing", "expected"),
    [
        ([5, 4, 3, 2, 1, 0, 0], [3] * 7, 30),  # at equal losses it does not yet
        ([0] * 7, [3] * 7, 0),
        ([5, 1, 5, 1, 1, 1, 1], [3] * 7, 30),
        ([5, 1, 1, 1, 1, 1, 5], [3] * 7, None),
        ([nan] * 7, [nan] * 7, None),
        ([5, 4, nan, 2, 1, 0, 0], [3] * 7, 30),
    ],
)
def test_carried_from(generalizing, memorizing, expected) -> None:
    assert carried_from(STEPS, np.array([generalizing, memorizing], dtype=np.float64).T) == expected


def account(
    known_from=10, ratio=(1.5, 1.2, 1.005, 0.998, 0.995, 0.9), alone=(9, 8, 7, 6, 5, 4, 1), exposure=0.3, last=5.0
):
    memory = pushed(np.array(ratio), -np.ones(6), value=[1.0, 4, 8, 8, 8, 8, last])
    loss_alone = np.array([alone, [3] * 7], dtype=np.float64).T
    return Account.of(known_from, STEPS, np.full(6, exposure), memory, loss_alone)


def test_a_story() -> None:
    """The pairs are known at 10, and from twice that on the circuits are compared, until the rule carries; memory rests
    from 20 to 50."""
    found = account()
    assert found == (10, (20, 50), (20, 60), None, 60)
    assert found.within_plateau(np.array([10, 20, 50, 60])).tolist() == [False, True, True, False]


def test_the_plateau_ends_where_memory_is_worn_down() -> None:
    found = account(last=4.0, ratio=(1.5, 1.2, 1.005, 1.0, 0.995, 0.9))
    assert (found.rest, found.plateau, found.worn_from) == ((20, 40), (20, 40), 40)


def test_a_plateau_without_rest() -> None:
    """Until the rule carries, or to the end."""
    moving = (1.5, 1.2, 1.1, 0.9, 0.9, 0.9)
    assert account(ratio=moving).plateau == (20, 60)
    assert account(ratio=moving, alone=(9, 8, 7, 1, 1, 1, 1)).plateau == (20, 30)
    assert account(ratio=moving, alone=[9] * 7).plateau == (20, 60)
    assert account(ratio=moving, alone=[9] * 7).carried_from is None
    assert account(ratio=moving).rest is None


def test_rest_is_looked_for_within_the_plateau() -> None:
    assert account(alone=(9, 8, 7, 6, 1, 1, 1)).rest == (20, 40)
    assert account(known_from=20, ratio=(1.0,) * 6).rest == (40, 60)


def test_where_the_rule_carries_at_once_the_plateau_ends_at_three_times_the_step() -> None:
    found = account(alone=(9, 1, 1, 1, 1, 1, 1))
    assert (found.carried_from, found.plateau) == (10, (20, 30))


def test_where_pairs_are_never_known_nothing_is_told() -> None:
    assert account(known_from=None) == (None,) * 5
    assert not account(known_from=None).within_plateau(STEPS).any()


def test_pairs_known_at_the_last_checkpoint_leave_no_plateau() -> None:
    found = account(known_from=60)
    assert (found.known_from, found.rest, found.plateau, found.worn_from) == (60, None, None, None)


# ---- lives -----------------------------------------------------------------------------------------------------------


def a_life(*courses, n: int = 12, common: float = 0.0, error: float = 0.0, loss=None, decay=None):
    alpha = np.full((len(courses[0]), n), common, dtype=np.float64)
    alpha[:, : len(courses)] += np.array(courses, dtype=np.float64).T
    forces = [np.zeros((len(alpha) - 1, n)) if each is None else each for each in (loss, decay)]
    return lives(10 * np.arange(len(alpha)), alpha, np.full_like(alpha, error), *forces)


def test_two_lives_in_the_order_of_their_births() -> None:
    """The first dies, the second does not; what brought them up and down, beyond what it did to the level, is written
    beside them."""
    random = np.random.RandomState(0)
    loss, decay = random.standard_normal((2, 6, 12))
    late, early = [0, 0, 0, 0, 2, 4, 4.5], [0, 0.4, 2, 3, 1, 0.2, 0.1]
    alike = [force - force[:, 2:].mean(1, keepdims=True) for force in (loss, decay)]
    loss[:, 2:], decay[:, 2:] = (force[:, 2:].mean(1, keepdims=True) for force in (loss, decay))
    one, other = a_life(late, early, loss=loss, decay=decay)
    assert (one.frequency, one.born, one.peak, one.height, one.died) == (2, 20, 30, 3.0, 50)
    assert_allclose(one.rise, [force[1:3, 1].sum() for force in alike])
    assert_allclose(one.fall, [force[3:5, 1].sum() for force in alike])
    assert (other.frequency, other.born, other.peak, other.height, other.died) == (1, 40, 60, 4.5, None)
    assert_allclose(other.rise, [force[3:6, 0].sum() for force in alike])
    assert other.fall is None


def test_what_is_common_to_all_is_no_life() -> None:
    assert a_life([0.0] * 4, common=5.0) == []
    [life] = a_life([0, 2, 3, 3], common=5.0)
    assert (life.frequency, life.born, round(life.height, 9)) == (1, 10, 3.0)


@pytest.mark.parametrize(("peak", "error", "n_born"), [(0.51, 0.0, 1), (0.49, 0.0, 0), (3.0, 0.74, 1), (3.0, 0.76, 0)])
def test_born_by_half_a_logit_and_four_standard_errors(peak: float, error: float, n_born: int) -> None:
    assert len(a_life([0, peak, peak], error=error)) == n_born


def test_what_stays_below_a_tenth_of_the_highest_is_not_told() -> None:
    assert [life.frequency for life in a_life([0, 10, 10], [0, 0.9, 0.9], [0, 1.1, 1.1])] == [1, 3]


def test_born_for_good() -> None:
    """One that shows itself and hides again is born when it comes to stay; born at the first checkpoint, its rise has
    no interval before it."""
    [life] = a_life([0, 2, 0, 2, 3])
    assert life.born == 30
    of_one = np.eye(12)[:1] * np.ones((2, 1))
    [life] = a_life([2, 3, 3], loss=of_one, decay=-of_one)
    assert (life.born, life.peak, life.rise) == (0, 10, (1.0, -1.0))


def test_dead_for_good() -> None:
    [life] = a_life([0, 4, 0.1, 3, 0.3])
    assert life.died == 40
    [life] = a_life([0, 4, 0.1, 3, 0.5])
    assert life.died is None


def test_a_life_with_a_refused_interval_does_not_say_what_moved_it() -> None:
    loss = np.array([nan, 2.0, 2.0, 2.0])[:, None] * np.eye(12)[:1]
    [life] = a_life([0, 1, 4, 1, 0], loss=loss, decay=-loss)
    assert np.isnan(life.rise).all()
    assert life.fall == (4.0, -4.0)


def test_no_lives_where_nothing_is_known() -> None:
    assert a_life([0, nan, 3]) == []
    assert lives(np.arange(3), np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((2, 0)), np.zeros((2, 0))) == []
