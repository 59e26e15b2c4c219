"""The events of learning curves whose events are known."""

import math

import numpy as np
from numpy.testing import assert_equal

from interp.mathematics import grokking

STEPS = np.array([0, 10, 20, 40, 80, 160, 320])
TRAIN = [0.1, 0.5, 0.99, 1.0, 1.0, 1.0, 1.0]
TEST = [0.1, 0.1, 0.2, 0.99, 0.6, 0.995, 1.0]


def test_the_events_of_accuracies():
    events = grokking.events(STEPS, np.array([TRAIN, TEST]))
    assert_equal(events.test, [0, 0, 0, 1, 0, 1, 1])
    assert events[1:] == ((20, 10), (40, 20), (160, 80), "grokking")


def test_losses_stand_in_for_accuracies_that_are_not_known():
    unknown = np.full((2, 7), np.nan)
    losses = np.array([[2.0, 1.0, 0.01, 0.0, 0.0, 0.0, 0.0], [2.0, 3.0, 3.0, 3.0, 2.0, 0.3, 0.002]])
    events = grokking.events(STEPS, unknown, losses, math.log(7))
    assert_equal(events.test, [0, 0, 0, 0, 0, grokking.UNDECIDED, 1])
    assert events[1:] == ((20, 10), (320, 160), (320, 160), "grokking")


def test_what_is_not_known_has_no_events():
    events = grokking.events(STEPS, np.full((2, 7), np.nan))
    assert events.verdict == "unknown"
    assert np.isnan([events.memorized, events.generalized, events.generalized_for_good]).all()


def test_a_step_is_an_integer_or_not_there():
    assert (grokking.whole(np.float64(19.6)), grokking.whole(7.0), grokking.whole(math.nan)) == (20, 7, None)
