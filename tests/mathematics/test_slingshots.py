"""Planted norms and losses whose slingshots are known, and what looks like slingshots and is none."""

import numpy as np
import pytest

from interp.mathematics import slingshots
from interp.mathematics.slingshots import Cycle, Slope, cycles, kind
from interp.mathematics.spikes import Spike, settled_at, spikes

EVERY = 10
STEPS = np.arange(0, 6001, EVERY)
RIGHT = np.where(STEPS < 200, 0.5, 1.0)
SPIKED_AT = [1000, 1600, 2200, 2800, 3400, 4000]
NO_CAUSE = [None] * 6


def spiky_loss(at: list[int], low: float = 1e-6, high: float = 0.5) -> np.ndarray:
    """A loss that jumps at these steps, and is back after about eighty."""
    loss = np.where(STEPS < 200, 3.0, low)
    for step in at:
        since = STEPS - step
        loss = np.where((since >= 0) & (since < 80), high * np.exp(-np.maximum(since, 0) / 5.0) + low, loss)
    return loss


def norm(rate: float, grows_for: int = 200) -> np.ndarray:
    """e^{rt} in the steps before each spike, and at rest otherwise."""
    grows = np.zeros(len(STEPS), dtype=bool)
    for step in SPIKED_AT:
        grows |= (step - grows_for < STEPS) & (step >= STEPS)
    return np.exp(np.cumsum(grows) * EVERY * rate)


@pytest.mark.parametrize("rate", [5e-4, 2e-3, 1e-2])
def test_planted_slingshots_are_counted_and_their_rate_found(rate: float):
    found = spikes(STEPS, spiky_loss(SPIKED_AT), RIGHT)
    assert [spike.start for spike in found] == SPIKED_AT
    all_cycles = cycles(found, 400, STEPS, norm(rate))
    assert [cycle.is_slingshot for cycle in all_cycles] == [True] * 6
    assert [cycle.growth.value for cycle in all_cycles if cycle.growth] == pytest.approx([rate] * 6, rel=0.01)
    assert kind(found, {"W_U": all_cycles}, ["numerical"] * 6) == "slingshots (numerical)"
    assert kind(
        found, {"still": cycles(found, 400, STEPS, np.ones(len(STEPS))), "W_U": all_cycles}, ["optimizer"] * 6
    ) == ("slingshots (optimizer)")
    assert kind(found, {"W_U": all_cycles}, ["numerical"] * 5 + ["optimizer"]) == "slingshots"
    assert kind(found, {"W_U": all_cycles}, NO_CAUSE) == "slingshots"


def test_noise_does_not_hide_them():
    noisy = norm(2e-3) * np.exp(np.random.default_rng(0).normal(0, 0.005, len(STEPS)))
    found = cycles(spikes(STEPS, spiky_loss(SPIKED_AT), RIGHT), 400, STEPS, noisy)
    assert sum(cycle.is_slingshot is True for cycle in found) >= 5


