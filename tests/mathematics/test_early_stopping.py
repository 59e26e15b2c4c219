"""Early stopping on curves whose answer is known: falling, U-shaped, grokking, noise; beside the rule written as a
loop."""

import math

import numpy as np
import pytest

from interp.mathematics.early_stopping import Stop, stop

STEPS = np.arange(0, 3000, 10)


def by_a_loop(steps, losses, patience: int) -> tuple[int, int | None]:
    """The kept step, and where training ended: the rule as somebody would write it into a training loop."""
    least, kept = math.inf, -1
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        if math.isnan(loss):
            continue
        if loss < least:
            least, kept = loss, step
        elif step - kept >= patience:
            return kept, step
    return kept, None


@pytest.mark.parametrize("patience", [1, 10, 1000])
def test_a_curve_that_falls_is_never_stopped(patience: int) -> None:
    assert stop(STEPS, np.exp(-STEPS / 500), patience) == Stop(2990, 299, None, 0)


@pytest.mark.parametrize("patience", [1, 10, 137, 500])
def test_a_valley_is_kept_at_its_lowest_point(patience: int) -> None:
    """And ended at the first known step that is the patience or more after it."""
    found = stop(STEPS, (STEPS - 700.0) ** 2, patience)
    assert found == Stop(700, 70, 700 + 10 * math.ceil(patience / 10), 0)


def test_a_curve_that_rises_keeps_its_first_step_and_a_level_one_too() -> None:
    for losses in (STEPS * 1.0, np.ones(len(STEPS))):  # no new least value where it is only equal
        assert stop(STEPS, losses, 50) == Stop(0, 0, 50, 0)


def test_grokking_is_kept_by_those_alone_who_waited_long_enough() -> None:
    """Up from ln p at step 0, back below it at 1,510: nobody whose patience is 1,500 or less sees it."""
    losses = np.interp(STEPS, [0, 300, 1505, 2990], [4.7, 15.0, 4.7, 1e-6])
    found = stop(STEPS, losses, 1)
    assert found == Stop(0, 0, 10, 1500)
    assert stop(STEPS, losses, 1500).kept == 0
    for patience in (1501, 5000):
        assert stop(STEPS, losses, patience) == Stop(2990, 299, None, 1500)


def test_who_waits_longer_than_the_longest_wait_keeps_the_least_and_nobody_else() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        steps = np.cumsum(generator.integers(1, 9, size=40))
        losses = generator.integers(0, 30, size=40).astype(float)  # with ties
        first_least = int(steps[np.argmin(losses)])
        longest = stop(steps, losses, 1).longest_wait
        for patience in (1, 3, 10, max(longest, 1), longest + 1, 1000):
            found = stop(steps, losses, patience)
            assert (found.kept, found.ended_at) == by_a_loop(steps, losses, patience)
            assert steps[found.place] == found.kept
            assert found.longest_wait == longest
            assert (found.kept == first_least) == (patience > longest or first_least == steps[0])


def test_noise_has_as_many_records_as_independent_draws_have() -> None:
    """With patience for all n of them the least is kept; with patience 1 (of steps 1 apart) the first descent is
    followed, whose length L has P(L ≥ m) = 1/m!, so that E = e − 1 steps are looked at before the first rise."""
    generator, n = np.random.default_rng(1), 50
    draws = generator.random((4000, n))
    steps = np.arange(n)
    lengths = [stop(steps, losses, 1).place + 1 for losses in draws]
    assert abs(np.mean(lengths) - (math.e - 1)) < 5 * np.std(lengths) / math.sqrt(len(lengths))
    patient = [stop(steps, losses, n).kept for losses in draws]
    assert patient == draws.argmin(1).tolist()


def test_steps_of_which_nothing_is_known_are_as_if_nobody_had_looked() -> None:
    losses = (STEPS - 700.0) ** 2
    losses[60:90] = np.nan
    known = np.isfinite(losses)
    found, without = stop(STEPS, losses, 100), stop(STEPS[known], losses[known], 100)
    assert (found.kept, found.ended_at) == (without.kept, without.ended_at) == (590, 900)
    assert STEPS[found.place] == 590
    assert stop(STEPS, np.full(len(STEPS), np.nan)) is None


def test_without_patience_the_first_step_is_kept() -> None:
    assert stop(STEPS, np.exp(-STEPS / 500), 0) == Stop(0, 0, 0, 0)
