"""Planted times: which verdicts follow, and what is told where runs did not arrive."""

import math

import numpy as np
import pytest
import xarray as xr

from interp.studies import grokfast
from interp.studies.generalization_times import EVENTS
from interp.studies.time_ratios import ratio

METHODS = list(grokfast.methods(grokfast.DESIGN))
SPREAD = np.array([0.9, 0.95, 1.0, 1.05, 1.1])  # over seeds
LAST = 3000.0


def planted(times: dict[str, float], **chosen: str) -> xr.Dataset:
    """Steps of generalization by method, spread over five seeds; a method that is not named never generalized."""
    of = np.full((len(METHODS), len(SPREAD), len(EVENTS)), np.nan)
    for place, name in enumerate(METHODS):
        of[place, :, list(EVENTS).index("generalized")] = times.get(name, math.nan) * SPREAD
    return xr.Dataset(
        {
            "time": (("method", "seed", "event"), of),
            "censored_at": (("method", "seed"), np.full(of.shape[:2], LAST)),
        },
        coords={"method": METHODS, "seed": np.arange(len(SPREAD)), "event": list(EVENTS)},
        attrs={"best_plain": "adam, decay 0.0005", "best_filtered": "adam, filter, decay 0.0015"} | chosen,
    )


FASTER = {
    "adam, filter, decay 0.005": 500.0,
    "adam, gain, decay 0.005": 1000.0,
    "adam, decay 0.005": 2000.0,
    "adam, decay 0.0005": 900.0,
    "adam, filter, decay 0.0015": 400.0,
    "adamw": 1500.0,
    "adamw, filter": 700.0,
    "adamw, gain": 1400.0,
}


def verdicts(result: xr.Dataset) -> dict[str, str]:
    return {one.name: one.verdict for one in grokfast.predictions(result)}


def test_a_filter_that_does_all_that_is_claimed_is_confirmed():
    result = planted(FASTER)
    assert set(verdicts(result)) == set(grokfast.comparisons(result, 0.005))
    assert set(verdicts(result).values()) == {"confirmed"}
    told = {one.name: one for one in grokfast.predictions(result)}
    assert told["filter"].numbers["ratio_of_steps"] == pytest.approx(4)
    assert told["filter"].numbers["ratio_interval_95"] == pytest.approx([4, 4])  # seeds differ alike on both sides
    # Without decay and filter none arrived: later than the last step, against the upper end of what the filter took.
    assert math.isnan(told["published"].numbers["ratio_of_steps"])
    assert 4 < told["published"].numbers["ratio_interval_95"][0] < 6
    assert "more than" in told["published"].because


def test_what_weight_decay_does_is_not_the_filters():
    """The published comparison is repeated by the gain and by a weaker decay as well."""
    found = verdicts(
        planted(FASTER | {"adam, gain, decay 0.005": 400.0, "adam, decay 0.0005": 300.0, "adamw, filter": 2500.0})
    )
    assert found == {
        "published": "confirmed",
        "filter": "confirmed",
        "direction": "not confirmed",
        "best-decay": "not confirmed",
        "adamw": "not confirmed",
        "adamw-direction": "not confirmed",
    }


def test_what_never_arrived_bounds_a_ratio_and_no_more():
    found = verdicts(planted({name: time for name, time in FASTER.items() if "filter" not in name}))
    assert found["published"] == "not shown"  # neither came
    assert found["adamw"] == "not confirmed"  # 1,500 without, and later than 3,000 with it
    late = ratio(planted({"adamw": 2900.0}), "adamw", "adamw, filter")
    assert math.isnan(late.value)
    assert math.isnan(late.low)
    assert late.high > 1
    assert (late.verdict, str(late)) == ("not shown", f"less than {late.high:.2f}×")


def test_a_bound_decides_only_where_the_shares_that_arrived_differ():
    """Two of five arrived by the last step on one side, and all on the other: the last step is no sure bound."""
    some = planted({"adamw": 2600.0})
    at = METHODS.index("adamw, filter"), slice(0, 2), list(EVENTS).index("generalized")
    some.time.values[at] = [2500.0, 2600.0]
    found = ratio(some, "adamw", "adamw, filter")
    assert (found.high < 1, found.decides, found.verdict) == (True, False, "not shown")
    none = ratio(planted({"adamw": 2600.0}), "adamw", "adamw, filter")
    assert (none.high < 1, none.decides, none.verdict) == (True, True, "not confirmed")


def test_equal_times_are_not_shown():
    noisy = planted(FASTER)
    at = METHODS.index("adamw, filter"), slice(None), list(EVENTS).index("generalized")
    noisy.time.values[at] = noisy.time.values[METHODS.index("adamw")][::-1, at[2]]
    assert verdicts(noisy)["adamw"] == "not shown"


def test_nothing_chosen_or_one_seed_is_not_shown():
    result = planted(FASTER, best_plain="")
    assert verdicts(result)["best-decay"] == "not shown"
    one = planted(FASTER).isel(seed=slice(1))
    assert grokfast.failed_precondition(one) == "there is one seed, which says nothing of others; two are needed"
    assert set(verdicts(one).values()) == {"not shown"}
    assert grokfast.failed_precondition(planted({})) == "no network generalized in the time given"


def test_only_the_filter_differs_in_each_comparison():
    how = grokfast.methods(grokfast.DESIGN)
    for name, (_, without, with_it) in grokfast.comparisons(planted(FASTER), 0.005).items():
        one, other = how[without], how[with_it]
        assert one.filter.kind in ("none", "gain")
        assert other.filter.kind == "ema"
        assert (one.optimizer, one.lr, one.betas, one.steps) == (other.optimizer, other.lr, other.betas, other.steps)
        assert (one.weight_decay == other.weight_decay) == (name not in ("published", "best-decay"))