def controls() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Loss and norm of what is no slingshot."""
    time = np.maximum(STEPS, 1.0)
    jitter = np.exp(np.random.default_rng(0).normal(0, np.log(3), len(STEPS)))
    smooth = np.where(STEPS < 200, 3.0, 50.0 * time**-1.5)
    decayed = np.where(STEPS < 3000, smooth, smooth / 30)
    growing = np.exp(STEPS * 2e-4)
    return {
        "a power law": (smooth, time**0.3),
        "a spike before it memorized": (np.where(STEPS == 150, 8.0, smooth), growing),
        "jitter": (smooth * jitter * 1e-3, growing),
        "much jitter near the least loss": (np.where(STEPS < 200, 3.0, 2e-3) * jitter, time**0.1),
        "a lower learning rate": (decayed, np.where(STEPS < 3000, growing, growing[300])),
        "one slingshot": (spiky_loss(SPIKED_AT[:1]), norm(2e-3)),
        "spikes, and a norm at rest": (spiky_loss(SPIKED_AT), np.ones(len(STEPS))),
        "spikes, and a norm that always grows": (spiky_loss(SPIKED_AT), growing),
        "spikes, and a norm that falls": (spiky_loss(SPIKED_AT), 1 / norm(2e-3)),
        "spikes, and a norm that grows by a percent": (spiky_loss(SPIKED_AT), norm(5e-5)),
    }


@pytest.mark.parametrize("name", controls())
def test_what_is_no_slingshot(name: str):
    loss, of_weights = controls()[name]
    found = spikes(STEPS, loss, RIGHT)
    told = kind(found, {"W_U": cycles(found, 400, STEPS, of_weights)}, NO_CAUSE[: len(found)])
    assert told == ("spikes" if found else "none")
    assert bool(found) == (
        name not in ("a power law", "a spike before it memorized", "jitter", "a lower learning rate")
    )


def test_a_spike_between_two_logged_steps_is_seen_through_the_highest_loss():
    highest, at = spiky_loss([]), STEPS.copy()
    for index, step in ((150, 1493), (250, 2494)):
        highest[index], at[index] = 2.0, step
    assert not spikes(STEPS, spiky_loss([]), RIGHT)
    found = spikes(STEPS, spiky_loss([]), RIGHT, highest, at)
    assert [(spike.start, spike.end, spike.at, spike.highest) for spike in found] == [
        (1500, 1510, 1493, 2.0),
        (2500, 2510, 2494, 2.0),
    ]


def test_spikes_near_each_other_are_one_and_the_last_may_have_no_end():
    assert [spike.start for spike in spikes(STEPS, spiky_loss([1000, 1130, 2000]), RIGHT)] == [1000, 2000]
    (open_one,) = spikes(STEPS, spiky_loss([5990]), RIGHT)
    assert open_one.end is None
    (cycle,) = cycles([open_one], 400, STEPS, norm(1e-2))
    assert cycle.rest is None


def test_a_small_spike_counts_where_an_answer_is_wrong():
    loss = spiky_loss([2000], low=1e-8, high=1e-3)
    wrong = np.where(STEPS == 2000, 0.99, RIGHT)
    assert not spikes(STEPS, loss, RIGHT)
    (spike,) = spikes(STEPS, loss, wrong)
    assert (spike.accuracy, spike.level) == (0.99, pytest.approx(1e-7))


def test_a_network_that_did_not_memorize_has_none():
    assert settled_at(STEPS, np.full(len(STEPS), 0.999)) is None
    assert spikes(STEPS, spiky_loss(SPIKED_AT), np.full(len(STEPS), 0.999)) == []
    assert settled_at(STEPS, RIGHT) == 400


def test_too_few_points_are_unknown():
    some = slice(None, None, 20)
    found = spikes(STEPS, spiky_loss(SPIKED_AT), RIGHT)
    rare = cycles(found, 400, STEPS[some], norm(2e-3)[some])
    assert {cycle.is_slingshot for cycle in rare} == {None}
    assert kind(found, {"W_U": rare}, NO_CAUSE) == "unknown"
    unknown = cycles(found, 400, STEPS, np.full(len(STEPS), np.nan))
    assert unknown == [Cycle(None, None)] * 6


def test_growth_without_rest_is_told_by_its_slopes():
    grew = Slope(1e-2, 9e-3, 2e-2, 0, 100)
    assert Cycle(grew, Slope(1.9e-3, 0, 1, 0, 1)).is_slingshot is True
    assert Cycle(grew, Slope(2.1e-3, 0, 1, 0, 1)).is_slingshot is False
    assert Cycle(grew._replace(low=-1e-9), grew).is_slingshot is False
    assert kind([Spike(1, 2, 1.0, 1, 0.1, 1.0)] * 2, {}, []) == "spikes"
    assert slingshots.FEWEST_CYCLES == 2


def test_two_cycles_of_many_spikes_are_no_slingshots():
    """Norms that wander make some: more than half of the spikes that can be decided are asked for."""
    grew, rested = Slope(1e-2, 9e-3, 2e-2, 0, 100), Slope(0, 0, 0, 200, 300)
    yes, no = Cycle(grew, rested), Cycle(rested, rested)
    spiked = [Spike(at, at + 50, 1.0, at, 0.1, 0.9) for at in range(1000, 6000, 500)]
    assert kind(spiked, {"W_U": [yes] * 2 + [no] * 8}, [None] * 10) == "spikes"
    assert kind(spiked, {"W_U": [yes] * 5 + [no] * 5}, [None] * 10) == "spikes"
    assert kind(spiked, {"W_U": [yes] * 6 + [no] * 4}, [None] * 10) == "slingshots"
    assert kind(spiked, {"W_U": [yes] * 2 + [no] + [Cycle(None, None)] * 7}, [None] * 10) == "slingshots"


def test_norms_that_know_nothing_of_the_spikes_make_no_slingshots():
    random, spiked = np.random.default_rng(0), spikes(STEPS, spiky_loss(SPIKED_AT), RIGHT)
    found = []
    for _ in range(40):
        walk = np.exp(np.cumsum(random.normal(0, 0.01, len(STEPS))))
        scatter = np.exp(random.normal(0, 0.002, len(STEPS)))
        found.append(kind(spiked, {"a walk": cycles(spiked, 400, STEPS, walk)}, NO_CAUSE))
        assert kind(spiked, {"scatter": cycles(spiked, 400, STEPS, scatter)}, NO_CAUSE) == "spikes"
    assert found.count("slingshots") <= 2  # 5 %
