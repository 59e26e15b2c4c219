"""The events of learning curves whose events are known, against slow second implementations and by what must not move
them."""

import math

import numpy as np
import pytest
from numpy.testing import assert_equal

from interp.mathematics import grokking
from interp.mathematics.grokking import Crossing, Episode

LN_P = math.log(113)
UNDECIDED = grokking.UNDECIDED


def rising(steps: np.ndarray, at: float) -> np.ndarray:
    """Accuracy in proportion to the step, 1 from `at` on."""
    return np.minimum(steps / at, 1)


def stepping(steps: np.ndarray, at: float, low: float = 0.01) -> np.ndarray:
    return np.where(steps >= at, 1.0, low)


def verdict_of(steps: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> str:
    return grokking.events(steps, np.array([train, held_out])).verdict


# ---- when something began and held -----------------------------------------------------------------------------------


def slow_crossing(steps: list[float], states: list[float]) -> Crossing | None:
    """By the words of the module, one point after the other."""
    known = [(step, state == 1) for step, state in zip(steps, states, strict=True) if state in (0, 1)]
    for place, (step, is_reached) in enumerate(known):
        window = [point for point in known[place:] if point[0] <= 1.5 * step]
        if len(window) < 5:
            window = known[place : place + 5]
        missed = sum(not state for _, state in window)
        if is_reached and missed <= (max(1, len(window) // 10) if len(window) >= 5 else 0):
            not_before = [earlier for earlier, state in known[:place] if not state]
            after = not_before[-1] if not_before else 0 if step > 0 else -1
            ends_early = known[-1][0] < 1.5 * step or len(known) - place < 5
            return Crossing(after, step, known[-1][0] - step if ends_early else math.nan)
    return None


def random_states(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Steps in any rhythm, and states that mostly turn from 0 to 1, with misses, unknown and undecided ones."""
    n = random.randint(0, 40)
    steps = np.cumsum(random.choice([1, 1, 2, 10, 50], size=n)) - random.randint(0, 2)
    likely = np.where(np.arange(n) >= random.randint(0, n + 1), random.choice([0.7, 0.9, 0.97]), 0.1)
    states = (random.uniform(size=n) < likely).astype(float)
    unknown = random.uniform(size=n)
    states[unknown < 0.1] = np.nan
    states[(unknown > 0.1) & (unknown < 0.15)] = UNDECIDED
    return steps, states


def test_a_crossing_is_what_its_definition_says_of_a_thousand_random_curves() -> None:
    random, found = np.random.RandomState(0), set()
    for _ in range(1000):
        steps, states = random_states(random)
        one, other = grokking.crossing(steps, states), slow_crossing(steps.tolist(), states.tolist())
        assert_equal(one, other)
        found.add(None if one is None else math.isnan(one.seen_for))
    assert found == {None, True, False}


def test_a_crossing_names_the_last_step_before_it_that_is_known_not_to_have_reached_it() -> None:
    nan, steps = math.nan, np.arange(0, 120, 10)
    states = np.array([0, 0, 1, 0, 0, nan, UNDECIDED, nan, 1, 1, 1, 1])
    assert grokking.crossing(steps, states) == Crossing(40, 80, 30)
    # An untrained network has reached nothing, whether it was logged or not.
    assert grokking.crossing(steps[8:], states[8:]) == Crossing(0, 80, 30)
    at_once = grokking.crossing(np.arange(5), np.ones(5))
    assert at_once is not None
    assert (at_once.after, at_once.at) == (-1, 0)
    assert math.isnan(at_once.interval)


def test_how_long_it_was_seen_to_hold_is_said_where_the_run_ends_too_soon() -> None:
    """From step 80 on it has to hold until step 120, for five points at least."""
    for end in (90, 100, 110, 120, 130, 500):
        steps = np.arange(0, end + 1, 10)
        found = grokking.crossing(steps, (steps >= 80) * 1.0)
        assert_equal(found, Crossing(70, 80, end - 80 if end < 120 else math.nan))
    sparse = np.array([0, 80, 120, 160, 200])
    assert_equal(grokking.crossing(sparse, np.array([0, 1, 1, 1, 1.0])), Crossing(0, 80, 120))


def test_a_lucky_point_is_no_crossing_and_five_that_miss_two_are_none() -> None:
    steps = np.arange(0, 200, 10)
    lucky = (steps == 50) * 1.0
    assert grokking.crossing(steps, lucky) is None
    two_of_five = np.where(np.isin(steps, [90, 110]), 0.0, steps >= 80)
    found = grokking.crossing(steps, two_of_five)
    assert found is not None
    assert found.at == 100  # of 100 … 140 it missed one


@pytest.mark.parametrize("every", [10, 1])
def test_a_single_fall_never_moves_a_crossing(every: int) -> None:
    """As long as five points are left to see it."""
    steps = np.arange(0, 301, every)
    states = (steps >= 110) * 1.0
    before = grokking.crossing(steps, states)
    for fall in np.flatnonzero(steps > 110):
        fallen = states.copy()
        fallen[fall] = 0
        assert_equal(grokking.crossing(steps, fallen), before)


def test_the_highest_accuracy_that_was_held_is_the_highest_level_that_was_crossed() -> None:
    random = np.random.RandomState(1)
    for _ in range(200):
        n = random.randint(1, 30)
        steps = np.cumsum(random.choice([1, 5, 20], size=n))
        accuracy = np.round(np.clip(np.linspace(0, 1, n) + 0.2 * random.standard_normal(n), 0, 1), 1)
        accuracy[random.uniform(size=n) < 0.1] = np.nan
        held = {}
        for level in sorted({float(value) for value in accuracy if math.isfinite(value)}):
            states = [math.nan if math.isnan(value) else float(value >= level) for value in accuracy]
            if crossed := slow_crossing(steps.tolist(), states):
                held[level] = crossed.at
        expected = max(held.items()) if held else (math.nan, math.nan)
        assert_equal(grokking.highest_held(steps, accuracy), expected)


# ---- the verdict -----------------------------------------------------------------------------------------------------

EVERY_TEN = np.arange(0, 2001, 10)


def test_comprehension_hangs_on_no_point() -> None:
    """Both are learned together, at 80 and 110: whatever later point of either curve falls to 98.5 %, it stays so."""
    train, held_out = rising(EVERY_TEN, 80), rising(EVERY_TEN, 110)
    assert verdict_of(EVERY_TEN, train, held_out) == "comprehension"
    for curve, first in ((train, 80), (held_out, 110)):
        for place in np.flatnonzero(first < EVERY_TEN):
            kept, curve[place] = curve[place], 0.985
            assert verdict_of(EVERY_TEN, train, held_out) == "comprehension"
            curve[place] = kept


@pytest.mark.parametrize(
    ("memorized", "generalized", "expected"),
    [
        (100, 310, "grokking"),  # g₀ = 300 = 3 m₁
        (100, 300, "unknown"),  # g₀ = 290 < 3 m₁, and g₁ = 300 > 3 m₀ = 270: it may be either
        (100, 270, "unknown"),
        (100, 260, "comprehension"),  # g₁ = 260 < 3 m₀ = 270
        (100, 90, "comprehension"),  # g₁ = m₀
        (100, 50, "comprehension"),
        (100, 9999, "memorization"),
        (9999, 9999, "confusion"),
        (9999, 500, "comprehension"),  # noisy labels: what it generalized it never memorized
        (0, 0, "unknown"),  # the record begins too late
        (0, 30, "unknown"),  # perhaps it had memorized long before
        (0, 1000, "unknown"),
        (0, 9999, "memorization"),
    ],
)
def test_the_rule_of_three_counts_between_logged_steps(memorized: int, generalized: int, expected: str) -> None:
    assert verdict_of(EVERY_TEN, stepping(EVERY_TEN, memorized), stepping(EVERY_TEN, generalized)) == expected


def test_a_delay_is_known_no_better_than_checkpoints_tell() -> None:
    steps = np.array([0, 100, 400, 1000])
    found = grokking.events(steps, np.array([[0.01, 1, 1, 1], [0, 0.23, 0.43, 1]]))
    assert (found.delay, found.verdict) == ((300, 1000), "grokking")
    assert found.memorized == Crossing(0, 100, 900)
    assert found.generalized == Crossing(400, 1000, 0)


@pytest.mark.parametrize("steps", [[0, 1000, 2000], [0, 1000, 2900], [0, 100, 299]])
def test_steps_too_far_apart_tell_neither_grokking_nor_comprehension(steps: list[int]) -> None:
    """Memorized by the second checkpoint and generalized by the third: perhaps in one step, perhaps in hundreds."""
    found = grokking.events(np.array(steps), np.array([[0.1, 1, 1], [0, 0.2, 1]]))
    assert found.verdict == "unknown"
    assert found.delay == (0, steps[2] - steps[0])
    at_once = grokking.events(np.array(steps), np.array([[0.1, 1, 1], [0, 1, 1]]))
    assert (at_once.verdict, at_once.delay) == ("unknown", (0, steps[1] - steps[0]))


def test_the_events_of_accuracies() -> None:
    steps = np.array([0, 10, 20, 40, 80, 160, 320])
    train, held_out = [0.1, 0.5, 0.99, 1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.2, 0.99, 0.6, 0.995, 1.0]
    found = grokking.events(steps, np.array([train, held_out]))
    # At 40 four are left, and one misses.
    assert_equal(found.memorized, Crossing(10, 20, math.nan))
    assert_equal(found.generalized, Crossing(80, 160, 160))
    assert found.falls == (Episode(80, 0.6, 160),)  # after it was first reached, though that did not hold
    assert (found.reached, found.reached_at, found.verdict) == (1.0, 320, "grokking")


def test_losses_stand_in_for_accuracies_that_are_not_known() -> None:
    steps, unknown = np.array([0, 10, 20, 40, 80, 160, 320]), np.full((2, 7), np.nan)
    losses = np.array([[2.0, 1.0, 0.01, 0.0, 0.0, 0.0, 0.0], [2.0, 3.0, 3.0, 3.0, 2.0, 0.3, 0.002]])
    assert_equal(grokking.reached(unknown[1], losses[1], math.log(7)), [0, 0, 0, 0, 0, UNDECIDED, 1])
    found = grokking.events(steps, unknown, losses, math.log(7))
    assert found.memorized is not None
    assert (found.memorized.at, found.generalized, found.verdict) == (20, Crossing(80, 320, 0), "grokking")


def test_what_is_not_known_has_no_events() -> None:
    found = grokking.events(np.arange(7), np.full((2, 7), np.nan))
    assert (found.memorized, found.generalized, found.falls, found.verdict) == (None, None, (), "unknown")
    assert np.isnan([*found.delay, found.reached, found.reached_at]).all()
    assert {value for name, value in found.times.items() if name != "falls"} == {None}


def test_too_few_independent_held_out_pairs_tell_nothing_whatever_the_curves() -> None:
    curves = np.array([stepping(EVERY_TEN, 100), stepping(EVERY_TEN, 1000)])
    for independent, expected in ((0, "unknown"), (19, "unknown"), (20, "grokking"), (None, "grokking")):
        assert grokking.events(EVERY_TEN, curves, independent=independent).verdict == expected
    never = np.array([stepping(EVERY_TEN, 100), np.zeros(len(EVERY_TEN))])
    assert grokking.events(EVERY_TEN, never, independent=19).verdict == "unknown"


def random_curves(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, and accuracies and losses of train and held-out pairs that rise somewhere, with noise."""
    n = random.randint(6, 60)
    steps = np.cumsum(random.choice([1, 5, 20], size=n)) - 1
    at = random.uniform(0, 1.3 * steps[-1], size=2)[:, None]
    accuracy = np.clip(steps / np.maximum(at, 1) - 0.05 * (random.uniform(size=(2, n)) < 0.1), 0.01, 1)
    loss = LN_P * (1 - accuracy) * random.uniform(0.5, 2, size=(2, n))
    if random.uniform() < 0.3:  # and perhaps it is lost again
        accuracy[1, -random.randint(1, 6) :], loss[1, -random.randint(1, 6) :] = 0.3, 3.0
    kind = random.randint(3)
    return steps, accuracy if kind else np.full_like(accuracy, np.nan), loss if kind < 2 else np.full_like(loss, np.nan)


def test_the_verdict_knows_no_unit_of_time_and_no_rows_without_values() -> None:
    random, seen = np.random.RandomState(2), set()
    for _ in range(400):
        steps, accuracy, loss = random_curves(random)
        before = grokking.events(steps, accuracy, loss, LN_P)
        seen.add(before.verdict)
        scaled = grokking.events(7 * steps, accuracy, loss, LN_P)
        assert_equal(scaled.delay, (7 * before.delay[0], 7 * before.delay[1]))
        # Between the logged steps others that say nothing.
        finer = np.arange(7 * steps[-1] + 4)
        among = np.full((2, 2, len(finer)), np.nan)
        among[0][:, 7 * steps], among[1][:, 7 * steps] = accuracy, loss
        with_gaps = grokking.events(finer, *among, LN_P)
        for other in (scaled, with_gaps):
            assert other.verdict == before.verdict
            for one, another in ((before.memorized, other.memorized), (before.generalized, other.generalized)):
                assert (one is None) == (another is None)
                if one is not None and another is not None:
                    assert another.at == 7 * one.at
    assert seen == set(grokking.VERDICTS)


# ---- falls and collapse ----------------------------------------------------------------------------------------------


def test_a_fall_has_a_first_step_a_lowest_accuracy_and_perhaps_an_end() -> None:
    steps = np.arange(0, 130, 10)
    accuracy = np.array([0.1, 0.99, 0.9, 0.7, 1.0, np.nan, 0.98, 1.0, 1.0, 1.0, 1.0, 0.97, np.nan])
    found = grokking.falls(steps, grokking.reached(accuracy, np.full(13, np.nan), LN_P), accuracy, Crossing(0, 10))
    assert_equal(found, (Episode(20, 0.7, 40), Episode(60, 0.98, 70), Episode(110, 0.97, math.nan)))
    assert_equal([fall.lasted for fall in found], [20, 10, math.nan])
    assert found[2].to_dict() == {"step": 110, "lowest_accuracy": 0.97, "recovered_at": None}
    assert grokking.falls(steps, accuracy, accuracy, None) == ()


def test_the_lowest_accuracy_of_a_fall_known_by_its_loss_is_not_known() -> None:
    loss, unknown = np.array([4.0, 0.0, 0.0, 4.0, 0.0]), np.full(5, np.nan)
    found = grokking.falls(np.arange(5), grokking.reached(unknown, loss, LN_P), unknown, Crossing(0, 1))
    assert_equal(found, (Episode(3, math.nan, 4),))
    assert found[0].to_dict() == {"step": 3, "lowest_accuracy": None, "recovered_at": 4}


def at_the_end(accuracies: list[float], losses: list[float]) -> str:
    """The verdict of a run that generalized at 1,000, with these last points."""
    n = len(accuracies)
    accuracy = np.array([stepping(EVERY_TEN, 100), stepping(EVERY_TEN, 1000)])
    loss = np.where(accuracy == 1, 1e-4, 4.0)
    accuracy[1, len(EVERY_TEN) - n :], loss[1, len(EVERY_TEN) - n :] = accuracies, losses
    return grokking.events(EVERY_TEN, accuracy, loss, LN_P).verdict


@pytest.mark.parametrize(
    ("accuracies", "losses", "expected"),
    [
        ([0.01], [30.0], "grokking"),  # one bad last point, however bad
        ([0.01] * 2, [30.0] * 2, "grokking"),
        ([0.01] * 3, [30.0] * 3, "collapse"),
        ([0.01] * 3 + [1.0], [30.0] * 3 + [1e-4], "grokking"),  # and back again
        ([0.982] * 50, [0.08] * 50, "grokking"),  # 98.2 % for good is little less
        ([0.91] * 50, [4.0] * 50, "grokking"),  # few answers are wrong, though very wrong
        ([0.85] * 50, [0.6] * 50, "grokking"),  # answers are less certain, and on average still more right than not
        ([0.89] * 50, [0.7] * 50, "grokking"),  # most of it is kept
        ([0.45] * 50, [0.6] * 50, "grokking"),
        ([0.45] * 50, [0.7] * 50, "collapse"),
        ([0.45, np.nan, 0.45, np.nan, 0.45], [0.7, np.nan, 0.7, np.nan, 0.7], "collapse"),
        ([0.45] * 3, [np.nan] * 3, "collapse"),  # by the accuracy alone
        ([np.nan] * 3, [0.7] * 3, "collapse"),  # by the loss alone
    ],
)
def test_collapse_is_loss_and_accuracy_both_lost_for_three_points(
    accuracies: list[float], losses: list[float], expected: str
) -> None:
    assert at_the_end(accuracies, losses) == expected


def test_what_never_generalized_cannot_collapse() -> None:
    curves = np.array([stepping(EVERY_TEN, 100), np.zeros(len(EVERY_TEN))])
    assert grokking.events(EVERY_TEN, curves, np.where(curves == 1, 0, 30.0), LN_P).verdict == "memorization"


# ---- the level -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [1, 2, 5, 10, 19, 20, 30, 100, 150, 199, 200, 201, 1000])
def test_all_but_two_pairs_of_a_small_split_and_never_less_than_ninety_percent_are_known(pairs: int) -> None:
    """One hundredth of fewer than 200 pairs is no more than one, on which no verdict should hang."""
    right = np.arange(pairs + 1)
    known = grokking.reached(right / pairs, np.full(pairs + 1, np.nan), LN_P, grokking.level_for(pairs)) == 1
    expected = right >= 0.99 * pairs if pairs >= 200 else (pairs - right <= 2) & (right >= 0.9 * pairs)
    assert_equal(known, expected)


def test_a_loss_proves_the_level_of_a_small_split_only_if_so_many_answers_must_be_right() -> None:
    """Of 100 pairs with a mean loss of 0.02 nats no more than two can be wrong, each of which costs ln 2 or more."""
    unknown = np.full(2, np.nan)
    assert_equal(grokking.reached(unknown, np.array([0.02, 0.021]), LN_P, grokking.level_for(100)), [1, UNDECIDED])
    assert 100 * 0.02 / math.log(2) < 3


# ---- curves from elsewhere -------------------------------------------------------------------------------------------


def test_the_first_step_and_the_first_for_good_skip_what_is_unknown() -> None:
    steps, states = np.array([0, 10, 20, 30, 40]), np.array([0, np.nan, 1, 0, 1])
    assert grokking.first(steps, states) == (20, 20)
    assert grokking.first(steps, states, for_good=True) == (40, 10)
    assert_equal(grokking.first(steps, np.zeros(5)), (math.nan, math.nan))
    assert_equal(grokking.first(steps, np.ones(5)), (0, math.nan))


def test_the_fixed_gap_is_a_thousand_steps_and_unknown_where_they_are_too_far_apart() -> None:
    steps = np.arange(0, 4001, 50)
    verdicts = {
        late: grokking.fixed_gap_verdict(steps, (steps >= 200) * 1.0, (steps >= late) * 1.0)
        for late in (1100, 1150, 1200, 1250, 9999)
    }
    # From (150, 200] to (1100, 1150] are 900 to 1,000 steps; to (1200, 1250] 1,000 to 1,100.
    assert list(verdicts.values()) == ["comprehension", "unknown", "unknown", "grokking", "memorization"]


def test_a_step_is_an_integer_or_not_there() -> None:
    assert (grokking.whole(np.float64(19.6)), grokking.whole(7.0), grokking.whole(math.nan)) == (20, 7, None)
